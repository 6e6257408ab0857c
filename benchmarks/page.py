"""How fast the service's page appears and shows a mask in Chromium; and pictures of it and of a report.

    python -m benchmarks.page [--model MODEL]
    python -m benchmarks.page --pictures docs/pictures --demo demo

Each load is in a new browser profile without a cache, from `bentoml serve` on this machine. Figures are the median and
the maximum of the loads. --pictures writes those of the README: the page, and results of `make demo` in demo/.
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
    """The newest report's rounds and first photo, some masks side by side, and one photo's stages."""
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


def _segment_sample(page: Page) -> None:
    page.locator("#samples button").first.click()
    expect(page.get_by_role("status")).to_have_text(re.compile("^(Found|Nothing)"), timeout=30_000)


def _save(png: bytes, path: Path) -> None:
    Image.open(BytesIO(png)).convert("RGB").save(path, quality=85)


if __name__ == "__main__":
    command_of(main)()
