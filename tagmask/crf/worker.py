"""Mean-field inference of DenseCRF, and the process that runs it for `tagmask.crf.refiner`.

Started as a script, which imports nothing of Tagmask and so starts fast. Its standard input is a socket. A request is a
HEADER, the photo's bytes and the probabilities' bytes; the response is the refined probabilities' bytes. The process
ends when the other end of the socket closes, also when its parent was killed.
"""

import socket
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER = struct.Struct("=3I5dI")
"""Labels, height, width, and the arguments of `mean_field` after the probabilities."""

_LEAST_SHARE = 0.05  # of the strongest label's probability: labels that reach it nowhere hardly change a mask


def serve(channel: socket.socket) -> None:
    """Answer requests until the other end closes."""
    header = bytearray(HEADER.size)
    while _fill(channel, header):
        labels, height, width, *strengths = HEADER.unpack(header)
        photo = np.empty((height, width, 3), dtype=np.uint8)
        probabilities = np.empty((labels, height, width), dtype=np.float32)
        if not (_fill(channel, photo) and _fill(channel, probabilities)):
            return
        try:
            channel.sendall(mean_field(photo, probabilities, *strengths).data)
        except ConnectionError:
            return


def mean_field(
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

    `photo` (h, w, 3) uint8 RGB, writable, and `probabilities` (L, h, w) float, both contiguous. A label that is
    everywhere far less probable than another gets 0, which saves its share of the time.
    Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011.
    """
    from pydensecrf import densecrf

    _, height, width = probabilities.shape
    likely = (probabilities > _LEAST_SHARE * probabilities.max(axis=0)).any(axis=(1, 2))
    refined = np.zeros(probabilities.shape, dtype=np.float32)
    labels = np.count_nonzero(likely)
    if labels == 1:
        refined[likely] = 1
        return refined
    field = densecrf.DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(-np.log(probabilities[likely].clip(1e-4, 1)).astype(np.float32).reshape(labels, -1))
    field.addPairwiseGaussian(sxy=smooth_spread, compat=smooth_weight)
    field.addPairwiseBilateral(sxy=space_spread, srgb=colour_spread, rgbim=photo, compat=colour_weight)
    refined[likely] = np.array(field.inference(steps), dtype=np.float32).reshape(labels, height, width)
    return refined


def _fill(channel: socket.socket, buffer: Any) -> bool:
    """Receive as many bytes as `buffer` holds; False when the other end closes before that."""
    size = memoryview(buffer).nbytes
    try:
        return channel.recv_into(buffer, size, socket.MSG_WAITALL) == size
    except ConnectionError:
        return False


if __name__ == "__main__":
    serve(socket.socket(fileno=0))
