import json
from io import BytesIO
from math import isnan

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tagmask.result import read_result


def png(mask: np.ndarray) -> bytes:
    """A mask as a service of version 0.1.0 gives it."""
    text = PngInfo()
    text.add_text("classes", json.dumps({"0": "background", "1": "cat"}))
    text.add_text("model", "v")
    image = Image.fromarray(mask)
    image.putpalette([0, 0, 0, 128, 0, 0])
    target = BytesIO()
    image.save(target, "PNG", pnginfo=text)
    return target.getvalue()


def test_a_mask_of_an_older_service_tells_no_confidence() -> None:
    result = read_result({"png": png(np.array([[0, 1]], dtype=np.uint8))})
    assert (result.present, result.expected_ious, result.low_confidence, result.unpainted) == (("cat",), {}, False, ())
    assert isnan(result.expected_iou)


def test_large_masks_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses photos of more than twice as many
    mask = np.eye(20, dtype=np.uint8)
    answer = png(mask)
    result = read_result({"png": answer, "confidence": answer})
    np.testing.assert_array_equal(result.mask, mask)
    np.testing.assert_array_equal(result.confidence, mask)
