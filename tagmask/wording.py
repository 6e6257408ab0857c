"""Numbers in sentences."""


def count(number: int, noun: str) -> str:
    """`number` and its noun: "1 photo", "2,000 classes"."""
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural}"
