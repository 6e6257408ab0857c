import importlib.util
from pathlib import Path

from training.config import TrainConfig, load_config
from training.run.layout import Layout
from training.run.plan import TORCH, Step, one_round, preparation, steps

ONE = TrainConfig(rounds=3)


def test_every_step_reads_only_what_was_done_before_it():
    done: set[tuple[int, str]] = set()
    for step in steps(ONE):
        assert set(step.reads) <= done, step.title
        assert step.name not in done
        done.add(step.name)


def test_a_setting_decides_exactly_the_steps_that_it_should():
    def changed(**overrides: object) -> set[str]:
        other = steps(load_config(overrides={"rounds": 3} | {k.replace("__", "."): v for k, v in overrides.items()}))
        return {one.title for one, two in zip(steps(ONE), other, strict=True) if one.settings != two.settings}

    assert changed(crf__steps=6) == {f"round {number}: labels" for number in (1, 2, 3)}
    assert changed(superpixels__k=50) == {"superpixels"}
    assert changed(refine__bins=8) == {"round 1: refined"}
    assert changed(classifier__maps__scale=1) == {"maps"}
    assert changed(keep__agreement=0.5) == {f"round {number}: decision" for number in (1, 2, 3)}


def test_every_setting_decides_some_step():
    named = {name for step in steps(ONE) for name in step.settings}
    for name, value in ONE.model_dump().items():
        inside = {f"{name}.{part}" for part in value} if isinstance(value, dict) else set()
        assert name in {"rounds", "served_scale"} or name in named or inside <= named, name


def test_folders_are_those_of_the_layout():
    layout, here = Layout(Path("run")), Layout(Path("run")).round(2)
    files = {
        "seeds": here.seeds("a"), "regionnet": here.regionnet, "regions": here.regions("a"),
        "labels": here.labels("a"), "pixelnet": here.localizer, "masks": here.maps("a"),
    }  # fmt: skip
    found: dict[str, Step] = {step.stage: step for step in (*preparation(ONE), *one_round(ONE, 2))}
    files |= {"superpixels": layout.superpixels("a"), "saliency": layout.saliency("a")}
    files |= {"classifier": layout.round(0).localizer, "maps": layout.round(0).maps("a")}
    for stage, file in files.items():
        assert str(file.parent.relative_to("run")) in found[stage].folders
    folders = [folder for step in steps(ONE) for folder in step.folders]
    assert len(folders) == len(set(folders))


def test_the_modules_that_decide_exist():
    for step in steps(ONE):
        for module in step.modules:
            assert importlib.util.find_spec(f"training.{module}") is not None
    assert {step.stage for step in steps(ONE) if step.kind == "photos"} > TORCH
