import csv
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tagmask.classes import class_key, class_name, class_name_fault
from tagmask.errors import DataError
from training.datasets import load
from training.datasets.photos import TaggedPhotos

Paint = Callable[..., Path]

TAG = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters=";,"), min_size=1, max_size=8).filter(
    lambda tag: class_name_fault(class_name(tag)) is None and not any(map(str.isspace, tag))
)
TAG_SETS = st.lists(st.sets(TAG, min_size=1, max_size=5), min_size=1, max_size=8)


def tags(data: TaggedPhotos) -> dict[str, tuple[str, ...]]:
    return {photo.id: photo.tags for photo in data.photos}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


@settings(max_examples=40, deadline=None)
@given(
    sets=TAG_SETS,
    separator=st.sampled_from([" ", ";", ", "]),
    cells=st.sampled_from(",;\t"),
    order=st.randoms(use_true_random=False),
)
@example([{"N000", "n000"}], " ", ",", Random(0))
def test_any_tags_survive_csv_and_jsonl_in_any_row_order(
    sets: list[set[str]], separator: str, cells: str, order: Random
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = touch(Path(folder), *(f"{number}.jpg" for number in range(len(sets))))
        rows = [(f"{number}.jpg", sorted(each)) for number, each in enumerate(sets)]
        order.shuffle(rows)
        with (root / "a.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=cells).writerows(
                [("image", "tags"), *((image, separator.join(each)) for image, each in rows)]
            )
        lines = [json.dumps({"image": image, "tags": each}) for image, each in rows]
        (root / "a.jsonl").write_text("\n".join(lines))
        expected = {str(number): sorted({*map(class_key, each)}) for number, each in enumerate(sets)}
        for name in ("a.csv", "a.jsonl"):
            data = load(root / name)
            assert {name: sorted(map(class_key, each)) for name, each in tags(data).items()} == expected
            assert list(tags(data)) == sorted(expected)
            assert sorted(map(class_key, data.classes)) == sorted(set().union(*expected.values()))
            assert data.faults == ()


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from(["a.jpg", "a.png", "b.jpg"]), st.sampled_from("xyz")), min_size=1),
    order=st.randoms(use_true_random=False),
)
def test_row_order_changes_nothing_even_with_repeats(rows: list[tuple[str, str]], order: Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = touch(Path(folder), "a.jpg", "a.png", "b.jpg")
        found = []
        for _ in range(2):
            (root / "tags.csv").write_text("image,tags\n" + "".join(f"{image},{tag}\n" for image, tag in rows))
            data = load(root)
            found.append((data.classes, [(photo.id, photo.path, photo.tags) for photo in data.photos]))
            assert len(data.faults) == ({"a.jpg", "a.png"} <= {image for image, _ in rows})
            order.shuffle(rows)
        assert found[0] == found[1]


def test_spreadsheet_quirks(tmp_path: Path) -> None:
    """Byte order mark, CRLF, padded cells, another column, quoted tags, no last line end."""
    touch(tmp_path, "a.jpg", "my cat.jpg")
    text = '\ufeffimage, tags ,by\r\n a.jpg ," dog;;cat ; dog",me\r\n"my cat.jpg","cat, owl",'
    (tmp_path / "list.csv").write_bytes(text.encode())
    data = load(tmp_path)
    assert tags(data) == {"a": ("cat", "dog"), "my cat": ("cat", "owl")}
    assert data.faults == ()


def test_jsonl_tags_as_text_or_list(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "x.jsonl").write_text(
        '{"image": "a.jpg", "tags": "dog cat"}\n{"tags": [" owl", ""], "image": "b.jpg"}\n'
    )
    assert tags(load(tmp_path)) == {"a": ("cat", "dog"), "b": ("owl",)}


ENTRIES = [{"image": "a.jpg", "tags": ["cat", "polar bear"]}, {"image": "b.jpg", "tags": "owl dog"}]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ENTRIES),
        json.dumps(ENTRIES, indent=2),
        "\n".join(map(json.dumps, ENTRIES)),
        json.dumps({"a.jpg": ["cat", "polar bear"], "b.jpg": ["owl", "dog"]}),
        json.dumps({"a.jpg": ["cat", "polar bear"], "b.jpg": "owl dog"}, indent=1),
    ],
    ids=["array", "indented array", "lines", "by photo", "by photo, indented"],
)
@pytest.mark.parametrize("name", ["list.json", "tags.json", "list.jsonl"])
def test_json_in_an_array_in_lines_or_by_photo(tmp_path: Path, text: str, name: str) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "notes.json").write_text('{"weather": "rain"}')
    (tmp_path / name).write_text(f"\ufeff{text}")
    for place in (tmp_path, tmp_path / name):
        data = load(place)
        assert tags(data) == {"a": ("cat", "polar_bear"), "b": ("dog", "owl")}
        assert data.faults == ()


