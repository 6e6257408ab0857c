from collections.abc import Iterator

import pytest
from hypothesis import settings
from playwright.sync_api import Browser

from benchmarks.browser import chromium

settings.register_profile("tagmask", deadline=None)  # how long an example takes depends on what else the machine does
settings.load_profile("tagmask")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as browser:
            yield browser
    except FileNotFoundError as fault:
        pytest.skip(str(fault))
