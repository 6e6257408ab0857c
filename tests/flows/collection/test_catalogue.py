import sqlite3
from contextlib import closing
from itertools import permutations
from pathlib import Path

import pytest

from flows.collection.catalogue import SCHEMA, Catalogue
from flows.collection.ingestion import Content, Outcome
from flows.workspace import Workspace
from tagmask.corrections import Correction
from tagmask.errors import RunError
from training.datasets.samples import SampleDescription

SHA = "ab" * 32


def content(sha: str = SHA, suffix: str = ".jpg") -> Content:
    return Content(sha, suffix, width=12, height=8, size=300, mtime_ns=7)


def dump(workspace: Workspace) -> list[str]:
    with closing(sqlite3.connect(workspace.data / "catalogue.sqlite")) as database:
        return list(database.iterdump())


def rows(workspace: Workspace) -> tuple[int, int]:
    """Numbers of photos, quarantined ones included, and of entries."""
    with closing(sqlite3.connect(workspace.data / "catalogue.sqlite")) as database:
        photos, entries = database.execute(
            "SELECT (SELECT count(*) FROM photos), (SELECT count(*) FROM entries)"
        ).fetchone()
    return photos, entries


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Paths of two existing files."""
    paths = tmp_path / "a.jpg", tmp_path / "b.jpg"
    for path in paths:
        path.touch()
    return str(paths[0]), str(paths[1])


def test_a_photo_has_the_tags_of_all_its_entries(workspace: Workspace, files: tuple[str, str]):
    one, other = files
    with Catalogue(workspace) as catalogue:
        catalogue.record([Outcome(one, ("dog",), content()), Outcome(other, ("cat", "dog"), content())])
        catalogue.record([Outcome("/c.jpg", (), content("cd" * 32))])
        assert [photo[:2] for photo in catalogue.tagged()] == [
            (f"ab/{SHA}.jpg", ("cat", "dog")),
            (f"cd/{'cd' * 32}.jpg", ()),
        ]
        catalogue.record([Outcome(other, ("owl",))])
        assert next(catalogue.tagged()).tags == ("dog", "owl")
        assert len(list(catalogue.tagged())) == 2
        assert rows(workspace) == (2, 3)


def test_a_class_keeps_the_spelling_of_its_earliest_photo(workspace: Workspace):
    with Catalogue(workspace) as catalogue:
        catalogue.record([Outcome("/b.jpg", ("Polar_bear",), content("cd" * 32))])
        with closing(sqlite3.connect(workspace.data / "catalogue.sqlite")) as database, database:
            database.execute("UPDATE photos SET added = '2020-01-01T00:00:00+00:00'")
        catalogue.record([Outcome("/a.jpg", ("POLAR-bear", "polar_bear"), content())])
        assert [photo.tags for photo in catalogue.tagged()] == [("Polar_bear",), ("Polar_bear",)]


def test_a_file_that_is_gone_counts_until_the_photo_is_found_elsewhere(workspace: Workspace, files: tuple[str, str]):
    old, new = files
    with Catalogue(workspace) as catalogue:
        catalogue.record([Outcome(old, ("dog",), content())])
        Path(old).unlink()
        catalogue.record([Outcome("/c.jpg", ("cat",), content("cd" * 32))])
        assert next(catalogue.tagged()).tags == ("dog",)
        catalogue.record([Outcome(new, ("owl",), content())])
        assert next(catalogue.tagged()).tags == ("owl",)
        assert old not in dict(catalogue.entries())


SAID, LATER = (Correction((8, 12), (("cat", counts),)) for counts in ("P3", "0P3"))


@pytest.mark.parametrize("noun", ["correction", "hint"])
def test_a_photo_has_the_mask_of_the_first_entry_that_has_one(workspace: Workspace, files: tuple[str, str], noun: str):
    one, other = files

    def mask() -> Correction | None:
        photo = next(catalogue.tagged())
        assert [photo.correction, photo.hint].count(None) >= 1
        said: Correction | None = getattr(photo, noun)
        return said

    with Catalogue(workspace) as catalogue:
        catalogue.record([Outcome(one, ("dog",), content()), Outcome(other, ("cat",), content(), **{noun: SAID})])
        assert mask() == SAID
        assert getattr(dict(catalogue.entries())[other], noun) == SAID
        catalogue.record([Outcome(one, ("dog",), **{noun: LATER})])
        assert mask() == LATER
        catalogue.record([Outcome(one, ("dog",)), Outcome(other, ("cat",))])
        assert mask() is None
        catalogue.record([Outcome(one, ("dog",), **{noun: LATER})])
        catalogue.forget([SHA])
    assert not any("cat" in line or LATER.areas[0][1] in line for line in dump(workspace))


def test_a_catalogue_of_before_gets_a_place_for_masks(workspace: Workspace, files: tuple[str, str]):
    with Catalogue(workspace) as catalogue:
        catalogue.record([Outcome(files[0], ("dog",), content())])
    with closing(sqlite3.connect(workspace.data / "catalogue.sqlite")) as database:
        for table in ("corrections", "hints"):
            database.execute(f"DROP TABLE {table}")
    with Catalogue(workspace) as catalogue:
        catalogue.record([Outcome(files[0], ("dog",), correction=SAID, hint=LATER)])
        assert next(catalogue.tagged())[2:] == (SAID, LATER)


def test_recording_twice_changes_nothing(workspace: Workspace):
    outcomes = [
        Outcome("/a.jpg", ("dog",), content()),
        Outcome("/b.jpg", ("cat",), content("cd" * 32), fault="not a photo"),
        Outcome("/c.jpg", ("cat",), fault="vanished"),
    ]
    with Catalogue(workspace) as catalogue:
        catalogue.record(outcomes)
        before = dump(workspace)
        catalogue.record(outcomes)
        assert dump(workspace) == before
        assert len(list(catalogue.tagged())) == 1
        assert rows(workspace) == (2, 2)


def test_bytes_that_were_ever_read_stay_a_photo(tmp_path: Path, files: tuple[str, str]):
    undecodable = Outcome(files[1], ("cat",), content(suffix=""), fault="no decoder")
    outcomes = [Outcome(files[0], ("dog",), content()), undecodable]
    for number, order in enumerate(permutations(outcomes)):
        with Catalogue(Workspace(tmp_path / str(number))) as catalogue:
            catalogue.record(order)
            assert [photo[:2] for photo in catalogue.tagged()] == [(f"ab/{SHA}.jpg", ("cat", "dog"))]


def test_nothing_is_recorded_of_a_shard_that_fails(workspace: Workspace):
    with Catalogue(workspace) as catalogue:
        with pytest.raises(RunError, match=r"catalogue\.sqlite"):
            catalogue.record([Outcome("/a.jpg", (), content()), Outcome("/b.jpg", (), content(sha=None))])  # type: ignore[arg-type]
        assert rows(workspace) == (0, 0)


def test_a_catalogue_of_an_earlier_version_learns_descriptions_and_stays_readable(workspace: Workspace):
    Catalogue(workspace).__exit__()
    with closing(sqlite3.connect(workspace.data / "catalogue.sqlite")) as database:
        database.execute("DROP TABLE descriptions")  # which earlier versions do not have
    folder, sample = Path("/inbox/ab"), SampleDescription(9, 7, ".jpg", ("cat", "dog"))
    with Catalogue(workspace) as catalogue:
        catalogue.describe(folder, {}, {SHA: sample})
        assert catalogue.descriptions(folder) == {SHA: sample}
        assert catalogue.descriptions(Path("/inbox/cd")) == {}
        other = sample._replace(size=10, correction_stamp=(5, 6), correction=SAID)
        catalogue.describe(folder, {SHA: sample}, {"cd" * 32: other})
        assert catalogue.descriptions(folder) == {"cd" * 32: other}
    with closing(sqlite3.connect(workspace.data / "catalogue.sqlite")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)


def test_nothing_names_a_description_that_was_forgotten(workspace: Workspace):
    others = {f"{number:064x}": SampleDescription(9, 7, ".jpg", ("cat",)) for number in range(200)}
    named = Correction((8, 12), (("secret-cat", "0P3"),))
    with Catalogue(workspace) as catalogue:
        catalogue.describe(
            Path("/inbox/ab"), {}, others | {SHA: SampleDescription(9, 7, ".jpg", ("cat",), (5, 6), named)}
        )
        catalogue.forget([SHA])
        assert catalogue.descriptions(Path("/inbox/ab")) == others
    left = (workspace.data / "catalogue.sqlite").read_bytes()
    assert SHA.encode() not in left
    assert b"secret-cat" not in left


def test_a_newer_catalogue_is_left_alone(workspace: Workspace):
    Catalogue(workspace).__exit__()
    with closing(sqlite3.connect(workspace.data / "catalogue.sqlite")) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with pytest.raises(RunError, match=f"version {SCHEMA + 1}, this Tagmask reads only version {SCHEMA}; upgrade"):
        Catalogue(workspace)


def test_a_damaged_catalogue_says_how_to_go_on(workspace: Workspace):
    workspace.data.mkdir(parents=True)
    (workspace.data / "catalogue.sqlite").write_bytes(b"not a database " * 100)
    with pytest.raises(RunError, match=r"catalogue\.sqlite: .*; move it away and start again"):
        Catalogue(workspace)
