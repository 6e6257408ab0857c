"""The demo page in a browser: opening it, and segmenting a photo."""

import re
from typing import Any

import httpx
from playwright.sync_api import BrowserContext, Page, expect

from tests.service.http.colour_photos import encoded


def opened(context: BrowserContext, client: httpx.Client, path: str = "/") -> Page:
    page = context.new_page()
    page.goto(str(client.base_url.join(path)))
    return page


def choose_photo(page: Page, photo: bytes | None = None) -> None:
    file: Any = {"name": "my photo's.png", "mimeType": "image/png", "buffer": photo or encoded()}
    page.get_by_label("Choose a photo").set_input_files(file)


def expect_status(page: Page, text: str) -> None:
    expect(page.get_by_role("status")).to_have_text(re.compile(f"^{text} in "))
