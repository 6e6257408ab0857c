"""Processes that train together, from the side that starts them."""

import io
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tagmask.errors import RunError
from tests.training.run.test_train import Ran
from tests.training.run.test_worker import network_stage, ran, reference  # noqa: F401  # fixtures
from training.run import together
from training.run.description import RunReference
from training.run.together import train_together
from training.stages.pixelnet import PixelNetTraining

START = """
import sys
from pathlib import Path
from training.run.description import RunReference, read_description
from training.run.layout import Layout
from training.run.plan import find_stage
from training.run.together import train_together

run, photos = map(Path, sys.argv[1:])
stage = find_stage(read_description(Layout(run)).settings, 1, "pixelnet")
train_together(RunReference(run, photos, device="cpu"), stage, 1, advance=lambda _: print("step", flush=True))
"""


def family(root: Path) -> list[psutil.Process]:
    """torchrun and its processes, which name the run."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(root) in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


class CancelledError(Exception):
    pass


def test_a_training_that_is_cancelled_leaves_no_process(ran: Ran, reference: RunReference):  # noqa: F811
    PixelNetTraining.weights_of(reference.run, 1).unlink()

    def cancel(_: int) -> None:
        assert len(family(reference.run)) >= 2
        raise CancelledError

    with pytest.raises(CancelledError):
        train_together(reference, network_stage(ran, 1, "pixelnet"), 1, advance=cancel)
    # The loaders of photos look every five seconds whether their process is still there.
    assert psutil.wait_procs(family(reference.run), timeout=30)[1] == []


def test_a_training_whose_parent_is_killed_leaves_no_process(reference: RunReference):  # noqa: F811
    PixelNetTraining.weights_of(reference.run, 1).unlink()
    command = [sys.executable, "-c", START, str(reference.run), str(reference.photos)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"step\n"
    processes = [each for each in family(reference.run) if each.pid != parent.pid]
    assert len(processes) >= 2
    parent.kill()
    parent.wait()
    assert psutil.wait_procs(processes, timeout=30)[1] == []


def test_the_cause_of_a_failure_is_that_of_the_process(ran: Ran, reference: RunReference):  # noqa: F811
    weights = PixelNetTraining.weights_of(reference.run, 1)
    weights.write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"2 processes could not train it: \w*Error: .*[Ww]eights"):
        train_together(reference, network_stage(ran, 1, "pixelnet"), 2)


def test_lines_of_libraries_are_no_answers():
    done: list[int] = []
    lines = ["a warning", "3", "null", '{"advance": 4}', "{", '{"advance": 5}', '{"result": {"seconds": 1.5}}']
    assert together._follow(lines, done.append) == ({"seconds": 1.5}, [])
    assert done == [4, 5]


@pytest.mark.parametrize(
    ("errors", "told", "cause"),
    [
        ([("Connection closed", False), ("a.jpg: gone; put it back", True)], "Signal 9 (SIGKILL)", "a.jpg: gone"),
        (
            [("Connection closed", False)],
            "Signal 15 (SIGTERM)\nSignal 9 (SIGKILL) received",
            "one was killed (SIGKILL)",
        ),
        ([("OutOfMemoryError: CUDA", False), ("Connection closed", False)], "Signal 15 (SIGTERM)", "OutOfMemory"),
        ([], "no space left\n", "no space left"),
    ],
)
def test_what_the_user_can_correct_comes_first_then_a_kill(errors: list[tuple[str, bool]], told: str, cause: str):
    answers = [{"error": text, "correctable": known} for text, known in errors]
    assert together._cause(answers, io.StringIO(told)).startswith(cause)
