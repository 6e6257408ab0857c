import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.collection.lists import Change, diff, shards
from tagmask.corrections import Correction
from tagmask.errors import DataError
from training.datasets import load

TAGS = st.sets(st.sampled_from(["cat", "dog", "owl", "eisbär"]), min_size=1).map(sorted)
LISTS = st.dictionaries(st.integers(0, 30), TAGS, min_size=1)


def write(path: Path, rows: dict[int, list[str]]) -> Path:
    lines = []
    for name, tags in sorted((hashlib.sha256(bytes([number])).hexdigest(), tags) for number, tags in rows.items()):
        image = f"photos/{name[:2]}/{name}.jpg"
        (path.parent / image).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / image).touch()
        lines.append(json.dumps({"image": image, "tags": tags}, ensure_ascii=False) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


@given(rows=LISTS, size=st.integers(1, 12))
def test_shards_hold_the_photos_that_training_loads(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[int, list[str]], size: int
):
    path = write(tmp_path_factory.getbasetemp() / "list.jsonl", rows)
    parts = list(shards(path, size))
    assert tuple(photo for shard in parts for photo in shard.photos) == load(path).photos
    assert [len(shard.photos) for shard in parts[:-1]] == [size] * (len(parts) - 1)
    assert [shard.number for shard in parts] == list(range(len(parts)))


def test_the_digest_of_a_shard_tells_its_photos_and_tags(tmp_path: Path):
    lists = [{1: ["cat"], 2: ["dog"]}, {1: ["cat"], 2: ["cat"]}, {1: ["cat"], 3: ["dog"]}, {1: ["cat", "dog"]}]
    digests = [next(shards(write(tmp_path / "list.jsonl", rows), 9)).digest for rows in lists]
    assert len(set(digests)) == len(lists)
    assert next(shards(write(tmp_path / "other.jsonl", lists[0]), 9)).digest == digests[0]


def test_corrections_are_told_by_the_digest_of_a_shard_and_by_the_change(tmp_path: Path):
    path, rows = tmp_path / "list.jsonl", {1: ["cat"], 2: ["cat"], 3: ["dog"]}
    plain = write(path, rows).read_text().splitlines(keepends=True)
    digest = next(shards(path, 9)).digest
    said = [Correction((2, 2), (("cat", counts),), ("cat",)) for counts in ("04", "4")]

    def listed(name: str, *corrections: Correction | None) -> Path:
        records = [json.loads(line) for line in plain]
        for record, correction in zip(records, corrections, strict=True):
            record.update({"correction": asdict(correction)} if correction else {})
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
        return tmp_path / name

    one, other = listed("one.jsonl", *said, None), listed("other.jsonl", said[0], said[0], said[0])
    (shard,) = shards(one, 9)
    assert [photo.correction for photo in shard.photos] == [*said, None]
    assert shard.photos == load(one).photos
    assert len({digest, shard.digest, next(shards(other, 9)).digest}) == 3
    (without,) = shards(one, 9, {shard.photos[1].id})
    assert [photo.correction for photo in without.photos] == [said[0], None, None]
    assert without.digest not in {digest, shard.digest}
    assert [diff(*pair).corrected for pair in ((path, one), (one, other), (other, path), (one, one))] == [2, 2, 3, 0]
    assert diff(path, one).retagged == 0


def test_hints_are_told_by_the_digest_of_a_shard(tmp_path: Path):
    path = write(tmp_path / "list.jsonl", {1: ["cat"]})
    record, hint = json.loads(path.read_text()), Correction((2, 2), (("cat", "04"),))
    digests = {next(shards(path, 9)).digest}
    for masks in ({"hint": asdict(hint)}, {"correction": asdict(hint), "hint": asdict(hint)}):
        path.write_text(json.dumps(record | masks) + "\n")
        (shard,) = shards(path, 9)
        assert shard.photos == load(path).photos
        assert shard.photos[0].hint == (None if "correction" in masks else hint)
        digests.add(shard.digest)
    assert len(digests) == 3


@given(former=LISTS, now=LISTS)
def test_change_is_what_sets_say(
    tmp_path_factory: pytest.TempPathFactory, former: dict[int, list[str]], now: dict[int, list[str]]
):
    root = tmp_path_factory.getbasetemp()
    before, after = ({tag for tags in rows.values() for tag in tags} for rows in (former, now))
    assert diff(write(root / "former.jsonl", former), write(root / "now.jsonl", now)) == Change(
        new_photos=len(now.keys() - former.keys()),
        retagged=sum(now[name] != former[name] for name in now.keys() & former.keys()),
        lost_photos=len(former.keys() - now.keys()),
        new_classes=tuple(sorted(after - before)),
        lost_classes=tuple(sorted(before - after)),
    )


def test_without_a_former_list_all_is_new(tmp_path: Path):
    now = write(tmp_path / "now.jsonl", {1: ["cat"], 2: ["cat", "dog"]})
    for former in (None, tmp_path / "removed.jsonl"):
        assert diff(former, now) == Change(2, 0, 0, ("cat", "dog"), ())


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"image": 1}', b"\xff", b'{"image": "a.jpg", "tags": "cat"}',
                                  b'{"image": "a.jpg", "tags": [], "correction": 1}'])  # fmt: skip
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes):
    path = write(tmp_path / "list.jsonl", {1: ["cat"]})
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(DataError, match=r"list\.jsonl:\d: damaged .*start the flow again"):
        list(shards(path, 9))


def test_a_list_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"absent\.jsonl: cannot be read"):
        diff(None, tmp_path / "absent.jsonl")
