"""Numbers in sentences."""


def count(number: int, noun: str) -> str:
    """`number` and its noun: "1 photo", "2,000 classes"."""
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural}"


def printable(text: str) -> str:
    """`text` with unprintable characters, such as terminal escapes and lone surrogates, as escape sequences."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
