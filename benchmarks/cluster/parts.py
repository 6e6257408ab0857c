"""The parts of a deployment, as docs/scaling.md, docs/flows.md and docs/object-storage.md start them."""

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from benchmarks.cluster.machines import Part
from benchmarks.load import ROOT
from flows.orchestration.server import QUIET
from flows.orchestration.server_process import SERVER_DEFAULTS
from tests import ceph

PROXY, STORAGE, DATABASE, SERVER, SCHEDULER, TRAINER = (f"10.0.0.{number}" for number in (10, 13, 20, 21, 22, 25))
SERVICES, WORKERS = ("10.0.0.11", "10.0.0.12"), ("10.0.0.23", "10.0.0.24")
"""Those of the services are in the nginx configuration of docs/scaling.md."""

BUCKET = f"s3://{ceph.BUCKET}"
PHOTOS, INBOX, STORE = f"{BUCKET}/tagged", f"{BUCKET}/inbox", f"{BUCKET}/store"
API, TASKS = f"http://{SERVER}:4200/api", f"tcp://{SCHEDULER}:8786"
KEY = "a-key-of-the-cluster"
_SECRET = "tagmask:cluster"  # of servers that nobody else reaches
_PASSWORD = "cluster"
_STORAGE_PORT = 9000
_BIN = Path(sys.executable).parent

ENVIRONMENT = {
    **QUIET,
    **ceph.credentials(),
    "AWS_ENDPOINT_URL": f"http://{STORAGE}:{_STORAGE_PORT}",
    "BENTOML_DO_NOT_TRACK": "True",
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_API_AUTH_STRING": _SECRET,
    "PREFECT_API_URL": API,
    "TAGMASK_STORE": STORE,
}
"""Of all machines, and of this program."""


def storage(root: Path) -> Part:
    """The S3 server, with its data in `root`."""
    folder = root / "storage"
    folder.mkdir()
    bucket = f"{ENVIRONMENT['AWS_ENDPOINT_URL']}/{ceph.BUCKET}"

    def ready() -> bool:  # the gateway answers before the bucket is made, which refuses readers without a key
        answer = _get(bucket)
        return answer is not None and answer.status_code == httpx.codes.FORBIDDEN

    command = (sys.executable, "-m", "tests.ceph", folder, STORAGE, str(_STORAGE_PORT))
    return Part("storage", STORAGE, command, root / "storage.log", ready)


def database(root: Path) -> Part:
    """PostgreSQL, with a new database for Prefect in `root`."""
    programs, folder = _postgresql(), root / "database"
    folder.mkdir()
    shutil.chown(folder, "postgres", "postgres")
    user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")

    def run(name: str, *options: str) -> None:
        subprocess.run([*user, programs / name, *options], check=True, cwd=folder, stdout=subprocess.DEVNULL)

    run("initdb", "--pgdata", str(folder), "--auth=trust")
    with (folder / "pg_hba.conf").open("a") as file:
        file.write("host all all 10.0.0.0/24 scram-sha-256\n")
    local = ("-D", str(folder), "-o", f"-k {folder} -h ''", "-l", str(folder / "setup.log"))
    run("pg_ctl", "-w", *local, "start")
    run("psql", "-qh", str(folder), "-c", f"CREATE ROLE prefect LOGIN PASSWORD '{_PASSWORD}'")
    run("createdb", "-h", str(folder), "--owner", "prefect", "prefect")
    run("pg_ctl", "-w", *local, "stop")

    def ready() -> bool:
        asked = subprocess.run([programs / "pg_isready", "-q", "-h", DATABASE], check=False)
        return asked.returncode == 0

    command = (*user, programs / "postgres", "-D", folder, "-k", folder, "-h", DATABASE)
    return Part("database", DATABASE, command, root / "database.log", ready)


