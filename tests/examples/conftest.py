from tests.flows.conftest import migrated, one_process, prefect_api, prefect_home

__all__ = ["migrated", "one_process", "prefect_api", "prefect_home"]
