"""What of the past is removed from a workspace. A folder that goes is renamed first, so that it is there or not."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from flows.memory import Last
from flows.settings import KeepSettings
from flows.workspace import Workspace
from tagmask.store import Store

_GONE = ".removed-"


def retain(workspace: Workspace, store: Store, keep: KeepSettings, last: Last) -> tuple[str, ...]:
    """Remove bundles, runs, stages, networks and lists beyond what `keep` says; returns the versions that are gone.

    The run and the list of `last` stay, as do the champion and the one before. Call it under the workspace's lock.
    """
    retired = store.retain(keep.bundles)
    versions = set(store.versions())
    _remove(path for path in _folders(workspace.root / "weights") if path.name not in versions)
    runs = sorted(_folders(workspace.runs), key=_age, reverse=True)
    kept = {run.name for run in runs[: keep.runs]} | {last.key}
    _remove(run for run in runs if run.name not in kept)
    used = {link.name for run in _folders(workspace.runs) for link in run.glob("stages/*")}
    _remove(stage for stage in _folders(workspace.stages) if stage.name not in used)
    lists = sorted(_lists(workspace), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in lists[keep.data_sets :]:
        if path == last.photos:
            continue
        path.with_suffix(".held-out.jsonl").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    return retired


def _age(run: Path) -> float:
    ledger = run / "ledger.jsonl"
    return ledger.stat().st_mtime if ledger.is_file() else 0.0


def _lists(workspace: Workspace) -> list[Path]:
    return [path for path in workspace.data.glob("*.jsonl") if "." not in path.stem]


def _folders(root: Path) -> list[Path]:
    """The folders in `root`, sorted, after what a killed process had renamed is removed."""
    if not root.is_dir():
        return []
    for path in root.glob(f"{_GONE}*"):
        shutil.rmtree(path, ignore_errors=True)
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _remove(folders: Iterator[Path]) -> None:
    for folder in list(folders):
        gone = folder.with_name(f"{_GONE}{folder.name}")
        folder.rename(gone)
        shutil.rmtree(gone)
