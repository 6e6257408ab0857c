"""A deployment of all parts, with a first model, new photos in the inbox, and clients of its services."""

import csv
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from benchmarks.cluster import parts
from benchmarks.cluster.machines import Part, Supervisor
from benchmarks.cost import TAGMASK
from benchmarks.flows import SETTINGS, toml
from examples.demo.drawing import make_demo_photos
from tagmask.objects import Objects
from tagmask.store import Store

_SETTINGS: dict[str, Any] = {
    "train": SETTINGS
    | {
        "long_side": 64,
        "superpixels": {"min_size": 20},
        "pixelnet": SETTINGS["pixelnet"] | {"later_fit": {"epochs": 1, "least_steps": 1, "batch": 16}},
    },
    "tasks": {"runner": "dask", "address": parts.TASKS, "shard_size": 4},
    "data": {"min_photos": 4},
    "trigger": {"new_photos": 1},
    "gate": {  # networks this small agree on little; each bundle is promoted
        "estimate_loss": 100.0,
        "consistency_gain": -1.0,
        "coverage_change": 100.0,
        "min_coverage": 0.0,
        "agreement": 0.0,
        "latency_factor": 100.0,
        "vanished_classes": True,
    },
}

PAUSE_S = 2.0
"""Seconds after which a part that has ended is started again."""


class Deployment:
    """Context manager: all parts, with their files in the folder `root`. `parts` has them by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.supervisor = Supervisor(PAUSE_S)
        self.trainer = parts.trainer(root)
        self._core = (parts.storage(root), parts.database(root), parts.server(root), parts.scheduler(root),
                       parts.worker(root, 0), parts.worker(root, 1))  # fmt: skip
        self._front = (parts.service(root, 0), parts.service(root, 1), parts.proxy(root))
        self._settings = root / "settings.toml"
        self._settings.write_text(toml(_SETTINGS), encoding="utf-8")
        self.store = Store(parts.STORE)
        self.first = root / "first"
        """Workspace of the first model."""

    def __enter__(self) -> Self:
        self.supervisor.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.trainer.kill()
        self.supervisor.__exit__(kind, error, trace)

    @property
    def parts(self) -> dict[str, Part]:
        return {part.name: part for part in (*self._core, *self._front, self.trainer)}

    def start(self, photos: int) -> list[bytes]:
        """Start everything on `photos` drawn photos. A third of them is sent to the inbox, and returned."""
        drawn = self.root / "drawn"
        make_demo_photos(drawn, photos=photos)
        with (drawn / "tags.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        images = {row["image"]: (drawn / row["image"]).read_bytes() for row in rows}
        first, new = rows[: photos * 2 // 3], rows[photos * 2 // 3 :]
        self.supervisor.start(*self._core, *self._front)
        for part in self._core:
            part.wait_until_ready()
        tagged = Objects(parts.PHOTOS)
        for row in first:
            tagged.write(row["image"], images[row["image"]])
        tagged.write(
            "tags.csv", "\n".join(["image,tags", *(f"{row['image']},{row['tags']}" for row in first), ""]).encode()
        )
        self.train("train", self.first, parts.PHOTOS)
        if self.trainer.wait():
            raise RuntimeError(
                f"the first training failed; {self.trainer.log} ends with:\n{self.trainer.last_output()}"
            )
        for part in self._front:
            part.wait_until_ready()
        with self.client() as client:
            for row in new:
                tags = {"tags": row["tags"].replace(" ", ",")}
                client.post("/v1/samples", files={"image": images[row["image"]]}, data=tags).raise_for_status()
        return [images[row["image"]] for row in new]

    def train(self, flow: str, workspace: Path, *sources: str) -> None:
        """Start `tagmask flow train` or `retrain` on the machine that trains."""
        options = ("--workspace", workspace, "--config", self._settings)
        self.trainer.command = (TAGMASK, "flow", flow, *sources, *options)
        self.trainer.start()

    def is_well(self) -> bool:
        """Whether all parts do their work; the machine that trains has none of its own."""
        return all(part.runs and part.ready() for part in (*self._core, *self._front))

    def client(self) -> httpx.Client:
        """A client of the services, with their key."""
        trusted = ssl.create_default_context(cafile=self.root / "tagmask.pem")
        key = {"X-API-Key": parts.KEY}
        return httpx.Client(base_url=f"https://{parts.PROXY}", headers=key, verify=trusted, timeout=90, trust_env=False)

    def served(self) -> set[str]:
        """Versions that the services serve."""
        return {parts.served_by(address) for address in parts.SERVICES}
