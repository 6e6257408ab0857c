from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagmask import files
from tagmask.masks import VOID, read_mask, write_mask
from tests.training.conftest import Tagged
from training.datasets.photos import TaggedPhotos
from training.fitting.evidence_odds import LEVELS, EvidenceOdds
from training.stages import superpixels
from training.stages.decision import Decision, DecisionConfig, round_quality
from training.stages.evidence import Evidence, mask_odds
from training.stages.labels import Labels
from training.stages.localization import maps_file, read_maps
from training.stages.masks import seen_file, seen_labels
from training.stages.regiontagger import odds_file
from training.stages.superpixels import Superpixels


def write_round(data: TaggedPhotos, run: Path, number: int, masks: list[np.ndarray], seen: list[list[float]]) -> None:
    """What a PixelNet that is sure of `masks`, (h, w) labels, writes for each photo, and its labels.

    Superpixels are the cells of the masks; the evidence is sure that the upper half of each photo shows its tags. In
    later rounds it counts half.
    """
    odds = EvidenceOdds(offsets=(0, 0), saliency=(0,) * LEVELS, weights=(0.5, 0.5))
    files.write_text(odds_file(run, number), odds.model_dump_json())
    for photo, mask, shares in zip(data.photos, masks, seen, strict=True):
        maps = [np.where(mask == label, 0.9, 0.05) for label in photo.labels(data.classes)]
        files.write_array(maps_file(photo, run, number), np.stack(maps).astype(np.float16))
        files.write_array(seen_file(photo, run, number), np.array(shares, dtype=np.float32))
        write_mask(Labels.file_of(photo, run, number), np.ascontiguousarray(mask.repeat(4, axis=0).repeat(4, axis=1)))
        cells = np.arange(mask.size).reshape(mask.shape)
        superpixels.write(Superpixels.file_of(photo, run), cells)
        sure = np.where(cells.reshape(-1, 1) < mask.size / 2, 10.0, -10.0).repeat(len(photo.tags), axis=1)
        if number > 1:
            sure = sure / 2 + mask_odds(read_maps(photo, run, number - 1), cells)
        files.write_array(Evidence.file_of(photo, run, number), sure.astype(np.float16))


def test_quality_worked_by_hand(tmp_path: Path, tagged: Tagged):
    data, run = tagged(2), tmp_path / "run"  # a cat (1), a dog (2)
    cat, dog = np.zeros((4, 5), dtype=np.uint8), np.zeros((4, 5), dtype=np.uint8)
    cat[:2], dog[:, :1] = 1, 2
    write_round(data, run, 1, [cat, dog], [[0.5, 0.5, 0.0], [0.8, 0.1, 0.1]])
    first = round_quality(data, run, 1)
    # Seen: cat; cat and dog. Tagged: cat; dog. Two hits of three seen and two tagged.
    assert first.consistency == pytest.approx(2 * 2 / (3 + 2))
    assert first.coverage == pytest.approx((10 / 20 + 4 / 20) / 2)
    assert first.agreement == 1
    assert first.painted == {"cat": 1, "dog": 1}
    assert set(first.estimate.iou) == {"background", "cat", "dog"}
    assert first.estimate.iou["cat"] > first.estimate.iou["dog"] + 20, "the dog's mask is a column, and crosses it"
    fewer = cat.copy()
    fewer[0] = 0
    write_round(data, run, 2, [fewer, dog], [[0.75, 0.25, 0.0], [0.9, 0.005, 0.095]])
    second = round_quality(data, run, 2)
    assert second.consistency == 1
    assert second.estimate.iou["dog"] == pytest.approx(first.estimate.iou["dog"], abs=0.1), "masks before count nothing"
    assert second.coverage == pytest.approx((5 / 20 + 4 / 20) / 2)
    assert second.agreement == pytest.approx((15 / 20 + 1) / 2)


