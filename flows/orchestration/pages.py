"""Lists that Prefect's API gives page by page."""

from collections.abc import Callable
from typing import Any, TypeVar

PAGE = 200
"""Maximum number of runs per request."""

T = TypeVar("T")


def read_all(read: Callable[..., list[T]], **filters: Any) -> list[T]:
    """What `read`, such as `client.read_flow_runs`, gives for `filters` on all pages."""
    found: list[T] = []
    while page := read(**filters, limit=PAGE, offset=len(found)):
        found += page
    return found
