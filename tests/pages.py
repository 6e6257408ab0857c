"""The pages that users read, and what is code in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    page.relative_to(ROOT).as_posix()
    for folder in ("*.md", "docs/*.md", "benchmarks/*.md", "tagmask/**/*.md")
    for page in sorted(ROOT.glob(folder))
]


def read(page: str) -> str:
    """The page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str = "bash") -> list[str]:
    """Its fenced blocks in `language`, those in lists too."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", read(page), re.DOTALL | re.MULTILINE)


def lines(page: str) -> list[str]:
    """Its shell commands, a line each, without comments; those that go on over several lines in one."""
    text = "\n".join(blocks(page)).replace("\\\n", " ")
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()) if line]


def commands(page: str) -> list[str]:
    """Its shell commands, and what is code within its sentences."""
    prose = re.sub(r"^ *```.*?^ *```$", "", read(page), flags=re.DOTALL | re.MULTILINE)
    return lines(page) + [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", prose)]
