"""The model in use: a new one is loaded and warmed up beside it, then replaces it in one step.

A request takes the model once and keeps it to its end, so no response mixes two. A refused model is remembered,
reported by `/readyz` and the log, and tried again when its files or the champion change. On a store without champion
the service waits for one.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.activity import observe_stage
from service.settings import Settings
from service.telemetry import MODEL, MODEL_CREATED, PROMOTED, REFUSED, observe_mask
from tagmask.bundle import read_bundle
from tagmask.crf import Refiner
from tagmask.errors import BundleError, ConfigError, NotFound, Refused, StartError, TagmaskError, Unavailable
from tagmask.memory import return_freed_memory
from tagmask.segmenter import PRETRAINED, Segmenter
from tagmask.store import Store, UnknownVersion
from tagmask.trial import try_bundle

log = logging.getLogger("tagmask.models")

_IDLE_SECONDS = 10.0  # without a photo, at most twice as many, until the memory of photos is returned


def unknown_model(version: str) -> NotFound:
    """The error for a version that does not exist."""
    return NotFound(f"no model {version[:100]!r}; GET /v1/models lists them", code="unknown_model", field="version")


@dataclass(frozen=True)
class Refusal:
    """A bundle that is not served, and why."""

    version: str
    reason: str
    since: str


@dataclass(frozen=True)
class Source:
    """A file with a bundle, and the SHA-256 (hex) that it must have, if that is known."""

    path: Path
    sha256: str | None = None


class Loader:
    """Loads bundles as `settings` say; all models share `refiner`."""

    def __init__(self, settings: Settings, refiner: Refiner | None = None) -> None:
        self._settings = settings
        self._refiner = refiner

    async def load(self, source: Source) -> Segmenter:
        """Read, check and warm up a bundle that was not served before, first in a process that can be ended.

        Raises BundleError for one that is refused, and StartError for a device that does not work.
        """
        await self.check(source)
        return await asyncio.to_thread(self.load_checked, source)

    async def check(self, source: Source) -> None:
        """Raises as `load`."""
        with self._naming_device():
            await try_bundle(source.path, source.sha256, self._settings.device, self._settings.gpu_memory_bytes)

    def load_checked(self, source: Source) -> Segmenter:
        """Read and warm up a bundle that `check` has accepted. Raises as `load`."""
        settings = self._settings
        bundle = read_bundle(source.path, source.sha256, checked=False)
        with self._naming_device():
            return Segmenter(
                bundle,
                device=settings.device,
                threads=settings.threads,
                max_pixels=settings.max_pixels,
                refiner=self._refiner,
                seconds=settings.max_seconds,
                gpu_memory=settings.gpu_memory_bytes,
                observe=observe_stage,
                observe_mask=observe_mask,
                low_below=settings.low_confidence,
            )

    def first(self) -> Source | None:
        """The model to begin with: TAGMASK_MODEL, the store's champion, or PRETRAINED if no store is named.

        None if the store that is named has no champion. Raises BundleError for a store that cannot be read, and
        StartError for one that does not exist.
        """
        settings = self._settings
        if settings.model is not None:
            return Source(settings.model)
        store = Store(settings.store)
        champion = store.champion()
        if champion is not None:
            return stored(store, champion.version)
        if "store" not in settings.model_fields_set:
            return Source(PRETRAINED)
        if isinstance(settings.store, Path) and not settings.store.is_dir():
            raise StartError(
                f"TAGMASK_STORE={settings.store}: no such folder; create it, or name the folder of a store"
            )
        return None

    @contextmanager
    def _naming_device(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as fault:
            raise StartError(f"TAGMASK_DEVICE={self._settings.device}: {fault}") from fault


def stored(store: Store, version: str) -> Source:
    """The bundle `version` of `store`. Raises BundleError, and UnknownVersion."""
    return Source(store.path(version), store.record(version).sha256)


class Models:
    """The model in use in this process, and the watch on the champion pointer.

    Attributes: `served`, the model in use, None until the store has a champion; `refused`, the champion that is not.
    """

    def __init__(self, settings: Settings, refiner: Refiner | None = None) -> None:
        """Load the first model, if there is one. Raises StartError or BundleError."""
        self._settings = settings
        self._loader = Loader(settings, refiner)
        self._swap = asyncio.Lock()
        self.store = Store(settings.store) if settings.model is None else None
        self.refused: Refusal | None = None
        self._tried: object = None
        self._swapped = False
        first = self._loader.first()
        self.served = self._loader.load_checked(first) if first else None
        return_freed_memory()  # what reading and optimizing the network took
        if self.served:
            _announce("serving", self.served)
        else:
            log.warning("not ready", extra={"store": str(settings.store), "reason": str(self._not_ready())})

    @property
    def current(self) -> Segmenter:
        """The model in use. Raises Unavailable, saying what the service waits for, if there is none yet."""
        if self.served is None:
            raise self._not_ready()
        return self.served

    async def watch(self) -> None:
        """Follow the champion pointer until cancelled."""
        while self.store is not None:
            await asyncio.sleep(self._settings.watch_seconds)
            if self._swapped:
                self._swapped = False
                await asyncio.to_thread(return_freed_memory)
            try:
                await self._follow(self.store)
            except Exception:  # a watch that ends would leave a service that no promotion reaches
                log.exception("champion watch failed; it goes on")

    async def return_idle_memory(self) -> None:
        """Return the memory that photos took, when none has come for a while, until cancelled."""
        while True:
            await asyncio.sleep(_IDLE_SECONDS)
            if self.served:
                await asyncio.to_thread(self.served.return_idle_memory)

    async def activate(self, version: str) -> Segmenter:
        """Load `version`, make it champion and serve it.

        Raises NotFound for a version that the store does not have, and Refused; the old model then stays in use.
        """
        store = self._need_store()
        async with self._swap:
            with self._refusing(version):
                model = await self._loader.load(await asyncio.to_thread(stored, store, version))
                await asyncio.to_thread(store.promote, version)
            self._serve(model)
        return model

    async def rollback(self) -> Segmenter:
        """Return to the previous champion. Raises Refused if none exists or it cannot be served."""
        store = self._need_store()
        async with self._swap:
            with self._refusing("before"):
                now = await asyncio.to_thread(store.champion)
                version = await asyncio.to_thread(store.previous)
                model = await self._loader.load(await asyncio.to_thread(stored, store, version))
                await asyncio.to_thread(store.rollback, now.version if now else None)
            self._serve(model)
        return model

    def _need_store(self) -> Store:
        if self.store is None:
            raise Refused(
                "this service serves one file (TAGMASK_MODEL); start it on a store to switch models", code="fixed_model"
            )
        return self.store

    def _not_ready(self) -> Unavailable:
        if self.refused:
            reason = f"champion {self.refused.version} is refused ({self.refused.reason}); promote another"
        else:
            reason = "the store has no champion; promote one with `tagmask models add path/to/model.onnx --promote`"
        return Unavailable(f"no model is served yet: {reason}", code="no_model", headers={"Retry-After": "5"})

    async def _follow(self, store: Store) -> None:
        async with self._swap:
            version, seen = "champion", object()
            try:
                champion = await asyncio.to_thread(store.champion)
                PROMOTED.set(champion.since.timestamp() if champion else 0)
                if champion is None or (self.served and champion.version == self.served.version):
                    self._set_refused(None)
                    return
                version, seen = champion.version, (champion, await asyncio.to_thread(_stamp, store, champion.version))
                if seen != self._tried:
                    self._serve(await self._loader.load(await asyncio.to_thread(stored, store, version)))
            except (BundleError, StartError) as fault:
                if self.refused is None or self.refused.reason != self.within_store(fault):
                    self._refuse(version, fault)
            self._tried = seen

    @contextmanager
    def _refusing(self, version: str) -> Iterator[None]:
        """Turn a fault of a bundle or the store into the response to the request."""
        try:
            yield
        except UnknownVersion as fault:
            raise unknown_model(version) from fault
        except (BundleError, StartError) as fault:
            log.error("model refused", extra={"model": version, "reason": str(fault), "serving": self._version})
            state = f"{self._version} goes on serving" if self.served else "no model is served yet"
            raise Refused(f"{state}: {self.within_store(fault)}") from fault

    def _serve(self, model: Segmenter) -> None:
        if self.served:
            MODEL.labels(self.served.version, self.served.provider).set(0)
        event, self.served = "model swapped" if self.served else "serving", model
        self._set_refused(None)
        self._swapped = True
        _announce(event, model)

    def _refuse(self, version: str, fault: TagmaskError) -> None:
        reason = self.within_store(fault)
        self._set_refused(Refusal(version, reason, datetime.now(UTC).isoformat(timespec="seconds")))
        log.error("model refused", extra={"model": version, "reason": reason, "serving": self._version})

    @property
    def _version(self) -> str | None:
        return self.served.version if self.served else None

    def _set_refused(self, refusal: Refusal | None) -> None:
        self.refused = refusal
        REFUSED.set(refusal is not None)

    def within_store(self, fault: TagmaskError) -> str:
        """The message of `fault` without the path of the store, which clients need not know."""
        return str(fault).replace(f"{self._settings.store}/", "")


def _announce(event: str, model: Segmenter) -> None:
    MODEL.labels(model.version, model.provider).set(1)
    MODEL_CREATED.set(model.metadata.created.timestamp())
    runs = {"provider": model.provider, "precision": model.precision}
    log.info(event, extra={"model": model.version, "classes": list(model.classes[1:]), **runs})


def _stamp(store: Store, version: str) -> tuple[int, int] | None:
    """A value that changes when a refused bundle is replaced."""
    try:
        state = store.path(version).stat()
    except (OSError, BundleError):
        return None
    return state.st_mtime_ns, state.st_size
