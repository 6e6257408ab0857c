"""From a photo to its mask: decoding, network, refinement, mask at the photo's size, format.

    segmenter = Segmenter.load("model.onnx")
    segmenter.segment("photo.jpg", tags=["dog"]).mask

The service, the command line and the client for this process all use it, so they give the same masks.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from tagmask import photos
from tagmask.bundle import Bundle, read_bundle
from tagmask.classes import find_class
from tagmask.colours import follow_colours
from tagmask.cores import cores
from tagmask.crf import CrfConfig, Refiner
from tagmask.errors import TimedOut, Unprocessable
from tagmask.formats import FORMATS, Format
from tagmask.inputs import (
    LOW_CONFIDENCE,
    MAX_PIXELS,
    REFINEMENTS,
    Photo,
    Refine,
    Tags,
    check_choice,
    check_tile,
    local_path,
    photo_bytes,
    split_tags,
)
from tagmask.network import Network
from tagmask.photos import DecodedPhoto, LongSide
from tagmask.prediction import Prediction, TagProbabilities, WholeMask, to_working_size
from tagmask.result import FormatName, Result
from tagmask.segmentation import ModelInfo, Pixels, Planes, Segmentation
from tagmask.smoothing import smooth
from tagmask.tag_weights import tag_weights
from tagmask.tiling import TiledMask, check_scaled, scaled_side, segment_tiles

PRETRAINED = Path(__file__).with_name("pretrained") / "animals.onnx"
"""The bundle that comes with Tagmask, so that masks can be had before any training."""

_PICTURE_SIDE = 2048  # longer side, in pixels, of pictures for viewing, at most

Observe = Callable[[str], AbstractContextManager[None]]
"""Called with the name of a stage, which runs in the context."""

ObserveMask = Callable[[Segmentation], None]
"""Called with each photo's masks."""

Output = TypeVar("Output")


@dataclass(frozen=True)
class SegmentOptions:
    """How to segment a photo: `tags` (none: every class), the format of the result, refinement, and the side of tiles
    in pixels of the photo, 0 for none, None for what the bundle says.
    """

    tags: tuple[str, ...] = ()
    refine: Refine = "smooth"
    format: Format = FORMATS["png"]
    tile: int | None = None


