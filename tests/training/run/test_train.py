import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import training.run.train
from tagmask import files
from tagmask.bundle import CORRECTED, read_metadata, read_samples
from tagmask.cli import main as cli
from tagmask.corrections import Correction
from tagmask.errors import ConfigError, DataError, RunError
from tagmask.masks import VOID
from tagmask.metadata import Metadata
from tagmask.photos import read_photo
from tagmask.progress import Advance, Progress
from tagmask.segmenter import Segmenter
from tests.tiny import TINY, write_tiny
from tests.training.conftest import draw, draw_photos
from tests.training.stages.test_saliency import write_network
from training.api import Events
from training.config import TrainConfig, load_config
from training.datasets.held_out import choose_held_out, without_correction
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation import painted
from training.evaluation.corrected import measure
from training.evaluation.estimate import ERROR, Estimate
from training.fitting.loop import LEAST_OPEN_FILES
from training.fitting.settings import FitResult
from training.fitting.tag_regression import fit_tag_head
from training.networks.export import export, weights_digest
from training.networks.taghead import ServedNetwork
from training.run.description import begin_or_resume, read_description, read_photos
from training.run.layout import Layout
from training.run.learned import read_corrected, read_learned, record_learned
from training.run.ledger import Ledger
from training.run.train import RunResult, train
from training.stages import decision, labels, least_areas, seeds, superpixels
from training.stages.decision import DecisionConfig, Quality, degradations
from training.stages.doubts import doubts_file
from training.stages.localization import features_file, maps_file
from training.stages.masks import seen_file
from training.stages.network import NetworkStage, TrainingContext
from training.stages.pixelnet import PixelNetTraining
from training.stages.refinement import Refinement
from training.stages.regionnet import RegionNetTraining
from training.stages.regions import Regions
from training.stages.vouched import PURE

ROOT = Path(__file__).parents[3]

BEFORE = [(0, "superpixels"), (0, "saliency"), (0, "classifier"), (0, "class_maps")]


def round_of(number: int) -> list[tuple[int, str]]:
    mining = ("regiontagger", "evidence", "seeds", "regionnet", "regions", "refinement")
    return [(number, name) for name in (*mining, "labels", "pixelnet", "masks", "decision")]


@contextmanager
def thread(workers: int) -> Iterator[Executor]:
    """In place of processes, which take longer to start than these photos take."""
    with ThreadPoolExecutor(workers) as pool:
        yield pool


def note(network: ServedNetwork, path: Path, metadata: Metadata, **settings: object) -> None:
    """In place of an export, which takes longer than everything before it."""
    path.write_text(f"round {metadata.rounds}: {weights_digest(network.pixelnet.state_dict())}")


REAL = decision.round_quality


def some_coverage(data: TaggedPhotos, run: Path, number: int) -> Quality:
    """The real quality, but that networks which hardly learned, and paint nothing, pass to the next round."""
    return replace(REAL(data, run, number), coverage=0.3)


def shorten() -> pytest.MonkeyPatch:
    patch = pytest.MonkeyPatch()
    patch.setattr(training.run.train, "processes", thread)
    patch.setattr(training.run.train, "export", note)
    patch.setattr(decision, "round_quality", some_coverage)
    return patch


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:
    patch = shorten()
    yield
    patch.undo()


def stages_of(ledger: Ledger) -> list[tuple[int, str]]:
    return [(line["round"], line["stage"]) for line in ledger]


def weights_of(layout: Layout) -> dict[str, str]:
    """Digest of every network of a run."""
    return {
        str(path.relative_to(layout.root)): weights_digest(torch.load(path, weights_only=True))
        for path in layout.root.rglob("*.pt")
    }


def files_of(root: Path) -> dict[str, tuple[int, int]]:
    """Every file but the lock with its size and the time of its last change."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@dataclass(frozen=True)
class Ran:
    data: TaggedPhotos
    config: TrainConfig
    layout: Layout
    result: RunResult

    def again(self, **changed: Any) -> RunResult:
        arguments = {"data": self.data, "out": self.layout.root, "config": self.config, "device": "cpu", "resume": True}
        return train(**(arguments | changed))

    def copy(self, root: Path, stages: int | None = None) -> "Ran":
        """The same run in another folder, its ledger cut after so many stages."""
        shutil.copytree(self.layout.root, root)
        layout = Layout(root)
        lines = layout.ledger.read_text().splitlines(keepends=True)
        layout.ledger.write_text("".join(lines[:stages]))
        return replace(self, layout=layout)


def run(data: TaggedPhotos, out: Path, config: TrainConfig, progress: Progress | None = None) -> Ran:
    return Ran(data, config, Layout(out), train(data, out, config, device="cpu", progress=progress))


class Counted:
    """A `Progress` that keeps the total of each stage and how far it came."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int]] = {}

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        counted = self.stages[name] = [total, 0]

        def advance(photos: int) -> None:
            counted[1] += photos

        yield advance


