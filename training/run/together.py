"""A network trained by several processes at once, which torchrun starts; their side of it is `training.run.worker`.

They read their standard input, of which this process alone holds the other end: however this process ends, they end.
"""

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from typing import IO, Any

from tagmask import launch
from tagmask.errors import RunError
from tagmask.progress import Advance, silent
from training.run.description import RunReference
from training.run.executor import Figures
from training.stages.network import NetworkStage

END_S = 40.0
"""Seconds that torchrun may take to end, of which it gives 30 to its processes."""

_KILLED = re.compile(r"Signal \d+ \((?!SIGTERM)(SIG\w+)\)")


def train_together(
    reference: RunReference, stage: NetworkStage, processes: int, *, advance: Advance = silent
) -> Figures:
    """Train a network by several processes. Raises RunError, with what the first of them says, if they fail.

    They are in a session of their own, and never outlive this call, or this process; those that load their photos may,
    by seconds.
    """
    command = launch.command("torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    command += [launch.LAUNCHER, "training.run.worker", str(reference.run), str(reference.photos)]
    command += [str(stage.round), stage.name, "--device", reference.device]
    command += ["--start", str(reference.start)] if reference.start else []
    with tempfile.TemporaryFile("w+", errors="replace") as told:
        torchrun = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told, text=True, start_new_session=True
        )
        try:
            assert torchrun.stdout is not None
            result, errors = _follow(torchrun.stdout, advance)
            code = torchrun.wait()
        finally:
            _end(torchrun)
        if code or errors or result is None:
            why = _cause(errors, told) or f"torchrun ended with status {code}"
            raise RunError(f"{stage.title}: {processes} processes could not train it: {why}")
        return result


def _follow(lines: Iterable[str], advance: Advance) -> tuple[Figures | None, list[dict[str, Any]]]:
    """The result and the errors that the processes report, until all have ended; libraries may print lines as well."""
    result, errors = None, []
    for line in lines:
        try:
            told = json.loads(line)
        except ValueError:
            continue
        match told:
            case {"advance": int(photos)}:
                advance(photos)
            case {"result": dict(figures)}:
                result = figures
            case {"error": str()}:
                errors.append(told)
    return result, errors


def _cause(errors: list[dict[str, Any]], told: IO[str]) -> str:
    """Why they failed: what the user can correct, else that one was killed, after which others fail too."""
    if correctable := [error["error"] for error in errors if error.get("correctable")]:
        return correctable[0]
    told.seek(0)
    text = told.read()
    if killed := _KILLED.search(text):
        return f"one was killed ({killed[1]}), most likely for lack of memory; use a smaller batch or long_side"
    return errors[0]["error"] if errors else text.strip()[-2000:]


def _end(torchrun: subprocess.Popen[str]) -> None:
    """End torchrun, and by the end of their input its processes, unless they have ended."""
    for stream in (torchrun.stdin, torchrun.stdout):
        assert stream is not None
        stream.close()
    torchrun.terminate()
    try:
        torchrun.wait(END_S)
    except subprocess.TimeoutExpired:
        os.killpg(torchrun.pid, signal.SIGKILL)
        torchrun.wait()
