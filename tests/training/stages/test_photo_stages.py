import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tagmask import files
from tagmask.errors import ConfigError
from tagmask.masks import VOID, read_mask
from tagmask.photos import read_photo
from tests.training.conftest import Tagged
from tests.training.stages.test_saliency import write_network
from training.config import TrainConfig
from training.datasets.parallel import map_photos, processes
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.evidence_odds import LEVELS, level
from training.networks.regiontagger import RegionTagger
from training.stages import class_maps, evidence, refinement, regions, saliency, seeds, superpixels
from training.stages.base import PhotoStage
from training.stages.class_maps import ClassMaps
from training.stages.evidence import UNLIKELY, Evidence, mask_odds
from training.stages.labels import Labels, LabelsConfig
from training.stages.localization import features_file, maps_file, read_maps, region_features
from training.stages.pooling import average
from training.stages.refinement import Refinement, follow_colours, refine
from training.stages.regions import Regions
from training.stages.regiontagger import odds_file
from training.stages.saliency import Saliency
from training.stages.seeds import Seeds
from training.stages.superpixels import Superpixels

ROOT = Path(__file__).parents[3]


def write_maps(data: TaggedPhotos, photo: Photo, path: Path, background: bool) -> None:
    """Maps (K, 16, 20) that a good localizer would give: the true mask, coarse; with a background channel or not."""
    assert photo.mask is not None
    coarse = read_mask(photo.mask)[2::4, 2::4]
    labels = photo.labels(data.classes)[0 if background else 1 :]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.stack([np.where(coarse == label, 0.95, 0.02) for label in labels]).astype(np.float16))


def write_evidence(data: TaggedPhotos, photo: Photo, run: Path) -> None:
    """The evidence that a good region tagger would give: log odds of 3 for a superpixel of the tag, else -3."""
    assert photo.mask is not None
    _, first = np.unique(superpixels.read(photo, run), return_index=True)
    height, width = superpixels.read(photo, run).shape
    truth = cv2.resize(read_mask(photo.mask), (width, height), interpolation=cv2.INTER_NEAREST).reshape(-1)[first]
    tags = np.array(photo.labels(data.classes)[1:])
    files.write_array(Evidence.file_of(photo, run, 1), np.where(truth[:, None] == tags, 3.0, -3.0).astype(np.float16))


def write_colours(photo: Photo, run: Path, config: TrainConfig) -> None:
    """The features of superpixels by a network without any feature maps: their colours alone."""
    features = region_features(read_photo(photo.path, config.long_side), superpixels.read(photo, run), [])
    files.write_array(features_file(photo, run, 0), features)


def write_regions(data: TaggedPhotos, photo: Photo, run: Path, number: int) -> None:
    """RegionNet's output from the seeds: 0.8 for a seed's label, even where there is none."""
    seeds = np.load(Seeds.file_of(photo, run, number))
    labels = photo.labels(data.classes)
    probabilities = np.full((len(seeds), len(labels)), 1 / len(labels))
    for position, label in enumerate(labels):
        others = np.full(len(labels), 0.2 / (len(labels) - 1))
        others[position] = 0.8
        probabilities[seeds == label] = others
    path = Regions.file_of(photo, run, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, probabilities.astype(np.float16))


def process(
    kind: type[PhotoStage], photo: Photo, run: Path, config: TrainConfig, data: TaggedPhotos, number: int = 0
) -> None:
    """A stage for one photo, as the executor runs it."""
    stage = kind.of(config, number)
    stage.begin(data, run)
    stage.prepare(run, data.classes)(photo)


@pytest.fixture
def done(tmp_path: Path, tagged: Tagged, small: TrainConfig) -> tuple[TaggedPhotos, Path]:
    """Three photos that went through every stage of round 1, and the run's folder."""
    data, run = tagged(3), tmp_path / "run"
    for photo in data.photos:
        process(Superpixels, photo, run, small, data)
        process(Saliency, photo, run, small, data)
        write_evidence(data, photo, run)
        process(Seeds, photo, run, small, data, 1)
        write_regions(data, photo, run, 1)
        write_colours(photo, run, small)
        process(Refinement, photo, run, small, data, 1)
        process(Labels, photo, run, small, data, 1)
    return data, run


