"""The layout of PASCAL VOC (Everingham et al., IJCV 2010), for segmentation and for classification.

JPEGImages/, SegmentationClass/, ImageSets/Segmentation/<subset>.txt, and tags in ImageSets/Main/<class>_<subset>.txt.
classes.txt names the mask values for Tagmask, labelmap.txt with their colours for Datumaro and CVAT. Names have no
folders: photo "cat/1" is "cat_1".
"""

from pathlib import Path

from tagmask import files
from tagmask.errors import DataError
from tagmask.masks import PALETTE, read_mask, write_mask
from tagmask.progress import Advance
from training.datasets.photos import TaggedPhotos
from training.datasets.writers.copies import copy_photo, flat_names


def write(data: TaggedPhotos, out: Path, subset: str, advance: Advance) -> None:
    """All photos are JPEG, as the layout has it. Raises DataError for a class that cannot be part of a file's name."""
    for name in data.mask_classes:
        if name.startswith((".", "#")) or set(name) & set("/\\:"):
            why = "VOC has classes in file names and between colons"
            raise DataError(f"class {name!r}: {why}; learn it by another name, or label in another format")
    names = flat_names(data.photos)
    for photo in data.photos:
        assert photo.mask is not None
        copy_photo(photo, out / "JPEGImages", names[photo.id], formats=("JPEG",))
        write_mask(out / "SegmentationClass" / f"{names[photo.id]}.png", read_mask(photo.mask))
        advance(1)
    sets = out / "ImageSets"
    files.write_text(sets / "Segmentation" / f"{subset}.txt", "".join(f"{names[each.id]}\n" for each in data.photos))
    for name in data.mask_classes[1:]:
        lines = (f"{names[each.id]} {1 if name in each.tags else -1:2}\n" for each in data.photos)
        files.write_text(sets / "Main" / f"{name}_{subset}.txt", "".join(lines))
    colours = (",".join(map(str, colour)) for colour in PALETTE)
    labels = (f"{name}:{colour}::\n" for name, colour in zip(data.mask_classes, colours, strict=False))
    files.write_text(out / "labelmap.txt", "".join(labels))
    files.write_text(out / "classes.txt", "".join(f"{name}\n" for name in data.mask_classes))
