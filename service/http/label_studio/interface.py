"""A project's labeling interface: the XML that names its controls and their labels.

Parsed by expat without a DOCTYPE: the untrusted document needs neither a tree in memory nor entities.

https://labelstud.io/tags
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from tagmask.classes import class_name, find_class, merge_tags
from tagmask.errors import Unprocessable
from tagmask.formats.label_studio import Controls
from tagmask.label_studio_results import SHAPES, label_names
from tagmask.masks import BACKGROUND

FIELD = "label_config"
_BRUSH, _CHOICES = SHAPES[0], "choices"
_KINDS = (*SHAPES, _CHOICES)
"""Controls whose labels are tags, those that are preferred first."""

_EXAMPLE = '<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image">...</BrushLabels></View>'


@dataclass
class _Control:
    """An element that labels another one, and its labels."""

    kind: str
    name: str
    to_name: str
    labels: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Interface:
    """The `image` of a labeling interface, the field `data_field` of a task's data that holds it, and its `controls`.

    These are all that mark shapes in that image, BrushLabels first, or else all Choices.
    """

    image: str
    data_field: str
    controls: tuple[_Control, ...]

    def brush(self, classes: Sequence[str]) -> Controls:
        """The controls that predictions refer to: the first BrushLabels, for a model with these `classes`.

        Raises Unprocessable without BrushLabels, and if none of its labels is a class.
        """
        control = self.controls[0]
        if control.kind != _BRUSH:
            raise _error(
                f"has no BrushLabels for {self.image[:100]!r}, so masks cannot be shown", f"add one, as in {_EXAMPLE}"
            )
        names = classes_of(control.labels, classes)
        labels = {names[label]: label for label in reversed(control.labels) if names[label] in classes[1:]}
        if control.labels and not labels:
            raise _error(
                f"no label of {control.name[:100]!r} is a class of the model",
                f"the classes are {', '.join(classes[1:])}",
            )
        return Controls(control.name, self.image, labels)

    def tags(self, results: Sequence[Mapping[str, object]], classes: Sequence[str]) -> tuple[str, ...]:
        """Tags of a photo from the `results` of its annotation, sorted: known classes, or new ones.

        Background, for a photo that shows nothing, is chosen, or there are no results of any kind.
        """
        if not results:
            return (BACKGROUND,)
        labels = {label for result, kind in self._own(results) for label in _labels(result, kind)}
        return merge_tags(classes_of(labels, classes).values())

    def shapes(self, results: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
        """Those of the `results` of an annotation that mark shapes."""
        return [result for result, kind in self._own(results) if kind in SHAPES]

    def _own(self, results: Sequence[Mapping[str, object]]) -> Iterator[tuple[Mapping[str, object], str]]:
        """Those of the `results` that are of one of the controls, each with the kind of it."""
        kinds = {control.name: control.kind for control in self.controls}
        for result in results:
            if isinstance(name := result.get("from_name"), str) and name in kinds:
                yield result, kinds[name]


def _labels(result: Mapping[str, object], kind: str) -> Iterator[str]:
    """The labels in the `result` of a control of this `kind`."""
    value = result.get("value")
    return label_names(value.get(kind) if isinstance(value, Mapping) else None)


def classes_of(labels: Iterable[str], classes: Sequence[str]) -> dict[str, str]:
    """The class that each label means, or the name of a new one."""
    return {label: find_class(label, classes) or class_name(label) for label in labels}


def read_interface(config: str) -> Interface:
    """Read the XML in `config`. Raises Unprocessable if it is broken, has a DOCTYPE, or has no usable controls."""
    images, controls = _elements(config)
    usable = [each for each in controls if each.to_name in images]
    if not usable:
        raise _error("has no Image with BrushLabels or Choices", f"add them, as in {_EXAMPLE}")
    first = min(usable, key=lambda each: _KINDS.index(each.kind))
    image, source = first.to_name, images[first.to_name]
    if not source.startswith("$"):
        raise _error(f"Image {image[:100]!r} does not refer to a field of a task", 'set value="$image"')
    same = [each for each in usable if each.to_name == image and (each.kind == _CHOICES) == (first.kind == _CHOICES)]
    return Interface(image, source[1:], tuple(sorted(same, key=lambda each: _KINDS.index(each.kind))))


def _elements(config: str) -> tuple[dict[str, str], list[_Control]]:
    """The source of each Image by its name, and the usable controls, in order."""
    images: dict[str, str] = {}
    controls: list[_Control] = []
    enclosing: list[_Control] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        kind, values = tag.casefold(), {name.casefold(): text for name, text in attributes.items()}
        if kind == "image":
            images[values.get("name", "")] = values.get("value", "")
        elif kind in _KINDS and values.get("perregion", "false") != "true":
            enclosing.append(_Control(kind, values.get("name", ""), values.get("toname", "")))
            controls.append(enclosing[-1])
        elif kind in ("label", "choice") and enclosing:
            enclosing[-1].labels.append(values.get("alias") or values.get("value", ""))

    def end(tag: str) -> None:
        if enclosing and tag.casefold() == enclosing[-1].kind:
            enclosing.pop()

    def refuse(*_: object) -> None:
        raise _error("has a DOCTYPE, which could define entities", "leave it out")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, refuse
    try:
        parser.Parse(config, True)
    except expat.ExpatError as error:
        raise _error(f"is broken XML ({error})", "save the project's labeling interface again") from error
    return images, controls


def _error(message: str, remedy: str) -> Unprocessable:
    return Unprocessable(f"{FIELD}: {message}; {remedy}", code="bad_label_config", field=FIELD)
