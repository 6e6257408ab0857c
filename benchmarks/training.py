"""What training costs: scaling over processes, shares of a run, memory and disk by photo.

python -m benchmarks.training scaling DATA --split train_small --photos 64
python -m benchmarks.training run RUN
python -m benchmarks.training memory
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import typer

from benchmarks.command import preformatted
from benchmarks.cost import run_tagmask
from examples.demo.drawing import make_demo_photos
from tagmask import files
from tagmask.cores import cores
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
