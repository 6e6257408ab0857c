"""The service as it is started for real: `bentoml serve` on bentofile.yaml."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from tests.tagmask.bundles import FIRST, SECOND, make_store
from tests.training.colour_bundle import write_colour_bundle

ROOT = Path(__file__).parents[2]
BENTOML = Path(sys.executable).parent / "bentoml"


def start(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAGMASK_")}
    home = {"BENTOML_HOME": str(tmp_path / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    return subprocess.Popen(
        [str(BENTOML), "serve", *arguments],
        cwd=ROOT,
        env=kept | home | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def started(tmp_path: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    process = start(tmp_path, "--port", str(port), **environment)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while not ready(url):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, "the service did not become ready"
            time.sleep(0.1)
        yield process, url
    finally:
        process.terminate()
        process.wait(timeout=60)


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def unfinished(url: str) -> float:
    """Photos that the service has received and not finished."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(
        float(line.split()[1]) for line in lines if line.startswith(("tagmask_in_work ", "tagmask_queue_depth "))
    )


def photo(size: tuple[int, int] = (60, 40)) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    image = BytesIO()
    Image.fromarray(noise).save(image, "PNG")
    return image.getvalue()


def test_it_serves_swaps_and_finishes_what_is_in_flight(tmp_path: Path):
    store = make_store(tmp_path)
    environment = {"TAGMASK_STORE": str(store.root), "TAGMASK_WATCH_SECONDS": "0.1", "TAGMASK_MAX_CONCURRENT": "1"}
    with started(tmp_path, **environment) as (process, url), ThreadPoolExecutor(6) as threads:
        answer = httpx.post(f"{url}/v1/segment", files={"image": photo()})
        assert (answer.status_code, answer.headers["X-Model-Version"]) == (200, FIRST)
        metrics = httpx.get(f"{url}/metrics").text
        assert 'tagmask_requests_total{method="POST",route="/v1/segment",status="200"} 1.0' in metrics
        assert f'tagmask_model_info{{provider="CPUExecutionProvider",version="{FIRST}"}} 1.0' in metrics
        assert len(re.findall(r'^process_resident_memory_bytes\{pid="\d+"\} ', metrics, re.MULTILINE)) == 1

        store.promote(SECOND)
        end = time.monotonic() + 20
        while httpx.get(f"{url}/readyz").json()["model"] != SECOND:
            assert time.monotonic() < end
            time.sleep(0.05)

        slow = photo((3000, 2000))
        flying = [
            threads.submit(httpx.post, f"{url}/v1/segment?format=overlay", files={"image": slow}, timeout=60)
            for _ in range(6)
        ]
        while unfinished(url) + sum(each.done() for each in flying) < 6:
            time.sleep(0.02)
        assert not all(each.done() for each in flying), "too fast to be in flight"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.8)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/livez", timeout=10)
        assert [each.result().status_code for each in flying] == [200] * 6
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0

    lines = [json.loads(line) for line in output.splitlines()]
    serving = next(line for line in lines if line["event"] == "serving")
    assert (serving["model"], serving["classes"]) == (FIRST, ["cat", "dog"])
    assert serving["provider"] == "CPUExecutionProvider"
    assert any(line["event"] == "model swapped" and line["model"] == SECOND for line in lines)
    assert any(line["event"] == "request" and line.get("request_id") for line in lines)


def test_connections_are_refused_until_a_worker_is_ready(tmp_path: Path):
    """Instead of waiting for it, while another instance could answer."""
    port = free_port()
    bundle = write_colour_bundle(tmp_path / "model.onnx")
    process = start(tmp_path, "--port", str(port), TAGMASK_MODEL=str(bundle))
    assert process.stdout is not None
    try:
        while not accepts(port):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        os.set_blocking(process.stdout.fileno(), False)
        assert '"serving"' in os.read(process.stdout.fileno(), 100_000).decode()
        assert ready(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=60)


def accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            return connection.getsockname() != connection.getpeername()  # a free port may be the client's own
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        ({"TAGMASK_STORE": "nowhere"}, [], "TAGMASK_STORE=nowhere: no such folder; create it"),
        ({"TAGMASK_MODEL": "nowhere.onnx"}, [], "nowhere.onnx"),
        ({"TAGMASK_MAX_PIXELS": "many"}, [], "TAGMASK_MAX_PIXELS"),
        ({"TAGMASK_INBOX": "/dev/null/inbox"}, [], "inbox /dev/null/inbox: cannot be created"),
        ({}, ["--host", "0.0.0.0"], "TAGMASK_API_KEYS"),
    ],
)
def test_it_refuses_to_start_in_one_line(
    tmp_path: Path, environment: dict[str, str], arguments: list[str], message: str
):
    bundle = write_colour_bundle(tmp_path / "model.onnx")
    if "TAGMASK_STORE" not in environment:
        environment = {"TAGMASK_MODEL": str(bundle)} | environment
    process = start(tmp_path, "--port", str(free_port()), *arguments, **environment)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert message in " ".join(output.split())
    assert "Traceback" not in output


