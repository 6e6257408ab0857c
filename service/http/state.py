"""What all requests of a worker share."""

from dataclasses import dataclass

from starlette.requests import Request

from service.http.access import Access
from service.http.concurrency import ConcurrencyLimit
from service.models import Models
from service.settings import Settings
from tagmask.inbox import Inbox


@dataclass(frozen=True)
class State:
    """Created once per worker; `inbox` is None when samples are off."""

    settings: Settings
    access: Access
    concurrency: ConcurrencyLimit
    models: Models
    inbox: Inbox | None


def state_of(request: Request) -> State:
    """The state of the worker."""
    state = request.app.state.tagmask
    assert isinstance(state, State)
    return state
