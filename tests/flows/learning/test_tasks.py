from collections.abc import Iterator

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

from flows.learning.tasks import GPU, gpu_slot


@pytest.fixture
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    """A client of a server without the limit GPU."""
    with get_client(sync_client=True) as client:
        yield client
        client.delete_global_concurrency_limit_by_name(GPU)


def test_a_step_on_a_gpu_holds_a_slot(client: SyncPrefectClient):
    with gpu_slot("cuda"):
        held = client.read_global_concurrency_limit_by_name(GPU)
    assert (held.limit, held.active_slots) == (1, 1)


def test_the_users_limit_is_kept_beside_any_number_of_others(client: SyncPrefectClient):
    for name in (*(f"other-{number:03}" for number in range(200)), GPU):
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=2))
    with gpu_slot("cuda"), gpu_slot("cuda"):
        held = client.read_global_concurrency_limit_by_name(GPU)
    assert (held.limit, held.active_slots) == (2, 2)
