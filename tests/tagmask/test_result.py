import json
from io import BytesIO
from math import isnan

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tagmask.result import read_result


def test_a_mask_of_an_older_service_tells_no_confidence() -> None:
    text = PngInfo()
    text.add_text("classes", json.dumps({"0": "background", "1": "cat"}))
    text.add_text("model", "v")
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([0, 0, 0, 128, 0, 0])
    target = BytesIO()
    image.save(target, "PNG", pnginfo=text)
    result = read_result({"png": target.getvalue()})
    assert (result.present, result.expected_ious, result.low_confidence, result.unpainted) == (("cat",), {}, False, ())
    assert isnan(result.expected_iou)
