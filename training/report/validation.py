"""The finished bundle on photos that it did not learn from."""

from dataclasses import dataclass

from tagmask.classes import find_class
from tagmask.errors import RunError
from tagmask.progress import Progress, Silent
from tagmask.segmenter import Segmenter
from training.datasets.photos import TaggedPhotos
from training.evaluation.evaluate import confusions
from training.evaluation.metrics import Confusion
from training.run.layout import Layout


@dataclass(frozen=True)
class Validation:
    """Confusions of the bundle's masks on the `photos` of the split `name`; background is before `classes`."""

    name: str
    photos: int
    classes: tuple[str, ...]
    without_tags: Confusion
    with_tags: Confusion


def validate(layout: Layout, data: TaggedPhotos, name: str, progress: Progress | None = None) -> Validation:
    """Run the bundle on the photos of `data`, those of the split `name`, that have a true mask.

    Scored are the classes that both the bundle and the masks know. Raises RunError if the run has no bundle yet,
    BundleError for a damaged one, and DataError if no photo has a true mask or one cannot be read.
    """
    if not layout.model.is_file():
        raise RunError(f"{layout.model}: does not exist yet; finish the run, or leave out --val")
    with Segmenter.load(layout.model) as segmenter:
        known = tuple(name for name in segmenter.classes[1:] if find_class(name, data.mask_classes))
        known = known or segmenter.classes[1:]
        photos, without_tags, with_tags = confusions(
            segmenter, data, known, None, progress or Silent(), f"validating on {name}"
        )
    return Validation(name, photos, known, without_tags, with_tags)
