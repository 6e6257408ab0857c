"""Of the log of runs in this process what is of use on a terminal."""

import logging
import os
import sys
from pathlib import Path

from prefect.logging.configuration import setup_logging

PACKAGE = Path(__file__).parents[1]


def plain_log() -> None:
    """Show what the flows say, without what Prefect says of each run and task: its pages have all of it.

    Warnings are shown whoever gives them.
    """
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")  # of worker processes too
    setup_logging()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    handler.addFilter(_is_ours)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addHandler(handler)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING and Path(record.pathname).is_relative_to(PACKAGE)
