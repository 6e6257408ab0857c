"""A retraining on a cluster whose parts are killed in turn, while its services answer requests.

    python -m benchmarks.cluster [--photos 36] [--rate 2] [--kill PART]… [--out DIR]

Needs root, iproute2, nginx, OpenSSL, PostgreSQL and Ceph. Each part is on a machine of its own, which is a network
namespace: Prefect's server, PostgreSQL, a Dask scheduler, two Dask workers, two services behind nginx with the
configuration of docs/scaling.md, an S3 server with the photos, the inbox and the store, and the machine that trains. A
retraining runs undisturbed, and then once more, during which the parts are killed by SIGKILL one after the other. What
has ended is started again two seconds later, also the retraining if it fails. Prints a line for each kill. Exit code 1
if a request is lost, a finished file is written again, or the bundle differs from the undisturbed one.
"""

import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.cluster import parts
from benchmarks.cluster.deployment import Deployment
from benchmarks.cluster.load import Answer, SteadyLoad
from benchmarks.cluster.machines import isolate
from benchmarks.cluster.retraining import Death, Kill, Retraining, roll_back
from benchmarks.command import command_of

KILLS = (
    Kill("service-1", "stages/superpixels-*/done/*"),
    Kill("worker-1", "stages/saliency-*/done/*"),
    Kill("server", "stages/class_maps-*/done/*"),
    Kill("scheduler", "stages/round-1-evidence-*/done/*"),
    Kill("database", "stages/round-1-refinement-*/done/*"),
    Kill("trainer", "stages/round-1-labels-*/done/*"),
    Kill("storage", "runs/*/report.html"),
)
_COLUMNS = ("killed", "the retraining", "files written again", "all well after, s", "requests", "lost", "slowest, s")


def cluster(root: Path, photos: int, rate: float, kills: Sequence[Kill]) -> list[str]:
    """Retrain undisturbed, and with `kills`, and print a line for each of these; returns the faults."""
    faults = list[str]()
    with Deployment(root) as deployment:
        sent = deployment.start(photos)
        with deployment.client() as client, SteadyLoad(client, sent, rate) as load:
            undisturbed = Retraining(deployment, root / "undisturbed")
            list(undisturbed.run(()))
            expected, known = roll_back(deployment), len(load.answers)
            lost = sum(bool(answer.fault) for answer in load.answers)
            print(f"undisturbed: {undisturbed.seconds:.0f} s, {known} requests, {lost} lost, digest {expected[:12]}")
            print(f"| {' | '.join(_COLUMNS)} |\n{'| --- ' * len(_COLUMNS)}|", flush=True)
            disturbed = Retraining(deployment, root / "disturbed")
            for death in disturbed.run(kills):
                answers, known = load.answers[known:], len(load.answers)
                print(_line(death, answers), flush=True)
                if death.again:
                    faults.append(f"{death.part}: {len(death.again)} files were written again, first {death.again[0]}")
            digest = roll_back(deployment)
        print(f"disturbed: {disturbed.seconds:.0f} s, digest {digest[:12]}")
        faults += [f"lost: {answer.fault}" for answer in load.answers if answer.fault]
    return faults if digest == expected else [*faults, f"weights digest {digest}, expected {expected}"]


def _line(death: Death, answers: Sequence[Answer]) -> str:
    cells = (
        death.part,
        "; ".join(f"started again: {said[:200]}" for said in death.said) or "went on",
        len(death.again),
        f"{death.well:.0f}",
        len(answers),
        sum(bool(answer.fault) for answer in answers),
        f"{max((answer.seconds for answer in answers), default=0):.1f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def main(
    photos: int = 36,
    rate: Annotated[float, typer.Option(help="Requests a second.")] = 2,
    kill: Annotated[list[str] | None, typer.Option(help="Parts to kill.", show_default="all", metavar="PART")] = None,
    out: Annotated[Path | None, typer.Option(help="Empty folder for all files.", show_default="none is kept")] = None,
) -> None:
    """Run the cluster, and print the faults."""
    isolate()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.update(parts.ENVIRONMENT)
    with nullcontext(out) if out else tempfile.TemporaryDirectory() as folder:
        root = Path(folder).absolute()
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o711)  # PostgreSQL is another user
        os.environ["TAGMASK_CACHE"] = str(root / "cache")
        faults = cluster(root, photos, rate, [each for each in KILLS if not kill or each.part in kill])
    for fault in faults:
        print(fault)
    print(f"{len(faults)} faults")
    raise typer.Exit(bool(faults))


if __name__ == "__main__":
    command_of(main)()
