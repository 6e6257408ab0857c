"""The page at `/`: a photo in, its mask to look at. Its files are those of `service/page`, all from this service."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

FILES = Path(__file__).parents[1] / "page"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def page(_: Request) -> Response:
    """The page."""
    return FileResponse(FILES / "index.html", headers={"Content-Security-Policy": _POLICY})
