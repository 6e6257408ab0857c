"""The documentation site, which opens from disk: it builds without a warning and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        build, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_load_nothing_from_elsewhere(site: Path):
    pages = sorted(site.rglob("*.html"))
    assert {"index.html", "http.html", "cli.html", "python.html"} <= {page.name for page in pages}
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]* src=\"?(?:https?:)?//", html), page
        assert not re.findall(r"<link[^>]* rel=\"?(?:stylesheet|preconnect)[^>]*(?:https?:)?//", html), page


def test_links_between_pages_are_files(site: Path):
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue
        for target in re.findall(r"href=\"([^\"#:]+)(?:#[^\"]*)?\"", page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"


def test_the_references_list_every_command_and_path(site: Path):
    assert "tagmask models promote" in (site / "reference/cli.html").read_text(encoding="utf-8")
    assert "POST /v1/segment/batch" in (site / "reference/http.html").read_text(encoding="utf-8")
