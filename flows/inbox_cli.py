"""`tagmask inbox`: the samples that a service received, and what workspaces made of them.

Commands import what they need themselves, to keep `--help` fast.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import StorePlace
from tagmask.cli.terminal import warn
from tagmask.errors import ConfigError, NotFound
from tagmask.wording import count

if TYPE_CHECKING:
    from flows.workspace import Workspace

app = typer.Typer(name="inbox", help="Manage the samples of an inbox.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Manage the samples of an inbox."""


@app.command("list")
def list_samples(
    inbox: Annotated[
        str, typer.Argument(envvar="TAGMASK_INBOX", help="Folder or URL of the service's samples.", metavar="INBOX")
    ],
) -> None:
    """List the samples of an inbox: their ids, tags, and what their corrections show."""
    from tagmask.cli.terminal import tell, warn_of
    from tagmask.mirror import local_copies
    from training.datasets import samples
    from training.datasets.correcting import correct

    with local_copies([inbox]) as (folder,):
        if not folder.is_dir():
            raise ConfigError(f"{inbox}: no such folder; name the one that the service stores samples in")
        listing = samples.read(folder, None)
        if any(samples.corrections(folder)):
            correct(listing, folder)
    for photo in listing.photos.values():
        line = f"{photo.path.stem}  {' '.join(photo.tags)}"
        if said := photo.correction:
            absent = (f"no {name}" for name in said.without(said.complete))
            line += f"  corrected: {', '.join((*dict(said.areas), *absent))}"
        tell(line)
    if not listing.photos:
        tell(f"no samples in {inbox} yet; a service stores those of POST /v1/samples with TAGMASK_INBOX={inbox}")
    warn_of("fault", listing.faults)


@app.command()
def forget(
    samples: Annotated[
        list[str], typer.Argument(help="Ids of samples: the SHA-256 of each photo, in hex.", metavar="ID…")
    ],
    inbox: Annotated[
        str | None,
        typer.Option(envvar="TAGMASK_INBOX", help="Folder or URL of the service's samples.", metavar="INBOX"),
    ] = None,
    workspace: Annotated[
        Path | None, typer.Option(envvar="TAGMASK_WORKSPACE", help="Folder for all data of the flows.", metavar="DIR")
    ] = None,
    store: StorePlace = None,
) -> None:
    """Remove samples and all that shows them, refuse them from then on, and name the bundles that learned from them."""
    from flows.workspace import Workspace
    from tagmask.inbox import Inbox
    from tagmask.inputs import local_path, location
    from tagmask.learners import find_learners
    from tagmask.store import Store

    if inbox is None and workspace is None:
        raise ConfigError("no folder is named; give --inbox, --workspace, or both")
    root = location(inbox) if inbox else None
    if isinstance(root, Path) and not root.is_dir():
        raise ConfigError(f"--inbox {inbox}: no such folder; name the one that the service stores samples in")
    place = Inbox(root, min_free_bytes=0) if root else None
    folder = Workspace(local_path(workspace).absolute(), store) if workspace else None
    if folder and not folder.data.is_dir():
        raise ConfigError(f"--workspace {workspace}: no workspace, as it has no folder data; name that of the flows")
    for sample in samples:
        if not (place and place.has(sample)) and not (folder and _has(folder, sample)):
            raise NotFound(f"sample {sample}: neither in the inbox nor in the workspace; nothing is changed")
    for sample in samples:
        if place:
            place.forget(sample)
    finished = _forget(folder, samples) if folder else True
    bundles = folder.store if folder else store
    if bundles:
        learners = find_learners(Store(bundles), samples)
        for version in learners.models:
            typer.echo(f"{version} learned from them")
        for version in learners.unknown:
            typer.echo(f"{version} may have learned from them, as its bundle does not say")
    if not finished:
        raise typer.Exit(1)
    typer.echo(f"{count(len(samples), 'sample')} forgotten")


def _has(workspace: "Workspace", sample: str) -> bool:
    from flows.collection.catalogue import Catalogue
    from tagmask.sample_set import check_id

    with Catalogue(workspace) as catalogue:
        return catalogue.has(check_id(sample)) or sample in workspace.forgotten


def _forget(workspace: "Workspace", samples: Sequence[str]) -> bool:
    """Request it, and carry it out unless a flow is running, which will do so."""
    from flows import forgetting
    from flows.orchestration.server import prefect_server
    from flows.workspace import Busy

    forgetting.request(workspace, samples)
    try:
        with workspace.lock("tagmask inbox forget", wait=False), prefect_server():
            forgetting.forget(workspace)
    except Busy as error:
        warn("not finished", f"{error}: it removes them when it ends, or the next one does")
        return False
    return True
