"""Options of a request, from its text fields and its Accept header."""

from collections.abc import Collection, Sequence
from typing import cast

from tagmask.crf.dense import has_pydensecrf
from tagmask.errors import NotAcceptable, Unprocessable
from tagmask.formats import FORMATS, JSON, Format
from tagmask.inputs import REFINEMENTS, Refine, check_choice, check_tile, split_tags
from tagmask.segmenter import SegmentOptions


def read_options(fields: Sequence[tuple[str, str]], accept: str, max_tags: int, batch: bool = False) -> SegmentOptions:
    """The options in `fields`; if they name no format, the Accept header `accept` chooses one.

    The response to a batch is JSON in every format. Raises Unprocessable, naming the field, and NotAcceptable when no
    format fits `accept`.
    """
    tags = read_tags(fields, {"format", "refine", "tile"}, max_tags)
    name = _single(fields, "format")
    refine = _single(fields, "refine") or "smooth"
    check_choice("refine", refine, REFINEMENTS)
    if refine == "crf" and not has_pydensecrf():
        remedy = "leave refine out, or install pydensecrf where the service runs"
        message = f"refine=crf needs DenseCRF, which is not installed; {remedy}"
        raise Unprocessable(message, code="bad_refine", field="refine")
    if name:
        check_choice("format", name, FORMATS)
    format = FORMATS[name or "png"] if name or batch else _negotiate(accept)
    return SegmentOptions(tags, cast(Refine, refine), format, check_tile(_single(fields, "tile")))


def read_tags(fields: Sequence[tuple[str, str]], others: Collection[str], max_tags: int) -> tuple[str, ...]:
    """The tags in the fields `tags`, repeated or separated by commas, in order, without duplicates.

    Raises Unprocessable for too many, and for a field that is neither `tags` nor one of `others`.
    """
    for name, _ in fields:
        if name not in ("tags", *others):
            known = ", ".join(["image", "tags", *sorted(others)])
            raise Unprocessable(
                f"unknown field {name[:100]!r}; known fields are {known}",
                code="unknown_field",
                field=name[:100],
                limit=known,
            )
    tags = split_tags(value for name, value in fields if name == "tags")
    if len(tags) > max_tags:
        raise Unprocessable(
            f"{len(tags)} tags, at most {max_tags} are allowed; send fewer, or none for all classes",
            code="too_many_tags",
            field="tags",
            limit=max_tags,
        )
    return tags


def _single(fields: Sequence[tuple[str, str]], name: str) -> str | None:
    values = sorted({value.strip() for key, value in fields if key == name} - {""})
    if len(values) > 1:
        raise Unprocessable(f"{name!r} has {len(values)} values; send one", code=f"bad_{name}", field=name)
    return values[0] if values else None


def _negotiate(accept: str) -> Format:
    png, json = FORMATS["png"], FORMATS["json"]
    quality = {each.name: _quality(accept, each.media_type) for each in (png, json)}
    if not any(quality.values()):
        raise NotAcceptable(
            f"responses are image/png or {JSON}, the Accept header allows {accept[:200]!r}; change it, or set `format`",
            field="Accept",
        )
    return json if quality["json"] > quality["png"] else png


def _quality(accept: str, media_type: str) -> float:
    """The quality that `accept` gives to `media_type`, 0 (not acceptable) to 1; the most specific range counts.

    RFC 9110, section 12.5.1.
    """
    ranges = ("*/*", media_type.partition("/")[0] + "/*", media_type)
    best = (-1, 0.0)  # specificity, quality
    for part in (accept or "*/*").split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media_range in ranges:
            quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
            best = max(best, (ranges.index(media_range), _parse_quality(quality)))
    return best[1]


def _parse_quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0
