"""Photos with a tag in doubt, from which no network of the round learns.

Judged by the mean features of the photos, see `training.fitting.tag_doubts`, anew in each round. The region tagger's
training, the first of a round, writes round-N/regiontagger/doubts.json, a list of {"photo": id, "tag",
"probability"}.
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tagmask import files
from training.datasets.photos import TaggedPhotos
from training.stages.base import folder
from training.stages.localization import mean_features


def write_doubts(data: TaggedPhotos, run: Path, number: int, below: float) -> None:
    """Judge the tags of `data` for round `number`; tags of a probability of `below` or more are believed.

    So are those of a photo with a correction.
    """
    from training.fitting.inputs import tag_vector
    from training.fitting.tag_doubts import doubted, tag_probabilities

    tagged = np.stack([tag_vector(photo, data.classes).numpy() > 0 for photo in data.photos])
    probabilities = tag_probabilities(data, partial(mean_features, run=run, number=number - 1))
    doubts = [
        {"photo": data.photos[place].id, "tag": data.classes[label], "probability": probabilities[place, label]}
        for place, label in np.argwhere(doubted(probabilities, tagged, below))
        if data.photos[place].correction is None
    ]
    files.write_text(doubts_file(run, number), json.dumps(doubts) + "\n")


def doubts_file(run: Path, number: int) -> Path:
    return folder(run, number, "regiontagger") / "doubts.json"


def read_doubts(run: Path, number: int) -> list[dict[str, Any]]:
    """The tags in doubt in round `number`, by photo: {"photo", "tag", "probability"}; none in an earlier version's."""
    file = doubts_file(run, number)
    return json.loads(file.read_text()) if file.is_file() else []


def leave_out_doubts(data: TaggedPhotos, run: Path, number: int) -> TaggedPhotos:
    """The photos of `data` that have no tag in doubt in round `number`."""
    ids = {doubt["photo"] for doubt in read_doubts(run, number)}
    return replace(data, photos=tuple(photo for photo in data.photos if photo.id not in ids)) if ids else data
