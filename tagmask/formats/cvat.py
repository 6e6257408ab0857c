"""`cvat`: a mask shape for each class that appears, as CVAT's annotation API takes them.

The document is the body of `PUT /api/jobs/{id}/annotations` but for one thing: CVAT numbers labels anew in every
project, so each shape carries `label`, the name, which the caller replaces by the project's `label_id`.
"""

from pydantic_core import to_json

from tagmask.formats.regions import Region, regions, run_lengths
from tagmask.segmentation import Segmentation


def encode(segmentation: Segmentation) -> bytes:
    """Frame 0 with one shape a class, by ascending label; background has none."""
    shapes = [_shape(region) for region in regions(segmentation, segmentation.present)]
    return to_json({"version": 0, "tags": [], "tracks": [], "shapes": shapes})


def _shape(region: Region) -> dict[str, object]:
    x, y, width, height = region.box
    return {
        "type": "mask",
        "frame": 0,
        "label": region.name,
        # runs inside the box, zeros first, row after row; then left, top, right, bottom, the last two inclusive
        "points": [*run_lengths(region.pixels).tolist(), x, y, x + width - 1, y + height - 1],
        "occluded": False,
        "outside": False,
        "z_order": 0,
        "rotation": 0.0,
        "source": "auto",
        "attributes": [],
        "group": 0,
    }
