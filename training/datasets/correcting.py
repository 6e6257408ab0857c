"""Corrections read from a source, and attached to the photos of a listing."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from tagmask.classes import find_class, merge_tags
from tagmask.inbox import CORRECTION_SUFFIX
from tagmask.wording import some
from training.datasets import samples
from training.datasets.listing import Listing
from training.datasets.mask_sources import decode_mask, read_masks, usable
from training.datasets.photos import Photo


def correct(listing: Listing, source: Path, *, accepted: bool = False) -> None:
    """Attach the corrections at `source` to the photos of `listing`, and add tags that they show to the photos.

    Classes that no photo of the listing is tagged with are not used. What cannot be used, and what contradicts the
    tags, is a fault. `accepted` is whether predictions count that someone accepted unchanged in Label Studio. Raises
    DataError for a source without corrections, or one whose classes cannot be read.
    """
    known = listing.known_tags
    for photo, where, correction in read_masks(source, listing, "correction", accepted=accepted):
        corrected = replace(photo, correction=correction)
        listing.photos[photo.id] = add_shown_tags(corrected, known, where, listing)


def correct_samples(folder: Path, found: dict[str, samples.SampleDescription], listing: Listing) -> None:
    """Read the corrections, not yet known, of the samples `found` in a folder; one that cannot be used is a fault."""
    for name, sample in found.items():
        if sample.correction_stamp and not sample.correction:
            path = folder / f"{name}{CORRECTION_SUFFIX}"
            correction = usable(partial(decode_mask, path), f"{folder.name}/{path.name}", listing)
            found[name] = sample._replace(correction=correction)


def add_shown_tags(photo: Photo, known: tuple[str, ...], where: str, listing: Listing) -> Photo:
    """The photo with those of the `known` tags that its correction shows; faults for what its tags do not say."""
    assert photo.correction is not None
    named = {name: find_class(name, known) for name in photo.correction.shown}
    if unknown := [name for name, tag in named.items() if tag is None]:
        listing.fault(where, f"no photo is tagged {some(unknown, 3)}; its pixels are not used")
    shown = {tag for tag in named.values() if tag is not None}
    if added := sorted(shown - set(photo.tags)):
        listing.fault(where, f"shows {some(added, 3)}, which its photo was not tagged with; the tag was added")
    if missing := photo.correction.without(photo.tags):
        listing.fault(where, f"shows no {some(missing, 3)}, which its photo is tagged with; correct one of the two")
    return replace(photo, tags=merge_tags(photo.tags, shown))