def test_faults_name_the_entry_of_an_array(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    entries = [ENTRIES[0], {"image": "b.jpg", "tags": [{"name": "cat"}]}, {"image": "c.jpg", "tags": []}, "b.jpg"]
    (tmp_path / "list.json").write_text(json.dumps(entries))
    data = load(tmp_path)
    assert list(tags(data)) == ["a"]
    assert {fault.where: fault.why.split(";")[0] for fault in data.faults} == {
        "list.json: [1]": "malformed entry",
        "list.json: [2]": "photo 'c.jpg' not found",
        "list.json: [3]": "malformed entry",
    }
    (tmp_path / "list.json").write_text(json.dumps([{"image": "a.jpg", "label": 0}]))
    with pytest.raises(DataError, match=r"no photos; first fault: list\.json: \[0\]: malformed entry; write"):
        load(tmp_path)
    (tmp_path / "list.json").write_text(json.dumps(ENTRIES)[:-1])
    with pytest.raises(DataError, match=r"list\.json: not readable JSON"):
        load(tmp_path)


def test_photos_listed_without_suffix(tmp_path: Path) -> None:
    touch(
        tmp_path, "images/000012.jpg", "images/in/me\u0301.v2.PNG", "c.jpg", "c.png", "images/d.jpg", "d.webp", "e.txt"
    )
    lines = "000012,cat\nin/m\u00e9.v2,cat\nc,cat\nd,cat\ne,cat\n"
    (tmp_path / "tags.csv").write_text(f"image,tags\n{lines}", encoding="utf-8")
    data = load(tmp_path)
    assert [photo.path.relative_to(tmp_path).as_posix() for photo in data.photos] == [
        "images/000012.jpg",
        "images/in/me\u0301.v2.PNG",
    ]
    assert tags(data) == {"000012": ("cat",), "in/m\u00e9.v2": ("cat",)}
    assert {fault.where: fault.why.split(", or remove")[0] for fault in data.faults} == {
        "tags.csv:4": "photo 'c' may be 'c.jpg' or 'c.png'; write its name as it is",
        "tags.csv:5": "photo 'd' may be 'd.webp' or 'images/d.jpg'; write its name as it is",
        "tags.csv:6": "photo 'e' not found; name it by its path below the data set's folder or its images/, with its "
        "suffix",
    }


def test_a_list_without_photos_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("image,tags\n")
    with pytest.raises(DataError, match="no photos; add photos with tags"):
        load(tmp_path)


@pytest.mark.parametrize("header", ["image_id,label", "id;Tags", "Image_ID,tags", "width,id,category"])
def test_columns_of_ids(tmp_path: Path, header: str) -> None:
    touch(tmp_path, "images/000012.jpg")
    line = header.lower().replace("image_id", "000012").replace("id;", "000012;").replace("width,id", "7,000012")
    (tmp_path / "list.csv").write_text(f"{header}\n{re.sub('label|tags|category', 'cat', line)}\n")
    assert tags(load(tmp_path)) == {"000012": ("cat",)}


def test_an_id_beside_a_path_names_no_photo(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "list.csv").write_text("id,image_id,path,label\n1,2,a.jpg,cat\n")
    assert tags(load(tmp_path)) == {"a": ("cat",)}


def test_a_list_is_called_like_the_folder_of_its_photos(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.jpg", "b.jpg")
    (tmp_path / "train.csv").write_text("image,tags\na,cat\nb.jpg,owl\n")
    assert tags(load(tmp_path)) == {"train/a": ("cat",), "b": ("owl",)}


def test_the_case_of_a_suffix_does_not_matter(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPG", "b.jpg", "b.JPG", "c.png", "d.Jpg", "d.JPG")
    (tmp_path / "tags.csv").write_text("image,tags\na.jpg,cat\nb.jpg,cat\nc.jpg,cat\nd.jpg,cat\n")
    data = load(tmp_path)
    assert [photo.path.name for photo in data.photos] == ["a.JPG", "b.jpg"]
    assert [fault.why.split(";")[0] for fault in data.faults] == [
        "photo 'c.jpg' not found",
        "photo 'd.jpg' may be 'd.JPG' or 'd.Jpg'",
    ]


def test_absolute_paths_inside_the_folder(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "images/a.jpg", "b.jpg")
    touch(tmp_path, "data2/c.jpg", "c.jpg")
    (tmp_path / "link").symlink_to(root)
    outside = (tmp_path / "data2/c.jpg", root / "../c.jpg")
    paths = (root / "images/a.jpg", tmp_path / "link/b.jpg", *outside)
    (root / "tags.csv").write_text("image,tags,split\n" + "".join(f"{path},cat,all\n" for path in paths))
    for place, ids in ((root, ["a"]), (tmp_path / "link", ["a", "b"])):
        data = load(place)
        assert list(tags(data)) == ids
        assert len(data.faults) == 4 - len(ids)
        assert all("leads outside the data set's folder" in fault.why for fault in data.faults)


def test_absolute_paths_in_a_list_of_a_split(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "b.jpg", "splits/val.txt")
    (tmp_path / "tags.csv").write_text("image,tags\na.jpg,cat\nb.jpg,cat\n")
    (tmp_path / "splits/val.txt").write_text(f"{tmp_path}/images/a.jpg\n")
    data = load(tmp_path, split="val")
    assert list(tags(data)) == ["a"]
    assert data.faults == ()


def test_photos_in_subfolders(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "JPEGImages/b.jpg", "deep/er/c.d.jpg", "images/e.jpg", "images/f.jpg")
    (tmp_path / "tags.csv").write_text(
        "image,tags\na.jpg,x\nb.jpg,x\n./deep/er/c.d.jpg,x\nimages/e.jpg,x\nimages\\f.jpg,x\nimages/a.jpg,y\n"
    )
    data = load(tmp_path)
    assert sorted(tags(data)) == ["a", "b", "deep/er/c.d", "e", "f"]
    assert tags(data)["a"] == ("x", "y")
    assert [fault.where for fault in data.faults] == ["tags.csv:7"]


@pytest.mark.parametrize(
    "image",
    [
        "../out.jpg",
        "in/../../out.jpg",
        "/etc/out.jpg",
        "C:\\out.jpg",
        "\\\\host\\share\\out.jpg",
        "..\\out.jpg",
        "http://host/out.jpg",
    ],
)
def test_no_path_leads_outside(tmp_path: Path, image: str) -> None:
    root = touch(tmp_path / "data", "a.jpg", "in/b.jpg")
    touch(tmp_path, "out.jpg")
    (root / "tags.csv").write_text(f"image,tags\na.jpg,cat\n{image},cat\n")
    data = load(root)
    assert list(tags(data)) == ["a"]
    (fault,) = data.faults
    assert fault.where == "tags.csv:3"
    assert "leads outside the data set's folder" in fault.why


def test_faults_name_the_line(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "tags.csv").write_text("image,tags\na.jpg,cat\n\nb.jpg,cat,dog\nc.jpg,cat\na.jpg,dog\n,cat\nb.jpg\n")
    data = load(tmp_path)
    assert tags(data) == {"a": ("cat", "dog")}
    assert {fault.where: fault.why.split(",")[0].split(";")[0] for fault in data.faults} == {
        "tags.csv:3": "empty line",
        "tags.csv:4": "malformed line",
        "tags.csv:5": "photo 'c.jpg' not found",
        "tags.csv:7": "the name is empty or contains control characters",
        "tags.csv:8": "malformed line",
    }


@pytest.mark.parametrize("line", ["{", "[]", '{"image": "b.jpg"}', '{"image": 1, "tags": []}', "[" * 100_000])
def test_malformed_json_lines(tmp_path: Path, line: str) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "tags.jsonl").write_text(f'{{"image": "a.jpg", "tags": ["cat"]}}\n{line}\n\n')
    data = load(tmp_path)
    assert list(tags(data)) == ["a"]
    assert [fault.where for fault in data.faults] == ["tags.jsonl:2", "tags.jsonl:3"]


def test_split_column(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "tags.csv").write_text("image,tags,split\na.jpg,cat,train\nb.jpg,owl,val\nc.jpg,cat,\n")
    assert tags(load(tmp_path, split="train")) == {"a": ("cat",)}
    assert load(tmp_path, split="val").classes == ("owl",)
    assert len(load(tmp_path).photos) == 3
    with pytest.raises(DataError, match="no split 'test'; choose one of train, val"):
        load(tmp_path, split="test")


def test_columns_are_named_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "tags.csv").write_text("Image,Tags,Split\na.jpg,cat,train\nb.jpg,owl,val\n")
    assert tags(load(tmp_path, split="val")) == {"b": ("owl",)}


def test_split_key_and_split_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "x.jsonl").write_text(
        '{"image": "a.jpg", "tags": "cat", "split": "val"}\n{"image": "b.jpg", "tags": "cat", "split": null}\n'
    )
    assert list(tags(load(tmp_path, split="val"))) == ["a"]
    (tmp_path / "x.jsonl").write_text('{"image": "a.jpg", "tags": "cat"}\n{"image": "b.jpg", "tags": "cat"}\n')
    with pytest.raises(DataError, match="it has no splits"):
        load(tmp_path, split="val")
    touch(tmp_path, "splits/val.txt")
    (tmp_path / "splits" / "val.txt").write_text("b\n")
    assert list(tags(load(tmp_path, split="val"))) == ["b"]