@pytest.fixture(scope="module")
def progress() -> Counted:
    """That of `full`."""
    return Counted()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, progress: Counted) -> Ran:
    """The default backbone with its installed weights, three rounds, photos with true masks."""
    root = tmp_path_factory.mktemp("full")
    changed = {"backbone": None, "weights": None, "rounds": 3, "pixelnet.augment.crop": 64}
    config = load_config(overrides=TINY | changed | {"long_side": 80, "tile": 640})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.run.train, "export", export)
        return run(draw_photos(root, 9), root / "run", config, progress)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two rounds of a tiny network, photos without masks."""
    root = tmp_path_factory.mktemp("tiny")
    data = draw_photos(root, 12, (64, 48))
    bare = replace(data, photos=tuple(replace(photo, mask=None) for photo in data.photos), mask_classes=())
    return run(bare, root / "run", load_config(overrides=TINY))


def test_every_stage_has_its_line_with_its_figures(full: Ran):
    assert stages_of(full.result.ledger) == [
        *BEFORE,
        *round_of(1),
        *round_of(2),
        *round_of(3),
        (full.result.kept, "export"),
    ]
    for line in full.result.ledger:
        if line["stage"] == "export":
            assert line["weights_digest"] == full.result.weights_digest
            continue
        assert line["seconds"] > 0
        if line["stage"] in ("classifier", "regiontagger", "regionnet", "pixelnet"):
            assert line["photos"] == 9 * len(line["losses"])
            assert 0 <= line["waiting"] <= 1
        else:
            assert line["photos"] == 9
        measured = line["stage"] in ("class_maps", "evidence", "seeds", "regions", "refinement", "labels", "masks")
        assert ("miou" in line) == measured
        if measured:
            assert 0 <= line["miou"] <= 100
            assert len(line["iou"]) == 3
        if line["stage"] == "seeds":
            assert 0 <= line["precision"] <= 100
            assert 0 <= line["sure"] <= 100
        if line["stage"] == "decision":
            assert all(0 <= line[name] <= 1 for name in ("consistency", "coverage", "agreement"))
            assert list(line["painted"]) == ["cat", "dog"]
            assert all(0 <= share <= 1 for share in line["painted"].values())
            assert (line["kept"], line["why"]) == (True, "")


def test_files_are_where_the_layout_says_with_the_sizes_it_says(full: Ran):
    run, data = full.layout.root, full.data
    for photo in data.photos:
        own = photo.labels(data.classes)
        regions = superpixels.read(photo, run)
        assert regions.shape == (64, 80)
        count = regions.max() + 1
        for number in (0, 1, 2, 3):
            features, maps = np.load(features_file(photo, run, number)), np.load(maps_file(photo, run, number))
            assert len(features) == count
            assert len(maps) == len(own) - (number == 0)
            assert {features.dtype, maps.dtype} == {np.dtype(np.float16)}
        for number in (1, 2, 3):
            assert set(seeds.read(photo, run, number)) <= {*own, VOID}
            assert seeds.read(photo, run, number).shape == (count,)
            assert np.load(Regions.file_of(photo, run, number)).shape == (count, len(own))
            assert np.load(seen_file(photo, run, number)).shape == (3,)
            assert set(np.unique(labels.read(photo, run, number))) <= {*own, VOID}
            assert Refinement.file_of(photo, run, number).is_file()
    assert {path.suffix for path in run.rglob("*") if path.is_file()} - {Layout(run).lock.suffix} == {
        ".json", ".jsonl", ".npy", ".onnx", ".png", ".pt", ".txt",
    }  # fmt: skip


def test_the_bundle_says_where_it_comes_from_and_segments(full: Ran):
    segmenter = Segmenter.load(full.result.model, device="cpu", threads=1)
    metadata = segmenter.metadata
    assert segmenter.classes == ("background", "cat", "dog")
    assert (metadata.rounds, metadata.photos) == (full.result.kept, 9)
    assert (metadata.working_size, metadata.tile) == (80, 640)
    assert metadata.weights_digest == full.result.weights_digest
    initializers = {each.name: each for each in onnx.load(full.result.model).graph.initializer}
    exported = next(initializers[name] for name in initializers if name.endswith("labels.bias"))
    trained = torch.load(PixelNetTraining.weights_of(full.layout.root, 3), weights_only=True)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(exported), trained["labels.bias"])
    tagged = [sum(name in photo.tags for photo in full.data.photos) for name in ("cat", "dog")]
    assert metadata.tag_shares == tuple(pytest.approx(count / 9, abs=1e-6) for count in tagged)
    np.testing.assert_array_equal(metadata.least_areas, least_areas.read(full.layout.root, full.result.kept))
    assert all(0 < area < 1 for area in metadata.least_areas)
    assert metadata.data_digest == full.data.digest()
    assert metadata.settings == full.config.model_dump(mode="json")
    assert (metadata.supervision, metadata.saliency) == ("tags", "unsupervised")
    result = segmenter.segment(read_photo(full.data.photos[0].path))
    assert result.mask.shape == (64, 80)
    assert list(result.tags) == ["cat", "dog"]


def test_the_bundle_has_the_digests_of_its_photos_and_those_of_the_run_that_it_started_from(full: Ran, tmp_path: Path):
    def digests(photos: Iterable[Photo]) -> set[str]:
        return {hashlib.sha256(photo.path.read_bytes()).hexdigest()[:16] for photo in photos}

    assert read_samples(full.result.model) == digests(full.data.photos)
    fewer, layout = replace(full.data, photos=full.data.photos[:-1]), Layout(tmp_path)
    record_learned(layout, fewer, fewer.photo_digests(), tmp_path / "of an earlier version")
    assert read_learned(layout) is None
    record_learned(layout, fewer, fewer.photo_digests(), None)
    assert read_learned(layout) == digests(fewer.photos)
    record_learned(layout, fewer, fewer.photo_digests(), full.layout.root)
    assert read_learned(layout) == digests(full.data.photos)
    assert not layout.corrected.exists()


def test_a_saliency_network_is_told_in_the_bundle_and_the_ledger(
    tiny: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bundles = []

    def keep(network: ServedNetwork, path: Path, metadata: Metadata, **settings: object) -> None:
        bundles.append(metadata)
        note(network, path, metadata)

    monkeypatch.setattr(training.run.train, "export", keep)
    network = write_network(tmp_path / "red.onnx", [32, 32], sides=11)
    ran = run(tiny.data, tmp_path / "run", load_config(overrides=TINY | {"rounds": 1, "saliency.network": network}))
    assert (bundles[0].supervision, bundles[0].saliency) == ("tags, saliency network", "red.onnx")
    chosen, evidence = ran.result.ledger.find(0, "saliency"), ran.result.ledger.find(1, "evidence")
    assert chosen is not None
    assert chosen["normalization"] == "isnet"
    assert chosen["why"] == "known by the 12 outputs of the network"
    assert evidence is not None
    assert 0 <= evidence["saliency_agreement"] <= 1


def test_no_network_of_a_round_learns_from_a_photo_with_a_tag_in_doubt(
    tiny: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first, shown = tiny.data.photos[0], {}

    def doubt(data: TaggedPhotos, run: Path, number: int, below: float) -> None:
        doubts = [{"photo": first.id, "tag": first.tags[0], "probability": 0.01}]
        files.write_text(doubts_file(run, number), json.dumps(doubts))

    def see(stage: NetworkStage, context: TrainingContext, *arguments: Any, **options: Any) -> FitResult | None:
        shown[stage.name] = context.data.photos
        return real(stage, context, *arguments, **options)

    real = NetworkStage.fit
    monkeypatch.setattr(NetworkStage, "fit", see)
    monkeypatch.setattr("training.stages.regiontagger.write_doubts", doubt)
    monkeypatch.setattr(
        training.run.train, "fit_tag_head",
        lambda network, data, *arguments: shown.update(head=data.photos) or fit_tag_head(network, data, *arguments),
    )  # fmt: skip
    ran = run(tiny.data, tmp_path / "run", load_config(overrides=TINY | {"rounds": 1}))
    assert shown.pop("classifier") == tiny.data.photos
    assert shown == dict.fromkeys(("regiontagger", "regionnet", "pixelnet", "head"), tiny.data.photos[1:])
    evidence = ran.result.ledger.find(1, "evidence")
    assert evidence is not None
    assert evidence["doubts"] == 1
    assert maps_file(first, ran.layout.root, 1).is_file()


def test_corrections_take_part_in_every_stage_and_are_told_in_the_bundle(
    tiny: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bundles: list[Metadata] = []
    monkeypatch.setattr(training.run.train, "export", lambda *arguments, **options: bundles.append(arguments[2]))
    _, said = draw(("cat",), (64, 48), 0)
    said[:8] = VOID
    correction = Correction.of(said, ("background", "cat"))
    corrected = replace(tiny.data.photos[0], correction=correction)
    data = replace(tiny.data, photos=(corrected, *tiny.data.photos[1:]))
    ran = run(data, tmp_path / "run", load_config(overrides=TINY | {"rounds": 1}))
    assert bundles[0].supervision == "tags, corrections"
    assert read_description(ran.layout).corrected == 1
    known = said != VOID
    np.testing.assert_array_equal(labels.read(corrected, ran.layout.root, 1)[known], said[known])
    chosen = seeds.read(corrected, ran.layout.root, 1)[superpixels.read(corrected, ran.layout.root)]
    assert (chosen == said)[known & (chosen != VOID)].mean() >= PURE
    assert set(chosen[known].tolist()) >= {0, 1}
    assert (
        weights_of(ran.layout)["round-1/pixelnet/weights.pt"] != weights_of(tiny.layout)["round-1/pixelnet/weights.pt"]
    )
    with pytest.raises(RunError, match="the photos, their tags, corrections or hints changed"):
        ran.again(data=tiny.data)


def with_hints(data: TaggedPhotos, made: Callable[[Photo], Correction]) -> TaggedPhotos:
    return replace(data, photos=tuple(replace(photo, hint=made(photo)) for photo in data.photos))


def test_hints_that_say_nothing_change_nothing_but_what_is_told(
    tiny: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bundles: list[Metadata] = []
    monkeypatch.setattr(training.run.train, "export", lambda *arguments, **options: bundles.append(arguments[2]))
    whole = np.ones((48, 64), dtype=np.uint8)
    data = with_hints(tiny.data, lambda photo: Correction.of(whole, ("background", photo.tags[0])))
    ran = run(data, tmp_path / "run", load_config(overrides=TINY | {"rounds": 1}))
    assert bundles[0].supervision == "tags, hints"
    assert read_description(ran.layout).hinted == 12
    plain = weights_of(tiny.layout)
    assert {name: plain[name] for name in weights_of(ran.layout)} == weights_of(ran.layout)
    evidence = ran.result.ledger.find(1, "evidence")
    assert evidence is not None
    assert evidence["hint_agreement"] == {"cat": 0.5, "dog": 0.5}
    recorded = read_photos(ran.layout)
    assert recorded is not None
    assert [photo.hint for photo in recorded.photos] == [photo.hint for photo in data.photos]
    with pytest.raises(RunError, match="the photos, their tags, corrections or hints changed"):
        ran.again(data=tiny.data)


def test_held_out_corrections_measure_the_bundle_and_are_learned_from_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(training.run.train, "export", export)
    drawn = draw_photos(tmp_path, 24, (64, 48))
    photos = []
    for number, photo in enumerate(drawn.photos):
        said = Correction.of(draw(photo.tags, (64, 48), number)[1], ("background", *drawn.classes))
        photos.append(replace(photo, mask=None, correction=said))
    data = replace(drawn, photos=tuple(photos), mask_classes=())
    config = load_config(overrides=TINY | {"rounds": 1})
    ran = run(data, tmp_path / "run", config)
    ids = read_description(ran.layout).held_out
    assert ids == choose_held_out(data, 0.2)
    assert 2 <= len(ids) <= 12
    metadata = read_metadata(ran.result.model)
    assert metadata.measured == ran.result.measured
    assert metadata.measured
    assert metadata.measured.photos == len(ids)
    with Segmenter.load(ran.result.model, device="cpu") as segmenter:
        assert measure(segmenter, [photo for photo in photos if photo.id in ids]) == metadata.measured
    own = {photo.id: hashlib.sha256(photo.path.read_bytes()).hexdigest()[:16] for photo in photos}
    taught = {digest for id, digest in own.items() if id not in ids}
    assert read_samples(ran.result.model, CORRECTED) == read_corrected(ran.layout) == taught
    assert read_samples(ran.result.model) == {*own.values()}
    recorded = read_photos(ran.layout)
    assert recorded
    assert recorded.corrected == 24

    monkeypatch.setattr(training.run.train, "export", note)
    bare = replace(data, photos=tuple(without_correction(photo, ids) for photo in data.photos))
    other = run(bare, tmp_path / "bare", load_config(overrides=TINY | {"rounds": 1, "corrections.held_out": 0}))
    assert weights_of(other.layout) == weights_of(ran.layout)
    assert other.result.measured is None


def test_without_masks_nothing_is_compared_with_them(tiny: Ran):
    assert stages_of(tiny.result.ledger) == [*BEFORE, *round_of(1), *round_of(2), (2, "export")]
    assert not any({"miou", "iou", "precision"} & line.keys() for line in tiny.result.ledger)


def test_masks_do_not_change_what_is_learned(tiny: Ran, tmp_path: Path):
    masked = draw_photos(tmp_path, 12, (64, 48))
    measured = run(masked, tmp_path / "run", tiny.config)
    assert any("miou" in line for line in measured.result.ledger)
    assert measured.result.weights_digest == tiny.result.weights_digest


def test_a_finished_run_is_returned_as_it_is(tiny: Ran):
    before = files_of(tiny.layout.root)
    again = tiny.again()
    assert files_of(tiny.layout.root) == before
    assert (again.kept, again.weights_digest) == (2, tiny.result.weights_digest)
    assert list(again.ledger) == list(tiny.result.ledger)


class Stopping(Events):
    """Raises once `photos` photos of a stage are done; 0: before its first."""

    def __init__(self, stage: str, photos: int, fault: type[BaseException]) -> None:
        self.named, self.photos, self.fault = stage, photos, fault

    def send(self, **event: Any) -> None:
        if event["stage"] == self.named and event["done"] >= self.photos:
            raise self.fault


@pytest.mark.parametrize(
    ("stage", "photos", "fault"),
    [
        ("superpixels", 8, KeyboardInterrupt),  # while a thread is at the other 4
        ("saliency", 0, RuntimeError),
        ("classifier", 4, KeyboardInterrupt),  # in the first epoch
        ("classifier", 16, RuntimeError),  # in the second, after a checkpoint
        ("round 1: pixelnet", 24, RuntimeError),  # learned, but not written
        ("round 1: masks", 8, RuntimeError),
        ("round 1: decision", 0, KeyboardInterrupt),
        ("round 2: pixelnet", 4, KeyboardInterrupt),
    ],
)
def test_stopped_anywhere_and_resumed_gives_the_same_weights(
    tiny: Ran, tmp_path: Path, stage: str, photos: int, fault: type[BaseException]
):
    out = tmp_path / "run"
    with pytest.raises(fault):
        train(tiny.data, out, tiny.config, device="cpu", progress=Stopping(stage, photos, fault))
    assert not list(out.rglob("*.part"))
    torch.manual_seed(99)  # another process, in another state
    resumed = tiny.again(out=out)
    assert resumed.weights_digest == tiny.result.weights_digest
    assert weights_of(Layout(out)) == weights_of(tiny.layout)
    assert stages_of(resumed.ledger) == stages_of(tiny.result.ledger)
    assert files_of(out).keys() == files_of(tiny.layout.root).keys()


@pytest.mark.parametrize("stages", [0, 3, 9, 12, 17])
def test_stopped_between_a_stages_last_file_and_its_line(tiny: Ran, tmp_path: Path, stages: int):
    stopped = tiny.copy(tmp_path / "run", stages)
    again = stopped.again()
    assert again.weights_digest == tiny.result.weights_digest
    assert stages_of(again.ledger) == stages_of(tiny.result.ledger)


def test_photos_that_threads_share_get_the_same_maps(tiny: Ran, tmp_path: Path):
    run = tiny.copy(tmp_path / "run", stages=3)
    for photo in tiny.data.photos:
        maps_file(photo, run.layout.root, 0).unlink()
    torch.set_num_threads(2)
    try:
        run.again()
    finally:
        torch.set_num_threads(1)
    for photo in tiny.data.photos:
        expected, found = (np.load(maps_file(photo, root, 0)) for root in (tiny.layout.root, run.layout.root))
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_killed_command_resumed_gives_the_same_weights(
    tiny: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    root, out, settings = tmp_path / "data", tmp_path / "run", write_tiny(tmp_path / "tiny.toml")
    shutil.copytree(tiny.data.root / "photos", root / "images")
    rows = [f"{photo.path.name},{' '.join(photo.tags)}\n" for photo in tiny.data.photos]
    (root / "tags.csv").write_text("image,tags\n" + "".join(rows))
    arguments = ["train", str(root), "--out", str(out), "--config", str(settings), "--workers", "1", "--device", "cpu"]
    arguments += ["--tensorboard", str(tmp_path / "logs")]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    code = "from tagmask.cli.main import main; main()"
    first = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    )
    while first.poll() is None and not RegionNetTraining.weights_of(out, 1).exists():
        time.sleep(0.01)
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    stages = stages_of(Ledger(Layout(out).ledger))
    assert (0, "class_maps") in stages
    assert (1, "pixelnet") not in stages

    monkeypatch.setattr(sys, "argv", ["tagmask", *arguments, "--resume"])
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # as `main` does, but undone after the test
    monkeypatch.setattr(painted, "RARE", 1.1)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert weights_of(Layout(out)) == weights_of(tiny.layout)
    output = capsys.readouterr()
    events = EventAccumulator(str(tmp_path / "logs" / "run"), size_guidance={"scalars": 0})
    events.Reload()
    losses = (Ledger(Layout(out).ledger).find(1, "pixelnet") or {})["losses"]
    assert [each.value for each in events.Scalars("loss/round-1-pixelnet")] == pytest.approx(losses)
    assert [each.step for each in events.Scalars("estimate/mIoU")] == [1, 2]
    assert f"round 2 kept; weights {tiny.result.weights_digest[:12]}; {out / 'model.onnx'}\n" in output.out
    shares = tiny.result.decision["painted"]
    assert all(f"warning: {name}: painted on {shares[name]:.0%} of the" in output.err for name in ("cat", "dog"))


def dropped(data: TaggedPhotos, run: Path, number: int) -> Quality:
    estimate = Estimate(50.0, ERROR, {"background": 80.0, "cat": 40.0, "dog": 30.0}, ())
    return Quality(0.9, 0.3, 0.9 if number == 1 else 0.1, {"cat": 1.0, "dog": 1.0}, estimate)


def test_a_round_that_degrades_is_dropped_and_the_one_before_exported(
    tiny: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(decision, "round_quality", dropped)
    config = tiny.config.model_copy(update={"decision": DecisionConfig(), "rounds": 3})
    out = tmp_path / "run"
    ran = run(tiny.data, out, config)
    assert stages_of(ran.result.ledger) == [*BEFORE, *round_of(1), *round_of(2), (1, "export")]
    line = ran.result.ledger.find(2, "decision")
    assert line is not None
    assert line["kept"] is False
    assert line["why"] == "only 0.100 of the pixels agree with the round before"
    assert ran.result.kept == 1
    assert ran.layout.model.read_text() == f"round 1: {weights_of(ran.layout)['round-1/pixelnet/weights.pt']}"
    before = files_of(out)
    assert ran.again().kept == 1
    assert files_of(out) == before


def quality(consistency: float = 0.8, coverage: float = 0.3, agreement: float = 0.9) -> dict[str, float]:
    return {"consistency": consistency, "coverage": coverage, "agreement": agreement}


KEEP = DecisionConfig(consistency_loss=0.05, coverage_change=1.5, agreement=0.7)


@pytest.mark.parametrize(
    ("after", "faults"),
    [
        (quality(), []),
        (quality(consistency=0.76), []),
        (quality(consistency=0.74), ["tag consistency fell from 0.800 to 0.740"]),
        (quality(coverage=0.44), []),
        (quality(coverage=0.46), ["coverage went from 0.300 to 0.460"]),
        (quality(coverage=0.19), ["coverage went from 0.300 to 0.190"]),
        (quality(agreement=0.69), ["only 0.690 of the pixels agree with the round before"]),
        (quality(0.1, 0.0, 0.1), ["tag consistency", "coverage", "only"]),
    ],
)
def test_what_degrades_a_round(after: dict[str, float], faults: list[str]):
    found = degradations(after, quality(), KEEP)
    assert len(found) == len(faults)
    assert all(each.startswith(fault) for each, fault in zip(found, faults, strict=True))


SHARE = st.floats(0, 1)
QUALITY = st.builds(quality, SHARE, SHARE, SHARE)


@given(after=QUALITY, before=QUALITY, better=SHARE)
def test_more_consistency_or_agreement_never_drops_a_round(
    after: dict[str, float], before: dict[str, float], better: float
):
    assert degradations(after, None, KEEP) == []
    faults = degradations(after, before, KEEP)
    for name in ("consistency", "agreement"):
        improved = after | {name: max(after[name], better)}
        assert len(degradations(improved, before, KEEP)) <= len(faults)


@given(after=QUALITY)
def test_a_round_like_the_one_before_is_kept_if_they_agree(after: dict[str, float]):
    # A coverage of 0 both times is no good: the masks are empty.
    alike = after | {"coverage": max(after["coverage"], 1e-3), "agreement": 1.0}
    assert degradations(alike, alike, KEEP) == []


def test_every_bar_reaches_its_end(full: Ran, progress: Counted):
    short = {name: counted for name, counted in progress.stages.items() if counted[0] != counted[1]}
    assert {name for name in short if "decision" not in name} == set()
    shown = [total for name, (total, _) in progress.stages.items() if name.endswith("pixelnet")]
    assert shown[1] > len(full.data.photos), "the photos of the balance count too"
    assert progress.stages["export"][0] == 9 + 12, "photos of the tag head, and inputs of the test of parity"


def test_a_folder_of_other_files_is_left_alone(tiny: Ran, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(RunError, match="holds other files; give an empty or new folder"):
            tiny.again(out=tmp_path, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_that_was_killed_before_it_had_a_description_can_begin_again(tiny: Ran, tmp_path: Path):
    layout, description = Layout(tmp_path / "run"), read_description(tiny.layout)
    layout.root.mkdir()
    for name in (".lock", ".0123456789abcdef.part"):
        (layout.root / name).touch()
    with begin_or_resume(layout, description, False):
        assert read_description(layout) == description
    assert {path.name for path in layout.root.iterdir()} == {".lock", "run.json"}


def test_photos_that_moved_are_known_where_they_are(tiny: Ran, tmp_path: Path):
    copied = tiny.copy(tmp_path / "run")
    root = shutil.copytree(tiny.data.root, tmp_path / "moved")
    moved = (replace(photo, path=root / photo.path.relative_to(tiny.data.root)) for photo in tiny.data.photos)
    copied.again(data=replace(tiny.data, root=root, photos=tuple(moved)), out=copied.layout.root)
    data = read_photos(copied.layout)
    assert data is not None
    assert {photo.path.parents[1] for photo in data.photos} == {data.root} == {root}


def test_a_run_is_not_overwritten(tiny: Ran):
    with pytest.raises(RunError, match="holds a run already; add --resume"):
        tiny.again(resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_two_trainings_do_not_write_to_one_folder(tiny: Ran, tmp_path: Path, resume: bool):
    out = tmp_path / "run"
    out.mkdir()
    holder = (
        "import sys; from tagmask.files import *\nwith locked(Path(sys.argv[1])): print('held', flush=True), input()"
    )
    command = [sys.executable, "-c", holder, str(Layout(out).lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        files.write_text(Layout(out).description, tiny.layout.description.read_text())
        (part := out / ".photos.json.0.part").touch()
        with pytest.raises(
            RunError, match="another training is writing to it; wait until it ends, or give another --out"
        ):
            tiny.again(out=out, resume=resume)
        assert part.exists(), "what the other training is writing"
        other.kill()
    with begin_or_resume(Layout(out), read_description(Layout(out)), resume=True):
        assert not part.exists()


def less(data: TaggedPhotos) -> TaggedPhotos:
    return replace(data, photos=data.photos[1:])


def of_cats(data: TaggedPhotos) -> TaggedPhotos:
    photos = tuple(replace(photo, tags=("cat",)) for photo in data.photos if "cat" in photo.tags)
    return replace(data, photos=photos, classes=("cat",))


@pytest.mark.parametrize(
    ("changed", "setting", "difference"),
    [
        (less, {}, "the photos, their tags, corrections or hints"),
        (of_cats, {}, r"classes (from \['cat', 'dog'\] to \['cat'\])"),
        (replace, {"pixelnet.fit.epochs": 7}, r"pixelnet\.fit\.epochs (from 2 to 7)"),
        (replace, {"seed": 4}, r"seed (from 0 to 4)"),
    ],
)
def test_a_run_of_something_else_is_not_gone_on_with(
    tiny: Ran, changed: Callable[[TaggedPhotos], TaggedPhotos], setting: dict[str, Any], difference: str
):
    before = files_of(tiny.layout.root)
    message = f"cannot be resumed, {difference} changed".replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(RunError, match=message):
        tiny.again(data=changed(tiny.data), config=load_config(overrides=TINY | setting))
    assert files_of(tiny.layout.root) == before


def test_a_changed_photo_is_noticed(tiny: Ran, tmp_path: Path):
    drawn = draw_photos(tmp_path, 12, (64, 48))
    Image.new("RGB", (64, 48)).save(drawn.photos[5].path)
    with pytest.raises(RunError, match="the photos, their tags, corrections or hints changed"):
        tiny.again(data=drawn)


def test_a_description_that_cannot_be_read(tiny: Ran, tmp_path: Path):
    Layout(tmp_path).description.write_text("{")
    with pytest.raises(RunError, match=r"run\.json: damaged"):
        tiny.again(out=tmp_path)


def test_networks_are_tried_before_anything_is_written(tiny: Ran, tmp_path: Path):
    bad = write_network(tmp_path / "classes.onnx", [8, 8], channels=21)
    for setting, message in (
        ({"saliency.network": bad}, r"classes\.onnx: .*expected an ONNX saliency network"),
        ({"backbone": "resnet51"}, "no network named 'resnet51'"),
        ({"weights": str(tmp_path / "absent.pth")}, r"absent\.pth"),
    ):
        with pytest.raises(ConfigError, match=message):
            tiny.again(config=load_config(overrides=TINY | setting), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_photos_too_few_for_int8_are_refused_before_anything_is_written(tiny: Ran, tmp_path: Path):
    few = replace(tiny.data, photos=tiny.data.photos[:2])
    with pytest.raises(DataError, match="2 photos to quantize to int8 with, at least 3 are needed"):
        train(few, tmp_path / "run", load_config(overrides=TINY), device="cpu", precision="int8")
    assert not (tmp_path / "run").exists()


def test_too_few_open_files_are_refused_before_anything_is_written(tiny: Ran, tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (LEAST_OPEN_FILES - 1, hard))
        with pytest.raises(
            ConfigError, match=r"^63 files at most may be open, 64 are needed; raise .* ulimit -n 1024$"
        ):
            tiny.again(out=tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not (tmp_path / "run").exists()


def test_a_missing_library_is_named_before_anything_is_written(
    tiny: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    with pytest.raises(ConfigError, match=r"pip install 'tagmask\[tensorboard\]'"):
        train(tiny.data, tmp_path / "run", load_config(overrides=TINY), device="cpu", tensorboard=tmp_path / "events")
    assert list(tmp_path.iterdir()) == []


def test_a_normalization_that_is_set_makes_up_for_unreadable_metadata(tiny: Ran, tmp_path: Path):
    """The network passes, so that the next fault is told: a start that is absent."""
    network = write_network(tmp_path / "red.onnx", [8, 8], metadata={"mean": "?"})
    for setting, error in (({}, ConfigError), ({"saliency.normalization": "isnet"}, RunError)):
        config = load_config(overrides=TINY | {"saliency.network": network} | setting)
        with pytest.raises(error):
            train(tiny.data, tmp_path / "run", config, device="cpu", start=tmp_path / "absent")


TOGETHER = """
import os
import sys
from pathlib import Path

import torch

from tests.training.conftest import draw_photos
from tests.tiny import TINY
from tests.training.run.test_train import shorten
from training.config import load_config
from training.run.train import train

torch.set_num_threads(1)
shorten()
folder, rank = Path(sys.argv[1]), os.environ["RANK"]
data = draw_photos(folder / rank, 9, (64, 48))
result = train(data, folder / "run", load_config(overrides=TINY), device="cpu")
(folder / f"result{rank}").write_text(f"{result.kept} {result.weights_digest} {result.first}")
"""


def test_two_processes_train_one_run(tmp_path: Path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, env=environment, timeout=300, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    layout = Layout(tmp_path / "run")
    assert layout.model.read_text() == f"round 2: {weights_of(layout)['round-2/pixelnet/weights.pt']}"
    line = Ledger(layout.ledger).find(2, "export")
    assert line is not None
    assert (tmp_path / "result0").read_text() == f"2 {line['weights_digest']} True"
    assert (tmp_path / "result1").read_text() == f"2 {line['weights_digest']} False"
    assert stages_of(Ledger(layout.ledger)) == [*BEFORE, *round_of(1), *round_of(2), (2, "export")]
