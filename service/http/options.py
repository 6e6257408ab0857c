"""What a client wants, from text fields and the Accept header."""

from collections.abc import Collection, Sequence
from typing import get_args

from tagmask.errors import NotAcceptable, Unprocessable
from tagmask.formats import FORMATS, JSON, Format
from tagmask.segmenter import Refine, SegmentOptions

REFINEMENTS: tuple[str, ...] = get_args(Refine)


def read_options(fields: Sequence[tuple[str, str]], accept: str, max_tags: int, batch: bool = False) -> SegmentOptions:
    """The order that `fields` describe; where they name no format, the header `Accept` chooses one.

    A batch's own answer is JSON whatever the format. Raises Unprocessable, naming the field, and NotAcceptable when no
    format fits `accept`.
    """
    tags = read_tags(fields, {"format", "refine"}, max_tags)
    name = _single(fields, "format")
    refine = _single(fields, "refine") or "none"
    if refine not in REFINEMENTS:
        raise _one_of("refine", refine, REFINEMENTS)
    if name and name not in FORMATS:
        raise _one_of("format", name, FORMATS)
    chosen = FORMATS[name or "png"] if name or batch else _negotiate(accept)
    return SegmentOptions(tags, chosen, "crf" if refine == "crf" else "none")


def read_tags(fields: Sequence[tuple[str, str]], others: Collection[str], max_tags: int) -> tuple[str, ...]:
    """Tags from the fields `tags`, repeated or separated by commas, in order, each once.

    Raises Unprocessable for too many, and for a field that is neither `tags` nor one of `others`.
    """
    tags: dict[str, None] = {}
    for name, value in fields:
        if name == "tags":
            tags |= dict.fromkeys(tag for part in value.split(",") if (tag := part.strip()))
        elif name not in others:
            known = ", ".join(["image", "tags", *sorted(others)])
            raise Unprocessable(
                f"unknown field {name[:100]!r}; known are {known}", code="unknown_field", field=name[:100], limit=known
            )
    if len(tags) > max_tags:
        raise Unprocessable(
            f"{len(tags)} tags, at most {max_tags} are taken; name fewer, or none for all classes",
            code="too_many_tags",
            field="tags",
            limit=max_tags,
        )
    return tuple(tags)


def _single(fields: Sequence[tuple[str, str]], name: str) -> str | None:
    given = sorted({value.strip() for key, value in fields if key == name} - {""})
    if len(given) > 1:
        raise Unprocessable(f"{name!r} is given {len(given)} values; give it one", code=f"bad_{name}", field=name)
    return given[0] if given else None


def _one_of(field: str, given: str, known: Collection[str]) -> Unprocessable:
    listed = ", ".join(known)
    return Unprocessable(
        f"{field} {given[:100]!r} is not one of {listed}", code=f"bad_{field}", field=field, limit=listed
    )


def _negotiate(accept: str) -> Format:
    png, json = FORMATS["png"], FORMATS["json"]
    wanted = {each.name: _quality(accept, each.media_type) for each in (png, json)}
    if not any(wanted.values()):
        raise NotAcceptable(
            f"answers are image/png or {JSON}, the Accept header asks for {accept[:200]!r}; change it, or set `format`",
            field="Accept",
        )
    return json if wanted["json"] > wanted["png"] else png


def _quality(accept: str, media_type: str) -> float:
    """How much `accept` wants `media_type`: 0 (not at all) to 1; the most specific range that fits counts.

    RFC 9110, section 12.5.1.
    """
    ranges = ("*/*", media_type.partition("/")[0] + "/*", media_type)
    found = (-1, 0.0)
    for part in (accept or "*/*").split(","):
        asked, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if asked in ranges:
            weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
            found = max(found, (ranges.index(asked), _weight(weight)))
    return found[1]


def _weight(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0
