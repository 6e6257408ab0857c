from dataclasses import fields
from pathlib import Path

from training.config import TrainConfig, load_config
from training.run.plan import find_stage, round_stages, run_stages
from training.stages.base import MaskStage, PhotoStage
from training.stages.decision import Decision
from training.stages.network import NetworkStage

ONE = TrainConfig(rounds=3)


def test_every_stage_reads_only_what_was_done_before_it():
    done: set[tuple[int, str]] = set()
    for stage in run_stages(ONE):
        assert set(stage.reads) <= done, stage.title
        assert stage.id not in done
        done.add(stage.id)


def test_a_setting_decides_exactly_the_stages_that_it_should():
    def changed(**overrides: object) -> set[str]:
        settings = {name.replace("__", "."): value for name, value in overrides.items()}
        other = run_stages(load_config(overrides={"rounds": 3} | settings))
        return {one.title for one, two in zip(run_stages(ONE), other, strict=True) if one.values() != two.values()}

    assert changed(crf__steps=6) == {f"round {number}: labels" for number in (1, 2, 3)}
    assert changed(superpixels__k=50) == {"superpixels"}
    assert changed(refinement__weight=0.2) == {f"round {number}: refinement" for number in (1, 2, 3)}
    assert changed(class_maps__scale=1) == {"class_maps"}
    assert changed(decision__agreement=0.5) == {f"round {number}: decision" for number in (1, 2, 3)}


def test_every_setting_decides_some_stage_or_what_they_learn_from():
    named = {name for stage in run_stages(ONE) for name in stage.values()}
    assert TrainConfig.model_fields.keys() - named == {"corrections", "rounds", "served_scale", "tile"}


def test_a_stage_bears_the_name_of_its_module_and_of_its_settings():
    for stage in run_stages(ONE):
        assert type(stage).__module__ == f"training.stages.{stage.name}"
        if "settings" in {field.name for field in fields(stage)}:
            assert stage.values()[stage.name] == getattr(ONE, stage.name).model_dump(mode="json")


def test_each_stage_has_a_folder_of_its_own():
    folders = [stage.folder(Path("run")) for stage in run_stages(ONE)]
    assert len(folders) == len(set(folders))
    assert find_stage(ONE, 0, "saliency").folder(Path("run")) == Path("run/saliency")
    assert find_stage(ONE, 2, "labels").folder(Path("run")) == Path("run/round-2/labels")


def test_a_stage_is_of_one_kind():
    kinds = (PhotoStage, NetworkStage, Decision)
    for stage in run_stages(ONE):
        assert sum(isinstance(stage, kind) for kind in kinds) == 1
    masks = [stage.name for stage in round_stages(ONE, 1) if isinstance(stage, MaskStage)]
    assert masks == ["evidence", "seeds", "regions", "refinement", "labels", "masks"]
