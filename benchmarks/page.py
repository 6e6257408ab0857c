"""How fast the service's page appears and shows a mask in Chromium; and pictures of it and of a report.

    python -m benchmarks.page [--model MODEL]
    python -m benchmarks.page --pictures docs/pictures --demo demo

Each load is in a new browser profile without a cache, from `bentoml serve` on this machine. Figures are the median and
the maximum of the loads. --pictures writes those of the README and of corrections: the page, and results of `make demo`
in demo/.
"""

import re
import tempfile
import time
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from benchmarks.browser import chromium
from benchmarks.command import command_of
from benchmarks.load import Server
from tagmask.segmenter import PRETRAINED

_LOADS = 10
_COLUMNS, _GAP = 5, 8
_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
_SIZE: Any = {"width": 1180, "height": 900}
_EDITOR_SIZE: Any = {"width": 1180, "height": 700}
_STROKES = {
    "balloon": [(0.68, 0.42), (0.8, 0.33), (0.92, 0.42), (0.81, 0.6), (0.8, 0.8)],
    "background": [(0.62, 0.22), (0.45, 0.4), (0.5, 0.66), (0.66, 0.88), (0.95, 0.86), (0.96, 0.66)],
}  # by class: points, (x, y) as shares of the first drawn photo


def main(
    model: Path = PRETRAINED,
    pictures: Annotated[Path | None, typer.Option(metavar="FOLDER")] = None,
    demo: Annotated[Path | None, typer.Option(metavar="DIR")] = None,
) -> None:
    """Print the figures, and draw the pictures."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        log = Path(folder) / "log"
        with Server(["bentoml", "serve"], log, TAGMASK_MODEL=str(model.resolve())) as server:
            address = f"http://127.0.0.1:{server.port}/"
            loads = [_load(browser, address) for _ in range(_LOADS)]
            for name, times in zip(("first paint", "a sample's mask"), zip(*loads, strict=True), strict=True):
                print(f"{name}: {median(times):.0f} ms, at most {max(times):.0f} ms, {_LOADS} loads")
            if pictures:
                pictures.mkdir(parents=True, exist_ok=True)
                page = browser.new_page(viewport=_SIZE)
                page.goto(address)
                _segment_sample(page)
                _save(page.screenshot(full_page=True), pictures / "page.jpg")
        if pictures and demo:
            _draw_demo(browser, demo, pictures)


def _load(browser: Browser, address: str) -> tuple[float, float]:
    """Milliseconds until the page's first paint, and from the choice of a sample until its mask."""
    context = browser.new_context(viewport=_SIZE)
    page = context.new_page()
    page.goto(address, wait_until="load")
    chosen = time.perf_counter()
    _segment_sample(page)
    visible = time.perf_counter()
    paint = float(page.evaluate(_PAINT))
    context.close()
    return paint, (visible - chosen) * 1000


def _draw_demo(browser: Browser, demo: Path, pictures: Path) -> None:
    """A correction, the newest report's rounds, some masks side by side, and one photo's stages."""
    _draw_correction(browser, demo, pictures)
    page = browser.new_page(viewport=_SIZE)
    report = max(demo.glob("workspace/runs/*/report.html"), key=lambda path: path.stat().st_mtime)
    page.goto(report.resolve().as_uri())
    _save(page.locator("#rounds").screenshot(), pictures / "report.jpg")
    overlays = [Image.open(path).convert("RGB") for path in sorted(demo.glob("masks/*-overlay.png"))[: _COLUMNS * 2]]
    width, height = (max(each.size[axis] for each in overlays) + _GAP for axis in (0, 1))
    sheet = Image.new("RGB", (width * _COLUMNS - _GAP, height * 2 - _GAP), "white")
    for place, overlay in enumerate(overlays):
        sheet.paste(overlay, (place % _COLUMNS * width, place // _COLUMNS * height))
    sheet.save(pictures / "demo-masks.jpg", quality=88)
    Image.open(min(demo.glob("stages/*.png"))).convert("RGB").save(pictures / "demo-stages.jpg", quality=88)


def _draw_correction(browser: Browser, demo: Path, pictures: Path) -> None:
    """The editor of the page with the first drawn photo and two strokes."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(
            ["bentoml", "serve"],
            Path(folder) / "log",
            TAGMASK_MODEL=str((demo / "run" / "model.onnx").resolve()),
            TAGMASK_INBOX=f"{folder}/inbox",
        ) as server,
    ):
        page = browser.new_page(viewport=_EDITOR_SIZE)
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.get_by_label("Choose a photo").set_input_files(min(demo.glob("data/images/*.jpg")))
        page.get_by_role("button", name="Correct").click()
        for name, line in _STROKES.items():
            page.get_by_role("radio", name=name).check()
            _drag(page, *line)
        _save(page.screenshot(), pictures / "editor.jpg")


def _drag(page: Page, *points: tuple[float, float]) -> None:
    """Draw a stroke through `points`, (x, y) as shares of the photo."""
    box = page.locator("#painting").bounding_box()
    assert box
    for number, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def _segment_sample(page: Page) -> None:
    page.locator("#samples button").first.click()
    expect(page.get_by_role("status")).to_have_text(re.compile("^(Found|Nothing)"), timeout=30_000)


def _save(png: bytes, path: Path) -> None:
    Image.open(BytesIO(png)).convert("RGB").save(path, quality=85)


if __name__ == "__main__":
    command_of(main)()
