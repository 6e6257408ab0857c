"""Whatever bytes come, the response is one that /openapi.json declares, and the server survives."""

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagmask import photos
from tagmask.formats import FORMATS
from tests.service.http.colour_photos import encoded
from tests.service.http.problems import read_problem
from tests.service.serving import serving

PHOTOS = [encoded(), encoded(kind="JPEG"), encoded(kind="GIF"), encoded(kind="WEBP"), encoded(kind="TIFF")]
PATHS = [
    "/v1/segment", "/v1/segment/batch", "/v1/samples", "/v1/models", "/v1/models/x", "/v1/models/x/activate",
    "/v1/models/rollback", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/start.js",
    "/docs/assets/swagger-ui.css", "/docs/assets/", "/", "/health", "/setup", "/predict", "/webhook",
    "/v2", "/v2/health/live", "/v2/models/tagmask", "/v2/models/tagmask/versions/x", "/v2/models/tagmask/infer",
]  # fmt: skip
PHOTO_PATHS = PATHS[:3]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"]
HEADERS = [
    "Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Content-Encoding", "Content-Type", "Cookie",
    "Expect", "Forwarded", "If-Match", "If-Modified-Since", "If-None-Match", "Origin", "Range", "TE", "Upgrade",
    "Access-Control-Request-Method", "X-API-Key", "X-Forwarded-For", "X-HTTP-Method-Override", "X-Request-ID",
]  # fmt: skip

plain = st.characters(min_codepoint=0x20, max_codepoint=0xFF, blacklist_characters="\x7f")
words = st.sampled_from(["*/*", "image/png", "application/json", "text/html;q=0", "null", "100-continue", "bytes=0-"])
values = words | st.text(plain, max_size=40)
token = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&'*+-.^_`|~", min_size=1, max_size=12)
target = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40)


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A photo with a piece replaced."""
    photo = draw(st.sampled_from(PHOTOS))
    start = draw(st.integers(0, len(photo)))
    return photo[:start] + draw(st.binary(max_size=40)) + photo[start + draw(st.integers(0, 200)) :]


bodies = st.binary(max_size=200) | mangled()
quoted = st.text(plain, max_size=12).map(lambda text: text.replace('"', "'"))


@st.composite
def parts(draw: st.DrawFn) -> bytes:
    """A part of a multipart body with the boundary `b`; most are as they should be."""
    name = draw(st.sampled_from(["image", "image", "tags", "format", "refine", "tile"]) | quoted)
    file = draw(st.booleans()) if name != "image" else draw(st.integers(0, 9)) > 0
    options = st.sampled_from(["cat", "dog,cat", "crf", "none", "32", *FORMATS]).map(str.encode)
    data = draw(st.sampled_from(PHOTOS) | bodies if file else options | st.binary(max_size=20))
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"'
    if file:
        head += f'; filename="{draw(quoted)}"'
    return head.encode("latin-1") + b"\r\n\r\n" + data + b"\r\n"


@st.composite
def multipart(draw: st.DrawFn) -> bytes:
    """A multipart body, sometimes cut off or with rubbish in it."""
    body = b"".join(draw(st.lists(parts(), max_size=5))) + b"--b--\r\n"
    if draw(st.integers(0, 3)) == 0:
        start = draw(st.integers(0, len(body)))
        body = body[:start] + draw(st.binary(max_size=20)) + draw(st.sampled_from([b"", body[start:]]))
    return body


@pytest.fixture(scope="module")
def client(colour_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    limits: dict[str, Any] = {"max_pixels": 100_000, "max_body_bytes": 20_000, "max_batch_bytes": 30_000}
    inbox = tmp_path_factory.mktemp("inbox")
    with serving(model=colour_bundle, inbox=inbox, log_level="error", **limits) as client:
        yield client
        assert client.get("/livez").status_code == 200


@pytest.fixture(scope="module")
def declared(client: httpx.Client) -> dict[str, dict[str, Any]]:
    return client.get("/openapi.json").json()["paths"]


def send(client: httpx.Client, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> httpx.Response:
    """The answer to what httpx would refuse to send."""
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=20)
    try:
        connection.request(method, path, body=body, headers={name.encode(): text for name, text in headers.items()})
        answer = connection.getresponse()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())
    finally:
        connection.close()


def check(declared: dict[str, dict[str, Any]], method: str, path: str, answer: httpx.Response) -> None:
    """The response is declared for the path, and errors have their common shape."""
    path = path.partition("?")[0]
    operations = [
        described[method.lower().replace("head", "get")]
        for template, described in declared.items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        and method.lower().replace("head", "get") in described
    ]
    allowed = {int(status) for operation in operations for status in operation["responses"]} - {500}
    if not operations:
        pages = path == "/" or path.startswith(("/docs/", "/page/"))
        allowed = {200, 304, 404, 405} if pages else {404, 405}
    assert answer.status_code in allowed
    if answer.status_code >= 400 and method != "HEAD":
        if path == "/v2" or path.startswith("/v2/"):  # which has a shape of its own
            assert isinstance(answer.json()["error"], str)
        else:
            read_problem(answer)
    assert "X-Request-ID" in answer.headers


many = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@many
@given(path=st.sampled_from(PHOTO_PATHS), body=bodies, kind=st.sampled_from(photos.MEDIA_TYPES) | values)
def test_any_body_of_any_type(
    client: httpx.Client, declared: dict[str, Any], path: str, body: bytes, kind: str
) -> None:
    path += "?tags=cat"
    check(declared, "POST", path, send(client, "POST", path, body, {"Content-Type": kind}))


@many
@given(
    path=st.sampled_from(PHOTO_PATHS),
    body=multipart(),
    more=st.sampled_from(["", "; charset=utf-8", "; charset=utf-16", "; charset=unicode_escape", "; charset=x"])
    | quoted.map("; charset={}".format),
)
def test_any_multipart_body(client: httpx.Client, declared: dict[str, Any], path: str, body: bytes, more: str) -> None:
    answer = send(client, "POST", path, body, {"Content-Type": f"multipart/form-data; boundary=b{more}"})
    check(declared, "POST", path, answer)


@many
@given(
    method=st.sampled_from(METHODS) | token,
    path=st.sampled_from(PATHS) | st.tuples(st.sampled_from(PATHS), target).map("".join) | target.map("/{}".format),
    query=st.none()
    | target
    | st.sampled_from(["tags=cat", "format=json", "refine=x", "tile=32", "tags=%ff%00", "image=1"]),
    headers=st.dictionaries(st.sampled_from(HEADERS), values, max_size=4),
    body=st.none() | st.binary(max_size=20),
)
def test_any_method_path_query_and_headers(
    client: httpx.Client,
    declared: dict[str, Any],
    method: str,
    path: str,
    query: str | None,
    headers: dict[str, str],
    body: bytes | None,
) -> None:
    path = path.replace("#", "").replace("?", "")
    target = path if query is None else f"{path}?{query}"
    check(declared, method, target, send(client, method, target, body, headers))


@many
@given(data=st.binary(max_size=100) | st.binary(max_size=100).map(b"POST /v1/segment HTTP/1.1\r\nHost: a\r\n".__add__))
def test_any_bytes_at_all(client: httpx.Client, data: bytes) -> None:
    """HTTP or not; what is no HTTP is answered 400 or not at all."""
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=20)
    connection.connect()
    connection.sock.sendall(data + b"\r\n\r\n")
    connection.sock.shutdown(1)
    answer = b""
    while piece := connection.sock.recv(65536):
        answer += piece
    connection.close()
    assert answer == b"" or re.match(rb"HTTP/1\.1 (4\d\d|200|100) ", answer)
