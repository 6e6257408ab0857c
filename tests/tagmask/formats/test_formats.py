"""What holds for every format."""

import json
from io import BytesIO
from typing import Any, get_args

import pytest
from PIL import Image
from pydantic import TypeAdapter

from tagmask.formats import FORMATS, JSON, Format, JsonDocument
from tagmask.formats.coco import CocoDocument
from tagmask.formats.cvat import CvatDocument
from tagmask.formats.json_document import SegmentationDocument
from tagmask.formats.label_studio import LabelStudioPrediction
from tagmask.formats.polygons import PolygonsDocument
from tests.tagmask.formats.segmentations import MASKS, segmentation

DOCUMENTS: dict[str, Any] = {
    "coco": CocoDocument,
    "polygons": PolygonsDocument,
    "label-studio": LabelStudioPrediction,
    "cvat": CvatDocument,
    "json": SegmentationDocument,
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("format_", FORMATS.values(), ids=FORMATS.keys())
def test_the_same_segmentation_gives_the_same_bytes_of_the_declared_type(format_: Format, name: str) -> None:
    answer = format_.encode(segmentation(MASKS[name]))
    assert answer == format_.encode(segmentation(MASKS[name].copy()))
    if format_.media_type == "image/png":
        assert Image.open(BytesIO(answer)).format == "PNG"
    else:
        assert isinstance(json.loads(answer), dict)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("format_", DOCUMENTS)
def test_documents_are_of_their_declared_type(format_: str, name: str) -> None:
    """Validation drops unknown fields, so equality means that there are none."""
    answer = FORMATS[format_].encode(segmentation(MASKS[name]))
    declared = TypeAdapter[Any](DOCUMENTS[format_])
    assert json.loads(declared.dump_json(declared.validate_json(answer, strict=True))) == json.loads(answer)


def test_every_json_format_has_a_declared_type() -> None:
    assert set(DOCUMENTS) == {each.name for each in FORMATS.values() if each.media_type == JSON}
    assert set(DOCUMENTS.values()) == set(get_args(JsonDocument))
