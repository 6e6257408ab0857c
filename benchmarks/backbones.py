"""Backbones of timm: size of the exported network, and its CPU time per photo beside the default's.

    python -m benchmarks.backbones resnet50 convnext_tiny

Weights are random, which costs the same as trained ones. Each network is exported, compared with PyTorch, and run by
ONNX Runtime on one thread on photos of the default working size.
"""

import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import typer
from torch import nn

from tagmask.metadata import IMAGE
from tagmask.session import open_session
from training.config import TrainConfig
from training.networks.export import check_parity, to_onnx
from training.networks.pixelnet import PixelNet
from training.networks.taghead import ServedNetwork, TagHead

CLASSES = 6

app = typer.Typer()


@app.command()
def measure(names: list[str], times: Annotated[int, typer.Option(help="Photos per network.")] = 10) -> None:
    """A row of the table in docs/method.md for each backbone in NAMES."""
    default = TrainConfig().backbone
    reference, _ = _exported(default)
    for name in names:
        run, size = _exported(name)
        seconds = np.array([(_cpu_seconds(reference), _cpu_seconds(run)) for _ in range(times)])  # alternately
        before, now = np.median(seconds, axis=0) * 1000
        print(
            f"| `{name}` | {size / 1e6:.0f} MB | {now / before:.2f} | {now:.0f} ms, default {before:.0f} ms", flush=True
        )


def _exported(name: str) -> tuple[Callable[[], object], int]:
    """A call that segments a photo by the exported network, and the size of its file in bytes."""
    torch.manual_seed(0)
    config = TrainConfig()
    pixelnet = PixelNet(CLASSES + 1, name, config.pixelnet.width, "random")
    network = ServedNetwork(pixelnet, TagHead(nn.Linear(2 * pixelnet.backbone.channels[-1], CLASSES)))
    model = to_onnx(network).SerializeToString()
    check_parity(network, model)
    session = open_session(model, device="cpu", threads=1)
    side = config.long_side
    photo = np.random.default_rng(0).uniform(0, 255, (1, 3, side * 3 // 4, side)).astype(np.float32)
    return lambda: session.run(None, {IMAGE.name: photo}), len(model)


def _cpu_seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    app()
