from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from flows.orchestration.artifact import Artifact, escape, table

WORDS = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" ")).map(lambda text: text.strip())


def cells(markdown: str) -> list[str]:
    """What a reader of Markdown, with tables, struck text and HTML, sees in each cell; None of it may be markup."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    found = []
    for token in tokens:
        if token.type == "inline":
            assert {child.type for child in token.children or []} <= {"text", "text_special"}
            found.append("".join(child.content for child in token.children or []))
    return found


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3))
def test_a_table_shows_its_texts_whatever_is_in_them(rows: list[tuple[str, str]]):
    assert cells(table(("file", "why"), rows, "lr")) == ["file", "why", *(cell for row in rows for cell in row)]


def test_text_of_several_lines_stays_in_its_cell():
    assert cells(table(("why",), [("one\ntwo",)], "l")) == ["why", "one two"]


def test_html_in_names_is_shown_and_never_run():
    assert escape("<img src=x onerror=alert(1)>") == r"\<img src=x onerror=alert(1)\>"


def test_outside_a_run_nothing_is_published_and_no_server_is_asked():
    Artifact("classes", "2 classes", "").publish()
