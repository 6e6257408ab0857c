"""What training costs: scaling over processes, networks, shares of a run, memory and disk by photo.

python -m benchmarks.training scaling DATA --split train_small --photos 64
python -m benchmarks.training networks
python -m benchmarks.training run RUN
python -m benchmarks.training memory
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import typer

from benchmarks.command import preformatted
from benchmarks.cost import run_tagmask
from examples.demo.drawing import make_demo_photos
from tagmask import files
from tagmask.cores import cores
from tagmask.memory import keep_freed_memory
from training.config import TrainConfig
from training.datasets import load
from training.datasets.parallel import map_photos, processes
from training.datasets.photos import Photo
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.stages import superpixels
from training.stages.base import PhotoStage
from training.stages.labels import Labels
from training.stages.regions import Regions
from training.stages.saliency import Saliency
from training.stages.superpixels import Superpixels

app = typer.Typer(
    help=preformatted(__doc__), rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
)


@app.command()
def scaling(data: Path, split: str | None = None, photos: int = 64) -> None:
    """Stages of single photos in one process and in one per core, after a warm-up of both pools."""
    tagged, config, processors = load(data, split=split), TrainConfig(), cores()
    chosen = tagged.photos[:photos]
    with tempfile.TemporaryDirectory() as folder, processes(1) as one, processes(processors) as many:
        runs = [(one, 1, Path(folder, "one")), (many, processors, Path(folder, "many"))]
        for pool, workers, _ in runs:
            list(map_photos(_nothing, chosen[: 8 * workers], pool=pool, workers=workers))
        stages: tuple[PhotoStage, ...] = (Superpixels.of(config, 0), Saliency.of(config, 0), Labels.of(config, 1))
        for stage in stages:
            seconds = []
            for pool, workers, run in runs:
                if isinstance(stage, Labels):
                    _draw_regions(chosen, run)
                work = stage.prepare(run, tagged.classes)
                begun = time.perf_counter()
                list(map_photos(work, chosen, pool=pool, workers=workers))
                seconds.append(time.perf_counter() - begun)
            one_process, all_cores = (each / len(chosen) for each in seconds)
            print(
                f"{stage.name}: {one_process:.3f} s per photo in one process, "
                f"{all_cores:.3f} in {processors}: {one_process / all_cores:.2f}x",
                flush=True,
            )


def _draw_regions(photos: tuple[Photo, ...], run: Path) -> None:
    """RegionNet's probabilities as they might be: smooth and unsure."""
    for number, photo in enumerate(photos):
        count = int(superpixels.read(photo, run).max()) + 1
        probabilities = np.random.default_rng(number).dirichlet(np.ones(len(photo.tags) + 1), count)
        files.write_array(Regions.file_of(photo, run, 1), probabilities.astype(np.float16))


def _nothing(photo: Photo) -> None:
    time.sleep(0.05)


@app.command()
def networks(steps: int = 4) -> None:
    """CPU seconds of one thread: a training step of PixelNet, and a photo localized in float32 and half precision."""
    import torch  # which the processes of `scaling` do without

    from training.networks.localize import half_precision, localize
    from training.networks.pixelnet import PixelNet, pixel_loss

    config, random = TrainConfig(), np.random.default_rng(0)
    torch.set_num_threads(1)
    keep_freed_memory()
    network = PixelNet(7, config.backbone, config.pixelnet.width).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(parameter for parameter in network.parameters() if parameter.requires_grad)
    shape = config.pixelnet.fit.batch, config.pixelnet.augment.crop, config.pixelnet.augment.crop
    photos = torch.from_numpy(random.integers(0, 256, (shape[0], 3, *shape[1:]), dtype=np.uint8))
    labels = torch.from_numpy(random.integers(0, 7, shape, dtype=np.uint8))

    def step() -> None:
        optimizer.zero_grad()
        pixel_loss(network, (photos, labels), offsets=torch.zeros(7)).backward()
        optimizer.step()

    print(f"a step of PixelNet: {_cpu_seconds(step, steps):.2f} s", flush=True)
    photo = random.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    settings: dict[str, Any] = {"long_side": 320, **config.masks.model_dump()}
    for name, context in (("float32", nullcontext), ("half precision", half_precision)):
        with context():
            seconds = _cpu_seconds(lambda: localize(network.eval(), photo, **settings), steps)
        print(f"a photo localized by PixelNet in {name}: {seconds:.3f} s", flush=True)


def _cpu_seconds(work: Callable[[], object], times: int) -> float:
    """CPU seconds of this process for `work()`, the mean of so many `times` after one."""
    work()
    begun = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begun) / times


@app.command()
def run(run: Path) -> None:
    """A finished run's own figures: all stages, RegionNet against a PixelNet epoch, waiting, disk."""
    ledger = Ledger(Layout(run).ledger)
    total = sum(line.get("seconds", 0) for line in ledger)
    print(f"all stages: {total / 60:.1f} minutes")
    regionnet, regions, pixelnet = (ledger.find(1, stage) for stage in ("regionnet", "regions", "pixelnet"))
    if regionnet and regions and pixelnet:
        epoch = pixelnet["seconds"] / len(pixelnet["losses"])
        mining = regionnet["seconds"] + regions["seconds"]
        print(f"RegionNet, training and relabelling: {mining:.1f} s, {mining / epoch:.2f} of a PixelNet epoch")
    for line in ledger:
        if line["stage"] == "pixelnet":
            print(f"round {line['round']}: PixelNet waited for data {100 * line['waiting']:.1f}% of the time")
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    photos = max(line.get("photos", 0) for line in ledger if line["stage"] == "superpixels")
    print(f"disk: {size / photos / 1e6:.2f} MB per photo")


@app.command()
def memory() -> None:
    """Peak resident memory of a training on drawn photos, on 64 and on four times as many."""
    fits = ("classifier.fit.epochs", "pixelnet.fit.epochs", "pixelnet.fit.least_steps", "regionnet.fit.epochs")
    quick = ["--rounds=1", "--workers=1", *(f"--set={name}=1" for name in fits)]
    for count in (64, 256):
        with tempfile.TemporaryDirectory() as folder:
            make_demo_photos(Path(folder, "data"), photos=count)
            cost = run_tagmask("train", f"{folder}/data", "--out", f"{folder}/run", *quick)
            print(f"{count} photos: peak {cost.peak:.0f} MiB", flush=True)


if __name__ == "__main__":
    app()
