"""The service, with models that the supervisor accepts and no worker can load: to be served, not imported by tests."""

from typing import Any

from service.http import worker
from service.main import Tagmask
from tagmask.errors import StartError


def _fail(*_: Any) -> None:
    raise StartError("no memory; add some")


worker.Models = _fail  # type: ignore[assignment, misc]

__all__ = ["Tagmask"]
