"""A Segmenter in this process gives what a service with the same bundle gives."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.http.endpoints import segment
from tagmask.bundle import read_bundle
from tagmask.client import Client, RequestError, TagmaskError, exchange
from tagmask.errors import ConfigError
from tagmask.formats import FORMATS
from tagmask.inputs import Photo
from tagmask.result import FormatName, Result
from tagmask.segmenter import Segmenter
from tests.service.http.colour_photos import CAT, encoded, only, picture
from tests.service.serving import serving
from tests.training.colour_bundle import COLOURS, write_colour_bundle

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "../shared/data/voc-animals/JPEGImages"
EVERYTHING = get_args(FormatName)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Segmenter]]:
    """A client and a segmenter of the same bundle, whose working size is below that of some photos."""
    bundle = write_colour_bundle(tmp_path_factory.mktemp("both") / "model.onnx", working_size=160)
    with (
        serving(model=bundle) as server,
        Client(str(server.base_url)) as client,
        Segmenter.load(bundle, threads=1) as segmenter,
    ):
        yield client, segmenter


def drawn(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A photo of patches in the colours of the colour bundle, with noise: (H, W, 3) uint8 of `size` (H, W)."""
    random = np.random.default_rng(seed)
    patches = Image.fromarray(random.integers(0, 3, (5, 6), dtype=np.uint8)).resize(
        size[::-1], Image.Resampling.NEAREST
    )
    colours = np.array(list(COLOURS.values()))[np.asarray(patches)]
    return (colours + random.normal(0, 30, colours.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(90, 120), (160, 160), (600, 450), (317, 9), (1, 1)])
@pytest.mark.parametrize("tags", [(), "cat", ("dog", "cat")])
def test_every_format_is_the_same_to_the_byte(both: tuple[Client, Segmenter], size: tuple[int, int], tags: Any) -> None:
    theirs, ours = (each.segment(drawn(size), tags, formats=EVERYTHING) for each in both)
    assert list(ours.answers) == list(theirs.answers) == list(FORMATS)
    assert ours.answers == theirs.answers
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    np.testing.assert_array_equal(ours.palette, theirs.palette)
    for name in ("classes", "version", "present", "expected_ious", "expected_iou", "low_confidence", "unpainted"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.mask.shape == size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_files_too(both: tuple[Client, Segmenter], tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo"
    Image.fromarray(drawn((240, 333))).save(path, kind)
    theirs, ours = (each.segment(path) for each in both)
    np.testing.assert_array_equal(ours.mask, theirs.mask)


def test_refined_too(both: tuple[Client, Segmenter]) -> None:
    photo = drawn((120, 160))
    theirs, ours = (each.segment(photo, refine="crf") for each in both)
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    assert (ours.mask != both[1].segment(photo).mask).any()


@pytest.mark.parametrize("refine", ["smooth", "crf", "none"])
def test_tiles_too(both: tuple[Client, Segmenter], refine: Any) -> None:
    photo = drawn((300, 400))
    theirs, ours = (each.segment(photo, refine=refine, formats=EVERYTHING, tile=160) for each in both)
    assert ours.answers == theirs.answers
    assert (ours.mask != both[1].segment(photo).mask).any()
    (batched,) = both[0].segment_batch([photo], refine=refine, tile=160)
    assert isinstance(batched, Result)
    np.testing.assert_array_equal(batched.mask, ours.mask)


@settings(max_examples=30)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_any_array(both: tuple[Client, Segmenter], height: int, width: int, seed: int) -> None:
    photo = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    theirs, ours = (each.segment(photo).mask for each in both)
    np.testing.assert_array_equal(ours, theirs)


def test_real_photos(both: tuple[Client, Segmenter]) -> None:
    if not PHOTOS.is_dir():
        pytest.skip(f"{PHOTOS} is absent")
    for path in sorted(PHOTOS.glob("*.jpg"))[:100:10]:
        theirs, ours = (each.segment(path).mask for each in both)
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("photo", "options"),
    [
        (encoded(), {"tags": ["bird"]}),
        (encoded(), {"tags": "cat, bird"}),
        (encoded(), {"refine": "magic"}),
        (encoded(), {"tile": 7}),
        (encoded(), {"formats": ["gif"]}),
        (b"no photo", {}),
        (encoded()[:90], {}),
        (np.zeros((1, 65_536, 3), dtype=np.uint8), {}),
    ],
)
def test_the_same_refusals(both: tuple[Client, Segmenter], photo: Photo, options: dict[str, Any]) -> None:
    refusals = []
    for each in both:
        with pytest.raises(RequestError) as refusal:
            each.segment(photo, **options)
        fault = refusal.value
        refusals.append((fault.status, fault.code, fault.field, fault.limit))
    assert refusals[0] == refusals[1]


def test_a_segmenter_tells_its_model(both: tuple[Client, Segmenter]) -> None:
    client, segmenter = both
    (model,) = client.models()
    assert (segmenter.version, segmenter.classes) == (model["version"], tuple(model["classes"]))


def test_the_network_runs_once_for_all_formats(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tagmask.network import Network

    runs = []
    once = Network.infer
    with Segmenter.load(colour_bundle) as segmenter:
        monkeypatch.setattr(Network, "infer", lambda self, photo: runs.append(photo) or once(self, photo))
        segmenter.segment(encoded(), formats=EVERYTHING)
    assert len(runs) == 1


def test_threads_share_a_segmenter(both: tuple[Client, Segmenter]) -> None:
    photos = [drawn((80, 120), seed) for seed in range(6)]
    alone = [both[1].segment(photo, refine="crf").mask for photo in photos]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda photo: both[1].segment(photo, refine="crf").mask, photos))
    np.testing.assert_array_equal(together, alone)


def test_pixels_are_limited(colour_bundle: Path) -> None:
    with Segmenter(read_bundle(colour_bundle), max_pixels=1000) as segmenter, pytest.raises(RequestError) as refusal:
        segmenter.segment(np.array(picture()))
    assert (refusal.value.code, refusal.value.limit) == ("too_many_pixels", 1000)


def test_what_is_no_bundle_is_refused(tmp_path: Path, colour_bundle: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(TagmaskError, match=r"model\.onnx: cannot be read"):
        Segmenter.load(path)
    path.write_bytes(colour_bundle.read_bytes()[:100])
    with pytest.raises(TagmaskError, match=r"model\.onnx: not an ONNX file"):
        Segmenter.load(path)
    with pytest.raises(ConfigError, match="threads"):
        Segmenter.load(colour_bundle, threads=0)


def test_names_are_those_of_the_service() -> None:
    assert exchange.VERSION_HEADER == segment.VERSION_HEADER
    assert ("png", *EVERYTHING) == tuple(FORMATS)


def test_neither_loads_a_server_or_what_trains(colour_bundle: Path) -> None:
    code = f"""
import sys
heavy = {{"bentoml", "torch", "starlette", "fastapi", "uvicorn", "training", "flows", "prefect"}}
import tagmask.client
assert not sys.modules.keys() & (heavy | {{"onnxruntime", "onnx", "cv2", "pydantic"}})
from tagmask.segmenter import Segmenter
mask = Segmenter.load({str(colour_bundle)!r}).segment(sys.argv[1], "cat", "crf").mask
assert not sys.modules.keys() & heavy
print(mask.tolist())
"""
    photo = colour_bundle.with_name("photo.png")
    photo.write_bytes(encoded())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(photo)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (np.array(json.loads(done.stdout)) == only(CAT)).mean() > 0.95
