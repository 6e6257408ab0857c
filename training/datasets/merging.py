"""Several data sets merged into one."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tagmask.classes import spell
from tagmask.errors import DataError, Fault
from tagmask.files import real_path
from tagmask.wording import printable
from training.datasets.listing import Listing
from training.datasets.photos import Photo


def merge(listings: Mapping[str, Listing]) -> Listing:
    """The photos of several data sets, whose ids begin with the name of their data set: "zoo/cat/1" and "farm/cat/1".

    A photo in two data sets is kept once, with the tags of both. Ground-truth masks are kept where their values have
    the same names as in the first data set that has masks.
    """
    roots = {name: real_path(listing.root) for name, listing in listings.items()}
    union = Listing(Path(os.path.commonpath(roots.values())))
    union.layout = ", ".join(dict.fromkeys(listing.layout for listing in listings.values()))
    firsts: dict[Path, Photo] = {}
    for name, listing in listings.items():
        union.faults += [Fault(printable(f"{name}/{fault.where}"), fault.why) for fault in listing.faults]
        masked = any(photo.mask for photo in listing.photos.values())
        union.mask_classes = union.mask_classes or (listing.mask_classes if masked else ())
        foreign = masked and spell(listing.mask_classes, union.mask_classes) != union.mask_classes
        if foreign:
            union.fault(name, "its masks are ignored, as their values have other names; evaluate it separately")
        for photo in listing.photos.values():
            path = roots[name] / photo.path.relative_to(listing.root)
            tags, mask = union.tags(photo.tags, photo.id), None if foreign else photo.mask
            own = replace(photo, id=f"{name}/{photo.id}", path=path, tags=tags, mask=mask)
            first = firsts.setdefault(real_path(path), own)
            union.add(replace(own, id=first.id, path=first.path), own.id)
    return union


def data_set_names(roots: Sequence[Path]) -> list[str]:
    """As many last parts of the path of each data set as are needed to tell them apart.

    Raises DataError for a data set named twice.
    """
    paths = [real_path(root) for root in roots]
    for root, path in zip(roots, paths, strict=True):
        if paths.count(path) > 1:
            raise DataError(f"{root}: named twice; name each data set once")
    stems = [path.with_suffix("") if path.is_file() else path for path in paths]
    parts = [path.parts[1:] for path in (stems if len(set(stems)) == len(stems) else paths)]
    names = (["/".join(each[-length:]) for each in parts] for length in range(1, max(map(len, parts)) + 1))
    return next(each for each in names if len(set(each)) == len(each))
