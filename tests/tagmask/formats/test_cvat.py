import numpy as np
import pytest
from cvat_sdk.api_client.models import LabeledDataRequest, LabeledShapeRequest, ShapeType
from cvat_sdk.masks import decode_mask, encode_mask

from tagmask.formats import cvat
from tagmask.segmentation import Pixels
from tests.tagmask.formats.segmentations import CLASSES, MASKS, parse, segmentation


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_shapes_are_what_cvat_writes_and_read_back_as_the_mask(mask: Pixels) -> None:
    height, width = mask.shape
    rebuilt = np.zeros_like(mask)
    for shape in parse(cvat.encode(segmentation(mask)))["shapes"]:
        label = CLASSES.index(shape["label"])
        assert shape["points"] == encode_mask(mask == label)
        rebuilt[decode_mask(shape["points"], image_width=width, image_height=height)] = label
    np.testing.assert_array_equal(rebuilt, mask)


def test_cvat_takes_the_document_once_labels_have_ids() -> None:
    document = parse(cvat.encode(segmentation(MASKS["blobs"])))
    shapes = []
    for shape in document.pop("shapes"):
        fields = {"label_id": CLASSES.index(shape.pop("label"))} | shape
        assert set(fields) <= set(LabeledShapeRequest.attribute_map)
        shapes.append(LabeledShapeRequest(**fields | {"type": ShapeType(fields["type"])}))
        assert shapes[-1].to_dict().items() >= shape.items()
    assert len(shapes) == 3
    assert set(document) <= set(LabeledDataRequest.attribute_map)
    assert LabeledDataRequest(**document, shapes=shapes).shapes == shapes
