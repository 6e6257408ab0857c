"""The task runner for shards of photos, chosen by the settings."""

from typing import Any

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.settings import TaskSettings
from tagmask.cores import cores
from tagmask.errors import ConfigError
from training.datasets.parallel import start_worker


def task_runner(settings: TaskSettings) -> TaskRunner[Any]:
    """The task runner named by the settings. Without an address, a cluster is started for the flow and ends with it.

    Raises ConfigError when the package for Dask or Ray is not installed.
    """
    workers = settings.workers or cores()
    match settings.runner:
        case "inline":
            return ThreadPoolTaskRunner(max_workers=1)
        case "processes":
            return ProcessPoolTaskRunner(max_workers=workers, initializer=start_worker)
        case "dask":
            return _dask(settings.address, workers)
        case "ray":
            return _ray(settings.address, workers)


def _dask(address: str | None, workers: int) -> TaskRunner[Any]:
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise ConfigError("tasks.runner: dask requires an extra; pip install 'tagmask[dask]'") from error
    if address:
        return DaskTaskRunner(address=address)
    # No dashboard: it would need a port.
    cluster = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=cluster)


def _ray(address: str | None, workers: int) -> TaskRunner[Any]:
    try:
        from prefect_ray import RayTaskRunner
    except ImportError as error:
        raise ConfigError("tasks.runner: ray requires an extra; pip install 'tagmask[ray]'") from error
    return RayTaskRunner(address=address, init_kwargs={} if address else {"num_cpus": workers})
