"""Which model is served: loaded and warmed up beside the serving one, then put in its place in one step.

A request takes the model once and keeps it to its end, so no answer mixes two. What is refused is remembered, told by
`/readyz` and the log, and tried again when its files or the champion change.
"""

import asyncio
import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.settings import Settings
from service.telemetry import MODEL
from tagmask.bundle import Metadata, read_bundle
from tagmask.crf import CrfConfig
from tagmask.errors import BundleError, NotFound, Refused, StartError
from tagmask.segmentation import ModelInfo
from tagmask.session import Network
from tagmask.store import Store, UnknownVersion

PRETRAINED = Path(__file__).parents[1] / "tagmask" / "pretrained" / "animals.onnx"
"""The bundle that Tagmask comes with, so that there is something to try before any training."""

log = logging.getLogger("tagmask.models")


@dataclass(frozen=True)
class Model:
    """A model at work, with what its bundle says of it."""

    metadata: Metadata
    sha256: str
    info: ModelInfo
    network: Network
    crf: CrfConfig

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.metadata.version


@dataclass(frozen=True)
class Refusal:
    """A bundle that is not served, and why."""

    version: str
    reason: str
    since: str


def unknown_model(version: str) -> NotFound:
    """What is answered for a version that is not there."""
    return NotFound(f"no model {version[:100]!r}; GET /v1/models lists them", code="unknown_model", field="version")


def load_model(path: Path, settings: Settings, sha256: str | None = None, device: str | None = None) -> Model:
    """Read, check and warm up the bundle at `path`. Raises BundleError."""
    bundle = read_bundle(path, sha256)
    told = bundle.metadata
    return Model(
        metadata=told,
        sha256=bundle.sha256,
        info=ModelInfo(told.version, told.classes, told.palette),
        network=Network(bundle, device or settings.device, settings.threads),
        crf=CrfConfig.from_bundle(told.settings),
    )


def first_model(settings: Settings, device: str | None = None) -> Model:
    """The model to begin with: TAGMASK_MODEL, the store's champion, or PRETRAINED if nobody named a store.

    Raises StartError, saying what to run first, for a store without champion, and BundleError when it is refused.
    """
    if settings.model is not None:
        return load_model(settings.model, settings, device=device)
    store = Store(settings.store)
    champion = store.champion()
    if champion is not None:
        return _stored(store, champion.version, settings, device)
    if "store" in settings.model_fields_set:
        raise StartError(
            f"nothing to serve: TAGMASK_MODEL is not set and the store {str(settings.store)!r} has no champion. "
            "Serve a bundle with `make serve MODEL=path/to/model.onnx`, or put one into the store with "
            "`tagmask models add path/to/model.onnx --promote`. Without MODEL and STORE, `make serve` serves the model "
            "that Tagmask comes with"
        )
    return load_model(PRETRAINED, settings, device=device)


class Models:
    """The serving model of this process, and the watch on the champion pointer."""

    def __init__(self, settings: Settings) -> None:
        """Load the first model. Raises StartError or BundleError."""
        self._settings = settings
        self._swap = asyncio.Lock()
        self.store = Store(settings.store) if settings.model is None else None
        self.current = first_model(settings)
        self.refused: Refusal | None = None
        self._tried: object = None
        self._swapped = False
        self._announce("serving")

    async def watch(self) -> None:
        """Follow the champion pointer until cancelled."""
        while self.store is not None:
            await asyncio.sleep(self._settings.watch_seconds)
            if self._swapped:
                self._swapped = False
                await asyncio.to_thread(_return_memory)
            try:
                await self._follow(self.store)
            except Exception:  # a watch that ends would leave a service that no promotion reaches
                log.exception("champion watch failed; it goes on")

    async def activate(self, version: str) -> Model:
        """Load `version`, make it champion and serve it.

        Raises NotFound for a version that the store does not have, and Refused; the old one then goes on.
        """
        store = self._need_store()
        async with self._swap:
            with self._refusing(version):
                model = await asyncio.to_thread(_stored, store, version, self._settings)
                await asyncio.to_thread(store.promote, version)
            self._serve(model)
        return model

    async def rollback(self) -> Model:
        """Go back to the champion before. Raises Refused when there is none, or it cannot be served."""
        store = self._need_store()
        async with self._swap:
            with self._refusing("before"):
                now = await asyncio.to_thread(store.champion)
                version = await asyncio.to_thread(store.previous)
                model = await asyncio.to_thread(_stored, store, version, self._settings)
                await asyncio.to_thread(store.rollback, now.version if now else None)
            self._serve(model)
        return model

    def _need_store(self) -> Store:
        if self.store is None:
            raise Refused(
                "this service serves one file (TAGMASK_MODEL); start it on a store to switch models", code="fixed_model"
            )
        return self.store

    async def _follow(self, store: Store) -> None:
        async with self._swap:
            version, seen = "champion", object()
            try:
                champion = await asyncio.to_thread(store.champion)
                if champion is None or champion.version == self.current.version:
                    self.refused = None
                    return
                version, seen = champion.version, (champion, await asyncio.to_thread(_stamp, store, champion.version))
                if seen != self._tried:
                    self._serve(await asyncio.to_thread(_stored, store, version, self._settings))
            except BundleError as fault:
                if self.refused is None or self.refused.reason != self.within_store(fault):
                    self._refuse(version, fault)
            self._tried = seen

    @contextmanager
    def _refusing(self, version: str) -> Iterator[None]:
        """Turn what is wrong with a bundle or the store into the answer to who asked for it."""
        try:
            yield
        except UnknownVersion as fault:
            raise unknown_model(version) from fault
        except BundleError as fault:
            log.error("model refused", extra={"model": version, "reason": str(fault), "serving": self.current.version})
            raise Refused(f"{self.current.version} goes on serving: {self.within_store(fault)}") from fault

    def _serve(self, model: Model) -> None:
        MODEL.labels(self.current.version, self.current.network.provider).set(0)
        self.current = model
        self.refused = None
        self._swapped = True
        self._announce("model swapped")

    def _refuse(self, version: str, fault: BundleError) -> None:
        reason = self.within_store(fault)
        self.refused = Refusal(version, reason, datetime.now(UTC).isoformat(timespec="seconds"))
        log.error("model refused", extra={"model": version, "reason": reason, "serving": self.current.version})

    def within_store(self, fault: BundleError) -> str:
        """What is at fault, in words that do not tell clients where the store lies."""
        return str(fault).replace(f"{self._settings.store}/", "")

    def _announce(self, event: str) -> None:
        model = self.current
        MODEL.labels(model.version, model.network.provider).set(1)
        log.info(
            event,
            extra={"model": model.version, "classes": list(model.info.classes[1:]), "provider": model.network.provider},
        )


def _stored(store: Store, version: str, settings: Settings, device: str | None = None) -> Model:
    return load_model(store.path(version), settings, store.record(version).sha256, device)


def _stamp(store: Store, version: str) -> tuple[int, int] | None:
    """What changes when a refused bundle is put right."""
    try:
        state = store.path(version).stat()
    except (OSError, BundleError):
        return None
    return state.st_mtime_ns, state.st_size


def _return_memory() -> None:
    """Give what the model before has left to the system again; glibc would keep it, in pieces."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
