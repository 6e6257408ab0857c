"""Every error of a request is reported in one shape, with its code, field and limit."""

import asyncio
import socket
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request

from service.http import problems
from tagmask import photos
from tagmask.errors import BadRequest
from tests.service.http.colour_photos import MASK, decoded, encoded, picture, png_header
from tests.service.http.problems import assert_problem
from tests.service.http.sockets import connect, exchange, post
from tests.service.serving import serving

PHOTO = encoded()
BYTES, PIXELS, TAGS = 20_000, 20_000, 3
FORMATS = "png, confidence, overlay, coco, polygons, label-studio, cvat, json"
SEGMENT = ["/v1/segment", "/v1/segment/batch"]
EVERY = [*SEGMENT, "/v1/samples"]


@pytest.fixture(scope="module")
def client(colour_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    limits = {"max_body_bytes": BYTES, "max_batch_bytes": BYTES, "max_pixels": PIXELS, "max_tags": TAGS, "max_files": 2}
    with serving(model=colour_bundle, inbox=tmp_path_factory.mktemp("inbox"), **limits) as client:
        yield client


JPEG = encoded(kind="JPEG")
BAD_PHOTOS = {
    "text": (b"hello, this is no photo", 422, "not_an_image", None),
    "html": (b"<!doctype html><title>404</title>", 422, "not_an_image", None),
    "base64": (b"iVBORw0KGgoAAAANSUhEUgAA", 422, "not_an_image", None),
    "zeros": (bytes(500), 422, "not_an_image", None),
    "zip": (b"PK\x03\x04" + bytes(40), 422, "not_an_image", None),
    "half a jpeg": (JPEG[: len(JPEG) // 2], 422, "truncated_image", None),
    "half a png": (PHOTO[: len(PHOTO) // 2], 422, "truncated_image", None),
    "a jpeg's first bytes": (JPEG[:4], 422, "truncated_image", None),
    "garbage after a signature": (PHOTO[:8] + b"\xa5" * 300, 422, "broken_image", None),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://x/"/></svg>', 415, "unsupported_image", None),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", 415, "unsupported_image", None),
    "postscript": (b"%!PS-Adobe-3.0\n", 415, "unsupported_image", None),
    "icon": (b"\0\0\x01\0\x01\0\x10\x10" + bytes(40), 415, "unsupported_image", None),
    "bomb": (png_header(50_000, 50_000), 413, "too_many_pixels", PIXELS),
    "just too many pixels": (png_header(PIXELS // 4 + 1, 4), 413, "too_many_pixels", PIXELS),
    "url": (b"https://example.com/cat.jpg", 422, "url_not_fetched", None),
}


@pytest.mark.parametrize(("photo", "status", "code", "limit"), BAD_PHOTOS.values(), ids=BAD_PHOTOS.keys())
@pytest.mark.parametrize("path", ["/v1/segment", "/v1/samples"])
def test_bad_photos(client: httpx.Client, path: str, photo: bytes, status: int, code: str, limit: int | None) -> None:
    form = client.post(path, files={"image": ("cat.jpg", photo, "image/jpeg")}, data={"tags": "cat"})
    assert_problem(form, status, code, "image", limit)
    raw = client.post(path, content=photo, params={"tags": "cat"}, headers={"Content-Type": "image/jpeg"})
    assert_problem(raw, status, code, "image", limit)


def test_unsupported_formats_are_reported_with_the_supported_ones(client: httpx.Client) -> None:
    answer = client.post("/v1/segment", files={"image": b"%PDF-1.7"})
    assert all(media_type in answer.json()["detail"] for media_type in photos.MEDIA_TYPES)


def test_a_photo_at_the_pixel_limit_is_accepted(client: httpx.Client) -> None:
    mask = np.zeros((PIXELS // 200, 200), dtype=np.uint8)
    answer = client.post("/v1/segment", files={"image": encoded(picture(mask))})
    assert decoded(answer.content).shape == mask.shape


class TestTooManyBytes:
    LARGE = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)), "BMP")

    @pytest.mark.parametrize("path", EVERY)
    def test_with_content_length(self, client: httpx.Client, path: str) -> None:
        for body in (
            {"files": {"image": self.LARGE}},
            {"content": self.LARGE, "headers": {"Content-Type": "image/bmp"}},
        ):
            assert_problem(client.post(path, **body), 413, "too_many_bytes", "image", BYTES)

    @pytest.mark.parametrize("times", [1, 100])
    def test_in_chunks(self, client: httpx.Client, times: int) -> None:
        """Also to a client that goes on sending, far beyond what is read."""
        pieces = (self.LARGE for _ in range(times))
        answer = client.post("/v1/segment", content=pieces, headers={"Content-Type": "image/bmp"})
        assert_problem(answer, 413, "too_many_bytes", "image", BYTES)

    def test_expect_100_continue_gets_413_before_the_body(self, client: httpx.Client) -> None:
        head = post("/v1/segment", Content_Type="image/png", Content_Length="1000000000", Expect="100-continue")
        answer = exchange(client, head)
        assert_problem(answer, 413, "too_many_bytes", "image", BYTES)

    def test_expect_100_continue_is_answered(self, client: httpx.Client) -> None:
        head = post("/v1/segment", Content_Type="image/png", Content_Length=str(len(PHOTO)), Expect="100-continue")
        with connect(client) as connection:
            connection.sendall(head)
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
            connection.sendall(PHOTO)
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")

    def test_a_body_at_the_limit_is_accepted(self, client: httpx.Client) -> None:
        photo = PHOTO + bytes(BYTES - len(PHOTO))
        assert client.post("/v1/segment", content=photo, headers={"Content-Type": "image/png"}).status_code == 200


class TestFields:
    @pytest.mark.parametrize("path", EVERY)
    def test_no_photo(self, client: httpx.Client, path: str) -> None:
        empty_form = {"content": b"--x--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}
        for body in (
            {"files": {"tags": (None, "cat")}},
            {"files": {"image": ("", b""), "tags": (None, "cat")}},  # a browser's field that was left empty
            {"content": b"", "headers": {"Content-Type": "image/jpeg"}, "params": {"tags": "cat"}},
            empty_form | {"params": {"tags": "cat"}},
        ):
            assert_problem(client.post(path, **body), 422, "missing_file", "image")

    def test_an_empty_file(self, client: httpx.Client) -> None:
        assert_problem(client.post("/v1/segment", files={"image": ("a.png", b"")}), 422, "empty_image", "image")

    def test_a_file_sent_as_text(self, client: httpx.Client) -> None:
        error = assert_problem(client.post("/v1/segment", files={"image": (None, "x")}), 422, "missing_file", "image")
        assert "curl -F image=@photo.jpg" in error["message"]

    @pytest.mark.parametrize("path", EVERY)
    def test_a_url_is_not_fetched(self, client: httpx.Client, path: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as bait:
            url = "http://{}:{}/cat.jpg".format(*bait.getsockname())
            svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'
            places: list[tuple[dict[str, Any], str]] = [
                ({"files": {"image": (None, url)}}, "url_not_fetched"),
                ({"files": {"image": (None, f" {url.upper()}")}}, "url_not_fetched"),
                ({"files": {"image": (None, url.removeprefix("http:"))}}, "missing_file"),
                ({"files": {"image": ("cat.jpg", url.encode())}}, "url_not_fetched"),
                ({"files": {"image": (url, JPEG[:100])}}, "truncated_image"),
                ({"files": {"image": ("cat.svg", svg.encode())}}, "unsupported_image"),
                ({"files": {"url": (None, url)}}, "unknown_field"),
                ({"content": url.encode(), "headers": {"Content-Type": "image/jpeg"}}, "url_not_fetched"),
                ({"json": {"image": url}}, "unsupported_type"),
                ({"data": {"image": url}}, "unsupported_type"),
                ({"files": {"image": PHOTO}, "params": {"image": url, "tags": "cat"}}, "unknown_field"),
            ]
            for place, code in places:
                body = client.post(path, **{"params": {"tags": "cat"}} | place).json()
                for each in body.get("answers", [body]):
                    assert each["error"]["code"] == code
            bait.settimeout(0.2)
            with pytest.raises(TimeoutError):
                bait.accept()

    @pytest.mark.parametrize(("path", "most"), [("/v1/segment", 1), ("/v1/segment/batch", 2), ("/v1/samples", 1)])
    @pytest.mark.parametrize("more", [1, 2, 10])
    def test_too_many_files(self, client: httpx.Client, path: str, most: int, more: int) -> None:
        files = [("image", (f"{index}.png", PHOTO)) for index in range(most + more)]
        assert_problem(client.post(path, files=files), 413, "too_many_files", "image", most)

    @pytest.mark.parametrize("path", EVERY)
    @pytest.mark.parametrize("name", ["photo", "file", "Image", "image[]", "", "x" * 500, "\ud800"])
    def test_a_file_under_another_name(self, client: httpx.Client, path: str, name: str) -> None:
        part = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n'
        body = part.encode("utf-8", "surrogatepass") + PHOTO + b"\r\n--b--\r\n"
        answer = client.post(path, content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "unknown_field"
        assert len(answer.json()["error"]["field"]) <= 100

    @pytest.mark.parametrize("path", EVERY)
    @pytest.mark.parametrize("where", ["data", "params"])
    def test_an_unknown_field(self, client: httpx.Client, path: str, where: str) -> None:
        known = "image, tags, classes, complete" if path == "/v1/samples" else "image, tags, format, refine, tile"
        body: dict[str, Any] = {where: {"tag": "cat"}}
        assert_problem(client.post(path, files={"image": PHOTO}, **body), 422, "unknown_field", "tag", known)

    @pytest.mark.parametrize("path", EVERY)
    def test_text_that_is_not_utf_8(self, client: httpx.Client, path: str) -> None:
        answer = client.post(path, files={"image": PHOTO, "tags": (None, "Kühe".encode("latin-1"))})
        assert_problem(answer, 422, "bad_field", "tags")

    @pytest.mark.parametrize("path", SEGMENT)
    @pytest.mark.parametrize("name", ["jpeg", "PNG", "image/png", "png,coco"])
    def test_a_bad_format(self, client: httpx.Client, path: str, name: str) -> None:
        answer = client.post(path, files={"image": PHOTO}, data={"format": name})
        assert_problem(answer, 422, "bad_format", "format", FORMATS)

    @pytest.mark.parametrize("path", SEGMENT)
    def test_a_bad_refine(self, client: httpx.Client, path: str) -> None:
        answer = client.post(path, files={"image": PHOTO}, data={"refine": "densecrf"})
        assert_problem(answer, 422, "bad_refine", "refine", "smooth, crf, none")

    @pytest.mark.parametrize("path", SEGMENT)
    @pytest.mark.parametrize(
        "tile", ["31", "65536", "-64", "64.0", "1e3", "\N{DIGIT TWO}" * 2 + "\N{SUPERSCRIPT TWO}", "9" * 5000]
    )
    def test_a_bad_tile(self, client: httpx.Client, path: str, tile: str) -> None:
        answer = client.post(path, files={"image": PHOTO}, data={"tile": tile})
        assert_problem(answer, 422, "bad_tile", "tile", "0 or 32 to 65535")

    @pytest.mark.parametrize("path", SEGMENT)
    @pytest.mark.parametrize(
        ("field", "values"), [("format", ["png", "coco"]), ("refine", ["crf", "none"]), ("tile", ["64", "0"])]
    )
    def test_an_option_with_two_values(self, client: httpx.Client, path: str, field: str, values: list[str]) -> None:
        for first, second in ((values, []), (values[:1], values[1:])):
            answer = client.post(path, files={"image": PHOTO}, params={field: first}, data={field: second})
            assert_problem(answer, 422, f"bad_{field}", field)

    @pytest.mark.parametrize("path", SEGMENT)
    def test_an_option_in_form_and_query(self, client: httpx.Client, path: str) -> None:
        """Swagger UI sends both, left empty or not."""
        options = {"format": "json", "refine": "", "tile": ""}
        assert client.post(path, files={"image": PHOTO}, params=options, data=options).status_code == 200

    @pytest.mark.parametrize("path", EVERY)
    def test_too_many_tags(self, client: httpx.Client, path: str) -> None:
        answer = client.post(path, files={"image": PHOTO}, data={"tags": ["a,b", "c", "d"]})
        assert_problem(answer, 422, "too_many_tags", "tags", TAGS)

    def test_a_sample_without_tags(self, client: httpx.Client) -> None:
        assert_problem(client.post("/v1/samples", files={"image": PHOTO}), 422, "bad_tags", "tags")


FILE_PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + PHOTO + b"\r\n"
TAGS_PART = b'--b\r\nContent-Disposition: form-data; name="tags"\r\n\r\ncat\r\n'
BAD_MULTIPART = {
    "empty": b"",
    "garbage": bytes(range(256)) * 4,
    "another boundary": FILE_PART.replace(b"--b", b"--c") + b"--c--\r\n",
    "nothing after the file": FILE_PART,
    "cut off in the file": FILE_PART[:-40],
    "cut off in a head": FILE_PART + TAGS_PART[:20],
    "cut off in a value": FILE_PART + TAGS_PART[:-3],
    "cut off before the last boundary": FILE_PART + TAGS_PART,
    "cut off in the last boundary": FILE_PART + b"--b-",
    "no name": b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
    "no disposition": b"--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n",
    "no colon in a head": b"--b\r\nContent-Disposition form-data\r\n\r\nx\r\n--b--\r\n",
    "a text of 100 KB": b'--b\r\nContent-Disposition: form-data; name="tags"\r\n\r\n' + b"a" * 19_000 + b"\r\n--b",
}


class TestBody:
    @pytest.mark.parametrize("body", BAD_MULTIPART.values(), ids=BAD_MULTIPART.keys())
    @pytest.mark.parametrize("path", EVERY)
    def test_bad_multipart(self, client: httpx.Client, path: str, body: bytes) -> None:
        answer = client.post(path, content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert_problem(answer, 400, "bad_multipart")

    @pytest.mark.parametrize(
        "kind",
        [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=" + "x" * 5000,
            'multipart/form-data; boundary="',
        ],
    )
    def test_bad_boundaries_and_charsets(self, client: httpx.Client, kind: str) -> None:
        body = FILE_PART + '--b\r\nContent-Disposition: form-data; name="ö"\r\n\r\n\xff\r\n--b--\r\n'.encode()
        answer = client.post("/v1/segment", content=body, headers={"Content-Type": kind})
        assert_problem(answer, 400, "bad_multipart")

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"; filename*=utf-8''a.png", 200),
            (b"\r\nContent-Type: image/png", 200),
            (b"", 422),
        ],
    )
    @pytest.mark.parametrize("size", [0, 19_000])
    def test_a_photo_without_a_plain_file_name(self, client: httpx.Client, head: bytes, status: int, size: int) -> None:
        part = FILE_PART.replace(b'; filename="a.png"', head).removesuffix(b"\r\n")
        body = part + bytes(max(size - len(part), 0)) + b"\r\n--b--"
        answer = client.post("/v1/segment", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert answer.status_code == status
        if status == 422:
            assert_problem(answer, 422, "missing_file", "image")

    @pytest.mark.parametrize("path", [*EVERY, "/setup", "/predict", "/webhook"])
    @pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
    def test_a_compressed_body(self, client: httpx.Client, path: str, encoding: str) -> None:
        headers = {"Content-Type": "image/png", "Content-Encoding": encoding}
        error = assert_problem(
            client.post(path, content=PHOTO, headers=headers), 415, "unsupported_type", "Content-Encoding"
        )
        assert repr(encoding) in error["message"]

    @pytest.mark.parametrize("path", EVERY)
    @pytest.mark.parametrize(
        "kind", ["application/x-www-form-urlencoded", "application/json", "text/plain", "multipart/mixed", "image", ""]
    )
    def test_another_type_of_body(self, client: httpx.Client, path: str, kind: str) -> None:
        answer = client.post(path, content=PHOTO, headers={"Content-Type": kind})
        error = assert_problem(answer, 415, "unsupported_type", "Content-Type")
        assert "multipart/form-data" in error["message"]

    @pytest.mark.parametrize("path", EVERY)
    def test_no_type_and_no_body(self, client: httpx.Client, path: str) -> None:
        assert_problem(client.post(path), 415, "unsupported_type", "Content-Type")
        assert_problem(
            exchange(client, post(path, Content_Length="3") + b"abc"), 415, "unsupported_type", "Content-Type"
        )


class TestRouter:
    @pytest.mark.parametrize(
        "path",
        ["/index.html", "/page", "/page/", "/page/x.js", "/page/../main.py", "/v1", "/v1/", "/v1/segment/",
         "/v1/segments", "/V1/segment", "/livez/", "//v1/segment", "/docs/",
         "/docs/assets", "/docs/assets/", "/docs/assets/x.js", "/docs/assets/../main.py", "/docs/assets/%2e%2e/",
         "/docs/assets/%00", "/x%00y", "/" + "a" * 5000, "/healthz", "/schema.json", "/v1/models/a/b/c"],
    )  # fmt: skip
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_unknown_paths(self, client: httpx.Client, method: str, path: str) -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        answer = exchange(client, head.encode())
        if method == "POST" and path.startswith(("/docs/assets/", "/page/")):
            assert_problem(answer, 405, "wrong_method", limit="GET, HEAD")
        else:
            assert_problem(answer, 404, "unknown_path")

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [(path, "POST") for path in (*EVERY, "/v1/models/x/activate")]
        + [(path, "GET, HEAD") for path in ("/v1/models", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs")],
    )
    @pytest.mark.parametrize(
        "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
    )
    def test_wrong_methods(self, client: httpx.Client, path: str, allowed: str, method: str) -> None:
        if method in allowed:
            return
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) == set(allowed.split(", "))
        if method != "HEAD":
            assert_problem(answer, 405, "wrong_method", limit=answer.headers["Allow"])

    def test_head_is_get_without_its_body(self, client: httpx.Client) -> None:
        for path in ("/livez", "/readyz", "/v1/models", "/openapi.json", "/docs"):
            head, get = client.head(path), client.get(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["Content-Length"] == get.headers["Content-Length"]

    def test_a_bentoml_route_is_not_reached(self, client: httpx.Client) -> None:
        for path in ("/healthz", "/docs.json", "/segment", "/ui", "/static_content/index.css"):
            assert_problem(client.get(path), 404, "unknown_path")


def test_a_connection_survives_an_error(colour_bundle: Path) -> None:
    """The same one serves the next request, whether the body of the last one was looked at or not."""
    with serving(model=colour_bundle, max_body_bytes=BYTES) as client:
        bad: list[dict[str, Any]] = [
            {"url": "/v1/segment", "files": {"image": b"not a photo"}},
            {"url": "/v1/segment", "content": b"x", "headers": {"Content-Type": "text/plain"}},
            {"url": "/v1/segment", "content": bytes(2 * BYTES), "headers": {"Content-Type": "image/png"}},
            {"url": "/v1/segment", "content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
            {"url": "/nowhere", "content": b"x" * 1000},
        ]
        ports = set()
        for request in bad:
            assert 400 <= client.post(**request).status_code < 500
            answer = client.post("/v1/segment", files={"image": PHOTO})
            np.testing.assert_array_equal(decoded(answer.content), MASK)
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(ports) == 1


BROKEN_HTTP = {
    "no http": b"hello\r\n\r\n",
    "binary": bytes(range(256)),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "bad length": b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    "two lengths": b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
    "bad chunk": b"POST /v1/segment HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "endless head": b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 200_000,
}


@pytest.mark.parametrize("data", BROKEN_HTTP.values(), ids=BROKEN_HTTP.keys())
def test_broken_http_is_refused(client: httpx.Client, data: bytes) -> None:
    with connect(client) as connection:
        connection.sendall(data)
        assert connection.recv(12) == b"HTTP/1.1 400"
    assert client.get("/livez").status_code == 200


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_no_other_protocol_is_spoken(client: httpx.Client, protocol: str) -> None:
    for path in ("/v1/segment", "/livez", "/docs/assets/x", "/"):
        upgrade = {"Connection": "Upgrade", "Upgrade": protocol}
        upgrade |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        assert client.get(path, headers=upgrade).status_code == client.get(path).status_code


def test_the_body_is_forgotten_before_its_refusal_is_sent() -> None:
    class Body:
        pass

    def refuse() -> None:
        body = Body()
        forgotten.append(weakref.ref(body))
        raise BadRequest("no")

    forgotten: list[weakref.ref[Body]] = []
    try:
        refuse()
    except BadRequest as error:
        asyncio.run(problems.handle(Request({"type": "http", "path": "/", "headers": []}), error))
        assert forgotten[0]() is None


@pytest.mark.parametrize("length", [0, 30, 80, 200, 400])
def test_half_a_request_harms_nobody(client: httpx.Client, length: int) -> None:
    request = post("/v1/segment", Content_Type="image/png", Content_Length=str(len(PHOTO))) + PHOTO
    for _ in range(5):
        with connect(client) as connection:
            connection.sendall(request[:length])
    np.testing.assert_array_equal(decoded(client.post("/v1/segment", files={"image": PHOTO}).content), MASK)
