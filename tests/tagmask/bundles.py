"""Two tiny bundles that answer differently, and a store of them."""

from pathlib import Path

from tagmask.store import Store
from tests.training.colour_bundle import write_colour_bundle

FIRST, SECOND = "1" * 12, "2" * 12


def make_store(folder: Path) -> Store:
    """A store with two versions of the colour bundle; FIRST is the champion."""
    store = Store(folder / "store")
    for version in (FIRST, SECOND):
        bundle = write_colour_bundle(folder / f"{version}.onnx", weights_digest=version * 5 + version[:4])
        assert store.publish(bundle).version == version
    store.promote(FIRST)
    return store
