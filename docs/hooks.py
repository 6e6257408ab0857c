"""Adds to the site what lies outside docs/: other pages of the repository, and the command line and HTTP references.

MkDocs calls `on_files` and `on_page_markdown`; links between pages are written as the repository has them, and made to
lead to the page's place on the site here.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from service.http.app import OPERATIONS
from service.http.openapi import document
from service.settings import Settings
from tagmask.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "tagmask/pretrained/README.md": "model-card.md",
}
"""Pages outside docs/, and their path on the site."""

DOWNLOADS = ("LICENSE", "examples/*.py", "examples/*.ipynb")
"""Files that pages link to."""

LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `PAGES`, the files of `DOWNLOADS` and the two references."""
    for source, target in PAGES.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    for pattern in DOWNLOADS:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    files.append(File.generated(config, "reference/cli.md", content=command_reference()))
    files.append(File.generated(config, "reference/http.md", content="\n".join(http_reference())))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links from the page's place in the repository to their target's place on the site."""
    site = page.file.src_uri
    source = next((path for path, target in PAGES.items() if target == site), f"docs/{site}")

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        return posixpath.relpath(PAGES.get(target, target.removeprefix("docs/")), posixpath.dirname(site) or ".")

    return LINK.sub(moved, markdown)


def command_reference() -> str:
    """Every command with its arguments and options, as `--help` lists them."""
    command = typer.main.get_command(app)
    return get_docs_for_click(obj=command, ctx=typer.Context(command), name="tagmask", title="Command line")


def http_reference() -> Iterator[str]:
    """Every path of the service with its fields and answers, from the document that `/openapi.json` returns."""
    yield "# HTTP\n\nWhat a running service returns at `/openapi.json`, with its default limits. See also"
    yield "[serving](../serving.md).\n"
    for path, operations in document(OPERATIONS, Settings(), closed=True)["paths"].items():
        for method, operation in operations.items():
            yield f"## {method.upper()} {path}\n\n{operation['summary']}.\n"
            yield from _table("field", _fields(operation))
            yield from _table("status", {code: each["description"] for code, each in operation["responses"].items()})


def _fields(operation: dict[str, Any]) -> dict[str, str]:
    """Description of each parameter, and of each field of a form, by name."""
    forms = operation.get("requestBody", {}).get("content", {})
    form = forms.get("multipart/form-data", {}).get("schema", {}).get("properties", {})
    fields = dict.fromkeys(form, "in the form")
    for each in operation.get("parameters", ()):
        place = f"in the {each['in']}" + (" or the form" if each["name"] in form else "")
        fields[each["name"]] = ": ".join(filter(None, (place, each.get("description"))))
    return fields


def _table(heading: str, rows: dict[str, str]) -> Iterator[str]:
    if rows:
        yield f"| {heading} | |\n| --- | --- |"
        for name, description in rows.items():
            yield f"| `{name}` | {' '.join(description.split()).replace('|', chr(92) + '|')} |"
        yield ""
