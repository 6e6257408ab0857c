"""Tagmask: segmentation networks trained on photos that have tags alone.

    import tagmask

    run = tagmask.train("photos/", out="run", rounds=3)
    tagmask.evaluate(run.model, "val/")
    mask = tagmask.Segmenter.load(run.model).segment("photo.jpg", tags=["dog"]).mask

The base package: bundles, photos, masks, the store and the clients, without torch, BentoML or Prefect. Names are
imported when they are first used (PEP 562), so that `import tagmask` is fast.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tagmask.api import Run, StageProgress, evaluate, train
    from tagmask.client import AsyncClient, Client, NoAnswerError
    from tagmask.corrections import Correction
    from tagmask.errors import BundleError, ConfigError, DataError, RequestError, RunError, TagmaskError
    from tagmask.result import Result
    from tagmask.scores import Evaluation, Interval, Measured, Scores
    from tagmask.segmenter import Segmenter

    __version__: str
else:
    _MODULES = {
        "tagmask.api": ("Run", "StageProgress", "evaluate", "train"),
        "tagmask.client": ("AsyncClient", "Client", "NoAnswerError"),
        "tagmask.corrections": ("Correction",),
        "tagmask.errors": ("BundleError", "ConfigError", "DataError", "RequestError", "RunError", "TagmaskError"),
        "tagmask.result": ("Result",),
        "tagmask.scores": ("Evaluation", "Interval", "Measured", "Scores"),
        "tagmask.segmenter": ("Segmenter",),
    }

    def __getattr__(name: str) -> object:
        from importlib import import_module, metadata

        if name == "__version__":
            return metadata.version("tagmask")
        for module, names in _MODULES.items():
            if name in names:
                return getattr(import_module(module), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "AsyncClient", "BundleError", "Client", "ConfigError", "Correction", "DataError", "Evaluation", "Interval",
    "Measured", "NoAnswerError", "RequestError", "Result", "Run", "RunError", "Scores", "Segmenter", "StageProgress",
    "TagmaskError", "__version__", "evaluate", "train",
]  # fmt: skip
