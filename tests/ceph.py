"""A real S3 server: the gateway of Ceph on one monitor and one disk in a file, on the loopback interface.

    python -m tests.ceph FOLDER HOST PORT

runs it at another address of the machine until it is stopped, and again with the data that FOLDER has.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import obstore
from obstore.store import S3Store

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool", "ceph-authtool")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
REASON = f"needs Ceph, here without {', '.join(MISSING)}: apt-get install radosgw ceph-mon ceph-osd ceph-common"

BUCKET, ACCESS_KEY, SECRET_KEY = "photos", "tagmask", "tagmask-secret"
_CONFIG = """\
[global]
fsid = {fsid}
mon host = v2:{host}:{monitor}/0
mon initial members = a
public addr = {host}
cluster addr = {host}
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd crush chooseleaf type = 0
osd memory target = 939524096
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
bluestore block size = 4294967296
run dir = {folder}
mon data = {folder}/mon
osd data = {folder}/osd
crash dir = {folder}/crash
log file = {folder}/$name.log
admin socket = {folder}/$name.$pid.asok
pid file = {folder}/$name.pid
[client.rgw]
rgw frontends = beast endpoint={host}:{gateway}
"""


@contextmanager
def running_ceph(folder: Path, host: str = "127.0.0.1", gateway: int | None = None) -> Iterator[str]:
    """Yields the address of the gateway, http://HOST:PORT, which has a BUCKET.

    `folder` is for its data, and may be that of an earlier server of the same address. `gateway` is its port, by
    default a free one.
    """
    config, disk = folder / "ceph.conf", str(uuid.uuid4())
    gateway = gateway or free_port()
    address, environment = f"http://{host}:{gateway}", {**os.environ, "CEPH_CONF": str(config)}

    def run(*command: str) -> str:
        return subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True, text=True).stdout

    with ExitStack() as stack, (folder / "output.log").open("ab") as log:

        def start(*command: str) -> None:
            process = subprocess.Popen([*command, "-f"], env=environment, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)

        new = not config.exists()
        if new:
            fsid, monitor = str(uuid.uuid4()), free_port()
            config.write_text(
                _CONFIG.format(folder=folder, host=host, fsid=fsid, monitor=monitor, gateway=gateway), encoding="utf-8"
            )
            for name in ("mon", "osd"):
                (folder / name).mkdir()
            keyring, monmap = str(folder / "keyring"), str(folder / "monmap")
            run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
            run("monmaptool", "--create", "--addv", "a", f"[v2:{host}:{monitor}]", "--fsid", fsid, monmap)
            run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        start("ceph-mon", "-i", "a")
        if new:
            run("ceph", "osd", "new", disk, "0")
            run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        start("ceph-osd", "-i", "0")
        start("radosgw", "-n", "client.rgw")
        if new:
            admin = ("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=tests", "--display-name=tests")
            run(*admin, f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")
        _wait(address)
        if new:
            _make_bucket(address)
        yield address


def credentials() -> dict[str, str]:
    """Variables of the environment for clients, except for the address."""
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    return {**keys, "AWS_REGION": "us-east-1"}


def _make_bucket(address: str) -> None:
    store = S3Store(
        BUCKET,
        endpoint=address,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        client_options={"allow_http": True},
    )
    httpx.put(obstore.sign(store, "PUT", "", timedelta(minutes=1)), timeout=60).raise_for_status()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait(address: str) -> None:
    for _ in range(300):
        try:
            httpx.get(address)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"{address} does not answer")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), running_ceph(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])):
        signal.pause()
