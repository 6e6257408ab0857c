from pathlib import Path

import cv2
import numpy as np
import pytest

from tagmask import files
from tagmask.masks import VOID, read_mask, write_mask
from tests.training.conftest import Tagged
from training.config import TrainConfig
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation import measure
from training.evaluation.metrics import Confusion, Counts
from training.run.layout import Layout
from training.stages import superpixels, work


def truth_of(photo: Photo) -> np.ndarray:
    assert photo.mask is not None
    return read_mask(photo.mask)


def write_round(
    data: TaggedPhotos, layout: Layout, number: int, masks: list[np.ndarray], seen: list[list[float]]
) -> None:
    """What a PixelNet that is sure of `masks`, (h, w) labels, writes for each photo, and its labels."""
    here = layout.round(number)
    for photo, mask, shares in zip(data.photos, masks, seen, strict=True):
        for path in (here.maps(photo.id), here.seen(photo.id)):
            path.parent.mkdir(parents=True, exist_ok=True)
        maps = [np.where(mask == label, 0.9, 0.05) for label in data.labels(photo)]
        np.save(here.maps(photo.id), np.stack(maps).astype(np.float16))
        np.save(here.seen(photo.id), np.array(shares, dtype=np.float32))
        write_mask(here.labels(photo.id), np.ascontiguousarray(mask.repeat(4, axis=0).repeat(4, axis=1)))


def counts_of(photo: Photo, data: TaggedPhotos, layout: Layout) -> Counts | None:
    return measure.stage_counts(
        photo, "labels", layout=layout, number=1, classes=data.classes, mask_classes=data.mask_classes
    )


def test_true_values_become_the_models_labels():
    table = measure.truth_table(("background", "bird", "cat", "dog"), ("dog", "cat", "fish"))
    assert table.dtype == np.uint8
    assert table[[0, 1, 2, 3, 4, VOID]].tolist() == [0, VOID, 2, 1, VOID, VOID]


def test_a_perfect_stage_scores_perfectly_and_a_photo_without_truth_not_at_all(tmp_path: Path, tagged: Tagged):
    data, layout = tagged(3), Layout(tmp_path / "run")
    total = Confusion(3)
    for photo in data.photos:
        write_mask(layout.round(1).labels(photo.id), truth_of(photo))
        counts = counts_of(photo, data, layout)
        assert counts is not None
        total.counts += counts
    assert total.miou() == 100
    assert total.counts.sum() == 3 * 80 * 64
    bare = Photo("bare", data.photos[0].path, ("cat",))
    assert counts_of(bare, data, layout) is None


def test_a_smaller_mask_is_scored_at_the_size_of_the_truth(tmp_path: Path, tagged: Tagged):
    data, layout = tagged(1), Layout(tmp_path / "run")
    photo = data.photos[0]
    half = cv2.resize(truth_of(photo), (40, 32), interpolation=cv2.INTER_NEAREST)
    write_mask(layout.round(1).labels(photo.id), half)
    counts = counts_of(photo, data, layout)
    assert counts is not None
    assert counts.sum() == 80 * 64
    assert np.trace(counts) > 0.95 * counts.sum()


@pytest.mark.parametrize(("stage", "number"), [("maps", 0), ("seeds", 1), ("regions", 1), ("refined", 1), ("maps", 1)])
def test_every_stage_can_be_looked_at_as_a_mask(
    tmp_path: Path, tagged: Tagged, small: TrainConfig, stage: str, number: int
):
    data, layout = tagged(3), Layout(tmp_path / "run")
    for photo in data.photos:
        work.cut(photo, layout=layout, config=small)
        truth, labels = truth_of(photo), data.labels(photo)
        regions = superpixels.read(layout.superpixels(photo.id))
        _, first = np.unique(regions, return_index=True)
        coarse = np.stack([np.where(truth[2::4, 2::4] == label, 0.9, 0.05) for label in labels])
        rows = np.stack([np.where(truth.reshape(-1)[first] == label, 0.9, 0.05) for label in labels], axis=1)
        for path, values in (
            (layout.round(0).maps(photo.id), coarse[1:]),
            (layout.round(1).maps(photo.id), coarse),
            (layout.round(1).regions(photo.id), rows),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values.astype(np.float16))
        files.write_array(layout.round(1).seeds(photo.id), truth.reshape(-1)[first])
        mask = measure.stage_mask(photo, stage, layout=layout, number=number, classes=data.classes)
        assert (mask.shape, mask.dtype) == (truth.shape, np.uint8)
        assert (mask == truth).mean() > 0.9


def test_quality_worked_by_hand(tmp_path: Path, tagged: Tagged):
    data, layout = tagged(2), Layout(tmp_path / "run")  # a cat (1), a dog (2)
    cat, dog = np.zeros((4, 5), dtype=np.uint8), np.zeros((4, 5), dtype=np.uint8)
    cat[:2], dog[:, :1] = 1, 2
    write_round(data, layout, 1, [cat, dog], [[0.5, 0.5, 0.0], [0.8, 0.1, 0.1]])
    first = measure.round_quality(data, layout, 1)
    # Seen: cat; cat and dog. Tagged: cat; dog. Two hits of three seen and two tagged.
    assert first.consistency == pytest.approx(2 * 2 / (3 + 2))
    assert first.coverage == pytest.approx((10 / 20 + 4 / 20) / 2)
    assert first.agreement == 1
    fewer = cat.copy()
    fewer[0] = 0
    write_round(data, layout, 2, [fewer, dog], [[0.75, 0.25, 0.0], [0.9, 0.005, 0.095]])
    second = measure.round_quality(data, layout, 2)
    assert second.consistency == 1
    assert second.coverage == pytest.approx((5 / 20 + 4 / 20) / 2)
    assert second.agreement == pytest.approx((15 / 20 + 1) / 2)


def test_void_labels_are_no_disagreement(tmp_path: Path, tagged: Tagged):
    data, layout = tagged(1), Layout(tmp_path / "run")
    cat = np.zeros((4, 5), dtype=np.uint8)
    cat[:2] = 1
    write_round(data, layout, 1, [cat], [[0.5, 0.5, 0.0]])
    labels = layout.round(1).labels(data.photos[0].id)
    unsure = read_mask(labels)
    unsure[:8] = VOID
    write_mask(labels, unsure)
    assert measure.round_quality(data, layout, 1).agreement == 1
    write_mask(labels, np.full_like(unsure, VOID))
    assert measure.round_quality(data, layout, 1).agreement == 1
