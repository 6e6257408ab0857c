"""Prometheus metrics and JSON logs.

The workers of a service share a folder, so that any of them can report `/metrics` for all.
"""

import atexit
import contextvars
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry import trace
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from pythonjsonlogger.json import JsonFormatter

if TYPE_CHECKING:
    from tagmask.segmentation import Segmentation

request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)
"""Id of the current request, for its log lines."""

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_OWN_FOLDER = "_TAGMASK_METRICS"  # BentoML's folder is that of all services of a user, and emptied at each start
if _OWN_FOLDER in os.environ:
    os.environ[_FOLDER] = os.environ[_OWN_FOLDER]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SHARES = tuple(tenths / 10 for tenths in range(1, 11))

REQUESTS = Counter("tagmask_requests", "Requests by route, method and status", ["route", "method", "status"])
REQUEST_SECONDS = Histogram(
    "tagmask_request_seconds", "Seconds from first byte to response", ["route"], buckets=_SECONDS
)
STAGE_SECONDS = Histogram("tagmask_stage_seconds", "Seconds per photo in each stage", ["stage"], buckets=_SECONDS)
QUEUED = Gauge("tagmask_queue_depth", "Photos waiting for a free thread", multiprocess_mode="livesum")
IN_WORK = Gauge("tagmask_in_work", "Photos being processed", multiprocess_mode="livesum")
MODEL = Gauge(
    "tagmask_model_info", "1 for the model being served", ["version", "provider"], multiprocess_mode="livemax"
)
REFUSED = Gauge("tagmask_refused_versions", "Champions that are refused; /readyz says why", multiprocess_mode="livemax")
MODEL_CREATED = Gauge(
    "tagmask_model_created_timestamp_seconds",
    "Unix time at which the model being served was exported",
    multiprocess_mode="livemostrecent",
)
PROMOTED = Gauge(
    "tagmask_promotion_timestamp_seconds",
    "Unix time of the promotion of the store's champion; 0 without a champion",
    multiprocess_mode="livemostrecent",
)
SAMPLES = Counter("tagmask_samples", "Samples stored, by outcome: created or known", ["outcome"])
MASK_IOU = Histogram("tagmask_expected_iou", "Expected IoU of masks, 0 to 1", buckets=_SHARES)
CLASS_IOU = Histogram(
    "tagmask_class_expected_iou", "Expected IoU of classes, 0 to 1, in masks and given tags", ["class"], buckets=_SHARES
)
EMPTY = Counter("tagmask_empty_masks", "Masks of background alone")
LOW_CONFIDENCE = Counter("tagmask_low_confidence", "Masks whose expected IoU is below TAGMASK_LOW_CONFIDENCE")
UNPAINTED = Counter("tagmask_unpainted_tags", "Given tags that are painted nowhere, by class", ["class"])

_classes: set[str] = set()  # that are labels of metrics


def observe_mask(segmentation: "Segmentation") -> None:
    """Record the expected IoU of the masks of one photo; background counts only where it is alone."""
    MASK_IOU.observe(segmentation.expected_iou)
    LOW_CONFIDENCE.inc(segmentation.low_confidence)
    EMPTY.inc(not segmentation.present)
    for label, iou in segmentation.expected_ious.items():
        if label:
            CLASS_IOU.labels(_class_label(segmentation.model.classes[label])).observe(iou)
    for label in segmentation.unpainted:
        UNPAINTED.labels(_class_label(segmentation.model.classes[label])).inc()


def _class_label(name: str) -> str:
    """`name`, or "other" when as many names as a model may have are labels already: models come and go."""
    from tagmask.masks import MAX_CLASSES  # with NumPy and Pillow, which the supervisor needs for nothing else

    if len(_classes) < MAX_CLASSES:
        _classes.add(name)
    return name if name in _classes else "other"


def make_folder() -> None:
    """Make the folder for the workers that this process will start; it is removed when this process exits."""
    os.environ[_OWN_FOLDER] = tempfile.mkdtemp(prefix="tagmask-metrics-")
    atexit.register(shutil.rmtree, os.environ[_OWN_FOLDER], ignore_errors=True)


def shared_folder() -> Path | None:
    """The folder that the workers of this service share; None in a process that no supervisor started."""
    folder = os.environ.get(_OWN_FOLDER)
    return Path(folder) if folder else None


def metrics(workers: Sequence[int]) -> bytes:
    """The metrics of all workers, whose process ids are `workers`, in Prometheus' text format."""
    if _FOLDER not in os.environ:
        return exposition(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(_WorkerProcesses(workers))
    return exposition(registry)


class _WorkerProcesses(Collector):
    """The `process_` metrics of each worker, with the label `pid`; MultiProcessCollector has none."""

    def __init__(self, workers: Sequence[int]) -> None:
        self._workers = workers

    def collect(self) -> Iterable[Metric]:
        metrics: dict[str, Metric] = {}
        for pid in map(str, self._workers):
            for of_worker in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                metric = metrics.setdefault(
                    of_worker.name, Metric(of_worker.name, of_worker.documentation, of_worker.type)
                )
                for sample in of_worker.samples:
                    metric.add_sample(sample.name, {"pid": pid}, sample.value)
        return metrics.values()


class _Formatter(JsonFormatter):
    """One line per record: time, level, logger, event, request_id and trace_id if any, and the fields in `extra`."""

    def __init__(self) -> None:
        super().__init__("%(message)s", rename_fields={"message": "event"})

    def add_fields(
        self, log_data: dict[str, object], record: logging.LogRecord, message_dict: dict[str, object]
    ) -> None:
        log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data["level"] = record.levelname.lower()
        log_data["logger"] = record.name
        super().add_fields(log_data, record, message_dict)
        if current := request_id.get():
            log_data.setdefault("request_id", current)
        if (span := trace.get_current_span().get_span_context()).is_valid:
            log_data["trace_id"] = trace.format_trace_id(span.trace_id)


def configure_logs(level: str) -> None:
    """Write the logs of this process to standard output as JSON, those of `tagmask` from `level` up."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter())
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    for name in ("bentoml", "uvicorn", "uvicorn.error", "circus"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
    logging.getLogger("tagmask").setLevel(level.upper())
