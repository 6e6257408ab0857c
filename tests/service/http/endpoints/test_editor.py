"""Corrections painted on the demo page, in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, expect

from tagmask.corrections import Correction, decode_correction
from tagmask.masks import VOID
from tests.service.http.browsing import choose_photo, expect_status, opened
from tests.service.http.colour_photos import CAT, DOG, Mask, decoded, encoded, only, picture
from tests.service.serving import serving

Pixel = tuple[int, int]


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inbox")


@pytest.fixture(scope="module")
def client(colour_bundle: Path, inbox: Path) -> Iterator[httpx.Client]:
    with serving(model=colour_bundle, inbox=inbox) as client:
        yield client


def editor(context: BrowserContext, client: httpx.Client, photo: bytes | None = None) -> Page:
    """The page with the editor open."""
    page = opened(context, client)
    choose_photo(page, photo)
    expect_status(page, ".*")
    page.get_by_role("button", name="Correct").click()
    return page


def pick(page: Page, name: str) -> None:
    page.get_by_role("dialog").get_by_label(name, exact=True).check()


def points(page: Page, *pixels: Pixel) -> list[tuple[float, float]]:
    """Where the middles of pixels, (x, y), of the photo as displayed are on the screen."""
    canvas = page.locator("#painting")
    box = canvas.bounding_box()
    assert box
    width, height = canvas.evaluate("canvas => [canvas.width, canvas.height]")
    return [
        (box["x"] + (x + 0.5) / width * box["width"], box["y"] + (y + 0.5) / height * box["height"]) for x, y in pixels
    ]


def stroke(page: Page, start: Pixel, end: Pixel) -> None:
    (x, y), last = points(page, start, end)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(*last)
    page.mouse.up()


def diameter(page: Page) -> int:
    return int(page.locator("#diameter").inner_text().split()[0])


def painted(mask: Mask, value: int, start: Pixel, end: Pixel, size: int) -> None:
    """Give `value` to the pixels of `mask` within half of `size` of the line from `start` to `end`."""
    at = np.moveaxis(np.indices(mask.shape)[::-1], 0, -1) - np.array(start)
    line = np.array(end) - np.array(start)
    along = np.clip(at @ line / max(1, line @ line), 0, 1)
    mask[np.hypot(*np.moveaxis(at - along[..., None] * line, -1, 0)) <= size / 2] = value


def expect_said(page: Page, text: str) -> None:
    expect(page.locator("#said")).to_contain_text(text)


def send(page: Page) -> None:
    page.get_by_role("button", name="Send").click()
    expect_said(page, "Stored with the tags")


def stored(inbox: Path) -> Correction:
    """The only correction in the inbox, which is emptied."""
    (file,) = inbox.glob("*/*.correction.png")
    correction = decode_correction(file.read_bytes())
    for path in inbox.glob("*/*"):
        path.unlink()
    return correction


def unsaid(height: int, width: int) -> Mask:
    return np.full((height, width), VOID, dtype=np.uint8)


TURNED = Image.Exif()
TURNED[0x0112] = 6  # to be displayed turned by 90 degrees


@pytest.mark.parametrize(
    ("photo", "size"), [(encoded(), (48, 64)), (encoded(kind="JPEG", exif=TURNED), (64, 48))], ids=["plain", "turned"]
)
def test_strokes_of_a_mouse_are_stored_to_the_pixel(
    context: BrowserContext, client: httpx.Client, inbox: Path, photo: bytes, size: tuple[int, int]
):
    page, expected = editor(context, client, photo), unsaid(*size)
    brush = diameter(page)
    pick(page, "dog")
    stroke(page, (10, 12), (40, 30))
    painted(expected, DOG, (10, 12), (40, 30), brush)
    pick(page, "background")
    stroke(page, (20, 4), (20, 44))
    painted(expected, 0, (20, 4), (20, 44), brush)
    pick(page, "Erase")
    stroke(page, (30, 20), (31, 20))
    painted(expected, VOID, (30, 20), (31, 20), brush)
    send(page)
    np.testing.assert_array_equal(stored(inbox).labels(["cat", "dog"]), expected)


def test_strokes_are_undone_and_repeated(context: BrowserContext, client: httpx.Client, inbox: Path):
    page, expected = editor(context, client), unsaid(48, 64)
    pick(page, "cat")
    for x in (10, 30, 50):
        stroke(page, (x, 10), (x, 40))
    for name in ("Undo", "Undo", "Redo"):
        page.get_by_role("button", name=name).click()
    for x in (10, 30):
        painted(expected, CAT, (x, 10), (x, 40), diameter(page))
    send(page)
    np.testing.assert_array_equal(stored(inbox).labels(["cat"]), expected)


@pytest.fixture
def phone(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(has_touch=True, viewport={"width": 320, "height": 640})
    yield context
    context.close()


def touch(screen: CDPSession, kind: str, *places: tuple[float, float]) -> None:
    """Put fingers at `places` on the screen, move them there, or lift them."""
    fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
    screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})


def test_a_finger_paints(phone: BrowserContext, client: httpx.Client, inbox: Path):
    page, expected = editor(phone, client), unsaid(48, 64)
    pick(page, "dog")
    screen, (start, end) = phone.new_cdp_session(page), points(page, (8, 8), (50, 30))
    touch(screen, "touchStart", start)
    touch(screen, "touchMove", end)
    touch(screen, "touchEnd")
    expect_said(page, "dog painted")
    painted(expected, DOG, (8, 8), (50, 30), diameter(page))
    send(page)
    np.testing.assert_array_equal(stored(inbox).labels(["cat", "dog"]), expected)


def test_two_fingers_zoom_and_paint_nothing(phone: BrowserContext, client: httpx.Client):
    page = editor(phone, client)
    screen, (left, right) = phone.new_cdp_session(page), points(page, (28, 24), (36, 24))
    touch(screen, "touchStart", left)
    touch(screen, "touchStart", left, right)
    for step in range(1, 10):
        touch(screen, "touchMove", (left[0] - 10 * step, left[1]), (right[0] + 10 * step, right[1]))
    touch(screen, "touchEnd")
    page.wait_for_function("visualViewport.scale > 1.5")
    assert not page.locator("#painting").evaluate(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(value => value)"
    )


def test_the_keyboard_alone_paints(context: BrowserContext, client: httpx.Client, inbox: Path):
    page, expected = opened(context, client), unsaid(48, 64)
    choose_photo(page)
    expect_status(page, "Found cat, dog")
    page.get_by_role("button", name="Correct").press("Enter")
    expect(page.locator("#painting")).to_be_focused()
    keys = page.keyboard
    keys.press("1")
    keys.press("]")
    wide = diameter(page)
    keys.press("Space")
    expect_said(page, "cat painted")
    painted(expected, CAT, (32, 24), (32, 24), wide)
    for _ in range(9):
        keys.press("Shift+ArrowLeft")
    keys.press("Enter")
    painted(expected, CAT, (32, 24), (23, 24), wide)
    keys.press("0")
    keys.press("[")
    keys.press("[")
    narrow = diameter(page)
    assert narrow < wide
    keys.press("ArrowDown")
    step = round(narrow / 2)
    keys.down("Space")
    keys.press("ArrowDown")
    keys.up("Space")
    painted(expected, 0, (23, 24 + step), (23, 24 + 2 * step), narrow)
    keys.press("e")
    keys.press("Space")
    expect_said(page, "Erased")
    keys.press("z")
    expect_said(page, "Undone")
    while page.evaluate("document.activeElement.id") != "send":
        keys.press("Shift+Tab")
    keys.press("Enter")
    expect_said(page, "Stored with the tags cat")
    np.testing.assert_array_equal(stored(inbox).labels(["cat"]), expected)
    keys.press("Escape")
    expect(page.get_by_role("button", name="Correct")).to_be_focused()


@pytest.mark.parametrize("size", [(64, 48), (5000, 40)], ids=["small", "wider than the canvas"])
def test_the_mask_is_accepted_where_nothing_is_painted(
    context: BrowserContext, client: httpx.Client, inbox: Path, size: tuple[int, int]
):
    photo = encoded(picture().resize(size, Image.Resampling.NEAREST))
    page = editor(context, client, photo)
    pick(page, "dog")
    stroke(page, (2, 2), (2, 2))
    page.get_by_role("button", name="Accept the mask").click()
    send(page)
    labels = stored(inbox).labels(["cat", "dog"])
    mask = decoded(client.post("/v1/segment", files={"image": photo}).content)
    assert (labels[2, 2], mask[2, 2]) == (DOG, 0)
    assert 0 < (labels != mask).sum() < 600


def test_classes_that_are_complete_and_one_that_the_model_lacks(
    context: BrowserContext, client: httpx.Client, inbox: Path
):
    page, expected = editor(context, client), unsaid(48, 64)
    page.get_by_label("Another class").fill("snow owl")
    page.get_by_label("Another class").press("Enter")
    stroke(page, (20, 20), (30, 20))
    painted(expected, 1, (20, 20), (30, 20), diameter(page))
    pick(page, "dog")
    page.get_by_label("All dog in the photo is painted").check()
    send(page)
    expect_said(page, "snow_owl")
    correction = stored(inbox)
    assert (correction.shown, correction.complete) == (("snow_owl",), ("dog",))
    np.testing.assert_array_equal(correction.labels(["snow_owl"]), expected)


def test_a_refusal_is_told_and_the_correction_goes_on(context: BrowserContext, client: httpx.Client, inbox: Path):
    page = opened(context, client)
    choose_photo(page)
    expect_status(page, "Found cat, dog")
    page.get_by_label("dog").check()
    expect_status(page, "Found dog")
    page.get_by_role("button", name="Correct").click()
    page.get_by_role("button", name="Send").click()
    expect_said(page, "Nothing is painted yet")
    pick(page, "dog")
    page.get_by_label("All dog in the photo is painted").check()
    page.get_by_role("button", name="Send").click()
    expect_said(page, "it shows no dog, which the photo is tagged with")
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Correct").click()
    stroke(page, (50, 20), (50, 20))
    send(page)
    assert stored(inbox).complete == ("dog",)


def test_a_photo_that_shows_nothing_is_tagged_so(context: BrowserContext, client: httpx.Client, inbox: Path):
    page = editor(context, client, encoded(picture(only())))
    pick(page, "background")
    stroke(page, (5, 5), (5, 5))
    page.get_by_role("button", name="Send").click()
    expect_said(page, "Choose the tags of the photo, or paint all of it as background")
    page.get_by_role("button", name="Accept the mask").click()
    send(page)
    expect_said(page, "Stored with the tags background")
    assert (stored(inbox).labels(["cat"]) == 0).all()


def test_another_photo_begins_anew_if_the_correction_may_be_discarded(context: BrowserContext, client: httpx.Client):
    page, asked = editor(context, client), []
    page.get_by_role("button", name="Accept the mask").click()
    page.keyboard.press("Escape")
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    choose_photo(page, encoded(picture(only(CAT))))
    page.get_by_role("button", name="Correct").click()
    expect_said(page, "100.0% of the photo is painted")
    page.keyboard.press("Escape")
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    choose_photo(page, encoded(picture(only(CAT))))
    expect_status(page, "Found cat")
    assert asked == ["Your correction has not been sent. Discard it?"] * 2
    page.get_by_role("button", name="Correct").click()
    page.get_by_role("button", name="Send").click()
    expect_said(page, "Nothing is painted yet")


def test_leaving_the_page_asks_only_while_a_correction_has_not_been_sent(
    context: BrowserContext, client: httpx.Client, inbox: Path
):
    page, asked = editor(context, client), []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    pick(page, "dog")
    stroke(page, (20, 20), (30, 20))
    page.close(run_before_unload=True)
    expect_said(page, "dog painted")
    assert asked == ["beforeunload"]
    send(page)
    stored(inbox)
    page.close(run_before_unload=True)
    page.wait_for_event("close")
    assert asked == ["beforeunload"]


def test_a_photo_that_the_browser_does_not_show_is_not_corrected(context: BrowserContext, client: httpx.Client):
    page = editor(context, client, encoded(kind="TIFF"))
    expect(page.get_by_role("status")).to_contain_text("This browser cannot show this photo as the service does")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_without_an_inbox_nothing_is_corrected(context: BrowserContext, colour_bundle: Path):
    with serving(model=colour_bundle) as client:
        page = opened(context, client)
        choose_photo(page)
        expect_status(page, "Found cat, dog")
        expect(page.get_by_role("button", name="Correct")).to_be_hidden()
