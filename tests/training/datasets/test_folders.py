from collections.abc import Callable
from pathlib import Path

import pytest

from tagmask.errors import DataError
from training.datasets import load
from training.run.layout import Layout

Paint = Callable[..., Path]


@pytest.fixture
def zoo(tmp_path: Path, paint: Paint) -> Path:
    for number, name in enumerate(("cat/1.png", "cat/2.JPG", "dog/1.webp", "dog/3.bmp", "owl/4.jpeg")):
        paint(tmp_path / name, seed=number)
    return tmp_path


def test_folder_name_is_the_tag(zoo: Path) -> None:
    data = load(zoo)
    assert {photo.id: (photo.path, photo.tags) for photo in data.photos} == {
        "cat/1": (zoo / "cat/1.png", ("cat",)),
        "cat/2": (zoo / "cat/2.JPG", ("cat",)),
        "dog/1": (zoo / "dog/1.webp", ("dog",)),
        "dog/3": (zoo / "dog/3.bmp", ("dog",)),
        "owl/4": (zoo / "owl/4.jpeg", ("owl",)),
    }
    assert [photo.id for photo in data.photos] == sorted(photo.id for photo in data.photos)
    assert data.faults == ()


def test_what_is_no_photo_is_told(zoo: Path, paint: Paint) -> None:
    (zoo / "cat" / "notes.txt").write_text("soft")
    (zoo / "cat" / ".DS_Store").write_text("")
    paint(zoo / "cat" / "more" / "deep.png")
    (zoo / "eel").mkdir()
    (zoo / "fox").mkdir()
    paint(zoo / "fox" / "5.png").rename(zoo / "fox" / "5")
    (zoo / "owl" / "more").symlink_to(zoo / "cat")
    paint(zoo / ".trash" / "gone.png")
    data = load(zoo)
    assert data.classes == ("cat", "dog", "owl")
    assert "cat/more/deep" in {photo.id for photo in data.photos}
    assert [(fault.where, fault.why) for fault in data.faults] == [
        ("cat/", "ignored 1 item other than photos, such as 'notes.txt'"),
        ("eel/", "class folder without photos; add photos or remove it"),
        ("fox/", "class folder without photos, only 1 item such as '5'; add photos or remove it"),
        ("owl/", "ignored 1 item other than photos, such as 'more'"),
    ]


def test_a_folder_that_cannot_be_read_is_named(zoo: Path, paint: Paint, unreadable: Callable[[Path], None]) -> None:
    paint(zoo / "owl" / "deep" / "1.png")
    unreadable(zoo / "owl" / "deep")
    with pytest.raises(
        DataError, match=r"owl/deep: cannot be read \(Permission denied\); make it readable or remove it"
    ):
        load(zoo)


@pytest.mark.parametrize("written", [Layout(Path()).ledger, "data/catalogue.sqlite"])
def test_a_run_or_workspace_beside_the_classes_is_none(zoo: Path, paint: Paint, written: str | Path) -> None:
    before = load(zoo).photos
    for folder in (zoo / "run", zoo / "cat" / "run"):
        paint(folder / "superpixels" / "cat" / "1.png")
        (folder / written).parent.mkdir(exist_ok=True)
        (folder / written).touch()
    data = load(zoo)
    assert (data.photos, data.faults) == (before, ())


def test_suffixes_of_other_programs(tmp_path: Path, paint: Paint) -> None:
    """Windows saves JPEGs of web pages as .jfif, and cameras write HEIF as .hif."""
    for name in ("cat/1.jfif", "cat/2.JPE", "dog/3.HIF"):
        photo = paint(tmp_path / f"{name}.png")
        photo.rename(photo.with_suffix(""))
    assert [photo.id for photo in load(tmp_path).photos] == ["cat/1", "cat/2", "dog/3"]


def test_one_id_for_two_photos_keeps_the_first_by_name(zoo: Path, paint: Paint) -> None:
    paint(zoo / "cat" / "1.jpg")
    data = load(zoo)
    assert data.photos[0].path == zoo / "cat" / "1.jpg"
    assert data.photos_per_class()["cat"] == 2
    (fault,) = data.faults
    assert fault.why.startswith("'1.png' left out, as '1.jpg' has the same id")


def test_folders_in_several_spellings_are_one_class(zoo: Path, paint: Paint) -> None:
    for name in ("Polar bear", "polar-bear", "ve\u0301lo", "v\xe9lo"):
        paint(zoo / name / "1.png")
    data = load(zoo)
    assert data.photos_per_class() == {"Polar_bear": 2, "cat": 2, "dog": 2, "owl": 1, "v\xe9lo": 1}
    assert [fault.why.partition(" left")[0] for fault in data.faults] == ["'1.png'"]
    assert load(zoo, classes=["POLAR BEAR", "ve\u0301lo"]).classes == ("POLAR_BEAR", "v\xe9lo")


