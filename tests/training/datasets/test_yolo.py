import random
import tempfile
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tagmask.errors import DataError
from tests.training.datasets.masked import CLASSES, MASKS, RING, Pixels, expected, masked
from training.datasets import load, read_listing
from training.datasets.photos import TaggedPhotos
from training.datasets.writing import write
from training.datasets.yolo import find_outlines


def filled(pixels: Pixels) -> Pixels:
    canvas = np.zeros_like(pixels)
    for outline in find_outlines(pixels):
        cv2.fillPoly(canvas, [outline], (1,))
    return canvas


@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_filled_outlines_are_the_pixels(pixels: Pixels):
    np.testing.assert_array_equal(filled(pixels), pixels)


@pytest.mark.parametrize("name", MASKS)
def test_filled_outlines_of_every_class_are_the_pixels(name: str):
    for label in range(1, len(CLASSES)):
        pixels = (MASKS[name] == label).astype(np.uint8)
        np.testing.assert_array_equal(filled(pixels), pixels)


def test_a_piece_is_an_outline_and_straight_lines_have_no_points_between():
    assert len(list(find_outlines(RING))) == 2  # one within the other
    (square,) = find_outlines(np.ones((40, 60), dtype=np.uint8))
    assert sorted(square.tolist()) == [[0, 0], [0, 39], [59, 0], [59, 39]]


def parsed(line: str, size: tuple[int, int]) -> tuple[int, np.ndarray]:
    label, *shares = line.split()
    assert len(shares) >= 6
    points = np.array(shares, dtype=np.float64).reshape(-1, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    return int(label), points * size


@pytest.mark.parametrize("to_integers", [np.round, np.trunc], ids=["rounded", "truncated"])
def test_tools_that_round_and_tools_that_truncate_get_the_masks_back(
    data: TaggedPhotos, tmp_path: Path, to_integers: np.ufunc
):
    write(data, tmp_path / "out", "yolo", subset="val")
    for photo in data.photos:
        mask = expected(photo)
        rebuilt = np.zeros_like(mask)
        lines = (tmp_path / "out/labels/val" / f"{photo.id.replace('/', '_')}.txt").read_text().splitlines()
        random.Random(0).shuffle(lines)  # what lies in a hole is not painted over, whatever comes first
        for label, points in (parsed(line, mask.shape[::-1]) for line in lines):
            cv2.fillPoly(rebuilt, [to_integers(points).astype(np.int32)], (label + 1,))
        np.testing.assert_array_equal(rebuilt, mask)


def test_supervision_gets_the_masks_back(data: TaggedPhotos, tmp_path: Path):
    supervision = pytest.importorskip("supervision")
    out = tmp_path / "out"
    write(data, out, "yolo")
    loaded = supervision.DetectionDataset.from_yolo(
        images_directory_path=str(out / "images/train"),
        annotations_directory_path=str(out / "labels/train"),
        data_yaml_path=str(out / "data.yaml"),
    )
    assert loaded.classes == list(CLASSES[1:])
    assert len(loaded.annotations) == len(data.photos)
    for photo in data.photos:
        detections = loaded.annotations[str(out / "images/train" / f"{photo.id.replace('/', '_')}.jpg")]
        rebuilt = np.zeros_like(expected(photo))
        for label, where in zip(detections.class_id, detections.mask if len(detections) else (), strict=True):
            rebuilt[where] = label + 1
        np.testing.assert_array_equal(rebuilt, expected(photo))


def test_data_yaml_names_the_subsets_that_are_there(tmp_path: Path):
    data = masked(tmp_path / "data", {"a": MASKS["blobs"]})
    for subset, parts in (
        ("val", {"train": "images/val", "val": "images/val"}),
        ("train", {"train": "images/train", "val": "images/val"}),
        ("test", {"train": "images/train", "val": "images/val", "test": "images/test"}),
    ):
        write(data, tmp_path / "out", "yolo", subset=subset)
        described = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
        assert described == {**parts, "names": dict(enumerate(CLASSES[1:]))}


def write_yolo(
    root: Path, photo: str, label: str, lines: str = "1 0.5 0.5 0.1 0.1\n", names: str = "data.yaml"
) -> None:
    texts = {"data.yaml": "names: [dog, cat]\n", "dataset.yaml": "names:\n  0: dog\n  1: cat\n"}
    for path, text in ((photo, ""), (label, lines), (names, texts.get(names, "dog\r\ncat\r\n"))):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


@pytest.mark.parametrize("names", ["data.yaml", "dataset.yaml", "classes.txt", "obj.names"])
@pytest.mark.parametrize(
    ("photo", "label", "split"),
    [
        ("images/train/1.jpg", "labels/train/1.txt", "train"),
        ("valid/images/1.jpg", "valid/labels/1.txt", "valid"),
        ("images/1.jpg", "labels/1.txt", None),
        ("images/1.jpg", "images/1.txt", None),
        ("obj_train_data/1.jpg", "obj_train_data/1.txt", None),
    ],
)
def test_labels_are_where_tools_put_them(tmp_path: Path, names: str, photo: str, label: str, split: str | None):
    write_yolo(tmp_path, photo, label, names=names)
    data = load(tmp_path, split=split)
    assert [(each.path, each.tags) for each in data.photos] == [(tmp_path / photo, ("cat",))]
    assert data.faults == ()
    assert data.layout == "YOLO"
    with pytest.raises(
        DataError, match=f"no split 'other'; {f'choose one of {split}' if split else 'it has no splits'}"
    ):
        load(tmp_path, split="other")


def test_photos_without_objects_are_recognised(tmp_path: Path):
    write_yolo(tmp_path, "images/train/1.jpg", "labels/train/1.txt", "")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "1.png").touch()
    with pytest.raises(DataError, match="no class to learn"):
        load(tmp_path)


