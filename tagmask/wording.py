"""Numbers and lists in sentences."""

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """`number` and its noun: "1 photo", "2,000 classes"."""
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural}"


_JOINERS = "\u200c\u200d"  # invisible, but part of words in Persian or Sinhala, and of emoji


def is_printable(text: str) -> bool:
    """Whether `text` has no control characters, lone surrogates and the like."""
    return text.isprintable() or all(each.isprintable() or each in _JOINERS for each in text)


def printable(text: str) -> str:
    """`text` with unprintable characters, such as terminal escapes and lone surrogates, as escape sequences."""
    return text if is_printable(text) else "".join(each if is_printable(each) else ascii(each)[1:-1] for each in text)


def some(names: Sequence[str], most: int) -> str:
    """The first `most` names, printable, and the number of the others: "cat, dog and 3 more"."""
    return ", ".join(map(printable, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
