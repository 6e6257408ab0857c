"""The rule for class names, the same for tags, data sets, samples and bundles."""

from tagmask.masks import BACKGROUND


def class_name_fault(name: str) -> str | None:
    """Why `name` cannot name a class, with the remedy; None if it can.

    Class names are part of paths, URLs, lists and legends: printable, without white space, and not BACKGROUND, which
    names label 0.
    """
    if not name:
        return "is empty; leave it out"
    if any(map(str.isspace, name)):
        return "contains white space; join its words, such as polar-bear"
    if not name.isprintable():
        return "contains an unprintable character; remove it"
    if name == BACKGROUND:
        return "is reserved for pixels of no class; rename it"
    return None
