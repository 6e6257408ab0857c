"""What training costs: scaling over processes, shares of a run, memory and disk by photo.

python -m benchmarks.training scaling DATA --split train_small --photos 64   (superpixels, saliency, labels)
python -m benchmarks.training run RUN                                        (a finished run's own figures)
python -m benchmarks.training memory                                         (peak memory over drawn photos)
python -m benchmarks.training steps                                          (a step, by use of threads and memory)
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from examples.demo.drawing import make_demo_photos
from tagmask import files
from tagmask.cores import cores
from training.config import TrainConfig
from training.datasets import load
from training.datasets.parallel import exhaust, map_photos, processes
from training.datasets.photos import Photo
from training.fitting.process import BRIEF_SPIN, keep_freed_memory
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.stages import superpixels
from training.stages.base import PhotoStage
from training.stages.labels import Labels
from training.stages.regions import regions_file
from training.stages.saliency import Saliency
from training.stages.superpixels import Superpixels


def scaling(data: Path, split: str | None, count: int) -> None:
    """Each per-photo stage over the same photos, in one process and in one per core, after a warm-up of both pools."""
    tagged = load(data, split=split)
    photos, config, processors = tagged.photos[:count], TrainConfig(), cores()
    with tempfile.TemporaryDirectory() as folder, processes(1) as one, processes(processors) as many:
        runs = [(one, 1, Path(folder, "one")), (many, processors, Path(folder, "many"))]
        for pool, workers, _ in runs:
            exhaust(map_photos(_nothing, photos[: 8 * workers], pool=pool, workers=workers))
        stages: tuple[PhotoStage, ...] = (Superpixels.of(config, 0), Saliency.of(config, 0), Labels.of(config, 1))
        for stage in stages:
            seconds = []
            for pool, workers, run in runs:
                if isinstance(stage, Labels):
                    _draw_regions(photos, run)
                work = stage.prepare(run, tagged.classes)
                begun = time.perf_counter()
                exhaust(map_photos(work, photos, pool=pool, workers=workers))
                seconds.append(time.perf_counter() - begun)
            print(f"{stage.name}: {seconds[0] / count:.3f} s per photo in one process, "
                  f"{seconds[1] / count:.3f} in {processors}: "
                  f"{seconds[0] / seconds[1]:.2f}x", flush=True)  # fmt: skip


def _draw_regions(photos: tuple[Photo, ...], run: Path) -> None:
    """RegionNet's probabilities as they might be: smooth and unsure."""
    for number, photo in enumerate(photos):
        count = int(superpixels.read(photo, run).max()) + 1
        probabilities = np.random.default_rng(number).dirichlet(np.ones(len(photo.tags) + 1), count)
        files.write_array(regions_file(photo, run, 1), probabilities.astype(np.float16))


def _nothing(photo: Photo) -> None:
    time.sleep(0.05)


def of_run(folder: Path) -> None:
    """What a run's ledger and folder say: stages, RegionNet against a PixelNet epoch, waiting, disk."""
    layout = Layout(folder)
    ledger = Ledger(layout.ledger)
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
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    photos = max(line.get("photos", 0) for line in ledger if line["stage"] == "superpixels")
    print(f"disk: {size / photos / 1e6:.2f} MB per photo")


def memory() -> None:
    """Peak resident memory of a training on drawn photos, on 64 and on four times as many."""
    quick = ["--rounds", "1", "--workers", "1"]
    for name in ("classifier.fit.epochs", "pixelnet.fit.epochs", "pixelnet.fit.least_steps", "regionnet.fit.epochs"):
        quick += ["--set", f"{name}=1"]
    for count in (64, 256):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.training", "peak", folder, str(count), *quick]
            subprocess.run(command, check=True, env={**os.environ, "DO_NOT_TRACK": "1"})


def _peak(folder: str, count: str, *settings: str) -> None:
    make_demo_photos(Path(folder, "data"), photos=int(count))
    tagmask = str(Path(sys.executable).with_name("tagmask"))
    command = [tagmask, "--quiet", "train", f"{folder}/data", "--out", f"{folder}/run", *settings]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{count} photos: peak {peak:.0f} MiB", flush=True)


def steps() -> None:
    """Seconds per step of the tag classifier on random crops, by what `fitting.process` changes, in three turns."""
    for _ in range(3):
        for memory in ("returned", "kept"):
            for threads, spins in {"GNU default": None, "asleep": "0", "awake briefly": BRIEF_SPIN}.items():
                environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
                environment |= {} if spins is None else {"GOMP_SPINCOUNT": spins}
                command = [sys.executable, "-m", "benchmarks.training", "step", memory]
                output = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
                print(f"memory {memory}, threads {threads}: {output.strip()}", flush=True)


def _step(freed: str) -> None:
    if freed == "kept":
        keep_freed_memory()
    import torch

    from training.networks.classifier import TagClassifier

    config = TrainConfig()
    network = TagClassifier(6, config.backbone).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters())
    crop = config.classifier.augment.crop
    photos = torch.rand(config.classifier.fit.batch, 3, crop, crop).to(memory_format=torch.channels_last) * 255
    seconds = []
    for _ in range(12):
        begun = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        network(photos).square().mean().backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begun)
    print(f"{np.median(seconds[2:]):.2f} s per step")


def main() -> None:
    """Run the chosen measurement."""
    match sys.argv[1:]:
        case ["peak", folder, count, *settings]:
            return _peak(folder, count, *settings)
        case ["step", freed]:
            return _step(freed)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    scale = commands.add_parser("scaling")
    scale.add_argument("data", type=Path)
    scale.add_argument("--split")
    scale.add_argument("--photos", type=int, default=64)
    commands.add_parser("run").add_argument("run", type=Path)
    commands.add_parser("memory")
    commands.add_parser("steps")
    options = parser.parse_args()
    if options.what == "scaling":
        scaling(options.data, options.split, options.photos)
    elif options.what == "run":
        of_run(options.run)
    elif options.what == "memory":
        memory()
    else:
        steps()


if __name__ == "__main__":
    main()
