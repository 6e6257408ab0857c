"""Events of Label Studio: annotations give tags and corrections to the samples of the inbox, and take them back.

https://labelstud.io/guide/webhook_reference
"""

from collections.abc import Sequence
from functools import partial

from service.http import corrections
from service.http.endpoints import samples
from service.http.label_studio.interface import read_interface
from service.http.label_studio.request import AnnotationEvent, AnnotationsEvent, DeletionEvent, Event
from service.http.label_studio.response import ChangedSamples, IgnoredEvent, failed_item, log_refusal
from service.http.label_studio.storage import read_photo
from service.http.problems import FailedItem
from service.http.request_body import read_json
from service.http.state import State
from tagmask.areas import Marks
from tagmask.corrections import Correction
from tagmask.errors import RequestError
from tagmask.inbox import Annotation, Sample
from tagmask.label_studio_results import read_marks

_DELETIONS = ("ANNOTATIONS_DELETED", "ANNOTATION_DELETED", "TASKS_DELETED")


def carry_out(state: State, body: bytes) -> Sample | ChangedSamples | IgnoredEvent:
    """Change the samples that an event concerns, or report why there are none. Raises RequestError."""
    event = read_json(Event, body)
    if event.action in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED"):
        return _store(state, read_json(AnnotationEvent, body))
    if event.action == "ANNOTATIONS_CREATED":
        return _store_all(state, read_json(AnnotationsEvent, body))
    if event.action in _DELETIONS:
        return _delete(state, read_json(DeletionEvent, body))
    return _ignored(f"{event.action[:100]} does not change annotations")


def _store(state: State, event: AnnotationEvent) -> Sample | ChangedSamples | IgnoredEvent:
    inbox = samples.inbox_of(state)
    interface, newest = read_interface(event.project.config), event.annotation
    known = None
    if newest.id is not None:
        known = Annotation(newest.id, event.task.id, event.project.name, newest.updated_at)
    served = state.models.served
    classes = served.classes if served else ()
    results = None if newest.was_cancelled else newest.result
    tags = () if results is None else interface.tags(results, classes)
    if tags:
        settings = state.settings
        source = event.task.data.get(interface.data_field)
        photo = read_photo(source, settings.label_studio_files, settings.max_body_bytes)
        add = partial(inbox.annotate, known) if known else inbox.add
        marks = read_marks(interface.shapes(results or ()), classes, accepted=settings.label_studio_accepted)
        stored = samples.store_sample(add, photo, tags, settings.max_pixels, partial(_correction, marks))
        return stored or _ignored("a newer state of the annotation is known, or it was deleted")
    changed = inbox.clear(known) if known and event.action == "ANNOTATION_UPDATED" else None
    return _changed(changed, "the annotation was skipped, or gives the photo no tags")


def _correction(marks: Marks, size: tuple[int, int]) -> Correction | None:
    """What an annotation marks in a photo of `size`, (height, width); without what cannot be used, its tags count."""
    if not marks.areas and not marks.boxes:
        return None
    try:
        return marks.correction(size)
    except ValueError as error:
        log_refusal(corrections.refusal(f"{error}; draw the annotation again"))
        return None


def _store_all(state: State, event: AnnotationsEvent) -> ChangedSamples | IgnoredEvent:
    """Store annotations that were created at once, but not those made of predictions, which nobody has reviewed."""
    changed: list[Sample | FailedItem] = []
    for annotation, task in zip(event.annotation, event.task, strict=False):
        if annotation.parent_prediction is None:
            one = AnnotationEvent(action=event.action, annotation=annotation, task=task, project=event.project)
            try:
                stored = _store(state, one)
            except RequestError as error:
                changed.append(failed_item(error))
            else:
                changed += [stored] if isinstance(stored, Sample) else []
    return _changed(changed, "the annotations were made of predictions, or give no tags")


def _delete(state: State, event: DeletionEvent) -> ChangedSamples | IgnoredEvent:
    annotations = {each.id for each in (*event.annotations, event.annotation) if each}
    changed = samples.inbox_of(state).delete(event.project.name, annotations, {each.id for each in event.tasks})
    return _changed(changed, "no sample has tags of what was deleted")


def _changed(samples: Sequence[Sample | FailedItem] | None, otherwise: str) -> ChangedSamples | IgnoredEvent:
    return ChangedSamples(samples=list(samples)) if samples else _ignored(otherwise)


def _ignored(reason: str) -> IgnoredEvent:
    return IgnoredEvent(status="ignored", reason=reason)
