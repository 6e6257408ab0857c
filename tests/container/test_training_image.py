"""The training image for CPUs: a training, and flows with Dask or Ray."""

from pathlib import Path

import pytest

from tests.container.engine import LOCKED_DOWN, Engine


def test_a_training_ends_in_the_store(engine: Engine, training_image: str, photos: Path, settings: Path):
    with engine.volume() as runs:
        run = ["run", "--rm", *LOCKED_DOWN, f"--volume={runs}:/runs", "--env=TAGMASK_STORE=/runs/store"]
        mounts = [f"--volume={photos}:/data:ro", f"--volume={settings}:/settings.toml:ro"]
        engine(*run, *mounts, training_image, "train", "/data", "--out=/runs/first", "--config=/settings.toml")
        added = engine(*run, training_image, "models", "add", "/runs/first/model.onnx", "--promote")
        assert b" is in /runs/store" in added


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_tasks_of_flows_run_in_a_cluster(
    engine: Engine, training_image: str, photos: Path, flow_settings: Path, runner: str
):
    with flow_settings.open("a") as file:
        file.write(f'\n[tasks]\nrunner = "{runner}"\nworkers = 2\n')
    with engine.volume() as workspace:
        mounts = [f"--volume={photos}:/data:ro", f"--volume={flow_settings}:/settings.toml:ro",
                  f"--volume={workspace}:/workspace"]  # fmt: skip
        train = ["flow", "train", "/data", "--workspace=/workspace", "--store=/workspace/store",
                 "--config=/settings.toml"]  # fmt: skip
        output = engine("run", "--rm", "--init", *LOCKED_DOWN, "--shm-size=1g", *mounts, training_image, *train)
        assert output.decode().splitlines()[-1].startswith("promoted")
