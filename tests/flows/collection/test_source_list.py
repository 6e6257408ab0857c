from pathlib import Path

import pytest

from flows.collection.source_list import ListedPhoto, SourceList
from flows.workspace import Workspace
from tagmask.corrections import Correction
from tagmask.errors import RunError


def test_photos_are_sorted_and_have_the_tags_of_all_sources(workspace: Workspace):
    with SourceList(workspace) as source_list:
        source_list.add(
            [ListedPhoto("/b.jpg", ("cat",)), ListedPhoto("/é.jpg", ()), ListedPhoto("/a.jpg", ("background",))]
        )
        source_list.add([ListedPhoto("/b.jpg", ("cow", "cat")), ListedPhoto("/a.jpg", ("dog",))])
        assert [photo[:2] for photo in source_list] == [
            ("/a.jpg", ("dog",)),
            ("/b.jpg", ("cat", "cow")),
            ("/é.jpg", ()),
        ]
        assert source_list.untagged == 1
    assert list(workspace.data.iterdir()) == []


@pytest.mark.parametrize("noun", ["correction", "hint"])
def test_a_photo_has_the_last_mask_that_a_source_has(workspace: Workspace, noun: str):
    first, last = (Correction((8, 12), (("cat", counts),)) for counts in ("P3", "0P3"))
    with SourceList(workspace) as source_list:
        for mask in (first, last, None):
            source_list.add([ListedPhoto("/a.jpg", ("cat",), **{noun: mask})])
        assert list(source_list) == [ListedPhoto("/a.jpg", ("cat",), **{noun: last})]


def test_what_a_killed_update_left_is_not_read(workspace: Workspace):
    killed = SourceList(workspace)
    killed.add([ListedPhoto("/a.jpg", ("cat",))])
    (left,) = workspace.data.iterdir()
    left.write_bytes(b"half a page")
    with SourceList(workspace) as source_list:
        assert list(source_list) == []


def test_a_workspace_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "data").write_text("")
    with pytest.raises(RunError, match=r"data: cannot be written"):
        SourceList(Workspace(tmp_path))