def test_a_folder_that_cannot_name_a_class(zoo: Path, paint: Paint) -> None:
    for number in range(3):
        paint(zoo / "tabby,cat" / f"{number}.png")
    data = load(zoo)
    assert data.classes == ("cat", "dog", "owl")
    assert [fault.where for fault in data.faults] == ["tabby,cat/", zoo.name]
    assert "',', which separates tags" in data.faults[0].why


def test_name_that_no_list_could_hold(zoo: Path, paint: Paint) -> None:
    paint(zoo / "cat" / "a\nb.png")
    (fault,) = load(zoo).faults
    assert fault.where == r"cat/a\nb.png"
    assert "control characters" in fault.why


def test_split_lists_ids(zoo: Path) -> None:
    (zoo / "splits").mkdir()
    (zoo / "splits" / "val.txt").write_text("owl/4\ncat/2.JPG\ncat/9\n")
    data = load(zoo, split="val")
    assert [photo.id for photo in data.photos] == ["cat/2", "owl/4"]
    assert [fault.where for fault in data.faults] == ["splits/val.txt:3"]
    with pytest.raises(DataError, match="no split 'train'; choose one of val"):
        load(zoo, split="train")
    assert load(zoo).classes == ("cat", "dog", "owl")


def test_masks_need_names_for_their_values(zoo: Path, paint_mask: Paint) -> None:
    mask = paint_mask(zoo / "masks" / "dog" / "3.png")
    data = load(zoo)
    assert [fault.where for fault in data.faults] == ["masks/"]
    assert not any(photo.mask for photo in data.photos)
    (zoo / "classes.txt").write_text("background\ndog\n")
    data = load(zoo)
    assert {photo.id: photo.mask for photo in data.photos if photo.mask} == {"dog/3": mask}
    assert data.mask_classes == ("background", "dog")
    assert data.classes == ("cat", "dog", "owl")


def test_a_photo_below_the_folder_of_its_class_has_its_tag(tmp_path: Path, paint: Paint) -> None:
    for name in ("cat/2023/1.png", "cat/2024-05/1.png", "dog/day1/old/1.png", "dog/2.png"):
        paint(tmp_path / name)
    data = load(tmp_path)
    assert {photo.id: photo.tags for photo in data.photos} == {
        "cat/2023/1": ("cat",),
        "cat/2024-05/1": ("cat",),
        "dog/day1/old/1": ("dog",),
        "dog/2": ("dog",),
    }
    assert data.faults == ()


@pytest.mark.parametrize(
    ("photos", "outer", "names"),
    [
        (("animals/cat/1.png", "vehicles/car/2.png"), ("animals", "vehicles"), "animals/ or animals/cat/"),
        (("animals/cat/1.png", "dog/2.png"), ("animals", "dog"), "animals/ or animals/cat/"),
        (("cat/2023/1.png", "cat/2024/2.png"), ("cat",), "cat/ or cat/2023/"),
        (("mask/1.png", "no_mask/2.png"), ("mask", "no_mask"), "mask/ may be a class, or photos or masks"),
    ],
)
def test_folders_that_may_be_classes_or_not(
    tmp_path: Path, paint: Paint, photos: tuple[str, ...], outer: tuple[str, ...], names: str
) -> None:
    for photo in photos:
        paint(tmp_path / photo)
    with pytest.raises(DataError, match=rf"{names}.*--format folders"):
        load(tmp_path)
    assert load(tmp_path, format="folders").classes == outer


def test_the_inner_folders_are_named_as_data_sets(tmp_path: Path, paint: Paint) -> None:
    for photo in ("animals/cat/1.png", "vehicles/car/2.png"):
        paint(tmp_path / photo)
    assert load([tmp_path / "animals", tmp_path / "vehicles"]).classes == ("car", "cat")


def test_classes_called_with_mask_and_without_mask(tmp_path: Path, paint: Paint) -> None:
    for photo in ("with_mask/1_mask.png", "without_mask/2.png"):
        paint(tmp_path / photo)
    assert load(tmp_path).classes == ("with_mask", "without_mask")


def test_masks_and_photos_beside_classes_are_no_photos_of_a_class(zoo: Path, paint: Paint, paint_mask: Paint) -> None:
    paint_mask(zoo / "cat" / "1_mask.png")
    paint(zoo / "loose.png")
    data = load(zoo)
    assert "cat/1_mask" not in {photo.id for photo in data.photos}
    assert [(fault.where, fault.why) for fault in data.faults] == [
        ("cat/", "ignored 1 mask beside photos, such as '1_mask.png'"),
        (zoo.name, "1 photo in no class folder; left out"),
    ]
