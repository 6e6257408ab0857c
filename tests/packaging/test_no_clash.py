"""Tagmask in a project with a `training/`, `flows/` and `service.py` of its own, as with BentoML and Prefect."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tagmask import launch

ROOT = Path(__file__).parents[2]
TAGMASK = Path(sys.executable).with_name("tagmask")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder whose modules cannot be imported."""
    for name in ("training/__init__.py", "training/run.py", "flows/__init__.py", "service.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"raise SystemExit('{name} of the user was imported')\n")
    return tmp_path


def run(command: list[str | Path], project: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=project, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


PATHS = pytest.mark.parametrize("path", ["", "."], ids=["plain", "PYTHONPATH"])


@PATHS
def test_command_line(project: Path, path: str):
    for group in ("train", "flow"):
        assert "Usage" in run([TAGMASK, group, "--help"], project, PYTHONPATH=path)


def test_process_of_torchrun(project: Path):
    options = ["--standalone", "--nproc-per-node", "1", launch.LAUNCHER, "training.run.worker", "--help"]
    assert "usage: " in run(launch.command("torch.distributed.run", *options), project, PYTHONPATH=".")


def test_spawned_processes(project: Path):
    (project / "pool.py").write_text(
        """
import multiprocessing

def package(name):
    return __import__(name).__file__

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(*pool.map(package, ["training", "service", "flows"]), sep="\\n")
"""
    )
    found = run(launch.command("pool"), project, PYTHONPATH=".").split()
    assert found == [str(ROOT / name / "__init__.py") for name in ("training", "service", "flows")]


def test_import(project: Path):
    program = "import tagmask, sys; print(*{'training', 'service', 'flows'} & sys.modules.keys())"
    assert run([sys.executable, "-c", program], project).strip() == ""


def test_other_modules_keep_their_order(monkeypatch: pytest.MonkeyPatch, project: Path):
    monkeypatch.setattr(sys, "path", [str(project), "/first", str(ROOT), "/second"])
    launch.prefer_own_packages()
    assert sys.path == ["/first", str(ROOT), "/second", str(project)]
