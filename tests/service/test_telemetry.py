import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry import metrics


def test_processes_of_all_workers_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        families = text_string_to_metric_families(metrics([os.getpid(), child.pid, gone.pid]).decode())
        samples = {(each.name, each.labels["pid"]): each.value for family in families for each in family.samples}
        assert {pid for _, pid in samples} == {str(os.getpid()), str(child.pid)}
        for pid in (os.getpid(), child.pid):
            process = psutil.Process(pid)
            started = samples["process_start_time_seconds", str(pid)]
            assert started == pytest.approx(process.create_time(), abs=2)
            assert samples["process_resident_memory_bytes", str(pid)] == pytest.approx(
                process.memory_info().rss, rel=0.5
            )
            assert samples["process_cpu_seconds_total", str(pid)] <= sum(process.cpu_times()[:2]) + 0.01
            assert samples["process_open_fds", str(pid)] < samples["process_max_fds", str(pid)]
    finally:
        child.communicate(b"\n")
