"""Runs Tagmask's modules in child processes, whatever modules the working directory or PYTHONPATH holds.

    python -P tagmask/launch.py MODULE [ARGUMENT ...]

`training`, `service` and `flows` are common names: a project that uses BentoML or Prefect may have its own. Started by
its path, this file needs no search for a module, and makes sure that the next search finds Tagmask's.
"""

import os
import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PACKAGES = ("tagmask", "training", "service", "flows")
ROOT = Path(__file__).resolve().parents[1]
"""The folder that holds the packages: a checkout, or site-packages."""

LAUNCHER = str(ROOT / "tagmask" / "launch.py")
"""This file as a script, for programs that start scripts, such as torchrun."""


def command(module: str, *arguments: str | os.PathLike[str]) -> list[str]:
    """The command line of a child process that runs `module` as `__main__`."""
    return [sys.executable, "-P", LAUNCHER, module, *map(str, arguments)]


def prefer_own_packages() -> None:
    """Let this process import Tagmask's packages rather than others of the same names.

    Entries of `sys.path` with such a package or module move to its end.
    """
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    sys.path.sort(key=_hides_packages)


def protect_children() -> None:
    """Let child processes, whatever program they run, import Tagmask's packages as well.

    They do not search their working directory, and search ROOT first where an entry of PYTHONPATH hides a package.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    entries = [str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if any(map(_hides_packages, entries)):
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *entries])


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for this process, and for the child processes that are started, in the context."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _hides_packages(entry: str) -> bool:
    folder = Path(entry)
    if folder.resolve() == ROOT:
        return False
    return any((folder / name).is_dir() or (folder / f"{name}.py").is_file() for name in PACKAGES)


if __name__ == "__main__":
    prefer_own_packages()
    protect_children()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
