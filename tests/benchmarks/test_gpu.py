import time
from pathlib import Path

import pytest

from benchmarks import gpu
from tests.tiny import TINY


def rows_of(text: str) -> dict[str, list[list[str]]]:
    """The cells of each table, the titles first, by the heading above it."""
    sections = [section.splitlines() for section in text.split("## ")[1:]]
    return {
        lines[0]: [line.strip("| ").split(" | ") for line in lines if line.startswith("|") and "---" not in line]
        for lines in sections
    }


def test_calls_that_outlast_the_measurement_count_with_the_time_they_take():
    elapsed, taken = gpu.drive(lambda: time.sleep(0.2), 2, 0.05)
    assert len(taken) == 2
    assert min(taken) >= 0.2
    assert max(taken) <= elapsed


@pytest.mark.skipif(gpu.inference_device() == "cuda", reason="this machine has a GPU")
def test_without_a_gpu_the_cpu_is_measured_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "CLIENTS", (1, 2))
    monkeypatch.setattr(gpu, "SIZES", ((48, 64), (64, 56)))
    settings = [f"{name}={value}".replace("True", "true") for name, value in (TINY | {"rounds": 1}).items()]
    gpu.main(tmp_path, photos=60, seconds=0.1, size=64, set_=settings)
    tables = rows_of((tmp_path / "gpu.md").read_text())
    assert tables["Machine"][1] == ["GPU", "none that PyTorch can use"]
    stages = {row[0]: float(row[1]) for row in tables["Training"][1:]}
    assert {"classifier", "regiontagger", "regionnet", "pixelnet"} <= stages.keys()
    agreement = {row[0]: row[1:3] for row in tables["Precisions"][1:]}
    assert agreement == {name: ["cpu", "100.000%"] for name in ("fp32", "fp16", "int8")}
    rates = {(row[0], row[1]): float(row[2]) for row in tables["Photos at once"][1:]}
    assert len(rates) == 6
    assert min(rates.values()) > 0
    assert [row[0] for row in tables["Photos of many shapes"][1:]] == ["none: on the CPU"]
    assert [row[1].count(",") for row in tables["Processes that share the device"][1:]] == [0, 1]
