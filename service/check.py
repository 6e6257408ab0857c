"""Checks, before any worker starts, the settings, the inbox, and the bundle that is served first.

    python -P tagmask/launch.py service.check HOST

It has a process of its own, as the supervisor would keep in memory all that it imports for this.
"""

import asyncio
import sys

from service.http.access import Access
from service.http.tracing import span_exporter
from service.http.worker import open_inbox
from service.models import Loader
from service.settings import load_settings
from tagmask.errors import TagmaskError

_REFUSED = 2  # exit status; standard output has the reason


def check(host: str) -> None:
    """Raises StartError and BundleError if a worker that listens on `host` cannot start."""
    settings = load_settings()
    Access(settings).check_host(host)
    open_inbox(settings)
    span_exporter()
    loader = Loader(settings)
    if first := loader.first():
        asyncio.run(loader.check(first))


def _main(host: str) -> int:
    try:
        check(host)
    except TagmaskError as fault:
        sys.stdout.write(str(fault))
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
