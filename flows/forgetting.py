"""Forgetting of samples: removal of photos, and of all that shows them, from a workspace.

    request     notes the samples; from then on they are not collected again
    forget      removes them, under the workspace's lock

A request needs no lock, so it can be made while a flow is running; that flow, or the next one, carries it out. Each
step can be repeated: after a kill at any point, the next call finishes what was requested.

What was trained stays: bundles record which samples they learned from, and no training starts from the networks of one
that learned from a forgotten sample.
"""

import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from flows.collection.catalogue import Catalogue
from flows.collection.sources import Source
from flows.orchestration.artifact import delete_artifacts
from flows.orchestration.progress import run_logger
from flows.state import PlannedTraining, training_in_progress
from flows.workspace import Workspace
from tagmask.disk import writable
from tagmask.errors import RunError
from tagmask.files import atomic_write, remove_unfinished
from tagmask.inbox import forgotten_samples
from tagmask.inputs import Location, location
from tagmask.metadata import sample_digests
from tagmask.wording import count
from training.report.tensorboard import remove_events
from training.run.description import read_photos, write_photos
from training.run.layout import Layout
from training.run.learned import read_learned

_PHOTO = re.compile(rb"/([0-9a-f]{64})\.")  # of a line of a list


def request(workspace: Workspace, samples: Iterable[str]) -> None:
    """Note that `samples` are to be forgotten. Raises RunError when the workspace cannot be written."""
    with writable(workspace.data):
        for sample in samples:
            workspace.to_forget.add(sample)  # first, as it is what the next flow looks at
            workspace.forgotten.add(sample)


def request_from_sources(workspace: Workspace, sources: Iterable[Source | Location]) -> None:
    """Request what the inboxes among `sources` have forgotten since."""
    for source in sources:
        root = location(source.root if isinstance(source, Source) else source)
        request(workspace, [each for each in forgotten_samples(root) if each not in workspace.forgotten])


@contextmanager
def forgetting(workspace: Workspace, sources: Iterable[Source | Location]) -> Iterator[None]:
    """Forget what is requested before the context, and what is requested while it is open, at its end."""
    request_from_sources(workspace, sources)
    _forget_and_log(workspace)
    yield
    _forget_and_log(workspace)


def forget(workspace: Workspace) -> frozenset[str]:
    """Remove all samples that were requested; returns them. Call it under the workspace's lock.

    The reports, galleries and TensorBoard's files of runs that may show one are removed, as are galleries in Prefect's
    database. An unfinished training that uses one is dropped. Raises RunError when the workspace cannot be written.
    """
    samples = frozenset(workspace.to_forget)
    if not samples:
        return samples
    with writable(workspace.root):
        for sample in samples:
            workspace.forgotten.add(sample)
        _drop_training(workspace, samples)
        for run in sorted(workspace.runs.glob("*/")):
            _forget_in_run(workspace, Layout(run), samples)
        for listing in workspace.data.glob("*.jsonl"):
            _forget_in_list(listing, samples)
        for sample in samples:
            _remove_files(workspace, sample)
        with Catalogue(workspace) as catalogue:
            catalogue.forget(samples)
        delete_artifacts("gallery", samples)
        for sample in samples:
            workspace.to_forget.discard(sample)
    return samples


def _forget_and_log(workspace: Workspace) -> None:
    if samples := forget(workspace):
        run_logger()[0].info("%s forgotten", count(len(samples), "sample"))


def _drop_training(workspace: Workspace, samples: Collection[str]) -> None:
    """Drop the training in progress if it uses one of the samples, or started from networks that may have."""
    try:
        training = training_in_progress(workspace)
        uses = training is not None and _uses(training, samples)
    except RunError:  # of another version, it may use any
        uses = True
    if uses:
        for folder in (workspace.stages, workspace.runs):
            remove_unfinished(folder)
        workspace.training.unlink()


def _uses(training: PlannedTraining, samples: Collection[str]) -> bool:
    if any(_lines_with(path, samples) for path in (training.request.photos, training.held_out)):
        return True
    if training.request.start is None:
        return False
    learned = read_learned(Layout(training.request.start))
    return learned is None or not learned.isdisjoint(sample_digests(samples))


def _forget_in_run(workspace: Workspace, run: Layout, samples: Collection[str]) -> None:
    """Remove the pictures of a run that may show one of the samples, and the samples from its list of photos.

    A run without a list was interrupted, and may show any photo.
    """
    data = read_photos(run)
    kept = [photo for photo in data.photos if photo.path.stem not in samples] if data else []
    if data and len(kept) == len(data.photos):
        return
    for picture in (run.report, *run.root.glob("gallery-*.jpg")):
        picture.unlink(missing_ok=True)
    remove_events(workspace.tensorboard(run.root.name))
    if data:
        write_photos(run, replace(data, photos=tuple(kept)))


def _forget_in_list(path: Path, samples: Collection[str]) -> None:
    """Remove the lines of the samples from a version of the data set, which stays as it is if it has none."""
    part = path.with_name(f".{path.stem}.part")
    with path.open("rb") as lines, atomic_write(part) as file:
        file.writelines(line for line in lines if not _names(line, samples))
    if part.stat().st_size < path.stat().st_size:
        part.replace(path)
    else:
        part.unlink()


def _lines_with(path: Path, samples: Collection[str]) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as lines:
        return any(_names(line, samples) for line in lines)


def _names(line: bytes, samples: Collection[str]) -> bool:
    found = _PHOTO.search(line)
    return found is not None and found[1].decode() in samples


def _remove_files(workspace: Workspace, sample: str) -> None:
    """Remove the photo and the stage outputs for it, with the results of their tasks, which would vouch for them."""
    outputs = list(_outputs(workspace, sample))
    for folder in {workspace.stages / path.relative_to(workspace.stages).parts[0] for path in outputs}:
        shutil.rmtree(folder / "done", ignore_errors=True)
    copies = workspace.photos.glob(f"{sample[:2]}/{sample}.*")
    for path in (*outputs, *copies, *workspace.quarantine.glob(f"{sample}*")):
        path.unlink(missing_ok=True)


def _outputs(workspace: Workspace, sample: str) -> Iterator[Path]:
    """The files of stages for a sample: STAGE-KEY/STAGE/ID.png, or in a folder of STAGE, such as maps/."""
    for folders in ("*/*", "*/*/*"):
        yield from workspace.stages.glob(f"{folders}/photos/{sample[:2]}/{sample}.*")
