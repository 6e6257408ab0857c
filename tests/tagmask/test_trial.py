import asyncio
import os
import sys
from pathlib import Path

import onnx
import psutil
import pytest

from tagmask import launch, trial
from tagmask.errors import BundleError, ConfigError
from tagmask.trial import try_bundle
from tests.tagmask import bad_bundles
from tests.tagmask.bad_bundles import write_bad_bundle


def refused(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        asyncio.run(try_bundle(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("export it again")
    assert "\n" not in message
    return message


def test_a_good_bundle_passes(colour_bundle: Path):
    asyncio.run(try_bundle(colour_bundle))
    with pytest.raises(BundleError, match="SHA-256"):
        asyncio.run(try_bundle(colour_bundle, "0" * 64))
    with pytest.raises(ConfigError, match="auto, cpu, cuda"):
        asyncio.run(try_bundle(colour_bundle, device="tpu"))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (bad_bundles.giant(), "memory"),
        (bad_bundles.foreign(), "somebody.else:Blur"),
        (bad_bundles.modern(), "opset"),
    ],
)
def test_a_network_that_cannot_be_run_here_is_refused(tmp_path: Path, model: onnx.ModelProto, why: str):
    assert why in refused(write_bad_bundle(tmp_path / "model.onnx", model))


def test_a_network_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trial, "WARM_UP_SECONDS", 4.0)
    assert "to load and warm up" in refused(write_bad_bundle(tmp_path / "model.onnx", bad_bundles.endless()))


def test_a_process_that_crashes_is_a_refusal(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    crash = [sys.executable, "-c", "import os; os.abort()"]
    monkeypatch.setattr(launch, "command", lambda *_: crash)
    assert "SIGABRT" in refused(colour_bundle)


def test_no_process_outlives_a_trial_that_is_cancelled(tmp_path: Path):
    path = write_bad_bundle(tmp_path / "model.onnx", bad_bundles.endless())

    async def give_up() -> None:
        async with asyncio.timeout(1):
            await try_bundle(path)

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert str(path) not in [part for child in psutil.Process(os.getpid()).children() for part in child.cmdline()]
