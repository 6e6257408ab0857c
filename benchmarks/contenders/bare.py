"""Photo to mask in the fewest lines: Pillow, ONNX Runtime, the finish of the service, OpenCV, Pillow."""

import json
import os
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from PIL import Image

from tagmask.colours import follow_colours
from tagmask.smoothing import smooth
from tagmask.tag_weights import tag_weights

MODEL, THREADS = "BENCHMARK_MODEL", "BENCHMARK_THREADS"
"""Environment variables with the bundle and the threads, for contenders that a server starts."""


class Bare:
    """The bundle's network by ONNX Runtime. Any number of threads may call it at once."""

    def __init__(self, model: Path, threads: int = 0) -> None:
        """`threads` compute each operator; 0 leaves ONNX Runtime and OpenCV their own choice."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        if threads:
            cv2.setNumThreads(threads)
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        metadata = json.loads(self._session.get_modelmeta().custom_metadata_map["tagmask"])
        self._working_size: int = metadata["working_size"]
        self._tag_shares = np.array(metadata.get("tag_shares", ()))
        self._palette: list[int] = [channel for colour in metadata["palette"] for channel in colour]

    @classmethod
    def from_environment(cls) -> "Bare":
        """The bundle and threads that the environment names."""
        return cls(Path(os.environ[MODEL]), int(os.environ[THREADS]))

    def segment(self, data: bytes) -> bytes:
        """The mask of a photo's bytes as palette PNG."""
        target = BytesIO()
        self.mask(Image.open(BytesIO(data))).save(target, "PNG")
        return target.getvalue()

    def mask(self, photo: Image.Image) -> Image.Image:
        """The mask at the photo's size, value = label."""
        size, photo = photo.size, photo.convert("RGB")
        scale = self._working_size / max(size)
        if scale < 1:
            photo = photo.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BILINEAR)
        image = np.asarray(photo, dtype=np.float32).transpose(2, 0, 1)[None]
        (probabilities,), *tags = self._session.run(None, {"image": np.ascontiguousarray(image)})
        if tags:
            probabilities *= tag_weights(tags[0][0], self._tag_shares)[:, None, None]
            probabilities /= probabilities.sum(axis=0)
        pixels = np.asarray(photo)
        refined = smooth(pixels, follow_colours(pixels, probabilities))
        planes = np.stack([cv2.resize(plane, size) for plane in refined])
        mask = Image.fromarray(planes.argmax(axis=0).astype(np.uint8))
        mask.putpalette(self._palette)
        return mask
