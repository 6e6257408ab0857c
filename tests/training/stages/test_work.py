import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tagmask.errors import ConfigError
from tagmask.masks import VOID, read_mask
from tagmask.photos import read_photo
from tests.training.conftest import Tagged
from tests.training.stages.test_saliency import write_network
from training.config import TrainConfig
from training.datasets.photos import Photo, TaggedPhotos
from training.parallel import exhaust, map_photos, processes
from training.run.layout import Layout
from training.stages import superpixels, work

ROOT = Path(__file__).parents[3]


def write_maps(data: TaggedPhotos, photo: Photo, path: Path, background: bool) -> None:
    """Maps (K, 16, 20) that a good localizer would give: the true mask, coarse; with a background channel or not."""
    assert photo.mask is not None
    coarse = read_mask(photo.mask)[2::4, 2::4]
    labels = data.labels(photo)[0 if background else 1 :]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.stack([np.where(coarse == label, 0.95, 0.02) for label in labels]).astype(np.float16))


def write_regions(data: TaggedPhotos, photo: Photo, layout: Layout, number: int) -> None:
    """RegionNet's output from the seeds: 0.8 for a seed's label, even where there is none."""
    here = layout.round(number)
    seeds = np.load(here.seeds(photo.id))
    labels = data.labels(photo)
    probabilities = np.full((len(seeds), len(labels)), 1 / len(labels))
    for position, label in enumerate(labels):
        others = np.full(len(labels), 0.2 / (len(labels) - 1))
        others[position] = 0.8
        probabilities[seeds == label] = others
    here.regions(photo.id).parent.mkdir(parents=True, exist_ok=True)
    np.save(here.regions(photo.id), probabilities.astype(np.float16))


@pytest.fixture
def done(tmp_path: Path, tagged: Tagged, small: TrainConfig) -> tuple[TaggedPhotos, Layout]:
    """Three photos that went through every stage of round 1."""
    data, layout = tagged(3), Layout(tmp_path / "run")
    for photo in data.photos:
        work.cut(photo, layout=layout, config=small)
        work.stand_out(photo, layout=layout, config=small)
        write_maps(data, photo, layout.round(0).maps(photo.id), background=False)
        work.seed(photo, layout=layout, number=1, classes=data.classes, config=small)
        write_regions(data, photo, layout, 1)
        work.refine_regions(photo, layout=layout, number=1, classes=data.classes, config=small)
        work.smooth(photo, layout=layout, number=1, classes=data.classes, config=small)
    return data, layout


def test_each_photo_ends_with_labels_close_to_the_truth(done: tuple[TaggedPhotos, Layout]):
    data, layout = done
    for photo in data.photos:
        assert photo.mask is not None
        truth, mask = read_mask(photo.mask), read_mask(layout.round(1).labels(photo.id))
        assert mask.shape == truth.shape
        assert set(np.unique(mask)) <= {*data.labels(photo), VOID}
        assert (mask == truth).mean() > 0.9
        for label in data.labels(photo)[1:]:
            assert ((mask == label) & (truth == label)).sum() > 0.6 * (truth == label).sum()


def painted_seeds(photo: Photo, layout: Layout, number: int) -> np.ndarray:
    """The seeds of a photo as a mask, (H, W) uint8."""
    seeds: np.ndarray = np.load(layout.round(number).seeds(photo.id))
    regions = superpixels.read(layout.superpixels(photo.id))
    assert (seeds.shape, seeds.dtype) == ((regions.max() + 1,), np.uint8)
    return seeds[regions]


def test_seeds_are_the_photos_own_labels_and_mostly_right(done: tuple[TaggedPhotos, Layout]):
    data, layout = done
    for photo in data.photos:
        assert photo.mask is not None
        truth, seeds = read_mask(photo.mask), painted_seeds(photo, layout, 1)
        assert (seeds == truth)[seeds != VOID].mean() > 0.9
        assert set(data.labels(photo)[1:]) <= set(np.unique(seeds)) <= {*data.labels(photo), VOID}


def test_only_photos_with_one_tag_are_refined(done: tuple[TaggedPhotos, Layout]):
    data, layout = done
    refined = [layout.round(1).refined(photo.id).is_file() for photo in data.photos]
    assert refined == [len(photo.tags) == 1 for photo in data.photos]
    for photo in data.photos:
        probabilities = work.refined_regions(photo, layout, layout.round(1))
        assert probabilities.shape == (1 + len(photo.tags), 64, 80)
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-2)


