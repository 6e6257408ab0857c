"""What given tags gain by the least areas of their classes: the same bundle with and without them.

    python -m benchmarks.given_tags MODEL.onnx DATA… --split val --classes cat,cow,...

Prints the IoU of each class with the photos' tags, and the mIoU. Then, how often a wrong tag is painted: each photo
gets one class that it does not show as its only tag, which counts as painted from 0.1% of the pixels.
"""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from benchmarks.command import Classes, Split, command_of
from tagmask.bundle import read_bundle, write_bundle
from tagmask.cli.terminal import show, tell
from tagmask.photos import read_photo
from tagmask.segmenter import Segmenter
from training.cli.measure import score_table
from training.datasets import load
from training.datasets.photos import TaggedPhotos
from training.evaluation.evaluate import evaluate
from training.evaluation.painted import MARK


def main(model: Path, data: list[Path], split: Split, classes: Classes = "cat,cow,dog,horse,person,sheep") -> None:
    """Print the figures."""
    photos = load(data, split=split, classes=classes.split(","))
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "model.onnx"
        metadata = read_bundle(model).metadata.model_copy(update={"least_areas": ()})
        write_bundle(plain, onnx.load(model), metadata)
        with Segmenter.load(plain) as before, Segmenter.load(model) as after:
            bundles = {"without": before, "with least areas": after}
            scores = {name: evaluate(each, photos, classes=photos.classes).with_tags for name, each in bundles.items()}
            wrong = [wrongly_painted(each, photos) for each in bundles.values()]
    show(score_table(scores))
    tell(f"wrong tags painted: {wrong[0]:.0%} without, {wrong[1]:.0%} with least areas")


def wrongly_painted(segmenter: Segmenter, photos: TaggedPhotos) -> float:
    """The share of photos, 0..1, on which a class that they do not show is painted if it is given."""
    drawn, painted = random.Random(0), []
    for photo in photos.photos:
        absent = [name for name in photos.classes if name not in photo.tags]
        if absent:
            given = segmenter.labels_of([drawn.choice(absent)])
            painted.append((segmenter.predict(read_photo(photo.path)).mask(given, tagged=True) > 0).mean() >= MARK)
    return sum(painted) / max(1, len(painted))


if __name__ == "__main__":
    command_of(main)()
