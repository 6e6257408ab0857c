"""Several data sets as one."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tagmask.errors import DataError
from training.datasets.listing import Listing, shown
from training.datasets.photos import Fault, Photo


def together(roots: Sequence[Path], listings: Sequence[Listing]) -> Listing:
    """The photos of the data sets that were read from `roots`, folders or lists.

    So that ids never meet, each begins with the name of its data set: as many last parts of the path as tell all apart,
    "zoo/cat/1" and "farm/cat/1". A photo that two data sets have is kept once, with the tags of both. True masks are
    kept where their values mean what they mean in the first data set that has some. Raises DataError for a data set
    that is given twice.
    """
    union = Listing(Path(os.path.commonpath([listing.root.resolve() for listing in listings])))
    firsts: dict[Path, Photo] = {}
    for name, listing in zip(_names(roots), listings, strict=True):
        union.faults += [Fault(shown(f"{name}/{fault.where}"), fault.why) for fault in listing.faults]
        masked = any(photo.mask for photo in listing.photos.values())
        union.mask_classes = union.mask_classes or (listing.mask_classes if masked else ())
        strange = masked and listing.mask_classes != union.mask_classes
        if strange:
            union.fault(name, "its masks are ignored, as their values mean other classes; measure it by itself")
        for photo in listing.photos.values():
            path = listing.root.resolve() / photo.path.relative_to(listing.root)
            own = replace(photo, id=f"{name}/{photo.id}", path=path, mask=None if strange else photo.mask)
            first = firsts.setdefault(path.resolve(), own)
            union.add(replace(own, id=first.id, path=first.path), own.id)
    return union


def _names(roots: Sequence[Path]) -> list[str]:
    paths = [root.resolve() for root in roots]
    for root, path in zip(roots, paths, strict=True):
        if paths.count(path) > 1:
            raise DataError(f"{root}: given twice; name each data set once")
    stems = [path.with_suffix("") if path.is_file() else path for path in paths]
    parts = [path.parts[1:] for path in (stems if len(set(stems)) == len(stems) else paths)]
    names = (["/".join(each[-length:]) for each in parts] for length in range(1, max(map(len, parts)) + 1))
    return next(each for each in names if len(set(each)) == len(each))
