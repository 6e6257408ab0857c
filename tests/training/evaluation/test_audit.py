from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from tagmask.errors import DataError
from tagmask.segmenter import Segmenter
from tests.training.colour_bundle import COLOURS, write_tagged_bundle
from tests.training.conftest import draw, draw_photos
from training.datasets.near_duplicates import Fingerprint
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.audit import SUREST, Audit, Finding, Sight, audit, rank, suggested_tags, sureness

LABELS = ("background", "cat", "dog", "owl", "cow")
Told = list[tuple[str, str, str]]


@pytest.fixture(scope="module")
def segmenter(colour_bundle: Path) -> Segmenter:
    return Segmenter.load(colour_bundle, device="cpu", threads=1)


def save(root: Path, shown: str, tags: str, seed: int = 0, size: tuple[int, int] = (80, 64)) -> Photo:
    """A photo that shows some classes and is tagged with others, of the id "shown-tags-seed"."""
    path = root / f"{shown}-{tags}-{seed}.png".replace(" ", "+")
    Image.fromarray(draw(tuple(shown.split()), size, seed)[0]).save(path)
    return Photo(path.stem, path, tuple(sorted(tags.split())))


def data_of(root: Path, *photos: Photo) -> TaggedPhotos:
    return TaggedPhotos(root, tuple(sorted({tag for photo in photos for tag in photo.tags})), photos)


def told(found: Audit) -> Told:
    return [(each.photo.id, each.tag, each.kind) for each in found.suspicions]


def test_tags_that_agree_with_what_is_seen_are_not_suspected(segmenter: Segmenter, tmp_path: Path):
    advances = list[int]()
    found = audit(segmenter, draw_photos(tmp_path, 6), advance=advances.append)
    assert (found.suspicions, found.photos, found.faults, advances) == ((), 6, (), [1] * 6)


def test_a_tag_in_place_of_another_comes_before_one_too_many_or_too_few(segmenter: Segmenter, tmp_path: Path):
    wrong, more, fewer = save(tmp_path, "dog", "cat", 1), save(tmp_path, "cat", "cat dog", 2), save(
        tmp_path, "cat dog", "cat", 3
    )  # fmt: skip
    found = audit(segmenter, data_of(tmp_path, save(tmp_path, "cat dog", "cat dog", 4), more, fewer, wrong))
    assert told(found)[:2] == [(wrong.id, "cat", "not found"), (wrong.id, "dog", "not tagged")]
    assert sorted(told(found)[2:]) == [(fewer.id, "dog", "not tagged"), (more.id, "dog", "not found")]
    scores = [each.score for each in found.suspicions]
    assert scores == pytest.approx([1, 1, 0.5, 0.5], abs=0.02)
    assert {photo.id: suggested_tags(photo, each) for photo, each in found.suspects.items()} == {
        wrong.id: ("dog",),
        more.id: ("cat",),
        fewer.id: ("cat", "dog"),
    }
    shares = {each.tag: each.share for each in found.suspects[wrong]}
    assert shares["cat"] == 0
    assert 0.05 < shares["dog"] < 0.2
    assert found.suspicions[0].to_json() == {
        "photo": wrong.id, "path": str(wrong.path), "tags": ["cat"], "tag": "cat", "finding": "not found",
        "score": pytest.approx(1, abs=0.02), "share": 0.0, "twin": None,
    }  # fmt: skip


@pytest.mark.parametrize(("probability", "suspected"), [(0.5, ["dog"]), (0.01, [])])
def test_a_class_is_seen_where_it_is_painted_without_tags(probability: float, suspected: list[str], tmp_path: Path):
    photo = save(tmp_path, "cat", "cat")
    pixels = np.array(Image.open(photo.path))
    background, dog = (np.array(COLOURS[name]) for name in ("background", "dog"))
    pixels[:16, :16] = background + 0.53 * (dog - background)  # by its colour, dog is twelve times as likely
    Image.fromarray(pixels).save(photo.path)
    bundle = write_tagged_bundle(tmp_path / "model.onnx", (0.5, probability), (0.5, 0.5))
    with Segmenter.load(bundle, device="cpu", threads=1) as segmenter:
        found = audit(segmenter, data_of(tmp_path, photo))
        painted = segmenter.segment(photo.path, refine="none").present
    assert [each.tag for each in found.suspicions] == suspected
    assert painted == ("cat", *suspected)


def test_of_copies_with_different_tags_the_one_is_suspected_that_the_network_contradicts(
    segmenter: Segmenter, tmp_path: Path
):
    right = save(tmp_path, "cat", "cat", 1, (320, 240))
    wrong = replace(right, id="copy", path=tmp_path / "copy.jpg", tags=("owl",))
    with Image.open(right.path) as image:
        image.resize((200, 150)).save(wrong.path, quality=70)
    found = audit(segmenter, data_of(tmp_path, right, wrong))
    copies = [each for each in found.suspicions if each.kind == "duplicate"]
    assert {(each.photo.id, each.tag, each.twin) for each in copies} == {
        ("copy", "cat", right.id), ("copy", "owl", right.id)
    }  # fmt: skip
    assert all(each.score > 0.87 for each in copies)
    assert [str(each) for each in copies] == [
        f"not tagged, unlike its copy {right.id}", f"tagged, unlike its copy {right.id}"
    ]  # fmt: skip
    assert suggested_tags(wrong, found.suspects[wrong]) == ("cat",)


