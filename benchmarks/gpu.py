"""Training and inference on an NVIDIA GPU beside the CPU: whether both give the same, and what each takes.

    python -m benchmarks.gpu --out OUT [--photos 120] [--seconds 5]

Photos are drawn here. One run of `tagmask train` on each device gives the time and the last loss of every stage; then
bundles in each precision run on both devices, and ONNX Runtime takes photos in several ways. With the defaults this
takes a few minutes. The tables are printed and written to OUT/gpu.md. What this machine has no GPU or no library for
runs on the CPU alone, and the tables say so.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import torch
import typer
from numpy.typing import NDArray

from benchmarks.command import Out, command_of, markdown
from benchmarks.sessions import drive, rate
from examples.demo.drawing import make_demo_photos
from tagmask import files
from tagmask.bundle import read_bundle
from tagmask.cores import cores
from tagmask.errors import ConfigError
from tagmask.segmenter import PRETRAINED
from tagmask.session import open_session
from training.cli.train import assignments
from training.config import TrainConfig, load_config
from training.datasets import load
from training.fitting import devices
from training.networks.parity import colour_clouds
from training.networks.quantization import quantize
from training.run.train import train

CLIENTS = (1, 8, 32)
BATCH = 8
SEARCHES = ("EXHAUSTIVE", "HEURISTIC", "DEFAULT")
"""Of cuDNN, for the fastest convolution of each size."""

SIZES = tuple((int(320 * short), 320) for short in np.linspace(0.55, 1, 24))
"""Heights and widths of photos of as many shapes."""

Image = NDArray[np.float32]
Table = list[list[str]]
"""Rows of a table, the titles first."""


def main(
    out: Out,
    photos: Annotated[int, typer.Option(help="Photos that are drawn; three in four are learned from.")] = 120,
    seconds: Annotated[float, typer.Option(help="Length of each measurement of a rate.")] = 5,
    size: Annotated[int, typer.Option(help="Side of the photos, pixels.")] = 320,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of `tagmask train`; repeatable.", metavar="NAME=VALUE")
    ] = None,
) -> None:
    """Measure, and write the tables."""
    both = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    make_demo_photos(out / "photos", photos=photos, size=size)
    config = load_config(overrides={"rounds": 1, "long_side": size} | assignments(set_ or []))
    parts = {"Machine": machine(), "Training": trainings(out, both, config)}
    device = inference_device()
    bundles = {"fp32": out / "cpu" / "model.onnx", "fp16": PRETRAINED, "int8": out / "int8.onnx"}
    data = load(out / "photos", split="train")
    files.write_bytes(bundles["int8"], quantize(read_bundle(bundles["fp32"]), [each.path for each in data.photos]).data)
    parts["Precisions"] = precisions(bundles, device)
    parts["Photos at once"] = rates(bundles["fp32"], device, seconds)
    parts["Photos of many shapes"] = shapes(bundles["fp32"], device)
    parts["Processes that share the device"] = shared(bundles["fp32"], device, seconds)
    text = "\n".join(f"## {title}\n\n{markdown(rows)}\n" for title, rows in parts.items())
    files.write_text(out / "gpu.md", text)
    print(text)


def machine() -> Table:
    """What takes part, and what is missing for a GPU."""
    available = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none that PyTorch can use"
    half = devices.autocast_dtype(torch.device("cuda")) if torch.cuda.is_available() else "not used"
    return [
        ["", ""],
        ["GPU", gpu],
        ["mixed precision", str(half).removeprefix("torch.")],
        ["CPU cores", str(cores())],
        ["PyTorch", f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}"],
        ["ONNX Runtime", f"{onnxruntime.__version__}, CUDA {'built in' if available else 'not built in'}"],
    ]


def trainings(out: Path, names: Sequence[str], config: TrainConfig) -> Table:
    """A run on each device: seconds of each stage, and the last loss of those that train a network."""
    data = load(out / "photos", split="train")
    lines: dict[str, dict[str, Any]] = {}
    for name in names:
        result = train(data, out / name, config, device=name, resume=True, workers=cores())
        for line in result.ledger:
            lines.setdefault(line["stage"], {})[name] = line
    rows = [["stage", *(f"{name}, s" for name in names), *(f"{name}, last loss" for name in names)]]
    for stage, by_device in lines.items():
        measured = [by_device[name] for name in names]
        if all("seconds" in line for line in measured):
            losses = [f"{line['losses'][-1]:.4f}" if line.get("losses") else "" for line in measured]
            rows.append([stage, *(f"{line['seconds']:.1f}" for line in measured), *losses])
    return rows


def inference_device() -> str:
    """ "cuda" if ONNX Runtime can use it, else "cpu"."""
    try:
        open_session(PRETRAINED, device="cuda")
    except ConfigError:
        return "cpu"
    return "cuda"


def precisions(bundles: dict[str, Path], device: str) -> Table:
    """Each bundle on `device` against itself on the CPU, over photos of all `SIZES`."""
    rows = [["precision", "device", "pixels of one label", "greatest difference", "of a tag"]]
    for name, path in bundles.items():
        pairs = [open_session(path, device=each) for each in ("cpu", device)]
        same, worst, tags = [], 0.0, 0.0
        for height, width in SIZES:
            expected, actual = (session.run(None, {"image": image(height, width)}) for session in pairs)
            same.append(float((expected[0].argmax(1) == actual[0].argmax(1)).mean()))
            worst = max(worst, float(np.abs(expected[0] - actual[0]).max()))
            tags = max([tags, *(float(np.abs(a - b).max()) for a, b in zip(expected[1:], actual[1:], strict=True))])
        rows.append([name, device, f"{np.mean(same):.3%}", f"{worst:.4f}", f"{tags:.4f}"])
    return rows


def rates(path: Path, device: str, seconds: float) -> Table:
    """Photos per second, one or several to a call, by several clients at once; with I/O binding outputs stay there."""
    session = open_session(path, device=device)
    ways: dict[str, tuple[int, Callable[[Image], object]]] = {
        "one at a time": (1, lambda photo: session.run(None, {"image": photo})),
        f"batches of {BATCH}": (BATCH, lambda photo: session.run(None, {"image": photo})),
        "one, bound": (1, lambda photo: bound(session, photo, device)),
    }
    rows = [["way", "clients", "photos/s", "ms a call, median"]]
    for (way, (batch, call)), clients in product(ways.items(), CLIENTS):
        elapsed, taken = drive(partial(call, image(240, 320, batch)), clients, seconds)
        photos, median = len(taken) * batch / elapsed, 1000 * statistics.median(taken)
        rows.append([way, str(clients), f"{photos:.1f}", f"{median:.1f}"])
    return rows


def bound(session: onnxruntime.InferenceSession, photo: Image, device: str) -> Any:
    """The probabilities of `photo`, computed into memory of the device and copied from there once."""
    binding = session.io_binding()
    binding.bind_cpu_input("image", photo)
    for output in session.get_outputs():
        binding.bind_output(output.name, device)
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()


def shapes(path: Path, device: str) -> Table:
    """What photos of shapes that the session has not seen take, and the same ones again, by cuDNN's search."""
    rows = [["search", "first pass, ms a photo", "second pass, ms a photo"]]
    for search in SEARCHES if device == "cuda" else ("none: on the CPU",):
        if device == "cuda":
            provider = ("CUDAExecutionProvider", {"cudnn_conv_algo_search": search})
            session = onnxruntime.InferenceSession(path, providers=[provider, "CPUExecutionProvider"])
        else:
            session = open_session(path, device="cpu")
        session.run(None, {"image": image(64, 64)})
        passes = [_pass(session, SIZES) for _ in range(2)]
        rows.append([search, *(f"{1000 * each:.1f}" for each in passes)])
    return rows


def _pass(session: onnxruntime.InferenceSession, sizes: Iterable[tuple[int, int]]) -> float:
    photos = [image(*size) for size in sizes]
    begun = time.perf_counter()
    for photo in photos:
        session.run(None, {"image": photo})
    return (time.perf_counter() - begun) / len(photos)


def shared(path: Path, device: str, seconds: float) -> Table:
    """Photos per second of one process, and of two at once, one photo at a time each."""
    rows = [["processes", "photos/s each"]]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        list(pool.map(rate, [path] * 2, [device] * 2, [0.1] * 2))
        for number in (1, 2):
            found = pool.map(rate, [path] * number, [device] * number, [seconds] * number)
            rows.append([str(number), ", ".join(f"{each:.1f}" for each in found)])
    return rows


def image(height: int, width: int, batch: int = 1) -> Image:
    """Random photos (batch, 3, height, width) float32, 0..255, the same for the same size."""
    return colour_clouds(np.random.default_rng(height * width), batch, height, width)


if __name__ == "__main__":
    command_of(main)()
