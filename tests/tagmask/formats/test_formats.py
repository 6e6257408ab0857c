"""What holds for every format."""

import json
from io import BytesIO

import pytest
from PIL import Image
from pydantic import TypeAdapter

from tagmask.formats import FORMATS, Format
from tests.tagmask.formats.segmentations import MASKS, segmentation


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
@pytest.mark.parametrize("format_", [each for each in FORMATS.values() if each.document], ids=lambda each: each.name)
def test_documents_are_of_the_declared_type(format_: Format, name: str) -> None:
    """Validation drops unknown fields, so the same bytes mean that there are none."""
    answer = format_.encode(segmentation(MASKS[name]))
    declared = TypeAdapter(format_.document)
    assert declared.dump_json(declared.validate_json(answer, strict=True)) == answer