def test_masks_beside_the_table(tmp_path: Path, paint_mask: Paint) -> None:
    touch(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / "tags.csv").write_text("image,tags\na.jpg,cat\nb.jpg,cat\n")
    (tmp_path / "classes.txt").write_text("background\ncat\n")
    mask = paint_mask(tmp_path / "masks" / "b.png")
    assert [photo.mask for photo in load(tmp_path).photos] == [None, mask]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "first line must be a header, .* not ''"),
        (b"a.jpg,cat\n", "first line must be a header, .* not 'a.jpg,cat'"),
        (b"image|tags\na.jpg|cat\n", "first line must be a header"),
        (b"image,by\na.jpg,me\n", "first line must be a header, .* not 'image,by' with 'me' below 'by'"),
        (b"image;cat;dog\na.jpg;1;-1\n", "a header, .* not 'image;cat;dog' with '-1' below 'dog'"),
        (b"image,cat,dog\na.jpg,1\n", "a header, .* not 'image,cat,dog' with '' below 'dog'"),
        (b"image,cat,dog,cat\na.jpg,1,0,0\n", "two columns are called 'cat'; rename or remove one"),
        (b'image,tags\na.jpg,cat\na.jpg,"dog\na.jpg,owl\n', r"tags\.csv:3: not CSV .*; correct the line, and close"),
        (b"image,tags,labels\na.jpg,cat,dog\n", "columns 'tags' and 'labels' both name tags; rename one"),
        (b"path,tags,file_name\na.jpg,cat,dog\n", "columns 'path' and 'file_name' both name photos; rename one"),
        (b"image,tags\n\xff\xfe,cat\n", "not UTF-8"),
        (b"image,tags\na.jpg," + b"x" * 200_000, r"tags\.csv:2: not CSV"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, content: bytes, why: str) -> None:
    (touch(tmp_path, "a.jpg") / "tags.csv").write_bytes(content)
    with pytest.raises(DataError, match=why):
        load(tmp_path)


