"""Requests of every kind for `benchmarks.soak`, good and faulty, and a judge of the responses."""

import base64
import hashlib
import json
import random
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import httpx
import numpy as np
from PIL import Image

from benchmarks.load import Response, form
from tagmask.formats import FORMATS

ADMIN_KEY = "soak-admin-key-of-enough-length"
KEY = {"X-API-Key": ADMIN_KEY}
"""The header that requests send."""
URL = "http://localhost"
_PHOTOS, _SIDES = 60, (64, 2000)


@dataclass(frozen=True)
class Case:
    """A request, the expected status, and for a good one the format and the photo's (width, height)."""

    name: str
    sent: httpx.Request
    status: int = 200
    format: str = ""
    size: tuple[int, int] = (0, 0)


def cases(tags: Sequence[str]) -> tuple[list[Case], list[Case]]:
    """Good and faulty requests; `tags` are classes that both models know."""
    draw = random.Random(0)
    photos = [_photo(draw) for _ in range(_PHOTOS)]
    good = []
    for index, (photo, size) in enumerate(photos):
        for name in FORMATS:
            fields = {"format": name} | ({"tags": draw.choice(tags)} if tags and draw.random() < 0.5 else {})
            if draw.random() < 0.05:
                fields["refine"] = "crf"
            sent = form("/v1/segment", photo, fields, headers=KEY)
            good.append(Case(f"photo {index} as {name}", sent, 200, name, size))
    return good, _faulty(photos[0][0])


def _photo(draw: random.Random) -> tuple[bytes, tuple[int, int]]:
    """A picture of soft blobs as JPEG, PNG or WebP, and its (width, height)."""
    low, high = np.log(_SIDES)
    width, height = (round(float(np.exp(draw.uniform(low, high)))) for _ in range(2))
    blobs = np.random.default_rng(draw.randrange(1 << 30)).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)
    target = BytesIO()
    picture.save(target, draw.choice(["JPEG", "JPEG", "PNG", "WEBP"]))
    return target.getvalue(), (width, height)


def _faulty(photo: bytes) -> list[Case]:
    header = b"IHDR" + struct.pack(">II5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header)) + b"\0\1\0\0IDAT"

    def segment(name: str, status: int, data: bytes, **fields: str) -> Case:
        return Case(name, form("/v1/segment", data, fields, headers=KEY), status)

    return [
        segment("truncated photo", 422, photo[: len(photo) // 2]),
        segment("text as a photo", 422, b"no photo at all"),
        segment("URL as a photo", 422, b"https://example.org/photo.jpg"),
        segment("PDF as a photo", 415, b"%PDF-1.7 no photo"),
        segment("bomb", 413, bomb),
        segment("unknown tag", 422, photo, tags="no-such-class"),
        segment("unknown format", 422, photo, format="gif"),
        Case("no file", httpx.Request("POST", f"{URL}/v1/segment", json={}, headers=KEY), 415),
        Case("no key", form("/v1/segment", photo), 401),
        Case("unknown path", httpx.Request("GET", f"{URL}/v1/nothing", headers=KEY), 404),
        Case("wrong method", httpx.Request("GET", f"{URL}/v1/segment", headers=KEY), 405),
    ]


class Judge:
    """Checks every response; `faults` are what is wrong, `versions` counts the responses of each model."""

    def __init__(self, versions: Sequence[str]) -> None:
        self.faults: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.versions: Counter[str] = Counter(dict.fromkeys(versions, 0))
        self._seen: dict[tuple[str, str], bytes] = {}

    def check(self, case: Case, answer: Response) -> None:
        """A good response names its model in header and body, and the same model always returns the same bytes."""
        self.statuses[answer.status] += 1
        version = answer.headers.get("x-model-version", "")
        if answer.status != case.status:
            self.faults.append(f"{case.name}: {answer.status}, {case.status} was due: {answer.body[:300]!r}")
        elif case.status != 200:
            if "code" not in json.loads(answer.body)["error"]:
                self.faults.append(f"{case.name}: an error without a code: {answer.body[:300]!r}")
        elif version not in self.versions:
            self.faults.append(f"{case.name}: X-Model-Version is {version!r}")
        else:
            self.versions[version] += 1
            digest = hashlib.blake2b(answer.body).digest()
            if self._seen.setdefault((case.name, version), digest) != digest:
                self.faults.append(f"{case.name}: model {version} gave two different answers")
            if why := _wrong(case, answer.body, version):
                self.faults.append(f"{case.name}: {why}")

    def twins(self) -> int:
        """Number of requests for which both models returned the same bytes, which does not show who responded."""
        one, other = self.versions
        return sum(self._seen.get((name, other)) == digest for (name, who), digest in self._seen.items() if who == one)


def _wrong(case: Case, body: bytes, version: str) -> str:
    """What is wrong with the size or the model of a mask, if its format contains them; else ""."""
    if case.format == "json":
        document = json.loads(body)
        if document["model"]["version"] != version:
            return f"the document is of model {document['model']['version']}, the header says {version}"
        body = base64.b64decode(document["mask"]["base64"])
    if case.format in ("png", "json"):
        picture = Image.open(BytesIO(body))
        if picture.size != case.size:
            return f"a mask of {picture.size}, the photo has {case.size}"
        if picture.info.get("model") != version:
            return f"the mask is of model {picture.info.get('model')}, the header says {version}"
    return ""
