from tests.flows.conftest import migrated, prefect_api, prefect_home

__all__ = ["migrated", "prefect_api", "prefect_home"]
