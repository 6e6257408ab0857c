import os
from functools import partial
from pathlib import Path

import cv2
import pytest

from training.data.photos import Photo
from training.errors import DataError
from training.parallel import CHUNK, available_cores, map_photos

PHOTOS = [Photo(f"{i:03}", Path(f"{i}.png"), ("cat",)) for i in range(5 * CHUNK + 3)]


def name_of(photo: Photo) -> str:
    return photo.id


def settings_of(photo: Photo) -> tuple[int, str | None, int]:
    return os.getpid(), os.environ.get("OMP_NUM_THREADS"), cv2.getNumThreads()


def fail_at(photo: Photo, unlucky: str, log: Path | None = None) -> str:
    if log is not None:
        with log.open("a") as file:
            file.write(f"{photo.id}\n")
    if photo.id == unlucky:
        raise DataError(f"{photo.path}: damaged; replace it")
    return photo.id


def test_one_worker_runs_here_in_order():
    done: list[int] = []
    found = list(map_photos(settings_of, PHOTOS, workers=1, advance=done.append))
    assert {pid for pid, _, _ in found} == {os.getpid()}
    assert list(map_photos(name_of, PHOTOS, workers=1)) == [photo.id for photo in PHOTOS]
    assert done == [1] * len(PHOTOS)


def test_one_worker_computes_only_what_is_taken():
    taken: list[str] = []

    def work(photo: Photo) -> str:
        taken.append(photo.id)
        return photo.id

    assert next(map_photos(work, PHOTOS, workers=1)) == "000"
    assert taken == ["000"]


def test_several_workers_do_every_photo_once_in_other_single_threaded_processes():
    before = os.environ.get("OMP_NUM_THREADS")
    done: list[int] = []
    found = list(map_photos(settings_of, PHOTOS, workers=2, advance=done.append))
    assert len(found) == sum(done) == len(PHOTOS)
    assert os.getpid() not in {pid for pid, _, _ in found}
    assert {(threads, cv2_threads) for _, threads, cv2_threads in found} == {("1", 1)}
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_is_raised_with_its_message_and_stops_the_rest(tmp_path: Path, workers: int):
    log = tmp_path / "log"
    photos = [Photo(f"{i:04}", Path(f"{i}.png"), ("cat",)) for i in range(50 * CHUNK)]
    with pytest.raises(DataError, match=r"^3\.png: damaged; replace it$"):
        list(map_photos(partial(fail_at, unlucky="0003", log=log), photos, workers=workers))
    started = log.read_text().splitlines()
    assert len(started) < len(photos) / 2
    assert len(set(started)) == len(started)


def test_work_handed_out_is_bounded():
    """The photos are asked for as results are taken, not all at once."""
    asked: list[int] = []

    class Counted(list[Photo]):
        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            asked.append(key.start)
            return super().__getitem__(key)

    photos = Counted(Photo(f"{i}", Path(f"{i}"), ()) for i in range(40 * CHUNK))
    results = map_photos(name_of, photos, workers=2)
    next(results)
    assert len(asked) <= 3 * 2 * 2
    results.close()
    assert len(asked) < 40


def test_cores():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
