"""`tagmask segment` writes the masks and overlays that a service gives."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tagmask.cli.segment import plan_outputs, segment_files
from tagmask.errors import DataError, Unprocessable
from tagmask.masks import read_mask
from tagmask.photos import read_photo
from tagmask.result import Result
from tagmask.segmenter import PRETRAINED, Segmenter
from tests.training.colour_bundle import COLOURS, write_colour_bundle, write_tagged_bundle
from tests.training.conftest import Command, draw_photos

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tells cats, dogs and ground by their colours."""
    return write_colour_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx")


@pytest.fixture(scope="module")
def segmenter(model: Path) -> Iterator[Segmenter]:
    with Segmenter.load(model, device="cpu", threads=1) as segmenter:
        yield segmenter


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Photos of a cat, a dog and both, in `images`, with true masks in `masks`."""
    root = draw_photos(tmp_path / "data", 3).root
    (root / "photos").rename(root / "images")
    (root / "truth").rename(root / "masks")
    return root


def save(path: Path, *names: str) -> Path:
    """A photo of 40-pixel stripes in the colours of `names`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = [np.full((40, 40, 3), COLOURS[name], dtype=np.uint8) for name in names]
    Image.fromarray(np.concatenate(stripes, axis=1)).save(path)
    return path


def values(path: Path) -> set[int]:
    return set(np.unique(read_mask(path)).tolist())


