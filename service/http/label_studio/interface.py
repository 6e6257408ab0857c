"""A project's labelling interface: the XML that names its controls and their labels.

https://labelstud.io/tags
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from tagmask.errors import Unprocessable
from tagmask.formats.label_studio import Controls
from tagmask.masks import BACKGROUND

FIELD = "label_config"
_BRUSH, _CHOICES = "brushlabels", "choices"
_EXAMPLE = '<View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image">...</BrushLabels></View>'


@dataclass
class _Control:
    """An element that is applied to another one, and its labels."""

    kind: str
    name: str
    applied_to: str
    labels: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Interface:
    """What of a labelling interface is of use: its `image`, in the field `data_field` of a task's data, and `controls`.

    These are all BrushLabels of that image, or else all its Choices.
    """

    image: str
    data_field: str
    controls: tuple[_Control, ...]

    def brush(self, classes: Sequence[str]) -> Controls:
        """What a prediction calls things, by the first BrushLabels, for a model with these `classes`.

        Raises Unprocessable without BrushLabels, and when none of its labels is a class.
        """
        control = self.controls[0]
        if control.kind != _BRUSH:
            raise _unfit(
                f"has no BrushLabels for {self.image!r}, so masks cannot be shown", f"add one, as in {_EXAMPLE}"
            )
        meant = classes_of(control.labels, classes)
        labels = {meant[label]: label for label in reversed(control.labels) if meant[label] in classes[1:]}
        if control.labels and not labels:
            raise _unfit(f"no label of {control.name!r} is a class of the model", f"it knows {', '.join(classes[1:])}")
        return Controls(control.name, self.image, labels)

    def tags(self, results: Sequence[Mapping[str, object]], classes: Sequence[str]) -> tuple[str, ...]:
        """Tags of a photo by the `results` of its annotation, sorted: the classes that labels mean, or new ones."""
        given = {label for result in results for label in self._labels(result)}
        return tuple(sorted({*classes_of(given, classes).values()} - {BACKGROUND}))

    def _labels(self, result: Mapping[str, object]) -> Iterator[str]:
        for control in self.controls:
            value = result.get("value")
            if result.get("from_name") == control.name and isinstance(value, Mapping):
                labels = value.get(control.kind)
                yield from (label for label in labels if isinstance(label, str)) if isinstance(labels, list) else ()


def classes_of(labels: Iterable[str], classes: Sequence[str]) -> dict[str, str]:
    """The class that each label means, whatever the case of its letters, or makes anew. Hyphens join its words."""
    known = {name.casefold(): name for name in reversed(classes)}
    tags = {label: "-".join(label.split()) for label in labels}
    return {label: known.get(tag.casefold(), tag) for label, tag in tags.items()}


def read_interface(config: str) -> Interface:
    """Read the XML in `config`. Raises Unprocessable if it is broken, has a DOCTYPE, or has nothing that is of use."""
    images, controls = _elements(config)
    fitting = [each for each in controls if each.applied_to in images]
    if not fitting:
        raise _unfit("has no Image with BrushLabels or Choices", f"add them, as in {_EXAMPLE}")
    first = next((each for each in fitting if each.kind == _BRUSH), fitting[0])
    image, source = first.applied_to, images[first.applied_to]
    if not source.startswith("$"):
        raise _unfit(f"Image {image!r} shows no field of a task", 'give it value="$image"')
    chosen = [each for each in fitting if (each.kind, each.applied_to) == (first.kind, image)]
    return Interface(image, source[1:], tuple(chosen))


def _elements(config: str) -> tuple[dict[str, str], list[_Control]]:
    """Each Image's source by its name, and the controls that may be of use, in order."""
    images: dict[str, str] = {}
    controls: list[_Control] = []
    within: list[_Control] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        kind, told = tag.casefold(), {name.casefold(): text for name, text in attributes.items()}
        if kind == "image":
            images[told.get("name", "")] = told.get("value", "")
        elif kind in (_BRUSH, _CHOICES) and told.get("perregion", "false") != "true":
            within.append(_Control(kind, told.get("name", ""), told.get("toname", "")))
            controls.append(within[-1])
        elif kind in ("label", "choice") and within:
            within[-1].labels.append(told.get("alias") or told.get("value", ""))

    def end(tag: str) -> None:
        if within and tag.casefold() == within[-1].kind:
            within.pop()

    def refuse(*_: object) -> None:
        raise _unfit("has a DOCTYPE, which could define entities", "leave it out")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, refuse
    try:
        parser.Parse(config, True)
    except expat.ExpatError as fault:
        raise _unfit(f"is broken XML ({fault})", "save the project's labelling interface again") from fault
    return images, controls


def _unfit(message: str, remedy: str) -> Unprocessable:
    return Unprocessable(f"{FIELD}: {message}; {remedy}", code="bad_label_config", field=FIELD)