def test_only_the_classes_named_are_examined(segmenter: Segmenter, tmp_path: Path):
    photos = data_of(tmp_path, save(tmp_path, "dog", "cat", 1), save(tmp_path, "cat", "dog", 2))
    found = audit(segmenter, photos, classes=["DOG"])
    assert {each.tag for each in found.suspicions} == {"dog"}
    with pytest.raises(DataError, match="class 'owl' is unknown to the model, known are cat, dog; name those"):
        audit(segmenter, photos, classes=["owl"])


def test_what_cannot_be_examined_is_left_out(segmenter: Segmenter, tmp_path: Path):
    (tmp_path / "broken.png").write_text("no photo")
    photos = data_of(tmp_path, save(tmp_path, "cat", "Cat owl"), Photo("broken", tmp_path / "broken.png", ("cat",)))
    found = audit(segmenter, photos)
    assert (found.suspicions, found.photos) == ((), 1)
    assert [fault.where for fault in found.faults] == ["owl", "broken"]
    with pytest.raises(DataError, match="the model knows none of the tags; it knows cat, dog: use another model"):
        audit(segmenter, data_of(tmp_path, save(tmp_path, "cat", "owl")))


def sight(name: str, tags: set[str], sure: list[float], look: int = 0) -> Sight:
    photo = Photo(name, Path(name), tuple(sorted(tags)))
    return Sight(
        photo, np.array(sure), np.array(sure) / sum(sure), Fingerprint(look, np.zeros((64, 3), dtype=np.int16))
    )


shares = st.floats(0, 1)
some_tags = st.sets(st.sampled_from(LABELS[1:]), min_size=1)


@given(
    some_tags, some_tags, st.lists(shares, min_size=5, max_size=5), st.lists(shares, min_size=5, max_size=5), st.data()
)
def test_right_tags_and_a_confident_mask_never_come_before_a_tag_that_is_painted_nowhere(
    right, wrong, sure, other, data
):
    confident = [1.0] + [
        0.75 + each / 4 if name in right else each / 4 for name, each in zip(LABELS[1:], sure[1:], strict=True)
    ]
    nowhere = [0.1 + other[0], *other[1:]]
    absent = data.draw(st.sampled_from(sorted(wrong)))
    nowhere[LABELS.index(absent)] /= 2
    look = data.draw(st.sampled_from([0, 2**64 - 1]))  # the same, or another one
    ranked = rank([sight("a", right, confident), sight("b", wrong, nowhere, look)], LABELS, LABELS[1:])
    ids = [each.photo.id for each in ranked]
    assert ids.index("b") < ids.index("a")
    assert {each.photo.id for each in ranked if each.kind != "found"} == {"b"}


@given(arrays(np.float32, (3, 20, 30), elements=st.floats(0.125, 1, width=32)), st.integers(0, 2))
def test_what_is_painted_nowhere_is_not_seen_and_what_fills_a_patch_is(planes, label):
    planes[label] = np.minimum(planes[label], planes[(label + 1) % 3])
    nowhere = sureness(planes / planes.sum(axis=0))
    assert nowhere[label] <= 0.5 + 1e-6
    patch = round(SUREST * 600)
    planes[label].flat[:patch] = 100
    assert sureness(planes / planes.sum(axis=0))[label] > 0.9


@given(st.lists(st.tuples(some_tags, st.lists(shares, min_size=5, max_size=5)), max_size=6))
def test_the_list_is_ranked_and_scores_are_shares(photos):
    sights = [
        sight(str(index), tags, [0.1, *sure[1:]], index * 0x5555_5555_5555_5555 % 2**64)
        for index, (tags, sure) in enumerate(photos)
    ]
    ranked = rank(sights, LABELS, LABELS[1:])
    scores = [each.score for each in ranked]
    assert scores == sorted(scores, reverse=True)
    assert len({(each.photo.id, each.tag, each.kind) for each in ranked}) == len(ranked)
    for each in ranked:
        assert 0 <= each.score < 0.25 if each.kind == "found" else 0.25 <= each.score <= 1
        assert (each.tag in each.photo.tags) == (each.kind != "not tagged") or each.kind == "duplicate"
    tagged = {(each.photo.id, each.tag) for each in ranked if each.kind in ("found", "not found")}
    assert tagged == {(sight.photo.id, tag) for sight in sights for tag in sight.photo.tags}


def test_a_suspicion_is_told_in_words():
    photo = Photo("a", Path("a.jpg"), ("cat",))
    assert str(Finding(photo, "cat", "not found", 0.9)) == "not found"
    assert str(Finding(photo, "cat", "not found", 0.4, 0.02)) == "found with little confidence, on 2.0% of the photo"
    assert str(Finding(photo, "dog", "not tagged", 0.9, 0.31)) == "not tagged, but seen on 31.0% of the photo"
