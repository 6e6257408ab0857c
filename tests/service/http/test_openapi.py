"""The document describes the server completely and correctly."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from service.http.app import ROUTES
from tagmask.formats import FORMATS
from tagmask.photos import MEDIA_TYPES
from tests.service.http.colour_photos import encoded
from tests.service.serving import serving
from tests.tagmask.bundles import FIRST, make_store

KEY = "the key of an admin"
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
CONFIG = """
[checks]
# Random bytes match the schema, but are no photo; a valid version need not be in the store.
positive_data_acceptance.enabled = false
# Too many files are 413, which the check does not count as a rejection by default.
negative_data_rejection.expected-statuses = ["4xx"]

[[operations]]
include-path = "/v1/segment/batch"
# The response to a batch is 200, and each of its photos has its own status.
checks.negative_data_rejection.enabled = false

[[operations]]
include-path = "/v1/samples"
# Any text is a tag, and all values in a form are text.
checks.negative_data_rejection.enabled = false
"""
UNDESCRIBED = {"/", "/docs/start.js"}  # the page, and a part of the docs page


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("openapi")
    with serving(store=make_store(folder).root, inbox=folder / "inbox", log_level="error", admin_keys=KEY) as client:
        client.headers["X-API-Key"] = KEY
        yield client


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def test_schemathesis_finds_nothing(client: httpx.Client, tmp_path: Path) -> None:
    """No 5xx, no undeclared status, header, media type or body, no unsupported method, missing key or invalid data that
    is accepted. It does not check responses to valid requests; other tests do.
    """
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG, encoding="utf-8")
    options = {
        "--header": f"Authorization: Bearer {KEY}",
        "--generation-with-security-parameters": "false",  # keys that it makes up would stand beside the one it has
        "--phases": "coverage,fuzzing",
        "--max-examples": "20",
        "--seed": "0",
        "--generation-database": "none",
        "--warnings": "off",
    }
    done = subprocess.run(
        [SCHEMATHESIS, "--config-file", config, "run", "--url", str(client.base_url), f"{client.base_url}/openapi.json"]
        + [word for option in options.items() for word in option]
        + ["--continue-on-failure", "--no-color"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: 25" in done.stdout  # all but the document's own path, which it leaves out
    assert client.get("/livez").status_code == 200


def test_every_path_is_described(document: dict[str, Any]) -> None:
    routes = {(route.path, min(set(route.methods or ()) - {"HEAD"})) for route in ROUTES}
    described = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    assert described == {(path, method) for path, method in routes if path not in UNDESCRIBED}
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names)


def test_schemas_are_valid_and_references_resolve(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    used = {item.rpartition("/")[2] for item in references(document)}
    assert used == set(schemas)


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (value for name, value in part.items() if name == "$ref")
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from references(each)


def test_response_bodies_match_their_schemas(client: httpx.Client, document: dict[str, Any]) -> None:
    files, data = {"image": encoded()}, {"tags": "cat"}
    batch = [("image", ("a", encoded())), ("image", ("b", b"no photo"))]
    for path, answer in (
        ("/v1/segment/batch", client.post("/v1/segment/batch", files=batch)),
        ("/v1/samples", client.post("/v1/samples", files=files, data=data)),
        ("/v1/samples", client.post("/v1/samples", files=files, data=data)),
        ("/v1/models", client.get("/v1/models")),
        ("/v1/models/{version}", client.get(f"/v1/models/{FIRST}")),
        ("/readyz", client.get("/readyz")),
    ):
        method = answer.request.method.lower()
        response = document["paths"][path][method]["responses"][str(answer.status_code)]
        schema = {**response["content"]["application/json"]["schema"], "components": document["components"]}
        jsonschema.validate(answer.json(), schema)
        assert set(response["headers"]) <= {name.title().replace("-Id", "-ID") for name in answer.headers}


def test_options_and_limits_are_those_in_force(colour_bundle: Path) -> None:
    with serving(model=colour_bundle, max_tags=5, max_files=6, max_body_bytes=7_000, max_pixels=8_000) as client:
        paths = client.get("/openapi.json").json()["paths"]
    single, batch = paths["/v1/segment"]["post"], paths["/v1/segment/batch"]["post"]
    form = single["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"image", "tags", "format", "refine", "tile"}
    assert form["format"]["enum"] == list(FORMATS)
    assert form["tags"]["maxItems"] == 5
    assert batch["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["image"]["maxItems"] == 6
    assert "7,000 bytes, and 8,000 pixels" in single["requestBody"]["description"]
    assert set(single["requestBody"]["content"]) == {"multipart/form-data", "application/octet-stream", *MEDIA_TYPES}
    for status in (200, 400, 401, 403, 406, 408, 413, 415, 422, 500, 503, 504):
        assert str(status) in single["responses"]


def test_security_says_whether_keys_are_required(client: httpx.Client, colour_bundle: Path) -> None:
    keys = [{"bearer": []}, {"key": []}]
    closed = client.get("/openapi.json").json()
    with serving(model=colour_bundle) as other:
        still_open = other.get("/openapi.json").json()
    assert closed["security"] == keys
    assert still_open["security"] == [{}, *keys]
    assert closed["paths"]["/livez"]["get"]["security"] == []
    assert "security" not in closed["paths"]["/v1/segment"]["post"]
