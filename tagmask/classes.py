"""The rule for class names, the same for tags, data sets, samples, requests and bundles.

Names are shown as they were first written, and compared by their key: "Polar bear", "polar_bear" and "POLAR-BEAR" are
one class, and so are "vélo" in composed and in decomposed Unicode. Blanks are shown as `_`, since names are part of
paths, URLs and lists.
"""

import re
import unicodedata
from collections.abc import Iterable
from itertools import chain

from tagmask.masks import BACKGROUND
from tagmask.wording import is_printable

MAX_LENGTH = 64
"""Maximum length of a class name in characters."""

_JOINTS = re.compile(r"[\s_-]+")
_BLANKS = re.compile(r"[^\S\t-\r\x1c-\x1f\x85\u2028\u2029]+")  # white space other than control characters
_SEPARATORS = ",;|"
_OPENING, _CLOSING = "[{\"'", "]}\"'"


def class_key(name: str) -> str:
    """What names are compared by: without regard to case, Unicode form, and blank, `_` or `-` between words."""
    folded = unicodedata.normalize("NFD", name).casefold()
    return _JOINTS.sub("-", unicodedata.normalize("NFC", folded))


def class_name(text: str) -> str:
    """`text` as the name of a class is shown: composed Unicode (NFC), its words joined by `_`; "" for blank text."""
    return _BLANKS.sub("_", unicodedata.normalize("NFC", text).strip())


def find_class(name: str, classes: Iterable[str]) -> str | None:
    """The class that `name` means, as it is written in `classes`; None if it is not among them."""
    known = tuple(classes)
    if name in known:
        return name
    key = class_key(name)
    return next((each for each in known if class_key(each) == key), None)


def spell(names: Iterable[str], classes: Iterable[str]) -> tuple[str, ...]:
    """`names`, each as it is written in `classes` if it is among them."""
    known = tuple(classes)
    return tuple(find_class(name, known) or name for name in names)


def merge_tags(*tags: Iterable[str]) -> tuple[str, ...]:
    """All of the `tags` of a photo, sorted; background, for one that shows nothing, only if there is no other."""
    merged = set(chain(*tags))
    return tuple(sorted(merged - {BACKGROUND} or merged))


def text_fault(name: str) -> str | None:
    """Why `name` cannot be shown in paths, lists and legends, with the remedy; None if it can."""
    if not name:
        return "is empty; leave it out"
    if any(map(str.isspace, name)):
        return "contains white space; join its words, such as polar-bear"
    if not is_printable(name):
        return "contains an unprintable character; remove it"
    return None


def class_name_fault(name: str) -> str | None:
    """Why `name`, as `class_name` returns it, cannot name a class to learn, with the remedy; None if it can.

    A class must have a name by which a list, an option or a request can ask for it, and which is not that of label 0.
    """
    if len(name) > MAX_LENGTH:
        return f"has {len(name)} characters, more than {MAX_LENGTH}; shorten it"
    if fault := text_fault(name):
        return fault
    if found := next((each for each in name if each in _SEPARATORS), None):
        return f"contains {found!r}, which separates tags; write one name, or several tags as the format has it"
    if name[0] in _OPENING or name[-1] in _CLOSING:
        return "begins or ends with a bracket or quotation mark; write the name alone"
    if class_key(name) == BACKGROUND:
        return "is reserved for pixels of no class; rename it"
    return None
