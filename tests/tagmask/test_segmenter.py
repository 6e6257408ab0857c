"""The service paints what `tagmask segment` paints."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from training.predict import Predictor

from service.models import Model, load_model
from service.settings import Settings
from tagmask.crf import Refiner
from tagmask.errors import Unprocessable
from tagmask.formats import FORMATS
from tagmask.photos import read_photo
from tagmask.segmenter import Engine, SegmentOptions, labels_of
from tests.training.colour_bundle import write_colour_bundle
from training.config import CrfConfig

PHOTOS = Path(__file__).parents[2] / "../shared/data/voc-animals/JPEGImages"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx", working_size=160)


@pytest.fixture(scope="module")
def model(bundle: Path) -> Model:
    return load_model(bundle, Settings())


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    refiner = Refiner(1)
    yield Engine(max_pixels=50_000_000, refiner=refiner, refine_seconds=60, observe=lambda stage, seconds: None)
    refiner.close()


def painted(engine: Engine, model: Model, path: Path, *tags: str, crf: bool = False) -> np.ndarray:
    order = SegmentOptions(tags, FORMATS["png"], "crf" if crf else "none")
    return np.array(Image.open(BytesIO(engine.segment(path.read_bytes(), order, model))))


def drawn(folder: Path, size: tuple[int, int]) -> Path:
    """A photo of a cat and a dog in the colours of the colour bundle, with noise."""
    image = Image.new("RGB", size, (90, 140, 80))
    draw = ImageDraw.Draw(image)
    width, height = size
    draw.ellipse((width * 0.1, height * 0.2, width * 0.5, height * 0.8), fill=(200, 40, 40))
    draw.ellipse((width * 0.45, height * 0.3, width * 0.9, height * 0.9), fill=(40, 60, 190))
    noise = np.random.default_rng(0).normal(0, 40, (height, width, 3))
    path = folder / "photo.jpg"
    Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


@pytest.mark.parametrize("size", [(120, 90), (160, 160), (300, 225), (90, 317), (20, 12)])
@pytest.mark.parametrize("tags", [(), ("cat",), ("dog", "cat")])
def test_it_paints_what_training_paints(
    engine: Engine, model: Model, bundle: Path, tmp_path: Path, size: tuple[int, int], tags: tuple[str, ...]
):
    path = drawn(tmp_path, size)
    theirs = Predictor.load(bundle, device="cpu").segment(read_photo(path), tags or None)
    np.testing.assert_array_equal(painted(engine, model, path, *tags), theirs)


def test_with_crf_too(engine: Engine, model: Model, bundle: Path, tmp_path: Path):
    path = drawn(tmp_path, (200, 150))
    plain = painted(engine, model, path, "cat", "dog")
    refined = painted(engine, model, path, "cat", "dog", crf=True)
    theirs = Predictor.load(bundle, device="cpu").segment(read_photo(path), ["cat", "dog"], CrfConfig())
    np.testing.assert_array_equal(refined, theirs)
    assert (refined != plain).any()


def test_a_large_photo_is_nearly_the_same(engine: Engine, model: Model, bundle: Path, tmp_path: Path):
    path = drawn(tmp_path, (1600, 1200))  # a JPEG is decoded at a reduced scale here, which training does not do
    theirs = Predictor.load(bundle, device="cpu").segment(read_photo(path))
    ours = painted(engine, model, path)
    assert ours.shape == theirs.shape
    assert (ours == theirs).mean() > 0.99


def test_real_photos(engine: Engine, model: Model, bundle: Path):
    if not PHOTOS.is_dir():
        pytest.skip(f"{PHOTOS} is absent")
    predictor = Predictor.load(bundle, device="cpu")
    for path in sorted(PHOTOS.glob("*.jpg"))[:200:10]:
        np.testing.assert_array_equal(painted(engine, model, path), predictor.segment(read_photo(path)))


def test_an_unknown_tag_lists_the_known_ones(model: Model):
    with pytest.raises(Unprocessable, match="'zebra', 'gnu'; it knows cat, dog") as refusal:
        labels_of(("cat", "zebra", "gnu"), model)
    assert (refusal.value.code, refusal.value.field) == ("unknown_tag", "tags")


@pytest.mark.parametrize("tag", ["background", "Cat", "", "cat "])
def test_only_a_class_is_a_tag(model: Model, tag: str):
    with pytest.raises(Unprocessable):
        labels_of((tag,), model)