def test_photos_are_segmented_and_overlaid(segmenter: Segmenter, tmp_path: Path):
    photos = [save(tmp_path / "a.png", "background", "cat"), save(tmp_path / "b.jpg", "dog", "cat")]
    assert segment_files(segmenter, plan_outputs([*photos, photos[0]], tmp_path / "out")) == ([], [], {})
    names = ["a-overlay.png", "a.png", "b-overlay.png", "b.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert values(tmp_path / "out" / "a.png") == {0, 1}
    overlay = np.array(Image.open(tmp_path / "out" / "a-overlay.png"))
    assert overlay.shape == (40, 80, 3)
    assert tuple(overlay[10, 10]) == COLOURS["background"]
    assert tuple(overlay[10, 70]) != COLOURS["cat"]


def test_the_model_may_come_first_as_in_earlier_versions(command: Command, model: Path, tmp_path: Path):
    photo = save(tmp_path / "a.png", "background", "cat")
    assert command("segment", model, photo, "--out", tmp_path / "out")[0] == 0
    assert values(tmp_path / "out" / "a.png") == {0, 1}


def test_tags_limit_all_photos(segmenter: Segmenter, tmp_path: Path):
    outputs = plan_outputs([save(tmp_path / "a.png", "background", "cat", "dog")], tmp_path / "out")
    segment_files(segmenter, outputs, tags=["dog"])
    assert values(tmp_path / "out" / "a.png") == {0, 2}


def test_a_tag_that_is_painted_nowhere_is_told(command: Command, model: Path, tmp_path: Path):
    photos = [save(tmp_path / "a.png", "background", "cat"), save(tmp_path / "b.png", "background")]
    status, _, errors = command("segment", *photos, "--model", model, "--out", tmp_path / "out", "--tags", "cat")
    assert status == 0
    assert f"doubtful: {photos[1]}: expected IoU 0.00, cat is painted nowhere" in errors
    assert str(photos[0]) not in errors


def test_likely_tags_that_are_not_given_are_suggested(command: Command, tmp_path: Path):
    bundle = write_tagged_bundle(tmp_path / "model.onnx", (0.3, 0.9), (0.5, 0.5))
    photo = save(tmp_path / "a.png", "cat", "dog")
    for tags, suggested in (([], "dog (90%), cat (30%)"), (["--tags", "Dog"], "cat (30%)")):
        status, output, _ = command("segment", photo, "--model", bundle, "--out", tmp_path / "out", *tags)
        assert status == 0
        assert output.splitlines()[0] == f"{photo}: suggested tags: {suggested}"
    assert (
        "the model sees"
        not in command("segment", photo, "--model", bundle, "--out", tmp_path / "out", "--tags", "cat,dog")[1]
    )
    unlikely = write_tagged_bundle(tmp_path / "unlikely.onnx", (0.05, 0.05), (0.5, 0.5))
    assert "suggested" not in command("segment", photo, "--model", unlikely, "--out", tmp_path / "out")[1]


def test_an_unreadable_photo_is_named_and_the_others_are_segmented(segmenter: Segmenter, tmp_path: Path):
    broken = tmp_path / "a.png"
    broken.write_bytes(b"no photo")
    done: list[int] = []
    photos = [broken, tmp_path / "absent.jpg", save(tmp_path / "b.png", "cat")]
    faults, _, _ = segment_files(segmenter, plan_outputs(photos, tmp_path / "out"), advance=done.append)
    assert [fault.where for fault in faults] == [str(broken), str(tmp_path / "absent.jpg")]
    assert "replace or remove it" in faults[0].why
    assert (tmp_path / "out" / "b.png").is_file()
    assert not (tmp_path / "out" / "a.png").exists()
    assert done == [1, 1, 1]


def test_as_many_photos_at_a_time_as_cores(segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pair, segment = threading.Barrier(2, timeout=60), segmenter.segment

    def segment_in_pairs(*arguments: Any, **options: Any) -> Result:
        pair.wait()
        return segment(*arguments, **options)

    monkeypatch.setattr(segmenter, "segment", segment_in_pairs)
    monkeypatch.setattr("tagmask.cores.cores", lambda: 2)
    photos = [save(tmp_path / f"{name}.png", name) for name in ("cat", "dog")]
    assert segment_files(segmenter, plan_outputs(photos, tmp_path / "out")) == ([], [], {})
    assert [values(tmp_path / "out" / photo.name) for photo in photos] == [{1}, {2}]


def test_names_of_photos_do_not_control_the_terminal(command: Command, tmp_path: Path):
    bundle = write_tagged_bundle(tmp_path / "model.onnx", (0.3, 0.9), (0.5, 0.5))
    photo = save(tmp_path / "in" / "a\x1b[31m\nb.png", "dog", "background")
    (tmp_path / "in" / "c\x1b[2J.png").write_text("not a photo")
    _, output, errors = command("--quiet", "segment", photo.parent, "--model", bundle, "--out", tmp_path / "out")
    assert r"in/a\x1b[31m\nb.png: suggested tags: dog (90%), cat (30%)" in output
    assert r"in/c\x1b[2J.png: is not an image" in errors
    assert "\x1b" not in output + errors


@pytest.mark.parametrize("names", [("x/a.png", "y/a.png"), ("a.jpg", "a.png"), ("a.png", "a-overlay.png")])
def test_no_two_photos_share_an_output(segmenter: Segmenter, tmp_path: Path, names: tuple[str, str]):
    photos = [save(tmp_path / name, "cat") for name in names]
    with pytest.raises(DataError, match="would be written for both"):
        segment_files(segmenter, plan_outputs(photos, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, unreadable: Callable[[Path], None]):
    save(tmp_path / "in" / "a.png", "cat")
    save(tmp_path / "in" / "deep" / "b.png", "cat")
    unreadable(tmp_path / "in" / "deep")
    with pytest.raises(DataError, match=r"in/deep: cannot be read \(Permission denied\); make it readable"):
        plan_outputs([tmp_path / "in"], tmp_path / "out")


def test_no_input_is_replaced(segmenter: Segmenter, tmp_path: Path):
    photo = save(tmp_path / "a.png", "cat")
    before = photo.read_bytes()
    with pytest.raises(DataError, match="would replace an input"):
        segment_files(segmenter, plan_outputs([photo], tmp_path))
    assert photo.read_bytes() == before


def test_an_unknown_tag_is_refused_before_anything_is_written(segmenter: Segmenter, tmp_path: Path):
    with pytest.raises(Unprocessable, match="it knows cat, dog"):
        segment_files(segmenter, plan_outputs([save(tmp_path / "a.png", "cat")], tmp_path / "out"), tags=["zebra"])
    assert not (tmp_path / "out").exists()


def test_files_are_those_of_the_formats(segmenter: Segmenter, tmp_path: Path):
    photo = save(tmp_path / "a.png", "background", "cat")
    segment_files(segmenter, plan_outputs([photo], tmp_path / "out"))
    answers = segmenter.segment(photo, formats=["overlay"]).answers
    assert (tmp_path / "out" / "a.png").read_bytes() == answers["png"]
    assert (tmp_path / "out" / "a-overlay.png").read_bytes() == answers["overlay"]


def test_folders_are_searched_but_not_for_hidden_files_and_results(segmenter: Segmenter, tmp_path: Path):
    for name in ("a.png", "deep/er/b.jpg", ".hidden/c.png", ".d.png"):
        save(tmp_path / name, "cat")
    (tmp_path / "notes.txt").write_text("no photo")
    out = tmp_path / "masks"
    outputs = plan_outputs([tmp_path], out)
    assert outputs == {
        tmp_path / "a.png": out / "a.png",
        tmp_path / "deep/er/b.jpg": out / "deep/er/b.png",
    }
    segment_files(segmenter, outputs)
    assert plan_outputs([tmp_path], out) == outputs
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no photos in this folder"):
        plan_outputs([tmp_path / "empty"], out)


def test_masks_may_be_written_beside_or_above_the_photos(tmp_path: Path):
    photo = save(tmp_path / "photos" / "a.jpg", "cat")
    for out in (photo.parent, tmp_path):
        assert plan_outputs([photo.parent], out) == {photo: out / "a.png"}


def test_a_link_to_itself_among_photos_is_left_out(segmenter: Segmenter, tmp_path: Path):
    save(tmp_path / "photos" / "a.jpg", "cat")
    (tmp_path / "photos" / "b.jpg").symlink_to("b.jpg")
    faults, _, _ = segment_files(segmenter, plan_outputs([tmp_path / "photos"], tmp_path / "out"))
    assert [Path(fault.where).name for fault in faults] == ["b.jpg"]
    assert (tmp_path / "out" / "a.png").is_file()


def test_crf_gives_what_a_service_refines(command: Command, segmenter: Segmenter, model: Path, tmp_path: Path):
    photo = save(tmp_path / "a.png", "background", "cat", "dog")
    status, _, _ = command("segment", photo, "--model", model, "--out", tmp_path / "out", "--crf")
    assert status == 0
    refined = segmenter.segment(photo, refine="crf").mask
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "a.png"), refined)


def test_tiles_find_what_is_small(command: Command, segmenter: Segmenter, model: Path, tmp_path: Path):
    photo = np.full((240, 320, 3), COLOURS["background"], dtype=np.uint8)
    photo[101, 201] = COLOURS["dog"]
    Image.fromarray(photo).save(tmp_path / "a.png")
    for tile, found in (("80", {0, 2}), ("0", {0})):
        assert (
            command("segment", tmp_path / "a.png", "--model", model, "--out", tmp_path / tile, "--tile", tile)[0] == 0
        )
        assert values(tmp_path / tile / "a.png") == found
    status, _, errors = command("segment", tmp_path / "a.png", "--model", model, "--tile", "7")
    assert (status, "tile '7' is not 0 or 32 to 65535 pixels" in errors) == (2, True)


def test_what_the_decoder_took_is_returned(
    command: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    returned: list[str] = []
    monkeypatch.setattr("tagmask.memory.return_large_blocks", lambda: returned.append("all"))
    photo = save(tmp_path / "a.png", "cat")
    assert command("segment", photo, "--model", model, "--out", tmp_path / "masks")[0] == 0
    assert returned == ["all"]


def test_photos_beyond_the_limit_of_pixels_are_left_out(command: Command, model: Path, tmp_path: Path):
    small, large = save(tmp_path / "a.png", "cat"), save(tmp_path / "b.png", "cat", "dog")
    arguments = ("segment", small, large, "--model", model, "--out", tmp_path / "out")
    status, output, errors = command(*arguments, "--max-pixels", "3000")
    assert (status, "1 photo segmented" in output) == (1, True)
    assert f"left out: {large}: has 80x40 pixels, more than 3000" in errors
    status, _, errors = command(*arguments, "--max-pixels", "3200", "--tile", "32")
    assert (status, f"left out: {large}: the tiles scale the photo to 200x100 pixels" in errors) == (1, True)


def test_the_shipped_model_segments_in_an_empty_folder(tmp_path: Path):
    (tmp_path / "photo.jpg").write_bytes((ROOT / "service/page/samples/cat.jpg").read_bytes())
    code = """
import sys
sys.modules |= dict.fromkeys(["torch", "torchvision", "timm", "bentoml", "prefect", "pydensecrf", "starlette"])
sys.argv = ["tagmask", "--quiet", "segment", "photo.jpg"]
from tagmask.cli.main import main
main()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    told = "photo.jpg: suggested tags: cat (100%)\n1 photo segmented; masks and overlays are in masks\n"
    assert (run.returncode, run.stdout) == (0, told), run.stderr
    with Segmenter.load(PRETRAINED) as segmenter:
        expected = segmenter.segment(tmp_path / "photo.jpg").answers["png"]
    assert (tmp_path / "masks" / "photo.png").read_bytes() == expected


def test_segment_writes_masks_and_overlays(command: Command, model: Path, data: Path, tmp_path: Path):
    photos, out = sorted((data / "images").iterdir()), tmp_path / "masks [new]"
    status, output, _ = command("segment", *photos, "--model", model, "--out", out)
    assert (status, output) == (0, f"3 photos segmented; masks and overlays are in {out}\n")
    for photo in photos:
        agreement = (read_mask(out / photo.name) == read_mask(data / "masks" / photo.name)).mean()
        assert agreement > 0.98
        assert read_photo(out / f"{photo.stem}-overlay.png").shape == (64, 80, 3)
    command("segment", photos[2], "--model", model, "--out", tmp_path / "cats", "--tags", "cat")
    assert set(np.unique(read_mask(tmp_path / "cats" / "02.png"))) == {0, 1}


def test_segment_names_a_photo_that_cannot_be_read_and_fails(command: Command, model: Path, data: Path, tmp_path: Path):
    bad = tmp_path / "bad [1].png"
    bad.write_text("not a photo")
    status, output, errors = command(
        "segment", bad, data / "images" / "00.png", "--model", model, "--out", tmp_path / "out"
    )
    assert status == 1
    assert f"left out: {bad}: is not an image of a known type" in errors
    assert "1 photo segmented;" in output
