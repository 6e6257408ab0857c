"""The correction of a photo in a request: a PNG, and text fields that may say what its text chunks do not."""

from collections.abc import Iterator, Sequence

from service.http.request_body import Form
from tagmask.classes import find_class
from tagmask.corrections import Correction, decode_correction
from tagmask.errors import Unprocessable
from tagmask.wording import some

FIELD = "correction"
"""Name of the form field that holds the PNG."""

CLASSES, COMPLETE = "classes", "complete"
"""Names of the text fields: of its values from 0, background, on, and of the classes that are complete."""


def sent_correction(
    form: Form, tags: Sequence[str], classes: Sequence[str], size: tuple[int, int]
) -> Correction | None:
    """The correction in `form` of a photo with these `tags` of `size`, (height, width); None if it has none.

    Raises Unprocessable if it cannot be used, names other classes than the tags and `classes`, or says that the photo
    shows none of a tag.
    """
    names, complete = (tuple(_texts(form, field)) for field in (CLASSES, COMPLETE))
    if FIELD not in form.files:
        if names or complete:
            raise refusal(f"missing, but {CLASSES} or {COMPLETE} was sent; send it as a file too, or neither")
        return None
    try:
        correction = decode_correction(form.files[FIELD], names, complete, size)
    except ValueError as error:
        raise refusal(f"{error}; correct it, or leave it out") from error
    known, named = (*tags, *classes), (*correction.shown, *correction.complete)
    if strangers := [name for name in named if not find_class(name, known)]:
        raise refusal(f"{some(strangers, 3)} is neither a tag nor a class of the model; add it to the tags")
    if missing := correction.without(tags):
        raise refusal(f"it shows no {some(missing, 3)}, which the photo is tagged with; correct one of the two")
    return correction


def refusal(why: str) -> Unprocessable:
    """The error for a correction that cannot be used."""
    return Unprocessable(f"{FIELD}: {why}", code="bad_correction", field=FIELD)


def _texts(form: Form, field: str) -> Iterator[str]:
    """The texts in a field, repeated or separated by commas; other than tags, they may be equal, which is an error."""
    return (text.strip() for name, value in form.fields if name == field and value.strip() for text in value.split(","))
