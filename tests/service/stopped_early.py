"""The service, whose supervisor gets SIGTERM while it starts the first worker: to be served, not imported by tests."""

import os
import signal
from typing import Any

from circus.watcher import Watcher

from service.main import Tagmask

_spawn = Watcher.spawn_process


def _spawn_and_signal(watcher: Watcher, *arguments: Any) -> Any:
    started = _spawn(watcher, *arguments)
    os.kill(os.getpid(), signal.SIGTERM)
    return started


Watcher.spawn_process = _spawn_and_signal

__all__ = ["Tagmask"]