def _postgresql() -> Path:
    """Folder of PostgreSQL's programs, which Debian does not put into the search path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: int(each.parent.name))
    found = shutil.which("initdb")
    if not folders and not found:
        sys.exit("PostgreSQL is not installed: apt-get install postgresql")
    return folders[-1] if folders else Path(str(found)).parent


def server(root: Path) -> Part:
    """Prefect's server on the database."""
    environment = {
        **ENVIRONMENT,
        **SERVER_DEFAULTS,
        "PREFECT_HOME": str(root / "server"),
        "PREFECT_SERVER_API_AUTH_STRING": _SECRET,
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(root / "server" / "ui"),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://prefect:{_PASSWORD}@{DATABASE}:5432/prefect",
    }
    command = (_BIN / "prefect", "server", "start", "--host", "0.0.0.0")  # all networks of its machine
    ready = f"{API}/ready"
    return Part("server", SERVER, command, root / "server.log", lambda: _answer(ready) is not None, environment)


def scheduler(root: Path) -> Part:
    """Dask's scheduler."""
    command = (_BIN / "dask", "scheduler")
    return Part("scheduler", SCHEDULER, command, root / "scheduler.log", lambda: _listens(SCHEDULER, 8786), ENVIRONMENT)


def worker(root: Path, number: int) -> Part:
    """A Dask worker for one task at a time."""
    name, address = f"worker-{number + 1}", WORKERS[number]
    command = (_BIN / "dask", "worker", TASKS, "--nworkers", "1", "--nthreads", "1", "--worker-port", "8788")
    environment = {**ENVIRONMENT, "PREFECT_HOME": str(root / name), "TAGMASK_CACHE": str(root / name / "cache")}
    return Part(name, address, command, root / f"{name}.log", lambda: _listens(address, 8788), environment)


def service(root: Path, number: int) -> Part:
    """A service behind the proxy."""
    name, address = f"service-{number + 1}", SERVICES[number]
    environment = {
        **ENVIRONMENT,
        "FORWARDED_ALLOW_IPS": PROXY,
        "TAGMASK_API_KEYS": KEY,
        "TAGMASK_CACHE": str(root / name),
        "TAGMASK_INBOX": INBOX,
    }
    command = (_BIN / "tagmask", "serve", "--host", "0.0.0.0")
    return Part(name, address, command, root / f"{name}.log", lambda: bool(served_by(address)), environment)


def served_by(address: str) -> str:
    """Version of the model that the service at `address` serves; empty if there is none."""
    answer = _answer(f"http://{address}:3000/readyz")
    return str(answer.json()["model"]) if answer else ""


def proxy(root: Path) -> Part:
    """nginx with the configuration of docs/scaling.md, and a certificate that it makes: `root`/tagmask.pem."""
    found = re.search(r"```nginx\n(.*?)```", (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    name = ("-subj", f"/CN={PROXY}", "-addext", f"subjectAltName=IP:{PROXY}")
    target = ("-out", root / "tagmask.pem", "-keyout", root / "tagmask.key")
    subprocess.run(["openssl", "req", "-x509", *kind, *name, *target], check=True, capture_output=True)
    file = root / "nginx.conf"
    documented = found[1].replace("/etc/ssl/", f"{root}/")
    folders = "".join(
        f"{name}_temp_path {root}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file.write_text(
        f"user root; daemon off; pid {root}/nginx.pid; error_log {root}/nginx.log; events {{}}\n"
        f"http {{ access_log off; {folders}\n{documented} }}\n",
        encoding="utf-8",
    )
    command = ("nginx", "-e", root / "nginx.log", "-c", file)
    return Part("proxy", PROXY, command, root / "nginx.log", lambda: _listens(PROXY, 443))


def trainer(root: Path) -> Part:
    """The machine that trains; its command is set for each run."""
    environment = {
        **ENVIRONMENT,
        "PREFECT_HOME": str(root / "trainer"),
        "TAGMASK_CACHE": str(root / "trainer" / "cache"),
    }
    return Part("trainer", TRAINER, (), root / "trainer.log", lambda: True, environment)


def _answer(url: str) -> httpx.Response | None:
    """The answer, if it is one of success."""
    answer = _get(url)
    return answer if answer and answer.is_success else None


def _get(url: str) -> httpx.Response | None:
    """The answer, if there is one."""
    try:
        return httpx.get(url, timeout=5, trust_env=False)
    except httpx.TransportError:
        return None


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False
