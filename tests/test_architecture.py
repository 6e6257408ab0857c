"""Who may know whom: tagged photos -> training -> bundle -> service, and flows above both."""

import ast
import re
from collections.abc import Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from flows.learning.keys import imported
from training.stages import BEFORE_ROUNDS, EACH_ROUND
from training.stages.base import Stage

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "tagmask": {
        "flows",
        "service",
        "training",
        "prefect",
        "bentoml",
        "starlette",
        "fastapi",
        "torch",
        "torchvision",
        "timm",
    },
    "training": {"flows", "service", "prefect", "bentoml", "starlette", "fastapi"},
    "service": {"flows", "training", "prefect", "torch", "torchvision", "timm"},
}
PACKAGES = ("tagmask", "training", "service", "flows")
TORCH = {"torch", "torchvision", "timm"}
STAGES = (*BEFORE_ROUNDS, *EACH_ROUND)
WITHOUT_TORCH = [
    "training.config", "training.datasets", "training.datasets.writing", "training.evaluation.compare",
    "training.evaluation.measure", "training.evaluation.metrics", "training.datasets.parallel", "training.run.executor",
    "training.run.start", *(stage.__module__ for stage in STAGES),
]  # fmt: skip
"""Modules that per-photo processes and flows load, with all that they import at their top."""


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def source(name: str) -> Path | None:
    """The file of module `name`, or of the module that has it as a member; None for what is not ours."""
    parts = name.split(".")
    for length in (len(parts), len(parts) - 1):
        path = ROOT.joinpath(*parts[:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if parts[0] == "training" and length and file.is_file():
                return file
    return None


def loaded(path: Path) -> set[Path]:
    """`path` and every file of training that importing it imports: not inside functions, nor for type checkers only."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        if (file := waiting.pop()) not in found:
            found.add(file)
            waiting += [other for name in at_top(file) if (other := source(name))]
    return found


@cache
def at_top(path: Path) -> list[str]:
    """What a module imports when it is imported itself: nothing of functions, nor what only type checkers read."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ):
            node.body = []
    return list(imported(tree))


def modules(package: str) -> dict[str, Path]:
    """Files of a package by dotted name."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sources(package)}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


@cache
def import_graph() -> dict[str, set[str]]:
    """The modules that each module of the packages imports at import time."""
    files = {name: path for package in PACKAGES for name, path in modules(package).items()}
    graph = {}
    for name, path in files.items():
        targets = {target if target in files else target.rpartition(".")[0] for target in at_top(path)}
        graph[name] = targets & files.keys()
    return graph


def test_no_module_imports_itself_by_way_of_others():
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as fault:
        pytest.fail("import cycle: " + " -> ".join(reversed(fault.args[1])))


def test_import_graph_is_read_at_all():
    graph = import_graph()
    assert len(graph) > 150
    assert "tagmask.errors" in graph["tagmask.bundle"]
    assert {name.partition(".")[0] for name in graph} == set(PACKAGES)


def roots(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_packages_know_only_what_lies_below_them(package: str):
    for path in sources(package):
        found = roots(imported(ast.parse(path.read_text(encoding="utf-8")))) & FORBIDDEN[package]
        assert not found, f"{path.relative_to(ROOT)} imports {', '.join(sorted(found))}"


def test_only_the_http_layer_of_the_service_knows_http():
    for path in sources("service"):
        name = path.relative_to(ROOT).as_posix()
        found = roots(imported(ast.parse(path.read_text(encoding="utf-8"))))
        assert "bentoml" not in found or name == "service/main.py", f"{name} imports bentoml"
        assert "starlette" not in found or name.startswith(("service/http/", "service/main.py")), f"{name}: starlette"


def test_a_flows_process_has_no_torch():
    """Prefect's threads and torch's forked loaders do not go together; torch has a process of its own."""
    for path in sources("flows"):
        found = roots(at_top(path)) & TORCH
        assert not found, f"{path.relative_to(ROOT)} imports {', '.join(sorted(found))}"
        for file in (file for name in at_top(path) if (start := source(name)) for file in loaded(start)):
            assert not roots(at_top(file)) & TORCH, f"{path.relative_to(ROOT)} loads {file.relative_to(ROOT)}"


def test_training_is_read_at_all():
    assert len(sources("training")) > 20
    assert len(sources("service")) > 20
    assert "torch" in roots(at_top(ROOT / "training" / "fitting" / "loop.py"))


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_what_per_photo_processes_load_has_no_torch(module: str):
    start = source(module)
    assert start is not None
    for path in loaded(start):
        found = roots(at_top(path)) & TORCH
        assert not found, f"{module} loads {path.relative_to(ROOT)}, which imports {', '.join(sorted(found))}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_whether_it_needs_torch(stage: type[Stage]):
    path = source(stage.__module__)
    assert path is not None
    inside = set(imported(ast.parse(path.read_text(encoding="utf-8")))) - set(at_top(path))
    files = {file for name in inside if (start := source(name)) for file in loaded(start)}
    uses_torch = bool(roots(list(inside)) & TORCH) or any(roots(at_top(file)) & TORCH for file in files)
    assert uses_torch == stage.needs_torch


@pytest.mark.parametrize("file", [file for name in PACKAGES for file in sorted((ROOT / name).rglob("__init__.py"))])
def test_a_package_that_lists_its_modules_lists_all_of_them(file: Path):
    modules = {path.stem for path in file.parent.glob("*.py")} - {"__init__", "__main__"}
    modules |= {path.parent.name for path in file.parent.glob("*/__init__.py")}
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    listed = set(re.findall(r"^(\w+) +\S", docstring.partition("\n")[2], re.MULTILINE)) & modules
    assert len(listed) < 3 or listed == modules, f"{file.relative_to(ROOT)} lacks {', '.join(sorted(modules - listed))}"