def test_each_photo_ends_with_labels_close_to_the_truth(done: tuple[TaggedPhotos, Path]):
    data, run = done
    for photo in data.photos:
        assert photo.mask is not None
        truth, mask = read_mask(photo.mask), read_mask(Labels.file_of(photo, run, 1))
        assert mask.shape == truth.shape
        assert set(np.unique(mask)) <= {*photo.labels(data.classes), VOID}
        assert (mask == truth).mean() > 0.9
        for label in photo.labels(data.classes)[1:]:
            assert ((mask == label) & (truth == label)).sum() > 0.6 * (truth == label).sum()


def painted_seeds(photo: Photo, run: Path, number: int) -> np.ndarray:
    """The seeds of a photo as a mask, (H, W) uint8."""
    labels, numbers = seeds.read(photo, run, number), superpixels.read(photo, run)
    assert (labels.shape, labels.dtype) == ((numbers.max() + 1,), np.uint8)
    return labels[numbers]


def test_seeds_are_the_photos_own_labels_and_mostly_right(done: tuple[TaggedPhotos, Path]):
    data, run = done
    for photo in data.photos:
        assert photo.mask is not None
        truth, seeds = read_mask(photo.mask), painted_seeds(photo, run, 1)
        assert (seeds == truth)[seeds != VOID].mean() > 0.9
        assert set(photo.labels(data.classes)[1:]) <= set(np.unique(seeds)) <= {*photo.labels(data.classes), VOID}


def test_regions_are_refined_by_the_evidence_and_the_colours(done: tuple[TaggedPhotos, Path], small: TrainConfig):
    data, run = done
    for photo in data.photos:
        refined = refinement.paint(photo, run, 1)
        assert (refined.dtype, refined.shape) == (np.float32, (1 + len(photo.tags), 64, 80))
        expected = refine(regions.read(photo, run, 1), evidence.read(photo, run, 1), small.refinement)
        area = np.bincount(superpixels.read(photo, run).reshape(-1))
        lab = cv2.cvtColor(read_photo(photo.path, small.long_side), cv2.COLOR_RGB2LAB).transpose(2, 0, 1)
        expected = follow_colours(expected, average(lab, superpixels.read(photo, run)), area, small.refinement)
        painted = expected[superpixels.read(photo, run)].transpose(2, 0, 1)
        np.testing.assert_allclose(refined, painted, atol=1e-3)


def test_evidence_is_the_taggers_score_and_the_odds_of_the_saliency(tmp_path: Path, tagged: Tagged, small: TrainConfig):
    data, run = tagged(3), tmp_path / "run"
    photo = next(photo for photo in data.photos if len(photo.tags) == 1)
    for kind in (Superpixels, Saliency):
        process(kind, photo, run, small, data)
    count = int(superpixels.read(photo, run).max()) + 1
    features = np.random.default_rng(0).normal(size=(count, 5)).astype(np.float16)
    files.write_array(features_file(photo, run, 0), features)
    odds = np.linspace(-2, 2, LEVELS)
    files.write_text(odds_file(run, 1), json.dumps({"offsets": [0.5, 1.5], "saliency": odds.tolist()}))
    network = RegionTagger(5, len(data.classes), 8).eval()
    Evidence.of(small, 1).run(photo, run, data.classes, network)
    salient = average(saliency.read(photo, run)[None], superpixels.read(photo, run))[:, 0]
    assert len(np.unique(level(salient))) > 1
    score = network(torch.from_numpy(features.astype(np.float32))).detach().numpy()
    column = data.classes.index(photo.tags[0])
    expected = score[:, column] - (0.5, 1.5)[column] + odds[level(salient)]
    np.testing.assert_allclose(evidence.read(photo, run, 1)[:, 0], expected, atol=0.01)
    np.testing.assert_array_equal(
        Evidence.of(small, 1).mask(photo, run, data.classes),
        np.where(evidence.read(photo, run, 1)[:, 0] > 0, column + 1, 0)[superpixels.read(photo, run)],
    )


def test_odds_of_masks_worked_by_hand():
    """The left region is 50, 30 and 20% background and two tags; the right one is certain of background."""
    maps = np.array([0.5, 0.3, 0.2], dtype=np.float32).reshape(3, 1, 1).repeat(4, axis=2)
    maps[:, :, 2:] = np.array([1, 0, 0]).reshape(3, 1, 1)
    odds = mask_odds(maps, np.array([[0, 0, 1, 1]]))
    np.testing.assert_allclose(odds[0], [np.log(3 / 5), np.log(2 / 5)], rtol=1e-5)
    np.testing.assert_allclose(odds[1], [np.log(UNLIKELY)] * 2, rtol=1e-5)


