"""Azurite, Microsoft's emulator of Azure Blob Storage, on the loopback interface."""

import base64
import hashlib
import hmac
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import httpx

from tests.ceph import free_port

PROGRAM = shutil.which("azurite-blob")
REASON = "needs azurite-blob in PATH: npm install --global azurite"

CONTAINER, ACCOUNT = "photos", "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of every Azurite."""


@contextmanager
def running_azurite(folder: Path) -> Iterator[dict[str, str]]:
    """Yields variables of the environment for clients of an emulator with a CONTAINER, whose data is in `folder`."""
    port = free_port()
    options = ("--location", folder, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--disableTelemetry")
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    with (folder / "azurite.log").open("wb") as log:
        process = subprocess.Popen(
            [str(PROGRAM), *options, "--silent", "--skipApiVersionCheck"], stdout=log, stderr=log
        )
        try:
            _make_container(endpoint)
            yield {
                "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": KEY,
                "AZURE_STORAGE_ENDPOINT": endpoint,
            }
        finally:
            process.kill()
            process.wait()


def _make_container(endpoint: str) -> None:
    """Make CONTAINER, as soon as the emulator answers."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2020-10-02"}
    signed = "".join(f"{name}:{value}\n" for name, value in headers.items())
    text = "PUT" + "\n" * 12 + f"{signed}/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
    signature = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
    for _ in range(300):
        try:
            httpx.put(f"{endpoint}/{CONTAINER}?restype=container", headers=headers).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"{endpoint} does not answer")
