"""BentoML's own way to take and give pictures: `bentoml serve benchmarks.contenders.stock:Stock`."""

import bentoml
from PIL import Image

from benchmarks.contenders.bare import Bare


@bentoml.service
class Stock:
    """An image in, an image out."""

    def __init__(self) -> None:
        self._network = Bare.from_environment()

    @bentoml.api  # type: ignore[untyped-decorator]
    def segment(self, image: Image.Image) -> Image.Image:
        """The mask of a photo."""
        return self._network.mask(image)
