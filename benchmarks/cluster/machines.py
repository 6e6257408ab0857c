"""Machines on one machine: network namespaces on a bridge, and the programs on them, which can be killed and started.

All of it, with every process, is in namespaces of this program, which the system removes when it ends, however it ends.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from benchmarks.load import ROOT

HOST = "10.0.0.1"
"""Address of this program."""

START_S = 300.0
"""Seconds that a program may take until it is ready."""

_INSIDE = "TAGMASK_CLUSTER_INSIDE"


def isolate() -> None:
    """Run this command again in namespaces of its own, with a bridge as its only network. Needs root.

    Returns in the new process alone. Nothing outside can be reached from it.
    """
    if os.environ.pop(_INSIDE, None) is None:
        if os.geteuid() != 0:
            sys.exit("network namespaces need root; run as root, for example in a container with --privileged")
        unshare = ("unshare", "--mount", "--net", "--pid", "--mount-proc", "--fork", "--kill-child")
        os.environ[_INSIDE] = "1"
        os.execvp(unshare[0], [*unshare, sys.executable, "-m", "benchmarks.cluster", *sys.argv[1:]])
    _run("mount", "-t", "tmpfs", "tmpfs", "/run")  # names of namespaces are files there
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "machines", "type", "bridge")
    _run("ip", "address", "add", f"{HOST}/24", "dev", "machines")
    _run("ip", "link", "set", "machines", "up")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


@dataclass
class Part:
    """A program on a machine of its own at `address`. `ready` says whether it does its work; `log` has its output."""

    name: str
    address: str
    command: tuple[str | Path, ...]
    log: Path
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        name = self.name
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", name, "master", "machines", "up")
        _run("ip", "-n", name, "address", "add", f"{self.address}/24", "dev", "eth0")
        _run("ip", "-n", name, "link", "set", "eth0", "up")
        _run("ip", "-n", name, "link", "set", "lo", "up")

    def start(self) -> None:
        machine = ("ip", "netns", "exec", self.name, "unshare", "--pid", "--mount-proc", "--fork", "--kill-child")
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*machine, *self.command],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for this program
            )

    def kill(self) -> None:
        """Kill the program and all that it has started."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait(self, seconds: float | None = None) -> int:
        """Its exit code, once it has ended. Raises subprocess.TimeoutExpired."""
        assert self.process is not None
        return self.process.wait(seconds)

    def last_output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def last_line(self) -> str:
        return (self.last_output().splitlines() or [""])[-1]

    def wait_until_ready(self) -> None:
        """Raises RuntimeError with the end of the log if that takes too long."""
        limit = time.monotonic() + START_S
        while not self.ready():
            if time.monotonic() > limit:
                raise RuntimeError(f"{self.name} is not ready; {self.log} ends with:\n{self.last_output()}")
            time.sleep(0.1)


class Supervisor:
    """Context manager: starts parts, each again `pause` seconds after it has ended, and kills them all at the end."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._parts: list[Part] = []
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        for part in self._parts:
            part.kill()

    def start(self, *parts: Part) -> None:
        for part in parts:
            part.start()
            self._parts.append(part)

    def _watch(self) -> None:
        ended: dict[str, float] = {}
        while not self._stop.wait(0.1):
            for part in tuple(self._parts):
                if part.runs:
                    ended.pop(part.name, None)
                elif time.monotonic() > ended.setdefault(part.name, time.monotonic()) + self._pause:
                    part.start()
