"""Hints: masks of photos that another model made. They are never truth; stages use them where they agree with the tags.

A hint shows classes, or what stands out whatever its class: `FOREGROUND`, unless photos are tagged with that.
"""

from dataclasses import replace
from pathlib import Path

from tagmask.classes import find_class
from tagmask.masks import BACKGROUND
from tagmask.wording import count, some
from training.datasets.listing import Listing
from training.datasets.mask_sources import read_masks
from training.datasets.photos import FOREGROUND


def hint(listing: Listing, source: Path) -> None:
    """Attach the hints at `source` to those photos of `listing` that have no correction; tags stay as they are.

    Hints that show nothing, or neither a tag of their photo nor FOREGROUND, are not used, which is a fault, as is what
    cannot be read.
    Raises DataError for a source without hints, or one whose classes cannot be read.
    """
    known, untagged, empty = listing.known_tags, 0, 0
    strangers: set[str] = set()
    for photo, _, mask in read_masks(source, listing, "hint"):
        shown = {find_class(name, (*known, FOREGROUND)) or name for name in mask.shown}
        strangers |= shown - {*known, FOREGROUND}
        if not shown:
            empty += photo.tags != (BACKGROUND,)
        elif not shown & {*photo.tags, FOREGROUND}:
            untagged += 1
        elif photo.correction is None and photo.tags != (BACKGROUND,):
            listing.photos[photo.id] = replace(photo, hint=mask)
    if strangers:
        why = f"no photo is tagged {some(sorted(strangers), 3)}; not used, call it {FOREGROUND!r} if it is of any class"
        listing.fault(source.name, why)
    if empty:
        listing.fault(source.name, f"{count(empty, 'hint')} without a class; not used")
    if untagged:
        listing.fault(source.name, f"{count(untagged, 'hint')} for other classes than the photo's tags; not used")
