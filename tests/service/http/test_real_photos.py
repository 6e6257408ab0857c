from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from tagmask.formats import FORMATS, PNG
from tests.service.serving import serving
from tests.tagmask.test_photos import TURNED_HEIC

PHOTOS = Path(__file__).parents[3] / "../shared/data/voc-animals/JPEGImages"


def segment(client: httpx.Client, path: Path, name: str) -> httpx.Response:
    with path.open("rb") as photo:
        answer = client.post("/v1/segment", files={"image": photo}, data={"format": name, "tags": "cat,dog"})
    assert answer.status_code == 200
    return answer


def test_every_format_agrees_on_real_photos(colour_bundle: Path) -> None:
    if not PHOTOS.is_dir():
        pytest.skip(f"{PHOTOS} is absent")
    with serving(model=colour_bundle) as client:
        for path in sorted(PHOTOS.glob("*.jpg"))[::400]:
            mask = np.array(Image.open(BytesIO(segment(client, path, "png").content)))
            with Image.open(path) as photo:
                assert mask.shape == (photo.height, photo.width)
            for name, format_ in FORMATS.items():
                answer = segment(client, path, name)
                if format_.media_type == PNG:
                    assert Image.open(BytesIO(answer.content)).size == mask.shape[::-1]
                elif name == "coco":
                    rebuilt = np.zeros_like(mask)
                    for each in answer.json()["annotations"]:
                        rebuilt[rle.decode(each["segmentation"]) > 0] = each["category_id"]
                    np.testing.assert_array_equal(rebuilt, mask)
                elif name == "json":
                    counts = {each["label"]: each["pixels"] for each in answer.json()["classes"] if each["painted"]}
                    assert counts == {int(label): int((mask == label).sum()) for label in np.unique(mask)}


def test_what_an_iphone_sends(colour_bundle: Path) -> None:
    with serving(model=colour_bundle) as client:
        answer = client.post("/v1/segment", content=TURNED_HEIC, headers={"Content-Type": "image/heic"})
        assert answer.status_code == 200
        assert Image.open(BytesIO(answer.content)).size == (16, 32)
