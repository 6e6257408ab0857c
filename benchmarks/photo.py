"""What a photo costs on its way to a mask: CPU milliseconds of each stage, on one thread.

    python -m benchmarks.photo MODEL PHOTOS [--tags cat] [--refine smooth] [--photos 40] [--rounds 5]

`encode` enlarges the mask and writes the PNG. DenseCRF runs in a process of its own, which is counted. To compare two
commits, let them take turns.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated

import cv2
import psutil
import typer

from benchmarks.command import command_of
from tagmask.bundle import read_bundle
from tagmask.inputs import Refine, split_tags
from tagmask.segmenter import Segmenter, SegmentOptions


def main(
    model: Path,
    folder: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Folder of JPEG files.")],
    tags: Annotated[str, typer.Option(help="Tags of every photo.")] = "",
    refine: Annotated[Refine, typer.Option(help="Refinement of the masks.")] = "smooth",
    photos: Annotated[int, typer.Option(min=1, help="Number of photos.")] = 40,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds over the photos; medians are printed.")] = 5,
) -> None:
    cv2.setNumThreads(1)
    own = psutil.Process()
    spent: dict[str, float] = defaultdict(float)

    def children_seconds() -> float:
        return sum(sum(child.cpu_times()[:2]) for child in own.children())

    @contextmanager
    def observe(stage: str) -> Iterator[None]:
        children, begun = children_seconds(), time.process_time()
        yield
        seconds = time.process_time() - begun  # taken first: looking for children takes milliseconds itself
        spent[stage] += seconds + children_seconds() - children

    options = SegmentOptions(split_tags(tags), refine)
    read = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))[:photos]]
    figures: dict[str, list[float]] = defaultdict(list)
    with Segmenter(read_bundle(model), device="cpu", threads=1, observe=observe) as segmenter:
        for number in range(rounds + 1):
            spent.clear()
            for photo in read:
                segmenter.run(photo, options, options.format.encode)
            if number:  # the first round warms up
                for stage, seconds in spent.items():
                    figures[stage].append(1000 * seconds / len(read))
    print(", ".join(f"{stage} {median(each):.2f}" for stage, each in figures.items()), "ms")


if __name__ == "__main__":
    command_of(main)()
