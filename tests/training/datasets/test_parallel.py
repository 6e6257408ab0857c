import errno
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import pytest

from tagmask.cores import cores
from tagmask.errors import DataError, RunError
from training.datasets.parallel import CHUNK, map_photos, processes
from training.datasets.photos import Photo

ROOT = Path(__file__).parents[3]

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


def die(photo: Photo) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_pid(photo: Photo, file: Path) -> None:
    file.write_text(str(os.getpid()))


def sleep_from(photo: Photo, first: str) -> str:
    """Sleeps for ten minutes at the photo `first` and those after it."""
    if photo.id >= first:
        time.sleep(600)
    return photo.id


def test_workers_do_every_photo_once_in_other_single_threaded_processes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    done: list[int] = []
    with processes(2) as pool:
        found = list(map_photos(settings_of, PHOTOS, pool=pool, workers=2, advance=done.append))
        names = list(map_photos(name_of, PHOTOS, pool=pool, workers=2))
    assert len(found) == sum(done) == len(PHOTOS)
    assert os.getpid() not in {pid for pid, _, _ in found}
    assert {(threads, cv2_threads) for _, threads, cv2_threads in found} == {("1", 1)}
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert sorted(names) == [photo.id for photo in PHOTOS]


def test_an_exception_is_raised_with_its_message_and_stops_the_rest(tmp_path: Path):
    log = tmp_path / "log"
    photos = [Photo(f"{i:04}", Path(f"{i}.png"), ("cat",)) for i in range(50 * CHUNK)]
    work = partial(fail_at, unlucky="0003", log=log)
    with pytest.raises(DataError, match=r"^3\.png: damaged; replace it$"), ThreadPoolExecutor(2) as pool:
        list(map_photos(work, photos, pool=pool, workers=2))
    started = log.read_text().splitlines()
    assert len(started) < len(photos) / 2
    assert len(set(started)) == len(started)


def test_work_handed_out_is_bounded():
    """Photos are read as results are taken, not all at once."""
    positions: list[int] = []

    class Counted(list[Photo]):
        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            positions.append(key.start)
            return super().__getitem__(key)

    photos = Counted(Photo(f"{i}", Path(f"{i}"), ()) for i in range(40 * CHUNK))
    with ThreadPoolExecutor(2) as pool:
        results = map_photos(name_of, photos, pool=pool, workers=2)
        next(results)
        assert len(positions) <= 3 * 2 * 2
        results.close()
    assert len(positions) < 40


def test_an_exception_leaves_no_thread_of_the_pool_to_fail_at_exit():
    threads = set(threading.enumerate())
    with pytest.raises(DataError), processes(1) as pool:
        list(map_photos(partial(fail_at, unlucky="000"), PHOTOS, pool=pool, workers=1))
    assert set(threading.enumerate()) <= threads


def test_a_worker_that_is_killed_is_told_with_a_remedy():
    with pytest.raises(RunError, match=r"one of 1 worker processes was killed.*fewer --workers"), processes(1) as pool:
        list(map_photos(die, PHOTOS, pool=pool, workers=1))


STOPPED = """
from functools import partial

from tests.training.datasets.test_parallel import PHOTOS, sleep_from
from training.datasets.parallel import CHUNK, map_photos, processes

if __name__ == "__main__":
    with processes(1) as pool:
        for _ in map_photos(partial(sleep_from, first=PHOTOS[CHUNK].id), PHOTOS, pool=pool, workers=1):
            raise KeyboardInterrupt
"""


def test_who_stops_does_not_wait_for_photos_that_workers_have_begun(tmp_path: Path):
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, env=environment, timeout=120, stderr=subprocess.PIPE, text=True
    )
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert "BrokenProcessPool" not in ended.stderr


def is_running(process: int) -> bool:
    """Whether a process exists, and not only as an entry that its parent has not collected yet."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


ORPHAN = """
import os
import signal
import sys
from functools import partial
from pathlib import Path

from tests.training.datasets.test_parallel import PHOTOS, write_pid
from training.datasets.parallel import map_photos, processes

if __name__ == "__main__":
    with processes(1) as pool:
        list(map_photos(partial(write_pid, file=Path(sys.argv[1])), PHOTOS, pool=pool, workers=1))
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc, where processes are looked up")
def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path: Path):
    script, file = tmp_path / "orphan.py", tmp_path / "pid"
    script.write_text(ORPHAN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, str(script), str(file)], cwd=ROOT, env=environment, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    limit = time.monotonic() + 30
    while is_running(int(file.read_text())) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not is_running(int(file.read_text()))


def test_cores():
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free disk space"), (errno.EROFS, "grant this process write access")]
)
def test_shared_memory_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, number: int, remedy: str):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("multiprocessing.synchronize._multiprocessing.SemLock", refuse)
    with pytest.raises(RunError, match=rf"^shared memory \(/dev/shm\): cannot be written .*; {remedy}"), processes(1):
        pass
