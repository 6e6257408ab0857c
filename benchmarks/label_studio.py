"""A Label Studio in a process of its own, on this machine alone, and what a person does in it, by its API.

https://api.labelstud.io
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote

import httpx
from PIL import Image

from benchmarks.browser import chromium
from benchmarks.load import Server
from tagmask.errors import RunError

USER = "person@example.com"

_SETTINGS = {
    "ML_BLOCK_LOCAL_IP": "false",
    "SSRF_PROTECTION_ENABLED": "false",
    "WEBHOOK_TIMEOUT": "30",
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}
"""Backends and webhooks on this machine are allowed, and nothing is reported to the makers of Label Studio."""

Results = list[dict[str, Any]]
"""Of an annotation or a prediction, in Label Studio's format."""


class LabelStudio(Server):
    """Context manager: a Label Studio at `url` with one user, USER, whose `password` is random.

    Its methods raise RunError for a response with an error.
    """

    ready, start_s = "/health", 900.0  # it makes its database first

    def __init__(self, executable: Path, folder: Path) -> None:
        """`folder` is for all of its data; uploads are in `media`, and its output is in a file `log`.

        Raises RuntimeError if it does not start.
        """
        self.media, self.password, token = folder / "media", token_hex(20), token_hex(20)
        own = {"BASE_DATA_DIR": str(folder), "USERNAME": USER, "PASSWORD": self.password, "USER_TOKEN": token}
        folder.mkdir(parents=True)
        super().__init__(
            [executable.name, "start", "--no-browser", "--enable-legacy-api-token", "--internal-host", "127.0.0.1"],
            folder / "log",
            executable,
            **{f"LABEL_STUDIO_{name}": value for name, value in (_SETTINGS | own).items()},
        )
        self.url, headers = f"http://127.0.0.1:{self.port}", {"Authorization": f"Token {token}"}
        self._client = httpx.Client(base_url=self.url, headers=headers, timeout=300, trust_env=False)

    def version(self) -> str:
        """The version of Label Studio."""
        return str(self._call("GET", "/api/version")["release"])

    def create_project(self, title: str, interface: str) -> int:
        """Create a project with a labeling `interface`, XML; returns its id."""
        return int(self._call("POST", "/api/projects", json={"title": title, "label_config": interface})["id"])

    def upload(self, project: int, photo: Path) -> int:
        """Upload a photo; returns the id of its task."""
        place = f"/api/projects/{project}/import?return_task_ids=true"
        (task,) = self._call("POST", place, files={"file": (photo.name, photo.read_bytes())})["task_ids"]
        return int(task)

    def connect(self, project: int, url: str, key: str) -> None:
        """Connect the service at `url` as the model of a project, and give its webhook the key."""
        auth = {"auth_method": "BASIC_AUTH", "basic_auth_user": "any", "basic_auth_pass": key}
        self._call("POST", "/api/ml/", json={"project": project, "url": url, "title": "tagmask", **auth})
        (webhook,) = self._call("GET", f"/api/webhooks/?project={project}")
        self._call("PATCH", f"/api/webhooks/{webhook['id']}/", json={"headers": {"X-API-Key": key}})

    def retrieve_predictions(self, project: int) -> None:
        """Ask the model for a prediction of each task that has none of its current version."""
        place = f"/api/dm/actions/?id=retrieve_tasks_predictions&project={project}"
        self._call("POST", place, json={"selectedItems": {"all": True, "excluded": []}})

    def predictions(self, project: int, version: str) -> dict[int, Results]:
        """The predictions of a version of the model, by task."""
        found = self._call("GET", f"/api/predictions/?project={project}")
        return {each["task"]: each["result"] for each in found if each["model_version"] == version}

    def annotate(self, task: int, results: Sequence[Mapping[str, Any]]) -> None:
        """Submit an annotation of a task."""
        self._call("POST", f"/api/tasks/{task}/annotations/", json={"result": results})

    def draw(self, project: int, task: int, pictures: Mapping[str, Path]) -> None:
        """Pictures of a task with the prediction of each version of the model, as the person sees it in a browser.

        Raises FileNotFoundError without Chromium.
        """
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1100, "height": 640})
            page.goto(f"{self.url}/user/login/?next={quote(f'/projects/{project}/data?task={task}')}")
            page.fill("input[name=email]", USER)
            page.fill("input[name=password]", self.password)
            page.click("button[type=submit]")
            for version, picture in pictures.items():
                page.locator(".lsf-annotation-button", has_text=version).click()
                page.mouse.move(0, 0)  # away from the tab, which would show a tooltip
                page.wait_for_timeout(3000)  # no element tells that the mask is drawn
                Image.open(BytesIO(page.screenshot())).convert("RGB").save(picture, quality=85)

    def _call(self, method: str, place: str, **content: Any) -> Any:
        response = self._client.request(method, place, **content)
        if not response.is_success:
            raise RunError(f"{method} {response.url}: status {response.status_code}: {response.text[:1000]}")
        return response.json()
