"""The path of a photo: decode, network, optionally DenseCRF, mask at the photo's size, format.

    segmenter = Segmenter.load("model.onnx")
    segmenter.segment("photo.jpg", tags=["dog"]).mask

The service, the command line and the client for this process all use it, so they give the same masks.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagmask import photos, upsampling
from tagmask.bundle import Bundle, Metadata, read_bundle
from tagmask.classes import find_class
from tagmask.cores import cores
from tagmask.crf import CrfConfig, Refiner, dense_crf
from tagmask.errors import Unprocessable
from tagmask.expected_iou import LOW, expected_ious
from tagmask.formats import FORMATS, Format
from tagmask.inputs import REFINEMENTS, Photo, Refine, Tags, check_choice, local_path, photo_bytes, split_tags
from tagmask.photos import DecodedPhoto
from tagmask.result import FormatName, Result
from tagmask.segmentation import ModelInfo, Pixels, Planes, Segmentation
from tagmask.session import Network
from tagmask.tag_weights import tag_weights

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
    """How to segment a photo: `tags` (none: every class), the format of the result, and refinement."""

    tags: tuple[str, ...] = ()
    refine: Refine = "none"
    format: Format = FORMATS["png"]


@dataclass(frozen=True)
class Prediction:
    """The network's output for one photo, at the size of its input.

    `pixels` (h, w, 3) uint8 RGB, `probabilities` (labels, h, w) float32 summing to 1 over labels, the photo's own
    `size` (H, W) in pixels, and of a network that tells them the probabilities of `tags`, (labels - 1,) float32, with
    the `weights` of the labels that follow from them, (labels,) float32; see `tagmask.tag_weights`.
    """

    pixels: Pixels
    probabilities: Planes
    size: tuple[int, int]
    tags: NDArray[np.float32] | None = None
    weights: NDArray[np.float32] | None = None

    def select(self, labels: Sequence[int], *, tagged: bool) -> Planes:
        """Probabilities of `labels` alone, (len(labels), h, w) float32 summing to 1.

        Unless they are those of given tags, as `tagged` says, the tags that the network sees count too.
        """
        planes = self.probabilities
        if self.weights is not None and not tagged:
            planes = planes * self.weights[:, None, None]
        return upsampling.select_labels(planes, labels)

    def mask(
        self,
        labels: Sequence[int],
        size: tuple[int, int] | None = None,
        crf: CrfConfig | None = None,
        *,
        tagged: bool = False,
    ) -> Pixels:
        """The strongest of `labels` at each pixel: (H, W) uint8 of `size`, by default the photo's own.

        `tagged` is that of `select`. With `crf` DenseCRF runs at the size of the network's input, which its distances
        are meant for.
        """
        probabilities = self.select(labels, tagged=tagged)
        if crf is not None:
            probabilities = dense_crf(self.pixels, probabilities, crf)
        return upsampling.enlarge_mask(probabilities, labels, size or self.size)


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
        max_pixels: int = photos.MAX_PIXELS,
        refiner: Refiner | None = None,
        seconds: float = 600,
        observe: Observe = lambda stage: nullcontext(),
        observe_mask: ObserveMask = lambda segmentation: None,
        low_below: float = LOW,
    ) -> None:
        """Open and warm up `bundle`; `device` and `threads` are those of `load`.

        `max_pixels` limits photos in bytes and arrays, `seconds` the time of the network and that of DenseCRF, which
        runs in processes of `refiner`, which stays open, or in its own. Each stage of each photo runs in a context of
        `observe`, and `observe_mask` is called with its masks. Masks whose expected IoU is below `low_below`, 0..1,
        have low confidence.
        Raises BundleError for a network that cannot be run, ConfigError for the device.
        """
        self.metadata = bundle.metadata
        self.sha256 = bundle.sha256
        self.crf = CrfConfig.from_bundle(bundle.metadata.settings)
        self._info = ModelInfo(bundle.metadata.version, bundle.metadata.classes, bundle.metadata.palette)
        self._network = Network(bundle, device, threads, seconds)
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
    def load(cls, path: str | PathLike[str] = PRETRAINED, *, device: str = "auto", threads: int | None = None) -> Self:
        """Read, check and warm up the bundle at `path`, by default the one that comes with Tagmask (some animals).

        `device` is "auto" (CUDA where it works), "cpu" or "cuda"; `threads` compute on a CPU, by default one per core.
        Raises BundleError for a file that is no valid bundle, ConfigError for the device.
        """
        return cls(read_bundle(local_path(path)), device=device, threads=threads)

    @property
    def version(self) -> str:
        """The model's version."""
        return self.metadata.version

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by label, background first."""
        return self.metadata.classes

    def segment(
        self, image: Photo, tags: Tags = (), refine: Refine = "none", formats: Iterable[FormatName] = ()
    ) -> Result:
        """The mask of `image`: a path, a file's bytes, or (H, W, 3) uint8 RGB; also in each of `formats`.

        With `tags` only these and background can appear, without any every class. The network runs once for all
        formats. Raises DataError for a file that is no photo, RequestError for other input that a service
        would refuse and for a network that fails, ValueError for an array of another shape or dtype.
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

        return self.run(image, SegmentOptions(split_tags(tags), refine), encode)

    def run(self, image: Photo, options: SegmentOptions, encode: Callable[[Segmentation], Output]) -> Output:
        """The value of `encode` for the segmentation of `image`. Raises as `segment` does."""
        labels = self.labels_of(options.tags)
        decode = self._decoder(image)
        with self._observe("decode"):
            photo = decode(self.metadata.working_size)
            pixels = to_working_size(photo.pixels, self.metadata)
        with self._observe("inference"):
            prediction = self._infer(pixels, photo.size)
            unrefined = probabilities = prediction.select(labels, tagged=bool(options.tags))
        if options.refine == "crf":
            with self._observe("refine"):
                probabilities = self._refiner.refine(pixels, probabilities, self.crf, self._seconds)
        with self._observe("encode"):
            mask = upsampling.enlarge_mask(probabilities, labels, photo.size)
            # DenseCRF makes nearly every pixel certain, so the network's own probabilities tell more
            ious = expected_ious(unrefined, upsampling.find_strongest(probabilities))
            segmentation = Segmentation(
                model=self._info,
                mask=mask,
                labels=labels,
                confidence_of=lambda: upsampling.enlarge_confidence(probabilities, labels, mask),
                picture_of=lambda: decode(_PICTURE_SIDE).pixels,
                ious=dict(zip(labels, ious.tolist(), strict=True)),
                given=labels[1:] if options.tags else (),
                tags={} if prediction.tags is None else dict(enumerate(prediction.tags.tolist(), start=1)),
                low_below=self._low_below,
            )
            self._observe_mask(segmentation)
            return encode(segmentation)

    def predict(self, photo: Pixels) -> Prediction:
        """Run the network on `photo`, (H, W, 3) uint8 RGB, scaled to the working size."""
        return self._infer(to_working_size(photo, self.metadata), (photo.shape[0], photo.shape[1]))

    def _infer(self, pixels: Pixels, size: tuple[int, int]) -> Prediction:
        """The prediction for `pixels`, (h, w, 3) uint8 RGB of the working size, of a photo of `size` (H, W)."""
        output = self._network.infer(pixels)
        if output.tags is None:
            return Prediction(pixels, output.probabilities, size)
        weights = tag_weights(output.tags, np.array(self.metadata.tag_shares))
        return Prediction(pixels, output.probabilities, size, output.tags, weights)

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

    def _decoder(self, image: Photo) -> Callable[[int], DecodedPhoto]:
        """A function that decodes `image`, scaled down to a longer side in pixels."""
        if isinstance(image, str | PathLike):
            return partial(photos.decode_file, local_path(image))
        data = photo_bytes(image, packed="BMP")
        return lambda long_side: photos.decode(data, long_side=long_side, max_pixels=self._max_pixels)


def to_working_size(pixels: Pixels, metadata: Metadata) -> Pixels:
    """`pixels` with the working size as longer side, as in training, and sides below the least stretched to it."""
    least = metadata.smallest_size
    width, height = photos.scaled_size((pixels.shape[1], pixels.shape[0]), metadata.working_size)
    size = max(width, least), max(height, least)
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