def test_several_tables(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "one.csv").write_text("image,tags\na.jpg,cat\n")
    (tmp_path / "two.csv").write_text("image,tags\na.jpg,dog\n")
    with pytest.raises(DataError, match=r"2 lists \(one\.csv, two\.csv\)"):
        load(tmp_path)
    assert load(tmp_path / "two.csv").classes == ("dog",)
    (tmp_path / "tags.csv").write_text("image,tags\na.jpg,owl\n")
    assert load(tmp_path).classes == ("owl",)


@pytest.mark.parametrize("image", ["x" * 300 + ".jpg", "/".join(["folder"] * 600) + "/a.jpg"])
def test_a_name_that_no_file_can_have_is_a_fault(tmp_path: Path, image: str) -> None:
    root = touch(tmp_path / "data", "a.jpg")
    (root / "tags.csv").write_text(f"image,tags\na.jpg,cat\n{image},cat\n")
    (fault,) = load(root).faults
    assert fault.where == "tags.csv:3"
    assert "too long" in fault.why


HEADERS = [
    ("file_name,label", "a.jpg,polar bear", ("polar_bear",)),
    ("Filename;Class;width", "a.jpg;cat;640", ("cat",)),
    ("path\tlabels", "in\\a.jpg\tcat,dog", ("cat", "dog")),
    ("image;tags", "a.jpg;cat,dog", ("cat", "dog")),
    ("filename, cat, polar bear, owl", "a.jpg, 1, 1, 0", ("cat", "polar_bear")),
    ("image;cat;dog;split", "a.jpg;0.0;True;val", ("dog",)),
]


