"""`make setup`: what it would run, and what it says where it cannot."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINUX_X86 = (platform.system(), platform.machine()) == ("Linux", "x86_64")


def recipe(*variables: str) -> str:
    command = ["make", "--dry-run", "--always-make", "setup", *variables]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_default_has_onnxruntime_with_cuda_where_it_exists():
    assert ("--group gpu --override" in recipe()) is LINUX_X86
    assert "--torch-backend" not in recipe()


def test_torch_for_cpus():
    steps = recipe("TORCH=cpu")
    assert "--torch-backend 'cpu'" in steps
    assert "--group gpu" not in steps


def test_newer_gpus():
    assert "--torch-backend 'cu130'" in recipe("TORCH=cu130")


def test_bytecode_is_kept_whatever_the_environment_says():
    probe = "probe: ; @echo $$UV_COMPILE_BYTECODE $${PYTHONDONTWRITEBYTECODE-unset}"
    environment = {**os.environ, "UV_COMPILE_BYTECODE": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["make", "--silent", "--eval", probe, "probe"]
    assert subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True).stdout == "1 unset\n"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout's inputs of `make setup`, with a folder `bin` that has neither Python nor uv."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests/consumers.txt", tmp_path / "tests")
    (tmp_path / "bin").mkdir()
    for name in ("bash", "make", "uname", "rm", "touch"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or name)
    return tmp_path


def setup(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(folder / "bin"), "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(["make", "setup"], cwd=folder, env=environment, capture_output=True, text=True)


def test_neither_python_nor_uv(bare: Path):
    done = setup(bare)
    assert done.returncode != 0
    assert "make setup: no Python 3.11 to 3.14, and no uv to bring one. Install either" in done.stderr


def test_uv_brings_a_python_or_says_that_it_cannot(bare: Path):
    uv = bare / "bin/uv"
    uv.write_text('#!/bin/bash\n[ "$1" = --version ] && exit 0\necho "uv $*" >&2\nexit 1\n')
    uv.chmod(0o755)
    done = setup(bare)
    assert "uv venv --clear --managed-python --python 3.13 .venv" in done.stderr
    assert "make setup: no Python 3.11 to 3.14, and uv cannot bring one. Install one, or name it" in done.stderr
