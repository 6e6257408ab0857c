"""What pyproject.toml declares: all that each package imports, and nothing else; installable wherever it says."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import packages_distributions
from itertools import product
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {"tagmask": None, "service": "serve", "training": "train", "flows": "flows"}
ON_REQUEST = {
    "tagmask": {"obstore", "pydensecrf"},  # of [object-storage]; of [serve] and [train]
    "training": {"tensorboard"},  # of [tensorboard]
    "flows": {"prefect_dask", "prefect_ray"},  # of [dask] and [ray]
}
"""Modules that a package imports only where a user chose what needs them, and says so where they are missing."""

NOT_IMPORTED = {
    "flows": {"fastapi", "sqlalchemy"},  # Prefect's, whose newer versions break it
    "service": {"pydensecrf2", "python-multipart"},  # for tagmask.crf; for forms of Starlette
    "training": {"onnxscript", "pydensecrf2", "torchvision"},  # for torch.onnx; for tagmask.crf; for timm
}
"""Distributions that a package needs without importing them."""

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")


@cache
def declared(extra: str | None) -> frozenset[str]:
    """Canonical names of the distributions that the base or one extra asks for, those of nested extras too."""
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    names: set[str] = set()
    for requirement in map(Requirement, lines):
        if requirement.name == "tagmask":
            names.update(*map(declared, requirement.extras))
        else:
            names.add(canonicalize_name(requirement.name))
    return frozenset(names)


def imported(package: str) -> Iterator[str]:
    """Modules outside of the repository and the standard library that `package` imports anywhere: `google.protobuf`."""
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            yield from (name for name in names if name.partition(".")[0] not in {*EXTRAS, *sys.stdlib_module_names})


DISTRIBUTIONS = packages_distributions()


def providers(module: str) -> set[str]:
    """Canonical names of the distributions that install `module`."""
    if module.partition(".")[0] == "onnxruntime":  # `make setup` installs onnxruntime-gpu in its place
        return {"onnxruntime"}
    return {canonicalize_name(name) for name in DISTRIBUTIONS.get(module.partition(".")[0], ())}


@pytest.mark.parametrize("package", EXTRAS)
def test_all_that_a_package_imports_is_declared(package: str):
    allowed = declared(None) | (declared(EXTRAS[package]) if EXTRAS[package] else set())
    modules = {module for module in imported(package) if module.partition(".")[0] not in ON_REQUEST.get(package, ())}
    missing = {module for module in modules if not providers(module) & allowed}
    assert modules
    assert not missing, f"{package} imports what {EXTRAS[package] or 'the base'} does not declare: {sorted(missing)}"


@pytest.mark.parametrize("package", EXTRAS)
def test_all_that_is_declared_is_imported(package: str):
    of_extra = {canonicalize_name(Requirement(line).name) for line in lines(EXTRAS[package])} - {"tagmask"}
    used = set().union(*map(providers, imported(package)), NOT_IMPORTED.get(package, set()))
    assert not of_extra - used, f"{package} does not import {sorted(of_extra - used)}"


def lines(extra: str | None) -> list[str]:
    return PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]


def test_only_one_distribution_of_onnxruntime_is_asked_for():
    optional = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    names = {Requirement(line).name for line in PROJECT["dependencies"] + optional}
    assert {name for name in names if name.startswith("onnxruntime")} == {"onnxruntime"}


def test_constraints_are_one_version_of_each_package_that_pyproject_allows():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(re.fullmatch(r"(\S+)==(\S+)", line).groups() for line in text.splitlines() if not line.startswith("#"))
    assert len(pins) == len([line for line in text.splitlines() if not line.startswith("#")])
    for extra in (None, "dev", *filter(None, EXTRAS.values())):
        for requirement in map(Requirement, lines(extra)):
            if requirement.name != "tagmask":
                assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_classifiers_name_the_pythons_that_are_allowed():
    named = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)}
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert named == set(PYTHONS) == {f"3.{minor}" for minor in range(5, 30) if f"3.{minor}.1" in allowed}


@pytest.fixture(scope="module")
def resolved() -> dict[tuple[str, str], set[str]]:
    """Names of what each Python and platform gets from all extras but `dev`, resolved at a time: uv mostly waits."""
    combinations = list(product(PYTHONS, PLATFORMS))
    with ThreadPoolExecutor(len(combinations)) as pool:
        return dict(zip(combinations, pool.map(resolve, *zip(*combinations, strict=True)), strict=True))


def resolve(python: str, platform: str) -> set[str]:
    command = [UV, "pip", "compile", "--quiet", "pyproject.toml", "--constraint", "constraints.txt"]
    command += [f"--extra={extra}" for extra in PROJECT["optional-dependencies"] if extra != "dev"]
    command += ["--python-version", python, "--python-platform", platform]
    command += ["--only-binary", ":all:", "--no-binary", "pydensecrf2"]
    environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}  # the oldest that ONNX Runtime has wheels for
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"Python {python}, {platform}: {done.stderr}"
    return {canonicalize_name(line.partition("==")[0]) for line in done.stdout.splitlines() if "==" in line}


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_tested_versions_have_wheels(resolved: dict[tuple[str, str], set[str]], python: str, platform: str):
    """For all packages but pydensecrf2, which is built from source. Of [dev], gevent lacks one on macOS and 3.11."""
    names = resolved[python, platform]
    assert {"bentoml", "onnxruntime", "prefect", "prefect-dask", "ray", "torch"} <= names
    assert ("pydensecrf2" in names) is (python in ("3.11", "3.12"))
