"""Masks and corrections that go through Label Studio, and the check of what arrives."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.circle import Project, TruePhoto, check_inbox, miou, most_corrected, report
from benchmarks.label_studio import LabelStudio
from tagmask import Client
from tagmask.corrections import Correction
from tagmask.inbox import Inbox
from tagmask.masks import VOID
from tests.service.http.colour_photos import BACKGROUND, CAT, DOG, MASK, Mask, picture
from tests.service.serving import serving

CLASSES = ("background", "cat", "dog")
VERSION = "0123456789ab"
LABEL_STUDIO = shutil.which("label-studio")


def true_photo(path: Path, truth: Mask = MASK) -> TruePhoto:
    picture().save(path)
    return TruePhoto(path, truth)


def test_corrections_must_be_those_that_were_painted(tmp_path: Path) -> None:
    photo = true_photo(tmp_path / "photo.png")
    inbox = tmp_path / "inbox"
    said = Correction.of(np.where(MASK == BACKGROUND, VOID, MASK), CLASSES)
    Inbox(inbox, 0).add(photo.path.read_bytes(), ["cat", "dog"], "image/png", MASK.shape, correction=said)
    check_inbox(inbox, [photo], CLASSES[1:])
    moved = TruePhoto(photo.path, np.roll(MASK, 1))
    with pytest.raises(SystemExit, match=r"photo.png: its correction is not what was painted"):
        check_inbox(inbox, [moved], CLASSES[1:])
    with pytest.raises(SystemExit, match="1 corrections are missing"):
        check_inbox(inbox, [], CLASSES[1:])


def test_masks_that_are_no_better_are_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    photos = [TruePhoto(Path("a"), MASK), TruePhoto(Path("b"), MASK)]
    before: dict[TruePhoto, Mask] = dict.fromkeys(photos, np.zeros_like(MASK))
    after = {photos[0]: np.where(MASK == CAT, CAT, BACKGROUND).astype(np.uint8), photos[1]: MASK}
    assert most_corrected(photos, before, after) is photos[1]
    report({"not corrected": photos}, before, after)
    assert "not corrected" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="photos first and second did not get better"):
        report({"first": photos[:1], "second": photos[1:]}, after, before)


def test_miou_is_that_of_all_pixels() -> None:
    cats, dogs = (MASK == CAT).sum(), (MASK == DOG).sum()
    pairs = [(MASK, MASK), (np.full_like(MASK, CAT), np.full_like(MASK, DOG))]
    expected = [1, cats / (cats + MASK.size), dogs / (dogs + MASK.size)]
    assert miou(pairs) == pytest.approx(100 * np.mean(expected))


@pytest.mark.skipif(LABEL_STUDIO is None, reason="no label-studio in PATH")
def test_masks_and_corrections_go_through_label_studio(colour_bundle: Path, tmp_path: Path) -> None:
    assert LABEL_STUDIO
    key, inbox = "a key of sixteen characters", tmp_path / "inbox"
    photos = [
        true_photo(tmp_path / "first.png"),
        true_photo(tmp_path / "second ö+&.png", np.where(MASK == CAT, CAT, 0)),
    ]
    with (
        LabelStudio(Path(LABEL_STUDIO), tmp_path / "label-studio") as studio,
        serving(model=colour_bundle, inbox=inbox, label_studio_files=studio.media, api_keys=key) as service,
        Client(str(service.base_url), key) as client,
    ):
        project = Project(studio, client, photos, CLASSES)
        project.connect(str(service.base_url), key)
        for mask in project.masks(VERSION).values():
            np.testing.assert_array_equal(mask, MASK)
        project.correct(photos[1])
    check_inbox(inbox, photos[1:], CLASSES[1:])
