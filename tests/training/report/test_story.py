import json
from pathlib import Path

import pytest

from tagmask.errors import RunError
from tests.training.report.conftest import CONFIG, Finished, describe, fill_ledger
from training.config import TrainConfig
from training.report.story import Story, read_story
from training.run.layout import Layout


def judged(story: Story) -> tuple[int, str] | None:
    return story.judged.id if story.judged else None


def test_a_finished_run(run: Finished):
    story = read_story(run.layout)
    assert (story.done, story.steps, story.waiting) == (24, 24, None)
    assert (story.rounds, story.kept, story.dropped, judged(story)) == (2, 2, None, (2, "masks"))
    assert story.seconds == 24 * 60
    assert list(story.miou("masks", "class_maps")) == [0, 1, 2]
    assert story.miou("masks")[2] > story.miou("masks")[1]
    assert story.losses("pixelnet") == {1: [0.5, 0.25], 2: [0.5, 0.25]}


@pytest.mark.parametrize(
    ("lines", "waiting", "kept", "shown"),
    [
        (0, "superpixels", None, None),
        (3, "class_maps", None, None),
        (4, "round 1: regiontagger", None, (0, "class_maps")),
        (6, "round 1: seeds", None, (1, "evidence")),
        (7, "round 1: regionnet", None, (1, "evidence")),
        (11, "round 1: pixelnet", None, (1, "labels")),
        (14, "round 2: regiontagger", 1, (1, "masks")),
        (23, "round 2: decision", 1, (1, "masks")),
    ],
)
def test_an_unfinished_run_tells_what_comes_next_and_is_judged_by_what_it_has(
    run: Finished, lines: int, waiting: str, kept: int | None, shown: tuple[int, str] | None
):
    run.cut(lines)
    story = read_story(run.layout)
    assert (story.done, story.waiting, story.kept, judged(story)) == (lines, waiting, kept, shown)


def test_a_dropped_round_ends_a_run_which_keeps_the_one_before(tmp_path: Path):
    layout, config = Layout(tmp_path), CONFIG.model_copy(update={"rounds": 3})
    describe(layout, ("cat",), 3, config)
    fill_ledger(layout, config, 1)
    lines = [json.loads(line) for line in layout.ledger.read_text().splitlines()][:24]
    lines[-1] |= {"kept": False, "why": "coverage went from 0.4 to 0.1"}
    layout.ledger.write_text("".join(json.dumps(line) + "\n" for line in lines))
    story = read_story(layout)
    assert (story.waiting, story.kept, judged(story)) == (None, 1, (1, "masks"))
    assert story.dropped is not None
    assert story.dropped["why"] == "coverage went from 0.4 to 0.1"


def test_costs_are_told_by_stage_and_round(run: Finished):
    costs = {cost.stage: cost for cost in read_story(run.layout).costs()}
    assert list(costs)[:5] == ["superpixels", "saliency", "classifier", "class_maps", "regiontagger"]
    assert (costs["class_maps"].seconds, costs["class_maps"].photos) == ((60.0, None, None), 3)
    assert (costs["labels"].seconds, costs["labels"].total, costs["labels"].photos) == ((None, 60.0, 60.0), 120.0, 6)


def test_settings_that_are_not_the_defaults_are_named(run: Finished):
    changed = {setting.name: setting for setting in read_story(run.layout).changed()}
    assert list(changed) == ["rounds", "long_side", "superpixels.min_size", "crf.steps"]
    steps = changed["crf.steps"]
    assert (steps.value, steps.default, steps.meaning) == ("7", str(TrainConfig().crf.steps), "mean-field iterations")


def test_what_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="not a run, as it has no run"):
        read_story(Layout(tmp_path))
