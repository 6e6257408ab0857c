"""The log of the flows on a terminal."""

import logging
import os
import sys
from pathlib import Path

from prefect.logging.configuration import setup_logging

PACKAGE = Path(__file__).parents[1]


def log_to_console() -> None:
    """Print the messages of the flows, but not Prefect's own about each run and task, which its UI has.

    Warnings are printed whatever their origin.
    """
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")  # for worker processes too
    setup_logging()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    handler.addFilter(_is_own)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addHandler(handler)


def _is_own(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING and Path(record.pathname).is_relative_to(PACKAGE)
