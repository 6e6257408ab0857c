"""The nginx configuration of docs/scaling.md, in front of a real service."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from tagmask.corrections import decode_correction
from tests.service.http.browsing import choose_photo, expect_status, opened
from tests.service.http.colour_photos import MASK, decoded, encoded
from tests.service.http.problems import assert_problem
from tests.service.serving import serving
from tests.service.test_main import free_port

DOCS = Path(__file__).parents[3] / "docs" / "scaling.md"
NGINX = shutil.which("nginx")
KEY = {"X-API-Key": "a key of sixteen characters"}
PHOTO = encoded()

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@contextmanager
def nginx(
    folder: Path, first: httpx.Client, second: httpx.Client | None = None, *, host: bool = True
) -> Iterator[httpx.Client]:
    """The documented configuration for two services without TLS, also below /masks/, and with or without its Host."""
    documented = re.search(r"```nginx\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert documented
    port, text = free_port(), documented[1]
    for pattern, replacement in (
        (r"10\.0\.0\.11:3000", f"127.0.0.1:{first.base_url.port}"),
        (r"10\.0\.0\.12:3000", f"127.0.0.1:{(second or first).base_url.port}"),
        (r"listen 443 ssl;", f"listen 127.0.0.1:{port};"),
        (r"ssl_.*", ""),
        (r"(?s)(location / \{(.*?)\n    \})", r"\1 location /masks/ {\2 }"),
        (r"(/masks/ \{\s+proxy_pass http://tagmask)", r"\1/"),
        (r"proxy_set_header Host .*", "" if not host else r"\g<0>"),
    ):
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
    folders = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / "nginx.conf"
    file.write_text(
        # started by root, nginx would have its workers run as a user who cannot enter the folder
        f"user root; daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {folders}\n{text} }}",
        encoding="utf-8",
    )
    process = subprocess.Popen([str(NGINX), "-e", str(folder / "error.log"), "-c", str(file)])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=KEY) as client:
            end = time.monotonic() + 20
            while not answers(client):
                assert process.poll() is None, (folder / "error.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
            yield client
    finally:
        process.terminate()
        process.wait(timeout=20)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def service(colour_bundle: Path) -> Iterator[httpx.Client]:
    with serving(model=colour_bundle, api_keys=KEY["X-API-Key"]) as client:
        yield client


def test_the_page_and_programs_are_answered(service: httpx.Client, tmp_path: Path) -> None:
    with nginx(tmp_path, service) as client:
        page = {"Origin": str(client.base_url).rstrip("/")}
        for path in ("/v1/segment", "/masks/v1/segment"):
            for headers in (page, {}):
                answer = client.post(path, files={"image": PHOTO}, headers=headers)
                assert (decoded(answer.content) == MASK).all()
        other = client.post(
            "/v1/segment", files={"image": PHOTO}, headers={"Origin": "http://a.example", "X-API-Key": ""}
        )
        assert_problem(other, 403, "cross_origin", "Origin")


def test_the_page_below_a_path_sends_a_correction_with_its_key(
    context: BrowserContext, colour_bundle: Path, tmp_path: Path
) -> None:
    settings = {"model": colour_bundle, "inbox": tmp_path / "inbox", "api_keys": KEY["X-API-Key"]}
    with serving(**settings) as service, nginx(tmp_path, service) as client:
        page = opened(context, client, "/masks/")
        page.get_by_label("API key").fill(KEY["X-API-Key"])
        page.get_by_label("API key").press("Enter")
        choose_photo(page)
        expect_status(page, "Found cat, dog")
        page.get_by_role("button", name="Correct").click()
        page.get_by_role("button", name="Accept the mask").click()
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#said")).to_contain_text("Stored with the tags cat, dog")
    (file,) = (tmp_path / "inbox").glob("*/*.correction.png")
    assert (decode_correction(file.read_bytes()).labels(["cat", "dog"]) == MASK).all()


def test_the_document_s_server_is_below_the_path(service: httpx.Client, tmp_path: Path) -> None:
    with nginx(tmp_path, service) as client:
        document = client.get("/masks/openapi.json")
        (server,) = document.json()["servers"]
        assert document.url.join(server["url"]).path == "/masks/"


def test_without_the_host_only_a_key_is_answered(service: httpx.Client, tmp_path: Path) -> None:
    with nginx(tmp_path, service, host=False) as client:
        page = {"Origin": str(client.base_url).rstrip("/")}
        assert client.post("/v1/segment", files={"image": PHOTO}, headers=page).status_code == 200
        refused = client.post("/v1/segment", files={"image": PHOTO}, headers=page | {"X-API-Key": ""})
        error = assert_problem(refused, 403, "cross_origin", "Origin")
        assert f"`Host: 127.0.0.1:{client.base_url.port}`" in error["message"]


def test_an_instance_that_answers_503_leaves_its_requests_to_the_other(
    service: httpx.Client, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = tmp_path_factory.mktemp("store")  # empty, so that nothing can be served
    with (
        serving(store=store, api_keys=KEY["X-API-Key"]) as unready,
        nginx(tmp_path, unready, service) as client,
        ThreadPoolExecutor(4) as threads,
    ):
        large = encoded() + bytes(2_000_000)  # more than nginx keeps in memory

        def segment(number: int) -> int:
            return client.post("/v1/segment", files={"image": large if number % 2 else PHOTO}).status_code

        assert [segment(number) for number in range(12)] == [200] * 12
        assert list(threads.map(segment, range(12))) == [200] * 12


def test_refusals_of_large_photos_arrive(service: httpx.Client, tmp_path: Path) -> None:
    with nginx(tmp_path, service) as client:
        for _ in range(10):
            answer = client.post("/v1/segment", files={"image": bytes(5_000_000)}, headers={"X-API-Key": "x" * 20})
            assert_problem(answer, 401, "key_unknown")
