import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tagmask.errors import DataError, Fault
from training.datasets import load
from training.datasets.check import BATCH, FAULTS_SHOWN, Report, check, render

Paint = Callable[..., Path]


@pytest.fixture
def zoo(tmp_path: Path, paint: Paint) -> Path:
    """Photos cat/0 to cat/3 and dog/4 to dog/6, 20 to 26 pixels wide and 8 high."""
    for number in range(7):
        paint(tmp_path / ("cat" if number < 4 else "dog") / f"{number}.png", size=(20 + number, 8), seed=number)
    return tmp_path


def printed(report: Report, bytes_per_photo: int = 500_000) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    render(report, console, bytes_per_photo=bytes_per_photo)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_sound_data_is_kept_whole(zoo: Path) -> None:
    data = load(zoo)
    report = check(data, workers=1)
    assert report == Report(data, tags_per_photo={1: 7}, long_sides=(20, 23, 26), masks=0, duplicates=())


def test_processes_find_what_one_finds(zoo: Path, paint: Paint) -> None:
    for number in range(2 * BATCH):
        paint(zoo / "owl" / f"{number}.png", seed=100 + number)
    (zoo / "owl" / "3.png").write_text("no photo")
    done: list[int] = []
    report = check(load(zoo), workers=2, advance=done.append)
    assert report == check(load(zoo), workers=1)
    assert done == [1] * (7 + 2 * BATCH)
    assert [fault.where for fault in report.data.faults] == ["owl/3.png"]


def test_unreadable_and_vanished_photos_are_left_out(zoo: Path) -> None:
    data = load(zoo)
    (zoo / "cat" / "0.png").write_text("no photo")
    (zoo / "cat" / "1.png").unlink()
    (zoo / "dog" / "5.png").write_bytes((zoo / "dog" / "5.png").read_bytes()[:-200])
    report = check(data, workers=1)
    assert [photo.id for photo in report.data.photos] == ["cat/2", "cat/3", "dog/4", "dog/6"]
    assert [fault.where for fault in report.data.faults] == ["cat/0.png", "cat/1.png", "dog/5.png"]
    assert all(str(zoo) not in fault.why for fault in report.data.faults)
    assert report.data.photos_per_class() == {"cat": 2, "dog": 2}


def test_class_without_readable_photo_is_named(zoo: Path) -> None:
    data = load(zoo)
    for path in (zoo / "dog").iterdir():
        path.write_text("no photo")
    with pytest.raises(DataError, match=r"class 'dog' has no readable photo left.*dog/4\.png.*--classes"):
        check(data, workers=1)


def test_masks_that_cannot_measure_are_dropped(zoo: Path, paint_mask: Paint) -> None:
    (zoo / "classes.txt").write_text("background\ncat\ndog\n")
    good = paint_mask(zoo / "masks/cat/0.png", size=(20, 8), values=(0, 1, 2, 255))
    paint_mask(zoo / "masks/cat/1.png", size=(8, 21))
    paint_mask(zoo / "masks/cat/2.png", size=(22, 8), values=(0, 3))
    (zoo / "masks/cat/3.png").write_text("no mask")
    report = check(load(zoo), workers=1)
    assert [photo.mask for photo in report.data.photos] == [good] + [None] * 6
    assert report.masks == 1
    whys = {fault.where: fault.why for fault in report.data.faults}
    assert list(whys) == ["masks/cat/1.png", "masks/cat/2.png", "masks/cat/3.png"]
    assert whys["masks/cat/1.png"].startswith("mask of 8x21 pixels for a photo of 21x8")
    assert whys["masks/cat/2.png"].startswith("mask value 3; valid are 0 to 2")


def test_mask_has_the_size_of_the_displayed_photo(tmp_path: Path, paint_mask: Paint) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "cat").mkdir()
    Image.fromarray(np.zeros((4, 9, 3), dtype=np.uint8)).save(tmp_path / "cat" / "1.jpg", exif=exif)
    (tmp_path / "classes.txt").write_text("background\ncat\n")
    paint_mask(tmp_path / "masks/cat/1.png", size=(4, 9))
    assert check(load(tmp_path), workers=1).masks == 1


def test_duplicates_are_kept_and_reported(zoo: Path) -> None:
    (zoo / "dog" / "9.png").write_bytes((zoo / "cat" / "2.png").read_bytes())
    report = check(load(zoo), workers=1)
    assert report.duplicates == (("dog/9", "cat/2"),)
    assert len(report.data.photos) == 8
    assert "1 duplicate photo (dog/9 = cat/2); kept" in printed(report)


