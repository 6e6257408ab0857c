"""The process that runs DenseCRF for tagmask/crf/refiner.py, which says why there is one. Started as a script.

Its standard input is a socket. A request is a HEADER, the photo's bytes and the probabilities' bytes; the answer is the
refined probabilities' bytes. It ends when the other end of the socket is gone, also when nobody was left to close it.
"""

import socket
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydensecrf import densecrf

HEADER = struct.Struct("=3I5dI")
"""Labels, height and width, and what follows the probabilities in `dense_crf`."""


def serve(channel: socket.socket) -> None:
    """Answer requests until the other end is gone."""
    header = bytearray(HEADER.size)
    while _filled(channel, header):
        labels, height, width, *strengths = HEADER.unpack(header)
        photo = np.empty((height, width, 3), dtype=np.uint8)
        probabilities = np.empty((labels, height, width), dtype=np.float32)
        if not (_filled(channel, photo) and _filled(channel, probabilities)):
            return
        try:
            channel.sendall(dense_crf(photo, probabilities, *strengths).data)
        except ConnectionError:
            return


def dense_crf(
    photo: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    colour_spread: float,
    space_spread: float,
    colour_weight: float,
    smooth_spread: float,
    smooth_weight: float,
    steps: int,
) -> NDArray[np.float32]:
    """Label probabilities after mean-field inference: (L, h, w) float32, contiguous, summing to 1 at each pixel.

    `photo` (h, w, 3) uint8 RGB and `probabilities` (L, h, w) float32, both contiguous.
    Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011.
    """
    labels, height, width = probabilities.shape
    field = densecrf.DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(-np.log(probabilities.clip(1e-4, 1)).reshape(labels, -1))
    field.addPairwiseGaussian(sxy=smooth_spread, compat=smooth_weight)
    field.addPairwiseBilateral(sxy=space_spread, srgb=colour_spread, rgbim=photo, compat=colour_weight)
    return np.array(field.inference(steps), dtype=np.float32, order="C").reshape(labels, height, width)


def _filled(channel: socket.socket, buffer: Any) -> bool:
    """Receive as many bytes as `buffer` holds; False when the other end is gone before that."""
    size = memoryview(buffer).nbytes
    try:
        return channel.recv_into(buffer, size, socket.MSG_WAITALL) == size
    except ConnectionError:
        return False


if __name__ == "__main__":
    serve(socket.socket(fileno=0))
