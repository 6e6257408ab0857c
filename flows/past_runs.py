"""The trainings of a workspace beside one another: their data, figures and fate, and the settings in which they differ.

Everything is read from the folders of the runs, as JSON and without the settings of today, so that runs of earlier
versions can be listed too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel

from flows.workspace import Workspace
from tagmask.bundle import read_metadata
from tagmask.errors import BundleError, Fault, RunError
from tagmask.files import read_model
from tagmask.store import Store
from training.run.layout import Layout
from training.run.ledger import Ledger

Result = Literal["promoted", "kept", "undecided", "unfinished"]

_RESULTS: dict[bool | None, Result] = {True: "promoted", False: "kept", None: "undecided"}


class PastRun(BaseModel, frozen=True):
    """A run by its `key`, the name of its folder.

    `at` is when its last stage was finished, and `seconds` what all of them took. `rounds` were finished, of which
    `kept` is in the bundle. `estimated_miou` is that of its masks with the tags given, and `miou` that of the bundle on
    the data set of `data.masks`: percent, None if not known. `result` is "promoted" or "kept", as decided about its
    bundle, "undecided", or "unfinished"; `champion` is whether the bundle is champion now. `settings` by dotted name.
    """

    key: str
    at: AwareDatetime
    data_digest: str
    photos: int
    classes: tuple[str, ...]
    from_champion: bool
    rounds: int
    kept: int | None
    seconds: float
    estimated_miou: float | None
    miou: float | None
    version: str | None
    result: Result
    champion: bool
    settings: dict[str, Any]


class _Description(BaseModel):
    """What a run of any version has in run.json."""

    data_digest: str
    photos: int
    classes: tuple[str, ...]
    settings: dict[str, Any]
    start: str | None = None


@dataclass(frozen=True)
class PastRuns:
    """The runs, oldest first, and the folders that could not be read."""

    runs: Sequence[PastRun]
    faults: Sequence[Fault]

    def differences(self) -> dict[str, list[Any]]:
        """The values, run by run, of each setting that is not the same in all; None where a run does not have it."""
        names = sorted({name for run in self.runs for name in run.settings})
        values = {name: [run.settings.get(name) for run in self.runs] for name in names}
        return {name: each for name, each in values.items() if any(value != each[0] for value in each)}


def past_runs(workspace: Workspace) -> PastRuns:
    """The runs in a workspace. Raises RunError if there is no such folder, and BundleError for a damaged store."""
    if not workspace.root.is_dir():
        raise RunError(f"workspace {workspace.root}: no such folder; name the --workspace of `tagmask flow train`")
    champion = Store(workspace.store).champion()
    runs, faults = [], []
    for folder in _folders(workspace.runs):
        try:
            runs.append(_read(Layout(folder), champion.version if champion else None))
        except (RunError, BundleError) as error:
            faults.append(Fault(folder.name, str(error)))
    return PastRuns(sorted(runs, key=lambda run: (run.at, run.key)), faults)


def _folders(root: Path) -> Iterable[Path]:
    return sorted(path for path in root.glob("[!.]*") if path.is_dir())


def _read(layout: Layout, champion: str | None) -> PastRun:
    description = read_model(layout.description, _Description, error=RunError, remedy="remove the run")
    if description is None:
        raise RunError(f"{layout.root}: has no {layout.description.name}, as it was interrupted at once; remove it")
    ledger = Ledger(layout.ledger)
    decisions = [line for line in ledger if line["stage"] == "decision"]
    kept = max((line["round"] for line in decisions if line.get("kept")), default=None)
    decision = ledger.find(kept, "decision") or {} if kept else {}
    metadata = read_metadata(layout.model) if layout.model.is_file() else None
    verdict: Mapping[str, Any] = (metadata and metadata.decision) or {}
    changed = layout.ledger if layout.ledger.is_file() else layout.description
    return PastRun(
        key=layout.root.name,
        at=datetime.fromtimestamp(changed.stat().st_mtime, UTC),
        data_digest=description.data_digest,
        photos=description.photos,
        classes=description.classes,
        from_champion=description.start is not None,
        rounds=len(decisions),
        kept=kept,
        seconds=sum(line.get("seconds", 0.0) for line in ledger),
        estimated_miou=decision.get("estimate", {}).get("miou"),
        miou=verdict.get("comparison", {}).get("challenger", {}).get("miou"),
        version=metadata.version if metadata else None,
        result="unfinished" if metadata is None else _RESULTS[verdict.get("promoted")],
        champion=metadata is not None and metadata.version == champion,
        settings=dict(_flat(description.settings)),
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