def test_summary(zoo: Path) -> None:
    lines = printed(check(load(zoo), workers=1), bytes_per_photo=1_500_000).splitlines()
    assert lines[0].endswith("one folder per class: 7 photos, 2 classes")
    assert [line.split()[:2] for line in lines[2:4]] == [["cat", "4"], ["dog", "3"]]
    assert lines[4].split() == ["tags", "per", "photo", "1:", "7", "(100%)"]
    assert lines[5].endswith("20 to 26 px, median 23")
    assert lines[6].split() == ["masks", "none"]
    assert lines[7].endswith("a training run uses about 10.5 MB, 1.5 MB per photo")
    assert lines[8] == "no faults"


def test_photos_that_show_nothing_are_counted(zoo: Path) -> None:
    lines = printed(check(load(zoo, none=["dog"]), workers=1)).splitlines()
    assert lines[0].endswith("one folder per class: 7 photos, 1 class, 3 show nothing")
    assert lines[3].split() == ["tags", "per", "photo", "none:", "3", "(43%)", "1:", "4", "(57%)"]


@pytest.mark.parametrize("name", ["Good", "ok", "no_defect", "defect free", "NaN", "N.A", "-"])
def test_a_class_that_may_stand_for_nothing_is_a_warning(zoo: Path, name: str) -> None:
    (zoo / "dog").rename(zoo / name)
    report = check(load(zoo), workers=1)
    learned = name.replace(" ", "_")
    (warning,) = report.warnings
    assert warning.startswith(f"{learned}: learned as a class; ")
    assert warning.endswith(f"add --none {learned}")
    assert warning in printed(report)
    assert not list(check(load(zoo, none=[name]), workers=1).warnings)


def test_photos_of_almost_one_colour_are_named(zoo: Path) -> None:
    """Among them grey of 12 bits in a file of 16, which is nearly black."""
    Image.fromarray(np.linspace(0, 4095, 80).reshape(8, 10).astype(np.uint16)).save(zoo / "cat" / "0.png")
    Image.new("RGB", (9, 9), "white").save(zoo / "dog" / "4.png")
    report = check(load(zoo), workers=1)
    assert report.flat == ("cat/0", "dog/4")
    assert "2 photos of almost one colour (cat/0, dog/4); if it is grey of 16 bits" in " ".join(printed(report).split())


def test_faults_of_one_kind_are_one_line_and_many_kinds_are_cut(zoo: Path) -> None:
    for number in range(4):
        (zoo / "cat" / f"x{number}.png").write_text("no photo")
    report = check(load(zoo), workers=1)
    (line,) = [line for line in printed(report).splitlines() if "not an image of a known type" in line]
    assert line.split()[0] == "4"
    assert "cat/x0.png, cat/x1.png, cat/x2.png" in line
    kinds = [Fault(f"at[{number}]", f"kind {chr(97 + number)} [bold]") for number in range(FAULTS_SHOWN + 3)]
    text = printed(replace(report, data=replace(report.data, faults=tuple(kinds))))
    assert f"{FAULTS_SHOWN + 3} faults" in text
    assert "… and 3 more" in text
    assert "kind a [bold]" in text
    assert "at[0]" in text
    assert "kind u" not in text


@pytest.mark.parametrize("name", ["JPEGImages/b.jpg", "SegmentationClass/a.png", "Annotations/c.xml"])
def test_pipes_are_faults(tmp_path: Path, paint: Paint, name: str) -> None:
    for photo in ("a", "b", "c"):
        paint(tmp_path / "JPEGImages" / f"{photo}.jpg")
    lists = tmp_path / "ImageSets"
    for path, text in ((lists / "Main" / "cat_train.txt", "a 1\nb 1\n"), (lists / "Segmentation" / "train.txt", "c\n")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    pipe = tmp_path / name
    pipe.unlink(missing_ok=True)
    pipe.parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)
    faults = {fault.where: fault.why for fault in check(load(tmp_path), workers=1).data.faults}
    assert "is not a regular file; replace or remove it" in faults[name]


@pytest.mark.parametrize("name", ["ImageSets/Main/cat_train.txt", "ImageSets/Segmentation/train.txt"])
def test_a_list_that_is_a_pipe_is_named(tmp_path: Path, paint: Paint, name: str) -> None:
    paint(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / name).parent.mkdir(parents=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: is not a regular file; replace or remove it"):
        load(tmp_path)
