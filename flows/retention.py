"""Removal of old data from a workspace. A folder is renamed before it is removed, so it is either whole or gone."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from flows.settings import RetentionSettings
from flows.state import FinishedTraining
from flows.workspace import Workspace
from tagmask.store import Store
from training.run.layout import Layout

_REMOVED = ".removed-"


def tidy(workspace: Workspace, store: Store, retention: RetentionSettings, last: FinishedTraining | None) -> None:
    """Remove bundles, runs, stage outputs, weights and photo lists beyond the limits of `retention`.

    The run and photo list of the `last` training stay, as do the champion and the one before it; without a finished
    training nothing is removed. Call it under the workspace's lock.
    """
    if last is None:
        return
    store.retain(retention.bundles)
    versions = set(store.versions())
    _remove(path for path in _folders(workspace.networks) if path.name not in versions)
    runs = sorted(_folders(workspace.runs), key=_modified, reverse=True)
    kept = {run.name for run in runs[: retention.runs]} | {last.key}
    _remove(run for run in runs if run.name not in kept)
    _remove(events for events in _folders(workspace.events) if events.name not in kept)
    used = {link.name for run in _folders(workspace.runs) for link in run.glob("stages/*")}
    _remove(stage for stage in _folders(workspace.stages) if stage.name not in used)
    lists = [path for path in workspace.data.glob("*.jsonl") if "." not in path.stem]
    for path in sorted(lists, key=lambda path: path.stat().st_mtime, reverse=True)[retention.data_sets :]:
        if path != last.photos:
            path.with_suffix(".held-out.jsonl").unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _modified(run: Path) -> float:
    ledger = Layout(run).ledger
    return ledger.stat().st_mtime if ledger.is_file() else 0.0


def _folders(root: Path) -> list[Path]:
    """The folders in `root`, sorted, once those that a killed process had renamed are removed."""
    if not root.is_dir():
        return []
    for path in root.glob(f"{_REMOVED}*"):
        shutil.rmtree(path, ignore_errors=True)
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _remove(folders: Iterable[Path]) -> None:
    for folder in list(folders):
        removed = folder.with_name(f"{_REMOVED}{folder.name}")
        folder.rename(removed)
        shutil.rmtree(removed)
