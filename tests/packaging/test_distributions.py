"""The wheel and the sdist: complete, and the wheel nothing but the packages."""

import email
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("tagmask", "training", "service", "flows")
DATA = (
    "tagmask/py.typed",
    "tagmask/pretrained/animals.onnx",
    "service/page/index.html",
    "training/report/page.html",
)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [Path(sys.executable).with_name("uv"), "build", "--quiet", "--no-build-isolation", "--out-dir", folder]
    done = subprocess.run([*command, ROOT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    return next(distributions.glob("*.whl"))


@pytest.fixture(scope="module")
def sdist(distributions: Path) -> set[str]:
    """Names of the files in the sdist, relative to its folder."""
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def tracked() -> set[str]:
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip("not a checkout")
    return {name for name in done.stdout.splitlines() if (ROOT / name).exists()}


def test_wheel_holds_the_packages_alone(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.partition("/")[0].endswith(".dist-info")}
    files = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*")
             if path.is_file() and "__pycache__" not in path.parts}  # fmt: skip
    assert names == files
    assert set(DATA) <= names


def test_wheel_declares_the_command_and_the_extras(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        info = next(name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    extras = {"serve", "train", "flows", "dask", "ray", "kubernetes", "object-storage", "tensorboard", "docs", "dev"}
    assert set(metadata.get_all("Provides-Extra", [])) == extras
    assert "tagmask = tagmask.cli.main:main" in entry_points


def test_sdist_holds_the_checkout(sdist: set[str]):
    assert {"Makefile", "constraints.txt", "tests/conftest.py", "examples/demo/loop.py", "docs/serving.md"} <= sdist
    assert tracked() <= sdist
