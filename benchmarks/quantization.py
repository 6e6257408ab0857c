"""A bundle quantized to int8 as by `tagmask quantize`: file size, CPU time, agreement, and mIoU against true masks.

    python -m benchmarks.quantization MODEL VOC --method entropy --float-layers 0

Agreement is that in the bundle's metadata, with photos of the split. CPU time is that of ONNX Runtime alone on one
thread, of the bundle before and after in turns.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.command import Split, Val, command_of
from tagmask.bundle import Bundle, read_bundle
from tagmask.segmenter import Segmenter
from tagmask.session import open_session
from training.datasets import load
from training.evaluation.evaluate import evaluate
from training.networks.quantization import FLOAT_LAYERS, Method, quantize

TIMED = 40
"""Photos of 320 x 240 that each network is timed on."""


def main(
    model: Annotated[Path, typer.Argument(help="A bundle, model.onnx.", metavar="MODEL")],
    data: Annotated[Path, typer.Argument(help="A data set with true masks.", metavar="VOC")],
    split: Split = "train_small",
    val: Val = "val",
    method: Annotated[Method, typer.Option(help="How ranges are derived from activations.")] = "min-max",
    float_layers: Annotated[float, typer.Option(help="Share of the convolutions that stay in float.")] = FLOAT_LAYERS,
) -> None:
    """Print the figures of one quantization."""
    source = read_bundle(model)
    photos = [photo.path for photo in load(data, split=split).photos]
    quantized = quantize(source, photos, method=method, float_layers=float_layers)
    done = quantized.metadata.quantization
    assert done is not None
    scores = evaluate(Segmenter(quantized), load(data, split=val))
    before, after = _times([source, quantized])
    table = Table("method", "in float", *("MB", "CPU ms per photo", "before", "agreement", "mIoU", "with tags"))
    figures = (scores.without_tags.miou, scores.with_tags.miou)
    table.add_row(
        method,
        f"{float_layers:.0%}",
        f"{len(quantized.data) / 1e6:.1f}",
        f"{after:.1f}",
        f"{before:.1f}",
        f"{done.agreement:.4f}",
        *(f"{value:.2f}" for value in figures),
    )
    Console().print(table)


def _times(bundles: Sequence[Bundle]) -> list[float]:
    """Median CPU milliseconds a photo, one thread."""
    sessions = [open_session(bundle.data, device="cpu", threads=1) for bundle in bundles]
    image = np.random.default_rng(0).uniform(0, 255, (1, 3, 240, 320)).astype(np.float32)
    times: list[list[float]] = [[] for _ in sessions]
    for _ in range(TIMED):
        for session, own in zip(sessions, times, strict=True):
            begun = time.process_time()
            session.run(None, {"image": image})
            own.append(1000 * (time.process_time() - begun))
    return [statistics.median(own) for own in times]


if __name__ == "__main__":
    command_of(main)()
