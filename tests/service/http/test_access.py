import base64
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import HTTPConnection

from service.http import confidence
from service.http.access import Access
from service.settings import Settings
from tagmask.errors import Forbidden, StartError
from tests.service.http.colour_photos import encoded
from tests.service.http.problems import assert_problem
from tests.service.http.sockets import exchange
from tests.service.serving import serving
from tests.tagmask.bundles import FIRST, SECOND, make_store

PHOTO = encoded()
USER, OTHER, ADMIN = "a user's own key", "another user's key", "the key of an admin"
FOR_USERS = [
    ("POST", "/v1/segment"),
    ("POST", "/v1/segment/batch"),
    ("POST", "/v1/samples"),
    ("GET", "/v1/models"),
    ("GET", f"/v1/models/{FIRST}"),
    ("GET", "/metrics"),
]
FOR_ADMINS = [("POST", f"/v1/models/{SECOND}/activate"), ("POST", "/v1/models/rollback")]
SAMPLE = f"/v1/samples/{'0' * 64}"
FOR_ALL = ["/livez", "/readyz", "/openapi.json", "/docs", "/docs/start.js", "/docs/assets/swagger-ui.css"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("closed")
    keys = folder / "keys"
    keys.write_text(f"\n  {OTHER}  \n\n", encoding="utf-8")
    settings: dict[str, Any] = {"api_keys": USER, "api_keys_file": keys, "admin_keys": ADMIN}
    with serving(store=make_store(folder).root, inbox=folder / "inbox", **settings) as client:
        yield client


def call(client: httpx.Client, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    body: dict[str, Any] = {"files": {"image": PHOTO}, "data": {"tags": "cat"}} if method == "POST" else {}
    return client.request(method, path, headers=headers, **body)


def every_way(key: str) -> list[dict[str, str]]:
    basic = base64.b64encode(f"anybody:{key}".encode()).decode()
    return [
        {"Authorization": f"Bearer {key}"},
        {"X-API-Key": key},
        {"authorization": f"bEARER   {key}"},
        {"Authorization": f"Basic {basic}"},
    ]


@pytest.mark.parametrize(("method", "path"), FOR_USERS + FOR_ADMINS)
def test_no_key_and_unknown_keys_are_401(client: httpx.Client, method: str, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {USER}"},
        {"Authorization": f"Basic {base64.b64encode(USER.encode()).decode()}"},
        {"X-API-Key": ""},
    ):
        answer = call(client, method, path, headers)
        assert_problem(answer, 401, "key_missing")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tagmask"'
    for key in ("x" * 16, USER[:-1], USER + "x", USER.upper(), f"{USER},{OTHER}"):
        for headers in every_way(key):
            answer = call(client, method, path, headers)
            assert_problem(answer, 401, "key_unknown")
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="tagmask"'
            assert key not in answer.text


@pytest.mark.parametrize(("method", "path"), FOR_USERS)
@pytest.mark.parametrize("key", [USER, OTHER, ADMIN])
def test_any_key_lets_a_user_in(client: httpx.Client, method: str, path: str, key: str) -> None:
    for headers in every_way(key):
        assert call(client, method, path, headers).status_code in (200, 201)


def test_only_admins_switch_models(client: httpx.Client) -> None:
    for method, path in FOR_ADMINS:
        for headers in every_way(USER) + every_way(OTHER):
            assert_problem(call(client, method, path, headers), 403, "not_admin")
    for headers in every_way(ADMIN):
        for (method, path), serving_now in zip(FOR_ADMINS, (SECOND, FIRST), strict=True):
            answer = call(client, method, path, headers)
            assert (answer.status_code, answer.json()["version"]) == (200, serving_now)


@pytest.mark.parametrize("path", FOR_ALL)
def test_probes_and_docs_need_no_key(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 200


def test_a_password_that_is_not_base64_is_no_key(client: httpx.Client) -> None:
    good = base64.b64encode(f"anybody:{USER}".encode()).decode()
    assert_problem(client.get("/v1/models", headers={"Authorization": f"Basic *{good}"}), 401, "key_missing")


def test_odd_keys_are_unknown(client: httpx.Client) -> None:
    for key in (b"\xff\xfe" * 10, "schlüssel".encode(), b"a" * 10_000):
        answer = client.get("/v1/models", headers={b"X-API-Key": key})
        assert_problem(answer, 401, "key_unknown")


def test_a_body_is_not_read_without_a_key(client: httpx.Client) -> None:
    answer = client.post("/v1/segment", content=(bytes(1000) for _ in range(10)))
    assert_problem(answer, 401, "key_missing")


def test_only_admins_forget_samples(client: httpx.Client) -> None:
    assert_problem(client.delete(SAMPLE, headers={"X-API-Key": USER}), 403, "not_admin")
    assert_problem(client.delete(SAMPLE), 401, "key_missing")
    assert_problem(client.delete(SAMPLE, headers={"X-API-Key": ADMIN}), 404, "unknown_sample")


def test_without_admin_keys_nobody_switches_models_of_a_closed_service(tmp_path: Path) -> None:
    with serving(store=make_store(tmp_path).root, api_keys=USER) as client:
        for method, path in (*FOR_ADMINS, ("DELETE", SAMPLE)):
            assert_problem(call(client, method, path, {"X-API-Key": USER}), 403, "admin_off")


def test_admin_keys_alone_close_the_service(colour_bundle: Path) -> None:
    with serving(model=colour_bundle, admin_keys=f"{ADMIN},{OTHER}") as client:
        assert_problem(client.get("/v1/models"), 401, "key_missing")
        assert client.get("/v1/models", headers={"X-API-Key": OTHER}).status_code == 200


LOCAL, UNIX, REMOTE = ("127.0.0.1", 3000), ("/run/tagmask.sock", None), ("192.0.2.1", 3000)


def request(server: tuple[str, int | None], host: str | None, **headers: str) -> HTTPConnection:
    named = {**({"host": host} if host is not None else {}), **headers}
    pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in named.items()]
    return HTTPConnection({"type": "http", "server": server, "headers": pairs})


@pytest.mark.parametrize("allow_open", [False, True])
@pytest.mark.parametrize(
    ("server", "host", "headers", "local"),
    [
        (LOCAL, "127.0.0.1:3000", {}, True),
        (LOCAL, "localhost", {}, True),
        (LOCAL, "[::1]:3000", {}, True),
        (("::1", 3000), "[::1]", {}, True),
        (UNIX, "localhost", {}, True),
        (LOCAL, "tagmask.example", {}, False),
        (LOCAL, "[", {}, False),
        (LOCAL, None, {}, False),
        (LOCAL, "localhost", {"x_forwarded_for": "192.0.2.7"}, False),
        (LOCAL, "localhost", {"via": "1.1 proxy"}, False),
        (REMOTE, "localhost", {}, False),
    ],
)
def test_without_keys_only_this_machine_comes_in(
    server: tuple[str, int | None], host: str | None, headers: dict[str, str], local: bool, allow_open: bool
) -> None:
    """Unless TAGMASK_ALLOW_OPEN lets everybody in, of whom nobody may switch models then."""
    access = Access(Settings(allow_open=allow_open))
    sent = request(server, host, **headers)
    for check, allowed in ((access.check_user, local or allow_open), (access.check_admin, local and not allow_open)):
        with nullcontext() if allowed else pytest.raises(Forbidden):
            check(sent)


class TestOrigins:
    """Web pages elsewhere could have their visitors' browsers call a service on the visitors' machines."""

    @pytest.fixture(scope="class")
    def client(self, colour_bundle: Path) -> Iterator[httpx.Client]:
        with serving(model=colour_bundle) as client:
            yield client

    @pytest.fixture(scope="class")
    def shared(self, colour_bundle: Path) -> Iterator[httpx.Client]:
        with serving(model=colour_bundle, cors_origins="https://a.example, https://b.example:8443") as client:
            yield client

    @pytest.mark.parametrize("origin", ["https://a.example", "http://127.0.0.1", "http://localhost:1", "null", "", "x"])
    @pytest.mark.parametrize(("method", "path"), [("POST", "/v1/segment"), ("GET", "/v1/models"), ("GET", "/metrics")])
    def test_others_are_refused(self, client: httpx.Client, method: str, path: str, origin: str) -> None:
        answer = call(client, method, path, {"Origin": origin})
        error = assert_problem(answer, 403, "cross_origin", "Origin")
        assert "TAGMASK_CORS_ORIGINS" in error["message"]
        assert "Access-Control-Allow-Origin" not in answer.headers

    def test_its_own_docs_page_may_call_it(self, client: httpx.Client) -> None:
        own = str(client.base_url).rstrip("/")
        assert call(client, "POST", "/v1/segment", {"Origin": own}).status_code == 200

    def test_models_are_not_switched_for_others(self, tmp_path: Path) -> None:
        with serving(store=make_store(tmp_path).root) as client:
            for method, path in FOR_ADMINS:
                assert_problem(
                    call(client, method, path, {"Origin": "https://a.example"}), 403, "cross_origin", "Origin"
                )
            assert client.get("/readyz").json()["model"] == FIRST

    @pytest.mark.parametrize("origin", ["https://a.example", "https://b.example:8443"])
    def test_allowed_origins_may_call_and_read(self, shared: httpx.Client, origin: str) -> None:
        answer = call(shared, "POST", "/v1/segment", {"Origin": origin})
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert {"Accept", "Origin"} <= set(answer.headers["Vary"].split(", "))
        exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        assert {"X-Model-Version", *confidence.HEADERS} <= exposed
        fault = shared.post("/v1/segment", files={"image": b"x"}, headers={"Origin": origin})
        assert_problem(fault, 422, "not_an_image", "image")
        assert fault.headers["Access-Control-Allow-Origin"] == origin

    def test_other_origins_are_refused(self, shared: httpx.Client) -> None:
        for origin in ("https://evil.example", "https://a.example.evil.example", "http://a.example"):
            answer = call(shared, "POST", "/v1/segment", {"Origin": origin})
            assert_problem(answer, 403, "cross_origin", "Origin")
            assert "Access-Control-Allow-Origin" not in answer.headers

    def test_preflight(self, shared: httpx.Client, client: httpx.Client) -> None:
        headers = {
            "Origin": "https://a.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "X-API-Key, Content-Type",
        }
        answer = shared.options("/v1/segment", headers=headers)
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
        assert "X-API-Key" in answer.headers["Access-Control-Allow-Headers"]
        for changed in (
            {"Origin": "https://evil.example"},
            {"Access-Control-Request-Method": "PUT"},
            {"Access-Control-Request-Headers": "X-Else"},
        ):
            refused = shared.options("/v1/segment", headers=headers | changed)
            assert_problem(refused, 400, "cross_origin", "Origin")
        assert (
            "Access-Control-Allow-Origin"
            not in shared.options("/v1/segment", headers=headers | {"Origin": "https://evil.example"}).headers
        )
        assert_problem(client.options("/v1/segment", headers=headers), 405, "wrong_method", limit="POST")

    def test_all_origins(self, colour_bundle: Path) -> None:
        with serving(model=colour_bundle, cors_origins="*") as client:
            answer = call(client, "POST", "/v1/segment", {"Origin": "https://a.example"})
            assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "*")


class TestOpenService:
    @pytest.fixture(scope="class")
    def address(self) -> str:
        """An address of this machine at which others reach it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
            try:
                route.connect(("192.0.2.1", 9))  # sends nothing
            except OSError:
                pytest.skip("this machine has no address but loopback")
            return str(route.getsockname()[0])

    def at(self, client: httpx.Client, address: str, path: str) -> str:
        return f"http://{address}:{client.base_url.port}{path}"

    def test_others_are_refused_without_keys(self, colour_bundle: Path, address: str) -> None:
        with serving("0.0.0.0", model=colour_bundle) as client:
            for path in ("/v1/segment", "/v1/segment/batch"):
                assert_problem(client.post(self.at(client, address, path), files={"image": PHOTO}), 403, "no_keys")
            assert_problem(client.get(self.at(client, address, "/metrics")), 403, "no_keys")
            assert client.get(self.at(client, address, "/readyz")).status_code == 200
            assert client.get(self.at(client, "127.0.0.1", "/v1/models")).status_code == 200

    @pytest.mark.parametrize("host", ["page.example", "page.example:80", "127.0.0.1.page.example", "[::2]", "@", "[::"])
    def test_dns_rebinding_is_refused(self, colour_bundle: Path, host: str) -> None:
        with serving(model=colour_bundle) as client:
            headers = {"Host": host, "Origin": f"http://{host}"}
            assert_problem(client.post("/v1/segment", files={"image": PHOTO}, headers=headers), 403, "no_keys")
            for ours in ("localhost:80", "127.0.0.1", "[::1]:3000"):
                assert client.get("/v1/models", headers={"Host": ours}).status_code == 200

    def test_allow_open_lets_others_segment_but_not_switch_models(self, tmp_path: Path, address: str) -> None:
        with serving("0.0.0.0", store=make_store(tmp_path).root, allow_open=True) as client:
            assert client.post(self.at(client, address, "/v1/segment"), files={"image": PHOTO}).status_code == 200
            for _, path in FOR_ADMINS:
                assert_problem(client.post(self.at(client, address, path)), 403, "admin_off")
            assert client.get(self.at(client, "127.0.0.1", "/readyz")).json()["model"] == FIRST


class TestProxy:
    def test_a_key_in_a_header_counts_more_than_the_host(self, client: httpx.Client) -> None:
        """A proxy may send a Host of its own."""
        page = {"Origin": "https://masks.example"}
        for key in ({"X-API-Key": USER}, {"Authorization": f"Bearer {USER}"}):
            assert call(client, "POST", "/v1/segment", page | key).status_code == 200
        for other in ({}, {"X-API-Key": "x" * 20}, every_way(USER)[-1]):
            error = assert_problem(call(client, "POST", "/v1/segment", page | other), 403, "cross_origin", "Origin")
            assert "make the proxy send `Host: masks.example`" in error["message"]

    @pytest.mark.parametrize("header", ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"])
    def test_without_keys_a_proxy_on_this_machine_is_refused(self, tmp_path: Path, header: str) -> None:
        with serving(store=make_store(tmp_path).root) as client:
            for method, path in [("GET", "/v1/models"), *FOR_ADMINS]:
                assert_problem(call(client, method, path, {header: "192.0.2.1"}), 403, "no_keys")

    def test_nginx_by_default_is_a_proxy(self, tmp_path: Path) -> None:
        """It sends the Host of the service, HTTP/1.0, and nothing about itself."""
        with serving(store=make_store(tmp_path).root) as client:
            head = f"POST /v1/models/{SECOND}/activate HTTP/{{}}\r\nHost: 127.0.0.1:3000\r\nConnection: close\r\n\r\n"
            assert_problem(exchange(client, head.format("1.0").encode()), 403, "no_keys")
            assert exchange(client, head.format("1.1").encode()).status_code == 200

    def test_an_open_service_switches_no_models(self, tmp_path: Path) -> None:
        """A reverse proxy on the machine lets anybody reach the loopback interface."""
        with serving(store=make_store(tmp_path).root, allow_open=True) as client:
            assert client.get("/v1/models").status_code == 200
            for method, path in FOR_ADMINS:
                assert_problem(call(client, method, path, {}), 403, "admin_off")


class TestStart:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.com", ""])
    def test_no_other_address_without_keys(self, host: str) -> None:
        with pytest.raises(StartError, match=r"TAGMASK_API_KEYS.*127\.0\.0\.1.*TAGMASK_ALLOW_OPEN"):
            Access(Settings()).check_host(host)
        Access(Settings(api_keys=USER)).check_host(host)
        Access(Settings(allow_open=True)).check_host(host)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
    def test_loopback_needs_no_keys(self, host: str) -> None:
        Access(Settings()).check_host(host)

    @pytest.mark.parametrize("name", ["api_keys", "admin_keys"])
    def test_short_keys_are_refused_and_not_shown(self, name: str) -> None:
        with pytest.raises(StartError, match=rf"TAGMASK_{name.upper()}: 1 of 2 keys .* 16 characters") as fault:
            Access(Settings(**{name: f"{USER},s3cr3t-15-chars"}))
        assert "s3cr3t-15-chars" not in str(fault.value)

    @pytest.mark.parametrize("name", ["api_keys", "admin_keys"])
    @pytest.mark.parametrize(
        ("content", "message"), [(None, "cannot be read"), (b"\xff\xfe", "cannot be read"), (b" \n", "has no keys")]
    )
    def test_bad_key_files_are_refused(self, tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
        file = tmp_path / "keys"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(StartError, match=f"TAGMASK_{name.upper()}_FILE=.*{message}"):
            Access(Settings(**{f"{name}_file": file}))
