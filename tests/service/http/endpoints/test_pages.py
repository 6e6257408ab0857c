"""The demo page, in a real browser."""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tagmask.cli.segment import LIKELY
from tests.service.http.browsing import choose_photo, expect_status, opened
from tests.service.http.colour_photos import MASK, encoded, only, picture
from tests.service.serving import serving
from tests.tagmask.bundles import FIRST, SECOND, make_store
from tests.training.colour_bundle import COLOURS, write_tagged_bundle

KEY = "a key of sixteen and more"


@pytest.fixture(scope="module")
def client(colour_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(model=colour_bundle, inbox=tmp_path_factory.mktemp("inbox")) as client:
        yield client


@pytest.fixture
def page(context: BrowserContext, client: httpx.Client) -> Page:
    return opened(context, client)


def canvas(page: Page) -> np.ndarray:
    """The canvas: (H, W, 4) uint8 RGBA."""
    values = page.evaluate(
        "() => { const c = document.getElementById('mask');"
        " return [c.height, c.width, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]] }"
    )
    return np.array(values[2], dtype=np.uint8).reshape(values[0], values[1], 4)


def expected_canvas(png: bytes) -> np.ndarray:
    """What the canvas should show of a palette PNG: its colours, with a transparent background."""
    image = Image.open(BytesIO(png))
    colours = np.array(image.convert("RGB"))
    opaque = np.where(np.array(image) > 0, 255, 0).astype(np.uint8)
    return np.dstack([np.where(opaque[..., None] > 0, colours, 0), opaque])


def test_the_canvas_shows_the_mask_of_the_service(page: Page, client: httpx.Client):
    choose_photo(page)
    expect_status(page, "Found cat, dog")
    answer = client.post("/v1/segment", files={"image": encoded()}, data={"format": "png"}).content
    assert {1, 2} <= set(np.unique(np.array(Image.open(BytesIO(answer)))))
    np.testing.assert_array_equal(canvas(page), expected_canvas(answer))
    rows = page.get_by_role("row").all_inner_texts()[1:]
    shares = {row.split()[0]: float(row.split()[1].rstrip("%")) for row in rows}
    assert shares == {name: round(100 * float((label == MASK).mean()), 1) for label, name in enumerate(COLOURS)}


def test_tags_limit_the_mask_and_work_by_keyboard(page: Page):
    choose_photo(page)
    expect_status(page, "Found cat, dog")
    page.get_by_label("dog").press("Space")
    expect_status(page, "Found dog")
    assert (canvas(page)[..., 3] > 0).sum() == (only(0, 2) > 0).sum()
    page.get_by_label("Refine edges").press("Space")
    expect(page.locator("#curl")).to_have_text(re.compile("--form-string tags=dog -F refine=crf http"))


def test_a_tag_that_is_painted_nowhere_is_told(page: Page):
    choose_photo(page, encoded(picture(only(1))))
    expect_status(page, "Found cat")
    page.get_by_label("dog").press("Space")
    expect(page.get_by_role("status")).to_contain_text("dog is painted nowhere. Low confidence")


def test_tags_that_the_model_sees_are_suggested(context: BrowserContext, tmp_path: Path):
    bundle = write_tagged_bundle(tmp_path / "model.onnx", (0.3, 0.9), (0.5, 0.5))
    with serving(model=bundle) as client:
        page = opened(context, client)
        choose_photo(page)
        expect_status(page, "Found .*")
        suggestions = page.get_by_role("group", name="Suggested tags")
        assert suggestions.get_by_role("button").all_inner_texts() == ["dog 90%", "cat 30%"]
        suggestions.get_by_role("button", name="cat").click()
        expect_status(page, "Found cat")
        expect(page.get_by_label("cat")).to_be_checked()
        assert suggestions.get_by_role("button").all_inner_texts() == ["dog 90%"]


def test_the_command_quotes_the_file_name(page: Page, client: httpx.Client):
    choose_photo(page)
    expect_status(page, "Found cat, dog")
    expected = f"curl -F 'image=@my photo'\\''s.png' {str(client.base_url).rstrip('/')}/v1/segment -o mask.png"
    expect(page.locator("#curl")).to_have_text(expected)


@pytest.mark.parametrize("kind", ["png", "overlay", "confidence", "coco", "polygons", "label-studio", "cvat", "json"])
def test_every_format_can_be_downloaded(page: Page, client: httpx.Client, kind: str):
    choose_photo(page)
    expect_status(page, "Found cat, dog")
    with page.expect_download() as download:
        page.locator(f"#download-{kind}").click()
    answer = client.post("/v1/segment", files={"image": encoded()}, data={"format": kind}).content
    downloaded = Path(download.value.path()).read_bytes()
    assert downloaded == answer


def test_samples_opacity_and_an_invalid_photo(page: Page):
    page.get_by_role("button", name="A cat").click()
    expect(page.get_by_role("status")).to_have_text(re.compile(" in "))
    page.get_by_label("Opacity").fill("25")
    assert page.locator("#mask").evaluate("mask => mask.style.opacity") == "0.25"
    choose_photo(page, b"no photo at all")
    expect(page.get_by_role("status")).to_have_class("error")


def test_a_model_is_switched(context: BrowserContext, tmp_path: Path):
    make_store(tmp_path)
    with serving(store=tmp_path / "store") as client:
        page = opened(context, client)
        expect(page.get_by_label("Model")).to_have_value(FIRST)
        page.get_by_label("Model").select_option(SECOND)
        text = f"Model {SECOND} is now being served."
        expect(page.get_by_role("status")).to_have_text(text, timeout=60_000)  # it is tried in a process of its own
        assert client.get("/readyz").headers["X-Model-Version"] == SECOND


def test_a_key_is_requested_and_kept_for_the_tab_only(context: BrowserContext, colour_bundle: Path):
    with serving(model=colour_bundle, api_keys=KEY) as client:
        page = opened(context, client)
        expect(page.get_by_role("status")).to_have_text("This service requires an API key.")
        page.get_by_label("API key").fill(KEY)
        page.get_by_label("API key").press("Enter")
        expect(page.get_by_label("API key")).to_be_hidden()
        choose_photo(page)
        expect_status(page, "Found cat, dog")
        assert KEY not in page.locator("#curl").inner_text()
        assert page.evaluate("() => [localStorage.length, document.cookie]") == [0, ""]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_it_is_accessible_logs_nothing_and_loads_nothing_from_elsewhere(
    browser: Browser, client: httpx.Client, scheme: Any, width: int
):
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = context.new_page()
    messages: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: hosts.add(httpx.URL(request.url).netloc.decode()))
    page.goto(str(client.base_url))
    choose_photo(page)
    expect_status(page, "Found cat, dog")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert_accessible(page)
    page.get_by_role("button", name="Correct").click()
    page.get_by_role("button", name="Accept the mask").click()
    assert page.locator("#editor").evaluate("editor => editor.scrollWidth") <= width
    assert_accessible(page)
    assert messages == []
    assert hosts - {""} == {client.base_url.netloc.decode()}
    context.close()


def assert_accessible(page: Page) -> None:
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_its_policy_allows_nothing_from_elsewhere(client: httpx.Client):
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for path in re.findall(r'(?:src|href)="(page/[^"]+)"', answer.text):
        assert client.get(f"/{path}").status_code == 200


def test_it_suggests_the_same_tags_as_the_command_line(client: httpx.Client):
    assert f"const LIKELY = {LIKELY};" in client.get("/page/page.js").text
