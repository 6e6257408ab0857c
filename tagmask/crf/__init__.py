"""DenseCRF: `dense_crf` in this process, `Refiner` in child processes. Both need pydensecrf, from an extra."""

from tagmask.crf.dense import CrfConfig, dense_crf
from tagmask.crf.refiner import Refiner

__all__ = ["CrfConfig", "Refiner", "dense_crf"]
