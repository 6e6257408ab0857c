from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from tagmask.masks import read_mask
from tests.training.report.conftest import CONFIG, Finished, without_masks
from training.datasets import parallel
from training.report.measured import measure_photos
from training.stages.labels import Labels
from training.stages.localization import maps_file
from training.stages.masks import Masks, seen_file

LAST = Masks.of(CONFIG, 2)


def test_true_masks_have_no_confusion(run: Finished):
    measured = measure_photos(run.data, run.layout.root, LAST)
    assert measured.pixels.miou() == 100
    assert (measured.masks, measured.unread) == (3, 0)
    assert list(measured.iou.values()) == [100, 100, 100]
    np.testing.assert_array_equal(measured.tags, [[2, 0, 0], [0, 2, 0]])
    assert list(measured.f1.values()) == [1, 1, 1]
    assert measured.mismatches == {}


def test_what_is_painted_wrongly_is_counted_where_it_belongs(run: Finished):
    truth = read_mask(run.data.photos[2].mask)  # type: ignore[arg-type]
    run.paint(2, 2, np.where(truth == 1, 2, truth))  # the cat is taken for a dog
    measured = measure_photos(run.data, run.layout.root, LAST)
    assert measured.pixels.counts[1, 2] == (truth == 1).sum()
    assert measured.iou["02"] == pytest.approx((100 + 0 + 100 * (truth == 2).sum() / (truth > 0).sum()) / 3)
    assert measured.iou["00"] == 100


def test_tags_are_compared_with_what_is_seen_without_them(run: Finished):
    run.see(0, 2, 1, 2)  # a dog too in the photo of a cat
    run.see(1, 2)  # nothing in that of a dog
    run.see(2, 2, 1)  # only the cat in that of both
    measured = measure_photos(run.data, run.layout.root, LAST)
    np.testing.assert_array_equal(measured.tags, [[2, 1, 0], [0, 0, 1]])
    assert (measured.tagged.tolist(), measured.seen.tolist()) == ([2, 2], [2, 1])
    assert measured.f1 == pytest.approx({"00": 2 / 3, "01": 0, "02": 2 / 3})
    assert measured.mismatches == {"00": ([2], []), "01": ([], [2]), "02": ([], [2])}


def test_without_true_masks_tags_are_all_there_is(run: Finished):
    measured = measure_photos(without_masks(run.data), run.layout.root, LAST)
    assert (measured.masks, measured.iou) == (0, {})
    assert len(measured.f1) == 3


def test_stages_before_the_first_mask_are_measured_too(run: Finished):
    measured = measure_photos(run.data, run.layout.root, Labels.of(CONFIG, 1))
    assert measured.pixels.miou() == 100
    assert (measured.f1, measured.tagged.tolist()) == ({}, [0, 0])


def test_what_cannot_be_read_is_counted(run: Finished):
    maps_file(run.data.photos[0], run.layout.root, 2).unlink()
    seen_file(run.data.photos[1], run.layout.root, 2).write_bytes(b"")
    run.data.photos[2].mask.write_bytes(b"no mask")  # type: ignore[union-attr]
    measured = measure_photos(run.data, run.layout.root, LAST)
    assert (measured.unread, measured.masks, measured.f1) == (3, 0, {})


def test_several_processes_find_the_same(run: Finished, monkeypatch: pytest.MonkeyPatch):
    @contextmanager
    def threads(workers: int) -> Iterator[Executor]:
        with ThreadPoolExecutor(workers) as pool:
            yield pool

    monkeypatch.setattr(parallel, "processes", threads)
    run.see(0, 2, 2)
    done: list[int] = []
    alone, together = (
        measure_photos(run.data, run.layout.root, LAST, workers=workers, advance=done.append) for workers in (1, 2)
    )
    np.testing.assert_array_equal(alone.pixels.counts, together.pixels.counts)
    np.testing.assert_array_equal(alone.tags, together.tags)
    assert (alone.iou, alone.f1, alone.mismatches) == (together.iou, together.f1, together.mismatches)
    assert sum(done) == 6