def test_a_photo_that_shows_nothing_counts_for_consistency_alone(tmp_path: Path, tagged: Tagged):
    data, run = tagged(2), tmp_path / "run"
    data = replace(data, photos=(data.photos[0], replace(data.photos[1], tags=())))
    cat = np.zeros((4, 5), dtype=np.uint8)
    cat[:2] = 1
    write_round(data, run, 1, [cat, np.zeros_like(cat)], [[0.5, 0.5, 0.0], [0.9, 0.0, 0.1]])
    quality = round_quality(data, run, 1)
    assert quality.consistency == pytest.approx(2 * 1 / (2 + 1))
    assert (quality.coverage, quality.agreement) == (0.5, 1)


def test_void_labels_are_no_disagreement(tmp_path: Path, tagged: Tagged):
    data, run = tagged(1), tmp_path / "run"
    cat = np.zeros((4, 5), dtype=np.uint8)
    cat[:2] = 1
    write_round(data, run, 1, [cat], [[0.5, 0.5, 0.0]])
    labels = Labels.file_of(data.photos[0], run, 1)
    unsure = read_mask(labels)
    unsure[:8] = VOID
    write_mask(labels, unsure)
    assert round_quality(data, run, 1).agreement == 1
    write_mask(labels, np.full_like(unsure, VOID))
    assert round_quality(data, run, 1).agreement == 1


def test_a_class_is_seen_from_a_hundredth_of_the_photo(tmp_path: Path, tagged: Tagged):
    data, run = tagged(1), tmp_path / "run"
    files.write_array(seen_file(data.photos[0], run, 1), np.array([0.9801, 0.01, 0.0099], dtype=np.float64))
    assert seen_labels(data.photos[0], run, 1) == {1}


def test_a_round_that_loses_a_class_is_dropped_by_name(tmp_path: Path, tagged: Tagged):
    data, run = tagged(4), tmp_path / "run"
    tags = ("cat",), ("dog",), ("cat",), ("dog",)
    data = replace(data, photos=tuple(replace(photo, tags=of) for photo, of in zip(data.photos, tags, strict=True)))
    cat, dog, empty = (np.zeros((10, 10), dtype=np.uint8) for _ in range(3))
    cat[:5], dog[:5] = 1, 2
    seen = [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]] * 2
    write_round(data, run, 1, [cat, dog, cat, dog], seen)
    config = DecisionConfig(coverage_change=100, agreement=0)
    first = Decision(1, config).decide(data, run, None)
    assert (first["painted"], first["kept"], first["why"]) == ({"cat": 1, "dog": 1}, True, "")
    write_round(data, run, 2, [cat, empty, empty, empty], seen)  # half of the photos are not less than half
    second = Decision(2, config).decide(data, run, first)
    assert second["painted"] == {"cat": 0.5, "dog": 0}
    assert (second["kept"], second["why"]) == (False, "vanished: dog (painted on 0% of its photos, was 100%)")
    assert Decision(2, config.model_copy(update={"painted_loss": 1.0})).decide(data, run, first)["kept"]
    earlier = {name: value for name, value in first.items() if name != "painted"}
    assert Decision(2, config).decide(data, run, earlier)["kept"]


def test_the_first_round_is_kept_whatever_its_labels_had(tmp_path: Path, tagged: Tagged):
    data, run = tagged(2), tmp_path / "run"
    cat, dog = np.zeros((10, 10), dtype=np.uint8), np.zeros((10, 10), dtype=np.uint8)
    cat[:5], dog[:5] = 1, 2
    write_round(data, run, 1, [cat, dog], [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]])
    empty = np.stack([np.full_like(dog, 0.9, dtype=np.float16), np.full_like(dog, 0.1, dtype=np.float16)])
    files.write_array(maps_file(data.photos[1], run, 1), empty)
    first = Decision(1, DecisionConfig()).decide(data, run, None)
    assert (first["kept"], first["why"]) == (True, "vanished: dog (painted on 0% of its photos, was 100%)")
