"""Where tasks over shards of photos run, by configuration."""

from typing import Any

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.settings import WorkSettings
from tagmask.cores import cores
from tagmask.errors import ConfigError
from training.parallel import start_worker


def task_runner(settings: WorkSettings) -> TaskRunner[Any]:
    """The task runner that the settings ask for. A cluster without an address is started for the flow and ends with it.

    Raises ConfigError when the package for Dask or Ray is not installed.
    """
    workers = settings.workers or cores()
    match settings.where:
        case "here":
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
    except ImportError as fault:
        raise ConfigError("work.where: dask needs a package more; pip install 'tagmask[dask]'") from fault
    if address:
        return DaskTaskRunner(address=address)
    # Without its dashboard, which would need a port.
    cluster = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=cluster)


def _ray(address: str | None, workers: int) -> TaskRunner[Any]:
    try:
        from prefect_ray import RayTaskRunner
    except ImportError as fault:
        raise ConfigError("work.where: ray needs a package more; pip install 'tagmask[ray]'") from fault
    return RayTaskRunner(address=address, init_kwargs={} if address else {"num_cpus": workers})
