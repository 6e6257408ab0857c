"""How soon the service's page shows, and how soon it shows masks, in Chromium; and pictures of it and of a report.

    python -m benchmarks.page [--model MODEL] [--report RUN/report.html] [--pictures FOLDER]

Each load is in a new browser profile without a cache, from `bentoml serve` on this machine. Figures are the median and
the greatest of the loads. `--pictures` writes page.jpg, and report.jpg of a report that `tagmask report` wrote.
"""

import argparse
import re
import shutil
import tempfile
import time
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.load import Server
from service.models import PRETRAINED

_LOADS = 10
_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
_SIZE: Any = {"width": 1180, "height": 900}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=PRETRAINED)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        log, model = Path(folder) / "log", str(given.model.resolve())
        with Server(["bentoml", "serve"], log, TAGMASK_MODEL=model) as server:
            address = f"http://127.0.0.1:{server.port}/"
            loads = [_load(browser, address) for _ in range(_LOADS)]
            for name, times in zip(("first paint", "a sample's mask"), zip(*loads, strict=True), strict=True):
                print(f"{name}: {median(times):.0f} ms, at most {max(times):.0f} ms, {_LOADS} loads")
            if given.pictures:
                page = browser.new_page(viewport=_SIZE)
                page.goto(address)
                _segment_sample(page)
                _save(page.screenshot(full_page=True), given.pictures / "page.jpg")
        if given.pictures and given.report:
            page = browser.new_page(viewport=_SIZE)
            page.goto(given.report.resolve().as_uri())
            _save(page.screenshot(), given.pictures / "report.jpg")
        browser.close()


def _load(browser: Browser, address: str) -> tuple[float, float]:
    """Milliseconds until the page's first paint, and from the choice of a sample until its mask."""
    context = browser.new_context(viewport=_SIZE)
    page = context.new_page()
    page.goto(address, wait_until="load")
    chosen = time.perf_counter()
    _segment_sample(page)
    shown = time.perf_counter()
    paint = float(page.evaluate(_PAINT))
    context.close()
    return paint, (shown - chosen) * 1000


def _segment_sample(page: Page) -> None:
    page.locator("#samples button").first.click()
    expect(page.get_by_role("status")).to_have_text(re.compile("^(Found|Nothing)"), timeout=30_000)


def _save(png: bytes, path: Path) -> None:
    Image.open(BytesIO(png)).convert("RGB").save(path, quality=85)


if __name__ == "__main__":
    main()
