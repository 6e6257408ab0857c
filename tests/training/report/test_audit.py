from dataclasses import replace
from pathlib import Path

import pytest

from tagmask.segmenter import Segmenter
from tests.training.conftest import draw_photos
from tests.training.report.test_report import Page
from training.datasets.photos import TaggedPhotos
from training.evaluation.audit import audit
from training.report import audit as module
from training.report.audit import write_page


@pytest.fixture(scope="module")
def segmenter(colour_bundle: Path) -> Segmenter:
    return Segmenter.load(colour_bundle, device="cpu", threads=1)


def wrongly_tagged(root: Path) -> TaggedPhotos:
    """A cat tagged dog, a dog tagged cat, and a cat with a dog, rightly tagged."""
    data = draw_photos(root, 3)
    tags = [("dog",), ("cat",), ("cat", "dog")]
    photos = [replace(photo, tags=each) for photo, each in zip(data.photos, tags, strict=True)]
    return replace(data, photos=tuple(photos))


def write(segmenter: Segmenter, data: TaggedPhotos, out: Path, name: str = "zoo") -> Page:
    write_page(audit(segmenter, data), segmenter, name, out)
    return Page(out.read_text(encoding="utf-8"))


def test_the_page_shows_the_suspected_photos_and_what_is_seen_in_them(segmenter: Segmenter, tmp_path: Path):
    page = write(segmenter, wrongly_tagged(tmp_path), tmp_path / "page.html")
    assert f"3 photos examined by model {segmenter.version}; 2 photos with tags that may be wrong." in page.text
    assert "00 Tagged dog dog : not found score 1.00 cat : not tagged, but seen on" in page.text
    assert "02" not in [word for word in page.words if word.isdecimal()]
    pictures = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert sorted(pictures) == [f"{name}, {photo}" for name in ("photo", "seen without tags") for photo in ("00", "01")]
    assert all((address or "").startswith("data:image/webp;base64,") for address in page.addresses())


def test_the_page_says_how_many_photos_it_does_not_show(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = wrongly_tagged(tmp_path)
    whole = write(segmenter, data, tmp_path / "page.html")
    for name, most in (("PHOTOS", 1), ("MAX_BYTES", sum(map(len, whole.addresses())) - 1)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, most)
            text = write(segmenter, data, tmp_path / "page.html").text
        assert "2 photos with tags that may be wrong, of which the first 1 are shown." in text


def test_a_page_without_suspicions_says_so_and_names_are_text(segmenter: Segmenter, tmp_path: Path):
    page = write(segmenter, draw_photos(tmp_path, 3), tmp_path / "page.html", "<b>zoo</b>")
    assert "<b>zoo</b>" in page.text
    assert "No tag is suspected to be wrong." in page.text
