"""The server that the benchmarks put under load."""

from pathlib import Path

import pytest

from benchmarks.load import Server


class Impatient(Server):
    start_s = 0.0


@pytest.mark.parametrize(
    ("server", "code", "what"),
    [
        (Server, "raise SystemExit('no model')", r"ended with status 1: GET /readyz failed; (.|\n)*no model"),
        (Impatient, "import time; time.sleep(100)", "did not answer within 0 s: GET /readyz failed"),
    ],
)
def test_a_server_that_is_slow_is_told_from_one_that_ended(server: type[Server], code: str, what: str, tmp_path: Path):
    with pytest.raises(RuntimeError, match=f"^the server {what}"):
        server(["python", "-c", code], tmp_path / "log")