def test_the_number_of_a_class_alone_is_a_tag(tmp_path: Path):
    write_yolo(tmp_path, "images/train/1.jpg", "labels/train/1.txt", "1\n")
    write_yolo(tmp_path, "images/train/2.jpg", "labels/train/2.txt", "0\r\n1\r\n")
    write_yolo(tmp_path, "images/train/3.jpg", "labels/train/3.txt", "0 1\n1 0.5 0.5 0.1\n1\n")
    data = load(tmp_path)
    assert data.layout == "YOLO"
    assert [photo.tags for photo in data.photos] == [("cat",), ("cat", "dog"), ("cat",)]
    assert [(fault.where, fault.why) for fault in data.faults] == [
        (f"labels/train/3.txt:{line}", "malformed line; write the number of a class, alone or with coordinates")
        for line in (1, 2)
    ]


def test_a_class_number_beside_its_photo_is_a_tag(tmp_path: Path):
    write_yolo(tmp_path, "1.jpg", "1.txt", "1\n", "classes.txt")
    assert [photo.tags for photo in load(tmp_path).photos] == [("cat",)]


def test_several_class_numbers_in_a_line_are_told(tmp_path: Path):
    write_yolo(tmp_path, "images/1.jpg", "labels/1.txt", "0 1\n")
    with pytest.raises(DataError, match=r"no class to learn; first fault: labels/1\.txt:1: malformed line; write the"):
        load(tmp_path)


def test_an_empty_line_names_no_class(tmp_path: Path):
    write_yolo(tmp_path, "images/1.jpg", "labels/1.txt", "0 0.5 0.5 0.1 0.1\n1 0 0 1 1\n3 0 0 1 1\n", "classes.txt")
    (tmp_path / "classes.txt").write_text("dog\n\nowl\n")
    data = load(tmp_path)
    assert [photo.tags for photo in data.photos] == [("dog",)]
    assert [(fault.where, fault.why.split(";")[0]) for fault in data.faults] == [
        ("labels/1.txt:2", "class 1 has no name"),
        ("labels/1.txt:3", "class 3 has no name"),
    ]
    (tmp_path / "classes.txt").write_text("\n")
    with pytest.raises(DataError, match="no names of classes"):
        load(tmp_path)


def test_faults_of_labels_name_the_line(tmp_path: Path):
    write_yolo(tmp_path, "images/1.jpg", "labels/1.txt", "1.0 0.5 0.5 0.1 0.1\n\n2 0 0 1 1\ncat 0 0 1 1\n")
    write_yolo(tmp_path, "images/2.jpg", "labels/3.txt", "")
    data = load(tmp_path)
    assert [photo.tags for photo in data.photos] == [("cat",)]
    assert [(fault.where, fault.why.split(";")[0]) for fault in data.faults] == [
        ("labels/1.txt:3", "class 2 has no name"),
        ("labels/1.txt:4", "malformed line"),
        ("labels/3.txt", "its photo is not found"),
        (tmp_path.name, "1 of 2 photos without a tag to learn"),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nc: 2", "has labels of YOLO, but no names of classes; add data.yaml"),
        ("names: 3", "has labels of YOLO, but no names of classes"),
        ("names: [dog", r"data\.yaml: not readable YAML"),
        ("names:\n  0: cat\n  1: dog\n  1: sheep\n", r"data\.yaml: not readable YAML \(two equal keys, .*line 2"),
        ("[" * 5000, r"data\.yaml: not readable YAML"),
    ],
)
def test_classes_without_names(tmp_path: Path, text: str, why: str):
    write_yolo(tmp_path, "images/1.jpg", "labels/1.txt")
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=why):
        load(tmp_path)


def test_names_are_texts_that_name_classes(tmp_path: Path):
    write_yolo(tmp_path, "images/1.jpg", "labels/1.txt", "".join(f"{number} 0 0 1 1\n" for number in range(3)))
    (tmp_path / "data.yaml").write_text("names: [no, 'cat|dog', 1]")
    data = load(tmp_path)
    assert data.classes == ("1", "no")
    assert [fault.where for fault in data.faults] == ["data.yaml"]


@given(st.text(), st.text())
def test_any_label_file_and_any_list_of_names_is_read_or_refused(label: str, names: str):
    with tempfile.TemporaryDirectory() as folder, suppress(DataError):
        write_yolo(Path(folder), "images/1.jpg", "labels/1.txt")
        for name, text in (("labels/1.txt", label), ("data.yaml", names)):
            (Path(folder) / name).write_text(text, encoding="utf-8", errors="surrogatepass")
        assert len(read_listing(Path(folder), format="yolo").photos) == 1


def test_tagmask_reads_tags_back(data: TaggedPhotos, tmp_path: Path):
    write(data, tmp_path, "yolo", subset="val")
    read = load(tmp_path, split="val")
    shown = {photo.id: {CLASSES[label] for label in np.unique(expected(photo)) if label} for photo in data.photos}
    assert {photo.id: set(photo.tags) for photo in read.photos} == {
        f"val/{name.replace('/', '_')}": names for name, names in shown.items()
    }
