"""`png`: the mask as palette PNG, value = class index.

Text chunks: `classes` is a JSON object in ASCII, {"0": "background", "1": "cat", ...}; `model` is the version;
`expected_iou` is a JSON object by class index, {"0": 0.93, "1": 0.61}, of the classes that appear and the given tags;
`low_confidence` is true or false; `tags` is a JSON object by class index, {"1": 0.97, "2": 0.02}, of the probability
that the photo shows the class, and is empty for a model without a tag head.
"""

import json
import zlib
from io import BytesIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tagmask.segmentation import Segmentation


def encode(segmentation: Segmentation) -> bytes:
    """8 bits per pixel and 256 colours: the model's, then black.

    Run-length matching suits masks: half the bytes of zlib's level 1 in the same time; level 6 takes four times as long
    and gains a tenth on small masks, nothing on large ones. A short palette would make Pillow pack four bits per pixel:
    a sixth fewer bytes for two thirds more time, and not every reader unpacks them.
    """
    model = segmentation.model
    text = PngInfo()
    text.add_text("classes", json.dumps(dict(enumerate(model.classes)), separators=(",", ":")))
    text.add_text("model", model.version)
    text.add_text("expected_iou", json.dumps(segmentation.expected_ious, separators=(",", ":")))
    text.add_text("low_confidence", json.dumps(segmentation.low_confidence))
    text.add_text("tags", json.dumps(segmentation.tag_probabilities, separators=(",", ":")))
    image = Image.fromarray(segmentation.mask)
    image.putpalette([channel for colour in model.palette for channel in colour] + [0] * 3 * (256 - len(model.palette)))
    target = BytesIO()
    image.save(target, "PNG", compress_level=1, compress_type=zlib.Z_RLE, pnginfo=text)
    return target.getvalue()
