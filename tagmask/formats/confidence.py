"""`confidence`: how sure the model is of each pixel's class, as 8-bit grey PNG, 255 = certain."""

import cv2

from tagmask.segmentation import Segmentation


def encode(segmentation: Segmentation) -> bytes:
    """The probability of each pixel's own label, times 255."""
    # OpenCV's own choice of filter and strategy takes two thirds of the time of Pillow's fastest
    return bytes(cv2.imencode(".png", segmentation.confidence)[1])
