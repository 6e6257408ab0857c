"""The container engine of this machine, and its containers.

Services are asked from inside of their containers, as the ports that an engine publishes may be open elsewhere: in
network namespaces or on a machine of its own.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx

ROOT = Path(__file__).parents[2]
LOCKED_DOWN = ("--read-only", "--tmpfs=/tmp:size=1g,mode=1777", "--cap-drop=ALL", "--security-opt=no-new-privileges")
START_S = 120

CLIENT = """
import json, sys, httpx
method, url, headers = sys.argv[1], sys.argv[2], {"accept-encoding": "identity"} | json.loads(sys.argv[3])
answer = httpx.request(method, url, headers=headers, content=sys.stdin.buffer.read(), timeout=60, trust_env=False)
sys.stdout.buffer.write(json.dumps([answer.status_code, dict(answer.headers)]).encode() + b"\\n" + answer.content)
"""


@dataclass(frozen=True)
class Engine:
    """Docker or podman, by the name of its program."""

    program: str

    def __call__(self, *arguments: str | Path, stdin: bytes = b"", **environment: str) -> bytes:
        """Standard output of a command. AssertionError with all that it said if it fails."""
        done = self.attempt(*arguments, stdin=stdin, **environment)
        assert done.returncode == 0, f"{arguments}: {done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout

    def attempt(
        self, *arguments: str | Path, stdin: bytes = b"", **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        command, variables = [self.program, *map(str, arguments)], os.environ | environment
        return subprocess.run(command, input=stdin, env=variables, cwd=ROOT, capture_output=True)

    @contextmanager
    def running(self, *arguments: str | Path) -> Iterator["Container"]:
        """A container that `run --detach` starts with these arguments, until the context ends."""
        name = self("run", "--detach", *arguments).decode().strip()
        try:
            yield Container(self, name)
        finally:
            self("rm", "--force", "--volumes", name)

    @contextmanager
    def volume(self) -> Iterator[str]:
        """A new volume, until the context ends."""
        name = self("volume", "create").decode().strip()
        try:
            yield name
        finally:
            self("volume", "rm", "--force", name)


@dataclass(frozen=True)
class Container:
    """A container by name or id, and the port that it listens on."""

    engine: Engine
    name: str
    port: int = 3000

    def __call__(self, *command: str, stdin: bytes = b"") -> bytes:
        """Standard output of a command that is run in the container."""
        return self.engine("exec", "--interactive", self.name, *command, stdin=stdin)

    def request(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] = MappingProxyType({})
    ) -> httpx.Response:
        """The answer of the service in the container."""
        arguments = (method, f"http://127.0.0.1:{self.port}{path}", json.dumps(dict(headers)))
        head, _, body = self("python", "-c", CLIENT, *arguments, stdin=content).partition(b"\n")
        status, answered = json.loads(head)
        return httpx.Response(status, headers=answered, content=body)

    def wait_for(self, path: str, status: int, **fields: str) -> httpx.Response:
        """The first answer with this status and these fields. AssertionError with the log if it takes too long."""
        end = time.monotonic() + START_S
        while True:
            try:
                answer = self.request("GET", path)
                if answer.status_code == status and fields.items() <= answer.json().items():
                    return answer
            except AssertionError:  # nobody listens yet
                pass
            assert time.monotonic() < end, self.log()
            time.sleep(0.5)

    def log(self) -> str:
        done = self.engine.attempt("logs", self.name)
        return (done.stdout + done.stderr).decode()


def find_engine() -> Engine | None:
    """The first engine on the path that answers."""
    for program in filter(shutil.which, ("docker", "podman")):
        if subprocess.run([program, "version"], capture_output=True).returncode == 0:
            return Engine(program)
    return None
