"""Keys of what the stages make: digests of all that goes into it, so that nothing is made twice.

A key covers the stage's settings and code, the photos and tags if they matter, and the keys of what it reads; where and
when it ran, and in which run, do not. Comments, docstrings and formatting of code do not count.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from training.config import TrainConfig
from training.run.plan import Name, Step


def step_keys(
    steps: Iterable[Step], config: TrainConfig, *, data_digest: str, start: str | None = None
) -> dict[Name, str]:
    """Key (hex) of every step of a run on the photos and tags of `data_digest`, from networks of digest `start`.

    Raises OSError when a file that the settings name cannot be read.
    """
    keys: dict[Name, str] = {}
    for step in steps:
        files: list[Path] = []
        if step.stage == "saliency" and config.saliency.network:
            files.append(config.saliency.network)
        if step.kind == "network" and config.weights and config.weights != "random":
            files.append(Path(config.weights))
        keys[step.name] = digest(
            {
                "step": step.name,
                "settings": step.settings,
                "code": [code_digest(_full_name(module)) for module in step.modules],
                "reads": [keys[name] for name in step.reads],
                "photos": data_digest if step.tagged else None,
                "start": start if step.kind == "network" else None,
                "files": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
            }
        )
    return keys


def _full_name(module: str) -> str:
    return module if module.startswith("tagmask.") else f"training.{module}"


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 hex digest of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@cache
def code_digest(module: str) -> str:
    """SHA-256 hex digest of what a module's code does, as far as its syntax says."""
    found = find_spec(module)
    assert found is not None
    assert found.origin is not None
    return source_digest(Path(found.origin).read_text(encoding="utf-8"))


def source_digest(source: str) -> str:
    """SHA-256 hex digest of Python code without comments, docstrings and formatting."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