class Segmenter:
    """A loaded bundle. Any number of threads may use it at once.

    `with` or `close` ends the processes of DenseCRF, which start when they are first needed.
    Attributes: the bundle's `metadata` and `sha256` (hex), `provider` (ONNX Runtime's, such as "CPUExecutionProvider"),
    `precision` of the computation, which is "fp32" for an int8 bundle where float is faster, and `crf`, the settings of
    DenseCRF.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
        refiner: Refiner | None = None,
        seconds: float = 600,
        gpu_memory: int | None = None,
        observe: Observe = lambda stage: nullcontext(),
        observe_mask: ObserveMask = lambda segmentation: None,
        low_below: float = LOW_CONFIDENCE,
    ) -> None:
        """Open and warm up `bundle`; `device` and `threads` are those of `load`.

        `max_pixels` limits photos, and what tiles scale them to, `seconds` the time of the network, that of all tiles
        together, and that of DenseCRF, which runs in processes of `refiner`, which stays open, or in its own.
        `gpu_memory` limits what the network takes of a GPU, in bytes, besides what CUDA itself takes. Each stage of
        each photo runs in a context of `observe`, and `observe_mask` is called with its masks. Masks whose expected IoU
        is below `low_below`, 0..1, have low confidence.
        Raises BundleError for a network that cannot be run, ConfigError for the device.
        """
        self.metadata = bundle.metadata
        self.sha256 = bundle.sha256
        self.crf = CrfConfig.from_bundle(bundle.metadata.settings)
        self._info = ModelInfo(bundle.metadata.version, bundle.metadata.classes, bundle.metadata.palette)
        self._network = Network(bundle, device, threads, seconds, gpu_memory)
        self.provider = self._network.provider
        self.precision = self._network.precision
        self._max_pixels = max_pixels
        self._own_refiner = refiner is None
        self._refiner = refiner or Refiner(cores())
        self._seconds = seconds
        self._observe = observe
        self._observe_mask = observe_mask
        self._low_below = low_below

    @classmethod
    def load(
        cls,
        path: str | PathLike[str] = PRETRAINED,
        *,
        device: str = "auto",
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Self:
        """Read, check and warm up the bundle at `path`, by default the one that comes with Tagmask (some animals).

        `device` is "auto" (CUDA where it works), "cpu" or "cuda". On a CPU `threads`, by default one per core, compute
        a lone photo, and fewer each of several photos at once. Photos with more than `max_pixels` are refused.
        Raises BundleError for a file that is no valid bundle, ConfigError for the device.
        """
        return cls(read_bundle(local_path(path)), device=device, threads=threads, max_pixels=max_pixels)

    @property
    def version(self) -> str:
        """The model's version."""
        return self.metadata.version

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by label, background first."""
        return self.metadata.classes

    def segment(
        self,
        image: Photo,
        tags: Tags = (),
        refine: Refine = "smooth",
        formats: Iterable[FormatName] = (),
        tile: int | None = None,
    ) -> Result:
        """The mask of `image`: a path, a file's bytes, or (H, W, 3) uint8 RGB; also in each of `formats`.

        With `tags` only these and background can appear, without any every class. The network runs once for all
        formats. A photo with a side above `tile` pixels is segmented in overlapping tiles of that size, 32 to 65,535;
        0 means the whole photo at once, None what the bundle says. Raises DataError for a file that is no photo,
        RequestError for other input that a service would refuse and for a network that fails, ValueError for an array
        of another shape or dtype.
        """
        check_choice("refine", refine, REFINEMENTS)
        names: list[str] = ["png", *formats]
        for name in names:
            check_choice("format", name, FORMATS)

        def encode(segmentation: Segmentation) -> Result:
            return Result(
                mask=segmentation.mask,
                classes=self.classes,
                palette=np.array(self.metadata.palette, dtype=np.uint8),
                version=self.version,
                expected_ious={self.classes[label]: iou for label, iou in segmentation.expected_ious.items()},
                low_confidence=segmentation.low_confidence,
                tags={self.classes[label]: share for label, share in segmentation.tag_probabilities.items()},
                answers={name: FORMATS[name].encode(segmentation) for name in names},
            )

        return self.run(image, SegmentOptions(split_tags(tags), refine, tile=check_tile(tile)), encode)

    def run(self, image: Photo, options: SegmentOptions, encode: Callable[[Segmentation], Output]) -> Output:
        """The value of `encode` for the segmentation of `image`. Raises as `segment` does."""
        with self._network.photo_in_work():
            return self._run(image, options, encode)

    def _run(self, image: Photo, options: SegmentOptions, encode: Callable[[Segmentation], Output]) -> Output:
        labels = self.labels_of(options.tags)
        decode = self._decoder(image)
        tile = self.metadata.tile if options.tile is None else options.tile
        long_side_of = partial(scaled_side, tile=tile, working_size=self.metadata.working_size)
        with self._observe("decode"):
            photo = decode(long_side_of)
            long_side = long_side_of(max(photo.size))
            tiled = long_side != self.metadata.working_size
            if tiled:
                check_scaled(photo.size, long_side, self._max_pixels)
            pixels = photos.scale_to(photo.pixels, long_side, self.metadata.smallest_size)
        segment = self._segment_tiles if tiled else self._segment_whole
        masks, tags = segment(pixels, photo.size, labels, options)
        with self._observe("encode"):
            segmentation = Segmentation(
                model=self._info,
                mask=masks.mask,
                labels=labels,
                confidence_of=lambda: masks.confidence,
                picture_of=lambda: decode(_PICTURE_SIDE).pixels,
                ious=dict(zip(labels, masks.ious.tolist(), strict=True)),
                given=labels[1:] if options.tags else (),
                tags={} if tags is None else dict(enumerate(tags.tolist(), start=1)),
                low_below=self._low_below,
            )
            self._observe_mask(segmentation)
            return encode(segmentation)

    def _segment_whole(
        self, pixels: Pixels, size: tuple[int, int], labels: Sequence[int], options: SegmentOptions
    ) -> tuple[WholeMask, TagProbabilities | None]:
        """The masks of a photo of `size` (H, W), and its tags, from `pixels` (h, w, 3) uint8 RGB of working size."""
        with self._observe("inference"):
            prediction = self._infer(pixels, size)
            selected = prediction.select(labels, tagged=bool(options.tags))
        with self._observe("refine"):
            coloured, refined = self._refine(pixels, selected, options.refine, self._seconds)
        return WholeMask(refined, coloured, labels, size), prediction.tags

    def _segment_tiles(
        self, pixels: Pixels, size: tuple[int, int], labels: Sequence[int], options: SegmentOptions
    ) -> tuple[TiledMask, TagProbabilities | None]:
        """As `_segment_whole`, in tiles of working size; a tag is as probable as in the tile that shows it most.

        Raises TooLarge where a row of tiles takes more than MAX_OUTPUT bytes, and TimedOut.
        """
        deadline = time.monotonic() + self._seconds
        tags: list[TagProbabilities] = []

        def predict(tile: Pixels) -> Planes:
            left = deadline - time.monotonic()
            if left <= 0:
                message = f"tiles: the network takes longer than {self._seconds:g} s; set a larger tile"
                raise TimedOut(message, field="tile", limit=self._seconds)
            prediction = replace(self._infer(tile, tile.shape[:2]), least_areas=None)  # a tag need not be in each tile
            if prediction.tags is not None:
                tags.append(prediction.tags)
            selected = prediction.select(labels, tagged=bool(options.tags))
            if options.refine == "none":
                return selected[None]
            return np.stack(self._refine(tile, selected, options.refine, left))

        with self._observe("inference"):
            layers = 1 if options.refine == "none" else 2
            masks = segment_tiles(pixels, self.metadata.working_size, predict, labels, size, layers)
        return masks, np.max(tags, axis=0) if tags else None

    def _refine(self, pixels: Pixels, probabilities: Planes, refine: Refine, seconds: float) -> tuple[Planes, Planes]:
        """`probabilities` (labels, h, w) float32 as the colours of `pixels` (h, w, 3) uint8 RGB have them, and these
        refined by its edges.

        DenseCRF takes `seconds` at most, or raises TimedOut.
        """
        if refine == "none":
            return probabilities, probabilities
        coloured = follow_colours(pixels, probabilities)
        if refine == "crf":
            return coloured, self._refiner.refine(pixels, coloured, self.crf, seconds)
        return coloured, smooth(pixels, coloured)

    def predict(self, photo: Pixels) -> Prediction:
        """Run the network on `photo`, (H, W, 3) uint8 RGB, scaled to the working size."""
        return self._infer(to_working_size(photo, self.metadata), (photo.shape[0], photo.shape[1]))

    def _infer(self, pixels: Pixels, size: tuple[int, int]) -> Prediction:
        """The prediction for `pixels`, (h, w, 3) uint8 RGB of the working size, of a photo of `size` (H, W)."""
        output = self._network.infer(pixels)
        weights = None if output.tags is None else tag_weights(output.tags, np.array(self.metadata.tag_shares))
        areas = np.array(self.metadata.least_areas) if self.metadata.least_areas else None
        return Prediction(pixels, output.probabilities, size, output.tags, weights, areas)

    def return_idle_memory(self) -> None:
        """On a CPU, return the memory that photos took to the system, if there were none since the last call.

        The next photo takes some milliseconds longer.
        """
        self._network.return_idle_memory()

    def labels_of(self, tags: Sequence[str]) -> tuple[int, ...]:
        """Labels of background and `tags`, in any spelling of the classes, ascending; every label for no tags.

        Raises Unprocessable, listing the classes, for an unknown tag.
        """
        if not tags:
            return tuple(range(len(self.classes)))
        named = {tag: find_class(tag, self.classes[1:]) for tag in tags}
        if unknown := [tag for tag, name in named.items() if name is None]:
            known = ", ".join(self.classes[1:])
            raise Unprocessable(
                f"model {self.version} does not know {', '.join(repr(tag[:100]) for tag in unknown)}; it knows {known}",
                code="unknown_tag",
                field="tags",
                limit=known,
            )
        return (0, *sorted({self.classes.index(name) for name in named.values() if name is not None}))

    def close(self) -> None:
        """End the processes of DenseCRF."""
        if self._own_refiner:
            self._refiner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decoder(self, image: Photo) -> Callable[[LongSide], DecodedPhoto]:
        if isinstance(image, str | PathLike):
            return partial(photos.decode_file, local_path(image), max_pixels=self._max_pixels)
        data = photo_bytes(image, packed="BMP")
        return lambda long_side: photos.decode(data, long_side=long_side, max_pixels=self._max_pixels)
