"""JSON and XML of strangers: readers name what is wrong, go on where they can, and never fail otherwise."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tagmask.errors import DataError
from tagmask.files import MAX_BYTES
from training.datasets import Format, load, read_listing
from training.datasets.exports import MAX_DEPTH, Element, read_elements, read_json

BOMB = '<!DOCTYPE a [<!ENTITY x "1234567890"><!ENTITY y "&x;&x;&x;&x;">]><annotations>&y;</annotations>'


def test_elements_in_the_order_in_which_they_end(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text('<a>\n<b x="1&amp;2"> one\n<c/>two </b>\n<b/>\n</a>')
    assert list(read_elements(path)) == [
        Element("a/b/c", {}, "", 3),
        Element("a/b", {"x": "1&2"}, "one\ntwo", 2),
        Element("a/b", {}, "", 4),
        Element("a", {}, "", 1),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "declares a document type"),
        ("<a>&x;</a>", "undefined entity"),
        ("<a>" * (MAX_DEPTH + 1), "elements nested more than"),
        ("<a><b></a>", "mismatched tag"),
        ("<a>", "no element found"),
        ("", "no element found"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "unknown encoding"),
    ],
)
def test_what_is_no_xml_or_could_expand(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DataError, match=rf"a\.xml: not readable XML \(.*{why}"):
        list(read_elements(tmp_path / "a.xml"))


def test_files_larger_than_the_limit_are_not_read(tmp_path: Path) -> None:
    for name in ("a.json", "a.xml"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(DataError, match=r"a\.json: has 2,000,000,001 bytes, more than 2,000,000,000; make it smaller"):
        read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"a\.xml: has 2,000,000,001 bytes, more than 2,000,000,000; make it smaller"):
        list(read_elements(tmp_path / "a.xml"))


def test_keys_that_nobody_needs_are_left_out_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\ufeff{"a": [{"b": 1, "c": [2]}], "c": 3}', encoding="utf-8")
    assert read_json(tmp_path / "a.json", ("c",)) == {"a": [{"b": 1}]}


def test_two_equal_keys_of_an_object_are_a_fault_unless_nobody_needs_them(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a.jpg": ["cat"], "b.jpg": [], "a.jpg": ["dog"]}')
    with pytest.raises(DataError, match=r"a\.json: an object has the key 'a\.jpg' more than once; join or rename them"):
        read_json(tmp_path / "a.json")
    assert read_json(tmp_path / "a.json", ("a.jpg",)) == {"b.jpg": []}


KEYS = (
    "images annotations categories id name file_name image_id category_id items label labels label_id image path type "
    "value result data choices"
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
JSON = st.recursive(
    LEAVES | st.sampled_from(["a.png", "choices"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=6),
    max_leaves=25,
)


@settings(max_examples=100)
@given(st.sampled_from(["coco", "datumaro", "label-studio"]), JSON.map(json.dumps) | st.text(max_size=20))
@example("coco", "[" * 100_000)
@example("datumaro", "9" * 5000)
@example(
    "label-studio", '[{"data": {"image": "a.png"}, "annotations": [{"result": [{"type": "labels", "value": {}}]}]}]'
)
@example("label-studio", '[{"data": {"image": "http://[/a.png"}, "annotations": []}]')
def test_any_json_is_read_or_refused(form: Format, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "annotations").mkdir()
        (root / "a.png").touch()
        path = root / "annotations" / "list.json"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        with suppress(DataError):
            listing = read_listing(path, format=form)
            assert {photo.path for photo in listing.photos.values()} <= {root / "a.png"}


OUTSIDE = [
    "out.png",
    "../out.png",
    "/etc/out.png",
    "C:\\out.png",
    "..\\out.png",
    "in/../../out.png",
    "http://host/../../out.png",
]


@pytest.mark.parametrize("image", OUTSIDE)
def test_no_list_leads_outside(tmp_path: Path, image: str) -> None:
    """Whether it is refused or looked for below the folder by its last parts, as addresses of Label Studio are."""
    root = tmp_path / "deep" / "data"
    (root / "annotations").mkdir(parents=True)
    for place in (root / "a.png", tmp_path / "out.png", tmp_path / "deep/out.png"):
        place.touch()
    cat = {"type": "choices", "value": {"choices": ["cat"]}}
    label = {"type": "label", "label_id": 0}
    documents = {
        "coco.json": {
            "images": [{"id": 1, "file_name": image}, {"id": 2, "file_name": "a.png"}],
            "annotations": [{"image_id": number, "category_id": 1} for number in (1, 2)],
            "categories": [{"id": 1, "name": "cat"}],
        },
        "annotations/..json": {  # a subset that is called "."
            "categories": {"label": {"labels": [{"name": "cat"}]}},
            "items": [
                {"id": name, "image": {"path": path}, "annotations": [label]}
                for name, path in (("a", "a.png"), (image, image))
            ],
        },
        "project.json": [{"data": {"image": name}, "annotations": [{"result": [cat]}]} for name in ("a.png", image)],
    }
    for name, document in documents.items():
        (root / name).write_text(json.dumps(document))
    (root / "annotations.xml").write_text(
        '<annotations><image id="0" name="a.png"><tag label="cat"/></image>'
        f'<image id="1" name="{image}" subset=".."><tag label="cat"/></image></annotations>'
    )
    for name in (*documents, "annotations.xml"):
        data = load(root / name)
        assert [photo.path for photo in data.photos] == [root / "a.png"]
        assert len(data.faults) == 1