def test_what_is_there_is_kept(done: tuple[TaggedPhotos, Layout], small: TrainConfig):
    data, layout = done
    photo, here = data.photos[0], layout.round(1)
    files = [layout.superpixels(photo.id), layout.saliency(photo.id), here.seeds(photo.id), here.refined(photo.id)]
    files.append(here.labels(photo.id))
    for file in files:
        file.write_bytes(b"mine")
    work.cut(photo, layout=layout, config=small)
    work.stand_out(photo, layout=layout, config=small)
    work.seed(photo, layout=layout, number=1, classes=data.classes, config=small)
    work.refine_regions(photo, layout=layout, number=1, classes=data.classes, config=small)
    work.smooth(photo, layout=layout, number=1, classes=data.classes, config=small)
    assert all(file.read_bytes() == b"mine" for file in files)


def test_a_later_rounds_seeds_come_from_masks(done: tuple[TaggedPhotos, Layout], small: TrainConfig):
    data, layout = done
    for photo in data.photos:
        assert photo.mask is not None
        write_maps(data, photo, layout.round(1).maps(photo.id), background=True)
        work.seed(photo, layout=layout, number=2, classes=data.classes, config=small)
        truth, seeds = read_mask(photo.mask), painted_seeds(photo, layout, 2)
        sure = seeds != VOID
        assert sure.mean() > 0.5
        assert (seeds == truth)[sure].mean() > 0.95


def test_unsure_pixels_become_void(done: tuple[TaggedPhotos, Layout], small: TrainConfig):
    data, layout = done
    photo = data.photos[0]
    layout.round(1).labels(photo.id).unlink()
    picky = small.model_copy(update={"crf": small.crf.model_copy(update={"sure_above": 0.999999, "steps": 1})})
    work.smooth(photo, layout=layout, number=1, classes=data.classes, config=picky)
    assert (read_mask(layout.round(1).labels(photo.id)) == VOID).any()


def test_the_number_of_processes_changes_no_file(tmp_path: Path, tagged: Tagged, small: TrainConfig):
    data = tagged(10)
    layouts = [Layout(tmp_path / f"{workers}") for workers in (1, 2)]
    for workers, layout in enumerate(layouts, start=1):
        with processes(workers) as pool:
            cut = partial(work.cut, layout=layout, config=small)
            exhaust(map_photos(cut, data.photos, pool=pool, workers=workers))
    for photo in data.photos:
        one, two = (layout.superpixels(photo.id) for layout in layouts)
        assert one.read_bytes() == two.read_bytes()


def test_photos_in_folders_keep_their_folders(tmp_path: Path, tagged: Tagged, small: TrainConfig):
    data, layout = tagged(1), Layout(tmp_path / "run")
    photo = Photo("cat/ca1", data.photos[0].path, ("cat",))
    work.cut(photo, layout=layout, config=small)
    assert (tmp_path / "run" / "superpixels" / "cat" / "ca1.png").is_file()


def with_network(config: TrainConfig, path: Path) -> TrainConfig:
    return config.model_copy(update={"saliency": config.saliency.model_copy(update={"network": path})})


def test_the_settings_network_says_what_stands_out_also_in_processes(
    tmp_path: Path, tagged: Tagged, small: TrainConfig
):
    data, layout = tagged(3), Layout(tmp_path / "run")
    config = with_network(small, write_network(tmp_path / "red.onnx", [64, 80]))
    with processes(1) as pool:
        for stage in (work.cut, work.stand_out):
            exhaust(map_photos(partial(stage, layout=layout, config=config), data.photos, pool=pool, workers=1))
    for photo in data.photos:
        red = read_photo(photo.path)[..., 0].astype(np.float32)
        expected = (red - red.min()) / (red.max() - red.min())
        np.testing.assert_allclose(work.read_saliency(layout, photo), expected, atol=0.01)


def test_the_network_is_loaded_once(tmp_path: Path, tagged: Tagged, small: TrainConfig):
    data, layout = tagged(2), Layout(tmp_path / "run")
    path = write_network(tmp_path / "red.onnx", [64, 80])
    for photo in data.photos:
        work.cut(photo, layout=layout, config=small)
        work.stand_out(photo, layout=layout, config=with_network(small, path))
        path.unlink(missing_ok=True)  # the second photo does not need the file any more


def test_a_network_that_is_none_is_refused_by_name(tmp_path: Path, tagged: Tagged, small: TrainConfig):
    photo, layout = tagged(1).photos[0], Layout(tmp_path / "run")
    work.cut(photo, layout=layout, config=small)
    with pytest.raises(ConfigError, match=r"absent\.onnx: cannot be run"):
        work.stand_out(photo, layout=layout, config=with_network(small, tmp_path / "absent.onnx"))


def test_stages_need_no_torch():
    code = "import json, sys, training.stages.work, training.evaluation.measure; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    modules = set(json.loads(loaded))
    assert "training.stages.work" in modules
    assert not modules & {"torch", "torchvision", "timm"}
