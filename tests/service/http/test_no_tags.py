"""No tags mean every class, in whatever way and wherever they are not named."""

import base64
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tagmask import Client, Segmenter
from tagmask.masks import read_mask
from tests.service.http.colour_photos import CAT, MASK, Mask, decoded, encoded, only
from tests.service.serving import serving

PHOTO = encoded()
IN_BASE64 = base64.b64encode(PHOTO).decode()


def form(http: httpx.Client, *tags: str) -> Mask:
    return decoded(http.post("/v1/segment", files={"image": PHOTO}, data={"tags": list(tags)}).content)


def query(http: httpx.Client, *tags: str) -> Mask:
    headers = {"Content-Type": "image/png"}
    return decoded(http.post("/v1/segment", params={"tags": list(tags)}, content=PHOTO, headers=headers).content)


def batch(http: httpx.Client, *tags: str) -> Mask:
    answer = http.post("/v1/segment/batch", files={"image": PHOTO}, data={"tags": list(tags), "format": "png"})
    return decoded(base64.b64decode(answer.json()["answers"][0]["result"]))


def kserve(http: httpx.Client, *tags: list[str]) -> Mask:
    inputs: list[dict[str, Any]] = [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [IN_BASE64]}]
    inputs += [{"name": "tags", "datatype": "BYTES", "shape": [len(names)], "data": names} for names in tags]
    (output,) = http.post("/v2/models/tagmask/infer", json={"inputs": inputs}).json()["outputs"]
    return np.array(output["data"], dtype=np.uint8).reshape(output["shape"])


def label_studio(http: httpx.Client, decode_rle: Callable[[list[int]], Any], *labels: str) -> Mask:
    config = "".join(f'<Label value="{label}"/>' for label in labels)
    brush = f'<BrushLabels name="tag" toName="image">{config}</BrushLabels>'
    task = {"data": {"image": f"data:image/png;base64,{IN_BASE64}"}}
    body = {"tasks": [task], "label_config": f'<View><Image name="image" value="$image"/>{brush}</View>'}
    mask = np.zeros_like(MASK)
    for each in http.post("/predict", json=body).json()["results"][0]["result"]:
        pixels = decode_rle(each["value"]["rle"]).reshape(*mask.shape, 4)[..., 3] == 255
        mask[pixels] = ("background", "cat", "dog").index(each["value"]["brushlabels"][0])
    return mask


def test_every_way_in(
    colour_bundle: Path, decode_rle: Callable[[list[int]], Any], command: Callable[..., Any], tmp_path: Path
) -> None:
    def cli(*options: str) -> Mask:
        (tmp_path / "photo.png").write_bytes(PHOTO)
        command("segment", tmp_path / "photo.png", "--model", colour_bundle, "--out", tmp_path / "out", *options)
        return read_mask(tmp_path / "out" / "photo.png")

    with (
        serving(model=colour_bundle, log_level="error") as http,
        Client(str(http.base_url)) as client,
        Segmenter.load(colour_bundle, device="cpu", threads=1) as segmenter,
    ):
        for way in (form, query, batch):
            for none in ((), ("",), (" , ", "")):
                np.testing.assert_array_equal(way(http, *none), MASK)
            np.testing.assert_array_equal(way(http, "", "cat"), only(CAT))
        for segment in (client.segment, segmenter.segment):
            np.testing.assert_array_equal(segment(PHOTO).mask, MASK)
            for tags in ((), [], None, "", [""], " ,", iter(())):
                np.testing.assert_array_equal(segment(PHOTO, tags=tags).mask, MASK)
            np.testing.assert_array_equal(segment(PHOTO, tags=["", "cat"]).mask, only(CAT))
        for ask in (partial(kserve, http), partial(kserve, http, []), partial(kserve, http, [""])):
            np.testing.assert_array_equal(ask(), MASK)
        np.testing.assert_array_equal(kserve(http, ["cat"]), only(CAT))
        np.testing.assert_array_equal(label_studio(http, decode_rle), MASK)
        np.testing.assert_array_equal(label_studio(http, decode_rle, "cat") == CAT, MASK == CAT)
    for options in ((), ("--tags", ""), ("--tags", " ,")):
        np.testing.assert_array_equal(cli(*options), MASK)
    np.testing.assert_array_equal(cli("--tags", "cat"), only(CAT))