def test_masks_show_the_strongest_label(done: tuple[TaggedPhotos, Path], small: TrainConfig):
    data, run = done
    for photo in data.photos:
        shown = Seeds.of(small, 1).mask(photo, run, data.classes)
        np.testing.assert_array_equal(shown, painted_seeds(photo, run, 1))
        strongest = np.array(photo.labels(data.classes))[refinement.paint(photo, run, 1).argmax(axis=0)]
        np.testing.assert_array_equal(Refinement.of(small, 1).mask(photo, run, data.classes), strongest)


def test_what_is_there_is_kept(done: tuple[TaggedPhotos, Path], small: TrainConfig):
    data, run = done
    photo = data.photos[0]
    files = [Superpixels.file_of(photo, run), Saliency.file_of(photo, run), Seeds.file_of(photo, run, 1)]
    files += [Refinement.file_of(photo, run, 1), Labels.file_of(photo, run, 1)]
    for file in files:
        file.write_bytes(b"mine")
    for kind, number in ((Superpixels, 0), (Saliency, 0), (Seeds, 1), (Refinement, 1), (Labels, 1)):
        process(kind, photo, run, small, data, number)
    assert all(file.read_bytes() == b"mine" for file in files)


def test_a_photo_that_shows_nothing_is_background_in_every_stage(tmp_path: Path, tagged: Tagged, small: TrainConfig):
    data, run = tagged(1), tmp_path / "run"
    photo = replace(data.photos[0], tags=())
    files.write_array(maps_file(photo, run, 0), np.zeros((0, 16, 20), dtype=np.float16))
    process(Superpixels, photo, run, small, data)
    write_colours(photo, run, small)
    count = int(superpixels.read(photo, run).max()) + 1
    files.write_array(Evidence.file_of(photo, run, 1), np.zeros((count, 0), dtype=np.float16))
    for kind, number in ((Saliency, 0), (Seeds, 1)):
        process(kind, photo, run, small, data, number)
    assert class_maps.region_scores(photo, run, superpixels.read(photo, run)).shape[1] == 0
    assert not ClassMaps.of(small, 0).mask(photo, run, data.classes).any()
    assert ClassMaps.of(small, 0).picture(photo, read_photo(photo.path), run).shape == (64, 80, 3)
    assert not seeds.read(photo, run, 1).any()
    files.write_array(Regions.file_of(photo, run, 1), np.ones((len(seeds.read(photo, run, 1)), 1), dtype=np.float16))
    for kind in (Refinement, Labels):
        process(kind, photo, run, small, data, 1)
    assert not read_mask(Labels.file_of(photo, run, 1)).any()
    np.testing.assert_array_equal(refinement.paint(photo, run, 1), 1)


