"""Keys of stages: digests of everything that decides a result, so that nothing is computed twice.

A key covers the stage's settings and code, the photos and tags if they matter, and the keys of what it reads; where and
when it ran, and in which run, do not matter. Code is the module of the stage and, transitively, every module of
`training` and `tagmask` that it imports, inside functions too, without comments, docstrings and formatting.
"""

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import tagmask
from tagmask.files import read_bytes
from training.stages.base import Stage, StageId
from training.stages.network import NetworkStage

WITHOUT_RESULT = frozenset({"tagmask.errors", "tagmask.progress"})
"""Modules that cannot change a result and do not count: an exception leaves none, and progress is only reported."""

ROOT = Path(tagmask.__file__).parents[1]
PACKAGES = ("tagmask", "training")

ReadSource = Callable[[str], str | None]
"""The source of a module by its dotted name; None if there is no such module."""


def stage_keys(
    stages: Iterable[Stage], *, data_digest: str, start: str | None = None, read: ReadSource | None = None
) -> dict[StageId, str]:
    """Key (hex) of every stage of a run on the photos and tags of `data_digest`, from networks of digest `start`.

    Raises OSError if a file that the settings name cannot be read.
    """
    keys: dict[StageId, str] = {}
    for stage in stages:
        keys[stage.id] = digest(
            {
                "stage": stage.id,
                "settings": stage.values(),
                "code": code_digest(type(stage).__module__, read or read_source),
                "reads": [keys[name] for name in stage.reads],
                "photos": data_digest if stage.tagged else None,
                "start": start if isinstance(stage, NetworkStage) else None,
                "files": [hashlib.sha256(read_bytes(file)).hexdigest() for file in stage.files()],
            }
        )
    return keys


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 hex digest of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def code_digest(module: str, read: ReadSource) -> str:
    """SHA-256 hex digest of the code of `module` and of every module that it imports, transitively."""
    sources: dict[str, str] = {}
    pending = {module}
    while pending:
        name = pending.pop()
        source = read(name)
        assert source is not None, f"no module {name}"
        sources[name] = source
        modules = {resolved for each in imports(source) if (resolved := _module(each, read))}
        pending |= modules - sources.keys() - WITHOUT_RESULT
    return digest({name: source_digest(source) for name, source in sources.items()})


@cache
def read_source(module: str) -> str | None:
    """The source of a module in this installation."""
    path = ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file.read_text(encoding="utf-8")
    return None


def _module(name: str, read: ReadSource) -> str | None:
    """The module that importing `name` takes something from: `name` itself, or the module of which it is a member.

    A package's `__init__` counts only where a name is taken from it, not where one of its modules is imported.
    """
    if name.partition(".")[0] not in PACKAGES:
        return None
    return name if read(name) is not None else name.rpartition(".")[0]


@cache
def imports(source: str) -> frozenset[str]:
    """Dotted names of all modules and members that Python code imports."""
    return frozenset(imported(ast.parse(source)))


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of the modules and members that any statement below `tree` imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def source_digest(source: str) -> str:
    """SHA-256 hex digest of Python code without comments, docstrings and formatting."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
