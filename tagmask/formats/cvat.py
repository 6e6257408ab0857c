"""`cvat`: one mask shape per class that appears, as CVAT's annotation API accepts them.

The document is the body of `PUT /api/jobs/{id}/annotations` with one exception: CVAT numbers labels per project, so
each shape has `label`, the class name, which the caller replaces with the project's `label_id`.
"""

from typing import Any, Literal

from pydantic import NonNegativeInt
from pydantic_core import to_json
from typing_extensions import TypedDict

from tagmask.formats.regions import Region, regions, run_lengths
from tagmask.segmentation import Segmentation


class CvatShape(TypedDict):
    """The mask of a class. `points` are its run lengths inside its box, zeros first, row by row, then the box: left,
    top, right, bottom, the last two inclusive.
    """

    type: Literal["mask"]
    frame: NonNegativeInt
    label: str
    points: list[NonNegativeInt]
    occluded: bool
    outside: bool
    z_order: int
    rotation: float
    source: str
    attributes: list[Any]
    group: int


class CvatDocument(TypedDict):
    """One frame with one shape per class that appears."""

    version: NonNegativeInt
    tags: list[Any]
    tracks: list[Any]
    shapes: list[CvatShape]


def encode(segmentation: Segmentation) -> bytes:
    """A CvatDocument as JSON: shapes by ascending label, none for background."""
    shapes = [_shape(each) for each in regions(segmentation.mask, segmentation.model.classes, segmentation.present)]
    document: CvatDocument = {"version": 0, "tags": [], "tracks": [], "shapes": shapes}
    return to_json(document)


def _shape(region: Region) -> CvatShape:
    x, y, width, height = region.box
    return {
        "type": "mask",
        "frame": 0,
        "label": region.name,
        "points": [*run_lengths(region.pixels).tolist(), x, y, x + width - 1, y + height - 1],
        "occluded": False,
        "outside": False,
        "z_order": 0,
        "rotation": 0.0,
        "source": "auto",
        "attributes": [],
        "group": 0,
    }