@pytest.mark.parametrize(("header", "line", "expected"), HEADERS)
@pytest.mark.parametrize("name", ["metadata.csv", "list.tsv"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_headers_and_separators_of_other_tools(
    tmp_path: Path, header: str, line: str, expected: tuple[str, ...], name: str, end: str
) -> None:
    touch(tmp_path, "a.jpg", "in/a.jpg")
    (tmp_path / "notes.csv").write_text("day,weather\n1,rain\n")
    (tmp_path / name).write_bytes(f"\ufeff{header}{end}{line}{end}".encode())
    data = load(tmp_path)
    assert [photo.tags for photo in data.photos] == [expected]
    assert data.faults == ()


def test_keys_of_other_tools(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "a.jpg", "label": "polar bear"}\n{"file_name": "b.jpg", "labels": ["cat", "dog"]}\n'
        '{"file_name": "c.jpg", "label": 3}\n{"file_name": "c.jpg", "label": "cat", "class": "dog"}\n'
    )
    data = load(tmp_path)
    assert tags(data) == {"a": ("polar_bear",), "b": ("cat", "dog")}
    assert [fault.where for fault in data.faults] == ["metadata.jsonl:3", "metadata.jsonl:4"]


def test_a_photo_may_have_several_lines(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "x.csv").write_text("filename,class,xmin\na.jpg,cat,1\na.jpg,cat,7\na.jpg,dog,3\n")
    data = load(tmp_path)
    assert tags(data) == {"a": ("cat", "dog")}
    assert data.faults == ()


@pytest.mark.parametrize("text", ["\"['cat'\"", "'cat'", "cat|dog", "{cat"])
@pytest.mark.parametrize("header", ["image,tags", "file_name,label"])
def test_a_text_that_is_no_tag(tmp_path: Path, header: str, text: str) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "x.csv").write_text(f"{header}\na.jpg,{text}\nb.jpg,owl\n")
    data = load(tmp_path)
    assert data.classes == ("owl",)
    assert data.faults[0].where == "x.csv:2"


def test_cells_that_are_neither_0_nor_1(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "_classes.csv").write_text("filename, cat\na.jpg, 1\nb.jpg, maybe\n")
    data = load(tmp_path)
    assert tags(data) == {"a": ("cat",)}
    (fault,) = data.faults
    assert (fault.where, fault.why.split(";")[0]) == ("_classes.csv:3", "malformed line, 'maybe' in the column 'cat'")


@pytest.mark.parametrize("index", ["", "Unnamed: 0"])
def test_line_numbers_are_no_class(tmp_path: Path, index: str) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "list.csv").write_text(f"{index},filename,cat,dog,\n0,a.jpg,1,0,\n1,b.jpg,0,1,\n2,c.jpg,1,1,\n")
    data = load(tmp_path)
    assert tags(data) == {"a": ("cat",), "b": ("dog",), "c": ("cat", "dog")}
    assert data.faults == ()