def later_evidence(
    data: TaggedPhotos, photo: Photo, run: Path, config: TrainConfig, **odds: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Evidence of round 2 by a region tagger whose scores are 0, and `odds`; and the log odds of the true masks, which
    it starts from; each (R, L - 1)."""
    silent = RegionTagger(5, len(data.classes), 8).eval()
    for weights in silent.parameters():
        torch.nn.init.zeros_(weights)
    files.write_text(odds_file(run, 2), json.dumps({"saliency": [0.0] * LEVELS, **odds}))
    write_maps(data, photo, maps_file(photo, run, 1), background=True)
    count = int(superpixels.read(photo, run).max()) + 1
    files.write_array(features_file(photo, run, 1), np.zeros((count, 5), dtype=np.float16))
    Evidence.of(config, 2).run(photo, run, data.classes, silent)
    return evidence.read(photo, run, 2), mask_odds(read_maps(photo, run, 1), superpixels.read(photo, run))


def test_later_evidence_adds_the_log_odds_of_the_masks_before(done: tuple[TaggedPhotos, Path], small: TrainConfig):
    """With a region tagger that says nothing, seeds are where the masks are."""
    data, run = done
    for photo in data.photos:
        assert photo.mask is not None
        odds, expected = later_evidence(data, photo, run, small, offsets=[0.0, 0.0])
        np.testing.assert_array_equal(odds, expected.astype(np.float16))
        process(Seeds, photo, run, small, data, 2)
        truth, seeds = read_mask(photo.mask), painted_seeds(photo, run, 2)
        sure = seeds != VOID
        assert sure.mean() > 0.5
        assert (seeds == truth)[sure].mean() > 0.95


def test_evidence_counts_less_beside_masks(done: tuple[TaggedPhotos, Path], small: TrainConfig):
    """A region tagger that says -1 for the first class and -2 for the second, each counting as much as is written."""
    data, run = done
    for photo in data.photos:
        odds, masks = later_evidence(data, photo, run, small, offsets=[1.0, 2.0], weights=[0.25, 0.5])
        own = [{1: -0.25, 2: -1.0}[label] for label in photo.labels(data.classes)[1:]]
        np.testing.assert_allclose(odds, masks + own, atol=0.01)


def test_unsure_pixels_become_void(done: tuple[TaggedPhotos, Path], small: TrainConfig):
    data, run = done
    photo = data.photos[0]
    Labels.file_of(photo, run, 1).unlink()
    crf = small.crf.model_copy(update={"steps": 1})
    picky = small.model_copy(update={"crf": crf, "labels": LabelsConfig(sure_above=0.999999)})
    process(Labels, photo, run, picky, data, 1)
    assert (read_mask(Labels.file_of(photo, run, 1)) == VOID).any()


def test_the_number_of_processes_changes_no_file(tmp_path: Path, tagged: Tagged, small: TrainConfig):
    data = tagged(10)
    runs = [tmp_path / f"{workers}" for workers in (1, 2)]
    for workers, run in enumerate(runs, start=1):
        with processes(workers) as pool:
            work = Superpixels.of(small, 0).prepare(run, data.classes)
            list(map_photos(work, data.photos, pool=pool, workers=workers))
    for photo in data.photos:
        one, two = (Superpixels.file_of(photo, run) for run in runs)
        assert one.read_bytes() == two.read_bytes()


def test_photos_in_folders_keep_their_folders(tmp_path: Path, tagged: Tagged, small: TrainConfig):
    data, run = tagged(1), tmp_path / "run"
    photo = Photo("cat/ca1", data.photos[0].path, ("cat",))
    process(Superpixels, photo, run, small, data)
    assert (tmp_path / "run" / "superpixels" / "cat" / "ca1.png").is_file()


def with_network(config: TrainConfig, path: Path) -> TrainConfig:
    return config.model_copy(
        update={"saliency": config.saliency.model_copy(update={"network": path, "normalization": "unit"})}
    )


def test_the_settings_network_says_what_stands_out_also_in_processes(
    tmp_path: Path, tagged: Tagged, small: TrainConfig
):
    data, run = tagged(3), tmp_path / "run"
    config = with_network(small, write_network(tmp_path / "red.onnx", [64, 80]))
    with processes(1) as pool:
        for kind in (Superpixels, Saliency):
            stage = kind.of(config, 0)
            stage.begin(data, run)
            list(map_photos(stage.prepare(run, data.classes), data.photos, pool=pool, workers=1))
    for photo in data.photos:
        red = read_photo(photo.path)[..., 0].astype(np.float32)
        np.testing.assert_allclose(saliency.read(photo, run), red / 255, atol=0.01)


def test_the_network_is_loaded_once(tmp_path: Path, tagged: Tagged, small: TrainConfig):
    data, run = tagged(2), tmp_path / "run"
    path = write_network(tmp_path / "red.onnx", [64, 80])
    for photo in data.photos:
        process(Superpixels, photo, run, small, data)
        process(Saliency, photo, run, with_network(small, path), data)
        path.unlink(missing_ok=True)  # the second photo does not need the file any more


def test_a_network_that_is_none_is_refused_by_name(tmp_path: Path, tagged: Tagged, small: TrainConfig):
    data, run = tagged(1), tmp_path / "run"
    process(Superpixels, data.photos[0], run, small, data)
    with pytest.raises(ConfigError, match=r"absent\.onnx: cannot be read"):
        process(Saliency, data.photos[0], run, with_network(small, tmp_path / "absent.onnx"), data)


def test_stages_need_no_torch():
    code = "import json, sys, training.stages, training.evaluation.measure; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    modules = set(json.loads(loaded))
    assert "training.stages.labels" in modules
    assert not modules & {"torch", "torchvision", "timm"}
