"""Label Studio: a project exported as JSON (https://labelstud.io/guide/export), and tasks to import.

Read: the tags of a photo are its choices, of a taxonomy the innermost, and the labels of its boxes, polygons, keypoints
and brush strokes, which are read as corrections alone. A photo whose annotation is empty shows nothing. An export
contains addresses of photos in Label Studio, not the photos; nothing is ever fetched. A photo is the file below the
export's folder, or its images/, whose path is the longest end of the address: zoo/cat/1.jpg, else cat/1.jpg, else 1.jpg
for "/data/local-files/?d=zoo/cat/1.jpg". "/data/upload/7/0a1b2c3d-1.jpg" is also found as 1.jpg, its name before the
upload.

Written (https://labelstud.io/guide/predictions): tasks.json with a prediction per photo, and interface.xml, the
labelling interface that fits them. Tasks name photos as local files, by their path from the parent of the folder that
holds them: that is Label Studio's document root, as it serves files of folders below its document root only. A brush
result is all pixels of a class. Such tasks are read too, with the tags in their data. Tasks to review tags have choices
instead of masks; their export is read with the tags that were chosen.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from tagmask.areas import Marks
from tagmask.errors import DataError
from tagmask.files import atomic_write, write_text
from tagmask.formats.label_studio import DEFAULT, brush_mask
from tagmask.label_studio_results import label_names, read_marks
from tagmask.masks import BACKGROUND, PALETTE, read_provenance
from tagmask.photos import PHOTO_SUFFIXES
from tagmask.progress import Advance
from training.datasets.exports import Lists, read_json, write_json_array
from training.datasets.listing import Listing
from training.datasets.mask_regions import regions
from training.datasets.paths import PHOTO_FOLDERS
from training.datasets.photos import Photo, TaggedPhotos

LISTS = Lists(
    ("*.json",),
    re.compile(rb'\s*\[\s*\{.*"(annotations|predictions|data)"\s*:', re.DOTALL),
    "no .json in it; add the export, or name it",
)
_PREDICTED = ("predictions", "prediction", "drafts", "meta")
_UNNEEDED = ("rle", "points", *_PREDICTED)
_CHOICES = ("choices", "taxonomy")
_UPLOADED = re.compile(r"[0-9a-f]{8}-")


def read(root: Path, split: str | None) -> Listing:
    """Read the export `root`, or all in a folder; a split is a list of ids, splits/<split>.txt.

    Raises DataError for an unknown split, a folder without exports, or a file that is not a list of tasks.
    """
    listing, files = LISTS.open(root)
    tasks = [task for path in files for task in _tasks(path, listing)]
    uploads = _upload_names(listing.root)
    paths = {address: _photo_path(address, listing, uploads) for address, _, _ in tasks}
    claims: dict[str | None, set[str]] = defaultdict(set)
    for address, place in paths.items():
        claims[place].add(address)
    for address, labels, where in tasks:
        place = paths[address]
        if place is None:
            listing.fault(where, f"photo {address!r} not found; put it beside the export, or remove the task")
        elif others := claims[place] - {address}:
            why = f"{place!r} may be {address!r} or {min(others)!r}; keep the folders that tell them apart"
            listing.fault(where, why)
        else:
            listing.add_listed(place, listing.tags(labels, where), where)
    if split is not None:
        listing.keep_split(split)
    return listing


def read_areas(source: Path, listing: Listing, *, accepted: bool) -> Iterator[Marks]:
    """What people marked in each photo of the export `source`, in the newest annotation; photos are of `listing`.

    `accepted` is whether predictions that were accepted without a change count.
    """
    uploads = _upload_names(listing.root)
    for path in LISTS.open(source)[1]:
        for index, task in enumerate(read_json(path, _PREDICTED)):
            match task:
                case {"data": dict(data), "annotations": list(annotations)} if address := _address(data):
                    image = _photo_path(address, listing, uploads) or _uploaded_name(_path(address))
                    marks = read_marks(
                        _newest_results(annotations), (), image, f"{path.name}: [{index}]", accepted=accepted
                    )
                    if marks.areas or marks.boxes:
                        yield marks


def _newest_results(annotations: Iterable[Any]) -> list[Any]:
    """The results of the annotation that was updated last, of those that were not cancelled."""
    states: list[tuple[str, list[Any]]] = [("", [])]
    for annotation in annotations:
        match annotation:
            case {"was_cancelled": True}:
                continue
            case {"result": list(results), **others}:
                states.append((str(others.get("updated_at", "")), results))
    return sorted(states, key=lambda state: state[0])[-1][1]


def _tasks(path: Path, listing: Listing) -> Iterator[tuple[str, set[str], str]]:
    """Address of the photo, labels, and place in the file, of each task."""
    tasks = read_json(path, _UNNEEDED)
    if not isinstance(tasks, list):
        raise DataError(f"{path}: not Label Studio's export, which is a list of tasks; export the project as JSON")
    for index, task in enumerate(tasks):
        where = f"{path.name}: [{index}]"
        match task:
            case {"data": dict(data), "annotations": list(annotations)}:
                labels = set(_labels(annotations))
            case {"data": {"tags": list(tags)}} if all(isinstance(tag, str) for tag in tags):
                data, labels = task["data"], set(tags) or {BACKGROUND}
            case _:
                listing.fault(
                    where,
                    "malformed, data and annotations are required; export as JSON, not JSON-MIN, of version 1 or newer",
                )
                continue
        if address := _address(data):
            yield address, labels, where
        else:
            listing.fault(where, "no photo in its data; correct or remove the task")


def _address(data: dict[str, Any]) -> str | None:
    """The text that names a photo, first that under "image"."""
    texts = [text for text in (data.get("image"), *data.values()) if isinstance(text, str)]
    return next((text for text in texts if PurePosixPath(_path(text)).suffix.lower() in PHOTO_SUFFIXES), None)


def _path(address: str) -> str:
    """The path in an address, or in its query for local files; "" for what is not an address."""
    try:
        parts = urlsplit(address.replace("\\", "/"))
        local = parse_qs(parts.query).get("d", []) if parts.path.rstrip("/").endswith("/local-files") else []
    except ValueError:
        return ""
    return local[0].replace("\\", "/") if local else unquote(parts.path)


def _upload_names(root: Path) -> dict[str, str]:
    """Names of photos by what Label Studio makes of them in an upload, if that tells them apart.

    As in Django's `get_valid_filename`, blanks become `_`, and only letters, digits, `-`, `_` and `.` stay.
    """
    names: dict[str, set[str]] = defaultdict(set)
    for folder in (root, *(root / name for name in PHOTO_FOLDERS)):
        for path in folder.iterdir() if folder.is_dir() else ():
            name = unicodedata.normalize("NFC", path.name)
            names[re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))].add(path.name)
    return {upload: min(same) for upload, same in names.items() if len(same) == 1}


def _uploaded_name(path: str) -> str:
    """The name of a photo before its upload, which begins with eight digits since."""
    return _UPLOADED.sub("", PurePosixPath(path).name, count=1)


def _photo_path(address: str, listing: Listing, uploads: Mapping[str, str]) -> str | None:
    """The longest end of the address that is a photo of the data set."""
    parts = [part for part in _path(address).split("/") if part not in ("", ".")]
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    original = _uploaded_name(parts[-1])
    ends.append(original)
    if original != parts[-1] and (stored := uploads.get(unicodedata.normalize("NFC", original))):
        ends.append(stored)
    return next((end for end in ends if listing.files.photos(end)), None)


def _labels(annotations: Iterable[Any]) -> Iterator[str]:
    """Choices and labels of annotations that were not cancelled, background for an empty one."""
    for annotation in annotations:
        match annotation:
            case {"was_cancelled": True}:
                continue
            case {"result": []}:
                yield BACKGROUND
            case {"result": list(results)}:
                for result in results:
                    match result:
                        case {"type": str(kind), "value": dict(value)} if kind in _CHOICES or kind.endswith("labels"):
                            names = value.get(kind)
                            yield from label_names([names] if isinstance(names, str) else names)


def write(data: TaggedPhotos, out: Path, subset: str, advance: Advance) -> None:
    """Tasks are in order of photo ids; a project has no subsets."""
    _write_project(out, labeling_interface(data.mask_classes), _written_tasks(data, advance))


def labeling_interface(classes: Sequence[str]) -> str:
    """The labeling interface, XML, of an image with a brush for each of `classes`, of which the first is background."""
    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{bytes(PALETTE[label]).hex()}"/>\n'
        for label, name in enumerate(classes)
        if label
    )
    image, brush = '  <Image name="image" value="$image"/>\n', '  <BrushLabels name="tag" toName="image">\n'
    return f"<View>\n{image}{brush}{labels}  </BrushLabels>\n</View>\n"


@dataclass(frozen=True)
class TagReview:
    """Tags to review: `suggested` for `photo` instead of its own, the reason, and how certain it is, 0..1."""

    photo: Photo
    suggested: tuple[str, ...]
    reason: str
    score: float


def write_reviews(reviews: Iterable[TagReview], out: Path, *, root: Path, classes: Sequence[str], model: str) -> None:
    """Write a task with suggested tags for each review, in their order, and an interface with a choice per class.

    Photos are local files in the data set at `root`; `model` is the version that suggests the tags.
    """
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in classes)
    controls = '  <Header value="$reason"/>\n  <Image name="image" value="$image"/>\n'
    controls += f'  <Choices name="tags" toName="image" choice="multiple">\n{choices}  </Choices>\n'
    _write_project(out, f"<View>\n{controls}</View>\n", (_review_task(each, root, model) for each in reviews))


def _write_project(out: Path, interface: str, tasks: Iterable[Mapping[str, Any]]) -> None:
    write_text(out / "interface.xml", interface)
    with atomic_write(out / "tasks.json") as file:
        write_json_array(file, tasks)
        file.write(b"\n")


def _review_task(review: TagReview, root: Path, model: str) -> dict[str, Any]:
    value = {"choices": list(review.suggested)}
    choices = {"type": "choices", "from_name": "tags", "to_name": "image", "value": value}
    prediction = {
        "model_version": model,
        "score": round(review.score, 4),
        "result": [choices] if review.suggested else [],
    }
    data = {"image": _local_file(review.photo, root), "tags": list(review.photo.tags), "reason": review.reason}
    return {"data": data, "predictions": [prediction]}


def _local_file(photo: Photo, root: Path) -> str:
    path = photo.path.absolute().relative_to(root.absolute().parent)
    return f"/data/local-files/?d={quote(path.as_posix())}"


def _written_tasks(data: TaggedPhotos, advance: Advance) -> Iterator[dict[str, Any]]:
    for photo in data.photos:
        assert photo.mask is not None
        address = _local_file(photo, data.root)
        results = [brush_mask(region, DEFAULT, region.name) for region in regions(photo, data)]
        model, score = (read_provenance(photo.mask) or ("tagmask", None))[:2]
        prediction = {"model_version": model, "score": score, "result": results}
        yield {"data": {"image": address, "tags": list(photo.tags)}, "predictions": [prediction]}
        advance(1)