def test_a_worker_that_cannot_start_ends_the_service(tmp_path: Path):
    """Uvicorn takes an exception for a lack of support, and goes on; the supervisor starts a worker that ends again."""
    process = start(tmp_path, "tests.service.failing:Tagmask", "--port", str(free_port()))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 3
    lines = [json.loads(line) for line in output.splitlines()]
    (failed,) = [line for line in lines if line["event"] == "worker cannot start"]
    assert (failed["level"], failed["reason"]) == ("error", "no memory; add some")
    assert "exc_info" not in failed


def test_a_signal_while_the_first_worker_is_started_stops_the_service(tmp_path: Path):
    environment = {"TAGMASK_MODEL": str(write_colour_bundle(tmp_path / "model.onnx"))}
    process = start(tmp_path, "tests.service.stopped_early:Tagmask", "--port", str(free_port()), **environment)
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        for each in (*psutil.Process(process.pid).children(), process) if process.poll() is None else ():
            each.kill()
    assert process.returncode == 0, output


def test_what_a_killed_worker_was_doing_is_logged_and_the_next_ends_with_its_supervisor(tmp_path: Path):
    environment = {"TAGMASK_MODEL": str(write_colour_bundle(tmp_path / "model.onnx")), "TAGMASK_MAX_CONCURRENT": "1"}
    with started(tmp_path, **environment) as (process, url), ThreadPoolExecutor(6) as threads:
        first = worker_of(process)
        slow = photo((2500, 2000))
        requests = [
            threads.submit(httpx.post, f"{url}/v1/segment", files={"image": slow}, timeout=60) for _ in range(6)
        ]
        while not unfinished(url):
            assert not all(each.done() for each in requests), "too fast to be in work"
            time.sleep(0.02)
        first.kill()
        end = time.monotonic() + 60
        while not ready(url):
            assert time.monotonic() < end
            time.sleep(0.1)

        second = worker_of(process)
        assert second.pid != first.pid
        process.kill()
        try:
            output, _ = process.communicate(timeout=60)  # the worker has the other end of its output
            second.wait(timeout=10)
        finally:
            if second.is_running():
                second.kill()
    assert not ready(url)
    lines = [json.loads(line) for line in output.splitlines()]
    (killed,) = [line for line in lines if line["event"] == "worker was killed, most likely for lack of memory"]
    assert killed["pid"] == first.pid
    assert [work["path"] for work in killed["in_work"]] == ["/v1/segment"]
    assert "worker stops, as its supervisor has ended" in [line["event"] for line in lines]


def worker_of(process: subprocess.Popen[str]) -> psutil.Process:
    (worker,) = [each for each in psutil.Process(process.pid).children() if "--worker-id" in each.cmdline()]
    return worker


def test_services_of_one_user_have_their_own_metrics(tmp_path: Path):
    """BentoML has one folder for the metrics of all services, which it empties at each start."""
    requests = 'tagmask_requests_total{method="GET",route="/readyz",status="200"}'
    model = {"TAGMASK_MODEL": str(write_colour_bundle(tmp_path / "model.onnx"))}
    with started(tmp_path, **model) as (_, first):
        before = requests in httpx.get(f"{first}/metrics").text
        with started(tmp_path, **model) as (_, second):
            assert before
            assert requests in httpx.get(f"{first}/metrics").text
            for _ in range(5):
                httpx.post(f"{second}/nothing")
            assert 'method="POST"' in httpx.get(f"{second}/metrics").text
            assert 'method="POST"' not in httpx.get(f"{first}/metrics").text


def test_a_port_that_another_program_took_meanwhile_is_named(tmp_path: Path):
    code = (
        "import socket\n"
        "from service import main\n"
        "from tagmask.errors import StartError\n"
        "port, sockets = 0, []\n"
        "for _ in range(2):\n"
        "    sockets.append(socket.socket())\n"
        "    sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "    sockets[-1].bind(('127.0.0.1', port))\n"
        "    port = sockets[-1].getsockname()[1]\n"
        "main._parameter = {'fd': sockets[0].fileno()}.get\n"
        "main._listen()\n"
        "main._parameter = {'fd': sockets[1].fileno()}.get\n"
        "try:\n"
        "    main._listen()\n"
        "except StartError as error:\n"
        "    assert str(error) == f'port {port}: Address already in use; choose another one', error\n"
        "else:\n"
        "    raise AssertionError('it listens')\n"
    )
    run(code, tmp_path)


def test_nothing_is_reported_to_bentoml(tmp_path: Path):
    """Its command line asks whether it may, and remembers the answer, before it loads the service."""
    code = (
        "from bentoml._internal.utils.analytics.usage_stats import do_not_track\n"
        "assert not do_not_track()\n"
        "import service.main\n"
        "assert do_not_track()\n"
    )
    run(code, tmp_path)


def test_the_supervisor_loads_nothing_that_only_workers_need(tmp_path: Path):
    """Its memory is there as long as the service."""
    code = (
        "import sys\n"
        "import bentoml_cli.cli\n"
        "before = {*sys.modules}\n"
        "import service.main\n"
        "assert not {'cv2', 'numpy', 'onnx', 'onnxruntime', 'PIL'} & (sys.modules.keys() - before)\n"
    )
    run(code, tmp_path)


def run(code: str, home: Path) -> None:
    """Run `code` as BentoML's command line would, for a user with this home."""
    kept = {name: value for name, value in os.environ.items() if "DO_NOT_TRACK" not in name}
    environment = kept | {"BENTOML_HOME": str(home), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
