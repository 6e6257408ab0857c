"""Markdown artifacts in the Prefect UI.

Tables are Markdown too: Prefect's own table artifacts show ten rows at a time, and do not align numbers.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.orchestration.progress import run_logger

_PAGE = 50  # artifacts per request, as each may hold a picture
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~&]")


@dataclass(frozen=True)
class Artifact:
    """`key` groups the artifacts of different runs into a history; `summary` is one line, shown in lists."""

    key: str
    summary: str
    markdown: str

    def publish(self) -> None:
        """Attach it to the current run; outside a run nothing happens. Errors of the server are only logged."""
        log, within_run = run_logger()
        if not within_run:
            return
        try:
            create_markdown_artifact(self.markdown, key=self.key, description=self.summary)
        except Exception as error:  # must never end a training
            log.warning("artifact %s cannot be published (%s: %s)", self.key, type(error).__name__, error)


def delete_artifacts(key: str, texts: Collection[str]) -> None:
    """Delete the artifacts of this key, of any run, that contain one of `texts`."""
    keyed = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    with get_client(sync_client=True) as client:
        offset = 0
        while page := client.read_artifacts(artifact_filter=keyed, limit=_PAGE, offset=offset):
            found = [each.id for each in page if each.id and any(text in str(each.data) for text in texts)]
            for artifact in found:
                client.delete_artifact(artifact)
            offset += len(page) - len(found)


def escape(text: str) -> str:
    """`text` on one line with Markdown and HTML escaped, as tags and file names come from users."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.splitlines()))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> str:
    """A Markdown table of unformatted texts; `align` has an "l" or "r" per column."""
    lines = [[escape(cell) for cell in row] for row in (header, *rows)]
    lines.insert(1, ["--:" if side == "r" else ":--" for side in align])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
