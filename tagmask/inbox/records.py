"""What the description of a sample says, as JSON, and the rules for its tags."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from pydantic import BaseModel

from tagmask.classes import MAX_LENGTH, class_key, class_name, class_name_fault, merge_tags
from tagmask.errors import Unprocessable, UnsupportedType
from tagmask.masks import BACKGROUND
from tagmask.photos import SUFFIXES


@dataclass(frozen=True)
class Sample:
    """A stored photo: the SHA-256 of its bytes in hex, all its tags, sorted, whether it was new, and is corrected."""

    id: str
    tags: tuple[str, ...]
    created: bool
    corrected: bool = False


def check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """The tags as class names, sorted, each class once, if a model can learn them all; new classes are allowed.

    "background" alone is allowed, for a photo that shows nothing. Raises Unprocessable, naming the tag and the rule
    that it breaks, and for no tag at all.
    """
    names = [class_name(tag) for tag in ((tags,) if isinstance(tags, str) else tags)]
    if not names:
        message = "tags: missing; name at least one class in the photo, or send background if it shows none"
        raise Unprocessable(message, code="bad_tags", field="tags")
    if BACKGROUND in map(class_key, names):
        if len(set(map(class_key, names))) > 1:
            message = "tags: background says that the photo shows none of the classes; send it alone, or leave it out"
            raise Unprocessable(message, code="bad_tags", field="tags")
        return (BACKGROUND,)
    for name in names:
        if fault := class_name_fault(name):
            limit = MAX_LENGTH if len(name) > MAX_LENGTH else None
            message = f"tags: tag {name[:MAX_LENGTH]!r} {fault}"
            raise Unprocessable(message, code="bad_tags", field="tags", limit=limit)
    return tuple(sorted({class_key(name): name for name in reversed(names)}.values()))


def new_record(data: bytes, media_type: str, size: tuple[int, int], source: str | None) -> dict[str, Any]:
    """The description of a new sample, still without tags. Raises UnsupportedType for other media types."""
    if media_type not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        message = f"image: {media_type} is not supported; convert the photo to one of {known}"
        raise UnsupportedType(message, field="image", limit=known)
    name = hashlib.sha256(data).hexdigest()
    return {
        "image": name + SUFFIXES[media_type],
        "tags": [],
        "sha256": name,
        "media_type": media_type,
        "width": size[1],
        "height": size[0],
        "received": datetime.now(UTC).isoformat(timespec="seconds"),
        **({"source": source} if source else {}),
    }


def retag(record: Mapping[str, Any], tags: Sequence[str], annotation: str | None) -> dict[str, Any]:
    """The record with these tags as well or, if they are those of an `annotation`, in place of its former ones.

    A class is spelled as it was first.
    """
    sent = [*record.get("sent", record["tags"]), *(tags if annotation is None else ())]
    annotations = dict(record.get("annotations", {}))
    if annotation is not None:
        annotations[annotation] = tags
    first: dict[str, str] = {}
    for tag in chain(record["tags"], sent, *annotations.values()):
        first.setdefault(class_key(tag), tag)

    def spelled(names: Iterable[str]) -> list[str]:
        return sorted({first[class_key(name)] for name in names})

    kept = {key: value for key, value in record.items() if key not in ("sent", "annotations")}
    kept["tags"] = list(merge_tags(spelled(chain(sent, *annotations.values()))))
    annotated = {key: spelled(names) for key, names in annotations.items() if names}
    return {**kept, "sent": spelled(sent), "annotations": annotated} if annotated else kept


def encode(record: Mapping[str, Any]) -> bytes:
    """The description as JSON."""
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def decode(data: bytes) -> dict[str, Any] | None:
    """The description in `data`; None if others damaged it."""
    try:
        _Tags.model_validate_json(data)
        return dict(json.loads(data))
    except ValueError:
        return None


class _Tags(BaseModel):
    """What a description must have of these forms."""

    tags: list[str]
    sent: list[str] = []
    annotations: dict[str, list[str]] = {}
