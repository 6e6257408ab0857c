"""`json`: everything in one document.

`classes` lists what appears, background first, with its pixels, their share of the photo, their mean probability, 0..1,
and their box as [x, y, width, height]; `labels` names what could have appeared; `mask` is the `png` format in base64.
"""

from base64 import b64encode

from pydantic_core import to_json

from tagmask.formats import png
from tagmask.formats.regions import regions
from tagmask.segmentation import Segmentation


def encode(segmentation: Segmentation) -> bytes:
    """`colour` is (R, G, B), 0..255, as in the PNG's palette."""
    model = segmentation.model
    height, width = segmentation.size
    return to_json(
        {
            "model": {"version": model.version},
            "size": {"width": width, "height": height},
            "classes": [
                {
                    "label": region.label,
                    "name": region.name,
                    "colour": model.palette[region.label],
                    "pixels": region.area,
                    "share": round(region.area / (width * height), 6),
                    "confidence": region.mean(segmentation.confidence),
                    "box": region.box,
                }
                for region in regions(segmentation, segmentation.counts)
            ],
            "labels": [model.classes[label] for label in segmentation.labels],
            "mask": {"media_type": "image/png", "base64": b64encode(png.encode(segmentation)).decode("ascii")},
        }
    )
