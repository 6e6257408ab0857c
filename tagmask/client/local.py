"""A bundle at work in this process, behind the same facade as a service."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

from service.http.options import read_options
from service.models import PRETRAINED, Model, load_model
from service.settings import Settings
from tagmask.client.photo import Format, Photo, Refine, Tags, orders, photo_bytes
from tagmask.client.result import Result, read_result
from tagmask.crf import Refiner
from tagmask.segmentation import Segmentation
from tagmask.segmenter import Engine


class Segmenter:
    """Paints what a service with the same bundle paints. Any number of threads may use it at once.

    `with` or `close` ends the processes of DenseCRF, which start when they are first needed.
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        self._model = model
        self._max_tags = settings.max_tags
        self._refiner = Refiner(settings.max_concurrent)
        self._engine = Engine(
            max_pixels=settings.max_pixels,
            refiner=self._refiner,
            refine_seconds=settings.max_seconds,
            observe=lambda stage, seconds: None,
        )

    @classmethod
    def load(cls, path: str | PathLike[str] = PRETRAINED, threads: int | None = None) -> Self:
        """Read, check and warm up the bundle at `path`, or the one that Tagmask comes with, which knows some animals.

        The network computes with `threads`. The service's environment variables, such as TAGMASK_DEVICE and
        TAGMASK_MAX_PIXELS, say the rest. Raises BundleError, a TagmaskError, when it is refused, ValueError for
        settings that cannot be.
        """
        settings = Settings() if threads is None else Settings(threads=threads)
        return cls(load_model(Path(path), settings), settings)

    @property
    def version(self) -> str:
        """The model's version."""
        return self._model.version

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by label, background first."""
        return self._model.info.classes

    def segment(self, image: Photo, tags: Tags = (), refine: Refine = "none", formats: Iterable[Format] = ()) -> Result:
        """As `Client.segment`, but that the network runs once however many `formats` there are.

        Raises RequestError for what a service would refuse.
        """
        photo = photo_bytes(image, packed="BMP")
        wanted = [
            read_options([(name, value) for name, values in fields.items() for value in values], "", self._max_tags)
            for fields in orders(tags, refine, formats).values()
        ]

        def write(segmentation: Segmentation) -> Result:
            return read_result({order.format.name: order.format.encode(segmentation) for order in wanted})

        return self._engine.paint(photo, wanted[0].tags, wanted[0].refine, self._model, write)

    def close(self) -> None:
        """End the processes of DenseCRF."""
        self._refiner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: object, trace: TracebackType | None) -> None:
        self.close()
