"""The bodies of answers, as JSON Schema: components of the OpenAPI document."""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}


def schemas() -> dict[str, Schema]:
    """Every component by name."""
    return _documents() | _others() | _of_kserve() | _of_label_studio()


def reference(name: str) -> Schema:
    """A reference to the component `name`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {"type": "object", "properties": required | optional, "required": list(required)}


def _list(items: Schema, length: int | None = None) -> Schema:
    exact = {} if length is None else {"minItems": length, "maxItems": length}
    return {"type": "array", "items": items, **exact}


def _or_null(kind: str) -> Schema:
    return {"type": [kind, "null"]}


DOCUMENTS = ("Everything", "Coco", "Polygons", "LabelStudio", "Cvat")
"""What a photo's answer in JSON may be."""


def _documents() -> dict[str, Schema]:
    box, size = _list(_COUNT, 4), _object({"width": _COUNT, "height": _COUNT})
    found = _object(
        {"label": _COUNT, "name": TEXT, "colour": _list(_COUNT, 3), "pixels": _COUNT, "share": _SHARE}
        | {"confidence": _SHARE, "box": box}
    )
    runs = _object({"size": _list(_COUNT, 2), "counts": TEXT})
    annotation = _object(
        {"id": _COUNT, "image_id": _COUNT, "category_id": _COUNT, "segmentation": runs, "area": _COUNT, "bbox": box}
        | {"iscrowd": {"const": 0}, "score": _SHARE}
    )
    image = _object({"id": _COUNT, "width": _COUNT, "height": _COUNT})
    category = _object({"id": _COUNT, "name": TEXT, "supercategory": TEXT})
    ring = _list(_list(_COUNT, 2))
    polygon = _object({"class": TEXT, "label": _COUNT, "exterior": ring, "holes": _list(ring), "area": _COUNT})
    brush = _object({"format": {"const": "rle"}, "rle": _list(_COUNT), "brushlabels": _list(TEXT, 1)})
    result = _object(
        {"id": TEXT, "type": {"const": "brushlabels"}, "from_name": TEXT, "to_name": TEXT, "original_width": _COUNT}
        | {"original_height": _COUNT, "image_rotation": _COUNT, "value": brush, "score": _SHARE}
    )
    shape = _object({"type": {"const": "mask"}, "frame": _COUNT, "label": TEXT, "points": _list(_COUNT)})
    return {
        "Everything": _object(
            {"model": _object({"version": TEXT}), "size": size, "classes": _list(found), "labels": _list(TEXT)}
            | {"mask": _object({"media_type": TEXT, "base64": TEXT})}
        ),
        "Coco": _object(
            {"info": _object({"version": TEXT}), "images": _list(image, 1), "categories": _list(category)}
            | {"annotations": _list(annotation)}
        ),
        "Polygons": _object({"size": size, "model": TEXT, "polygons": _list(polygon)}),
        "LabelStudio": _object({"model_version": TEXT, "score": _SHARE, "result": _list(result)}),
        "Cvat": _object({"version": _COUNT, "tags": _list({}), "tracks": _list({}), "shapes": _list(shape)}),
    }


def _others() -> dict[str, Schema]:
    refused = _object({"version": TEXT, "reason": TEXT, "since": TEXT})
    model = _object(
        {"version": TEXT, "serving": _FLAG},
        created=TEXT, classes=_list(TEXT), working_size=_COUNT, backbone=TEXT, precision=TEXT, rounds=_COUNT,
        photos=_COUNT, data_digest=TEXT, supervision=TEXT, saliency=TEXT, metrics={"type": "object"}, sha256=TEXT,
        fault={"type": "string", "description": "why the bundle cannot be read"},
    )  # fmt: skip
    picture: Schema = {"type": "string", "contentEncoding": "base64"}
    answer = _object(
        {"index": _COUNT, "name": TEXT, "status": _COUNT},
        media_type=TEXT,
        result={"anyOf": [picture, *map(reference, DOCUMENTS)]},
        error=_error(),
    )
    ready: Schema = {"status": {"const": "ready"}, "model": TEXT, "provider": TEXT}
    return {
        "Problem": _object({"type": TEXT, "title": TEXT, "status": _COUNT, "detail": TEXT, "error": _error()}),
        "Batch": _object({"model": TEXT, "format": TEXT, "answers": _list(answer)}),
        "Sample": _object({"id": TEXT, "tags": _list(TEXT), "created": _FLAG}),
        "Model": model,
        "Models": _object({"models": _list(model)}),
        "Alive": _object({"status": {"const": "alive"}}),
        "Ready": _object(ready | {"refused": {"anyOf": [refused, {"type": "null"}]}}),
    }


def _of_kserve() -> dict[str, Schema]:
    tensor = _object({"name": TEXT, "datatype": TEXT, "shape": _list({"type": "integer"})})
    output = _object(
        {"name": TEXT, "datatype": TEXT, "shape": _list(_COUNT)}, data=_list({}), parameters={"type": "object"}
    )
    return {
        "V2Live": _object({"live": _FLAG}),
        "V2Ready": _object({"ready": _FLAG}),
        "V2Server": _object({"name": TEXT, "version": TEXT, "extensions": _list(TEXT)}),
        "V2Model": _object(
            {"name": TEXT, "versions": _list(TEXT), "platform": TEXT, "inputs": _list(tensor), "outputs": _list(tensor)}
        ),
        "V2ModelReady": _object({"name": TEXT, "ready": _FLAG}),
        "V2Answer": _object({"model_name": TEXT, "model_version": TEXT, "outputs": _list(output)}, id=TEXT),
        "V2Error": _object({"error": TEXT}),
    }


def _of_label_studio() -> dict[str, Schema]:
    at_fault = _object({"error": _error()})
    ignored = _object({"status": {"const": "ignored"}, "reason": TEXT})
    return {
        "Health": _object({"status": {"const": "UP"}, "model_class": TEXT}),
        "Setup": _object({"model_version": TEXT}),
        "Predictions": _object(
            {"model_version": TEXT, "results": _list({"anyOf": [reference("LabelStudio"), at_fault]})}
        ),
        "Heard": {"anyOf": [reference("Sample"), ignored]},
    }


def _error() -> Schema:
    return _object(
        {"code": TEXT, "message": TEXT, "field": _or_null("string"), "limit": {}, "request_id": _or_null("string")}
    )
