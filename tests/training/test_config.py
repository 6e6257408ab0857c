from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmask.errors import ConfigError
from training.config import PRESETS, TrainConfig, load_config, walk
from training.fitting.settings import FitConfig


def write(folder: Path, text: str) -> Path:
    file = folder / "run.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_changes_what_it_names_and_an_override_wins(tmp_path: Path):
    file = write(tmp_path, "rounds = 7\n[pixelnet]\nwidth = 33\n[pixelnet.fit]\nepochs = 11\n")
    config = load_config(file, {"pixelnet.fit.epochs": 13, "seed": 5, "rounds": None})
    plain = TrainConfig()
    assert (config.rounds, config.seed, config.pixelnet.width, config.pixelnet.fit.epochs) == (7, 5, 33, 13)
    assert config.pixelnet.fit.batch == plain.pixelnet.fit.batch
    assert config.pixelnet.fit.learning_rate == plain.pixelnet.fit.learning_rate
    assert config.pixelnet.later_fit == plain.pixelnet.later_fit
    assert config.classifier == plain.classifier


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("refine.weight = 0.2", "refinement.weight = 0.2"),
        ("keep.agreement = 0.1\nkeep.consistency_loss = 1", "decision.agreement = 0.1\ndecision.consistency_loss = 1"),
        ("crf.sure_above = 0.8\ncrf.steps = 3", "labels.sure_above = 0.8\ncrf.steps = 3"),
        (
            "classifier.maps.flip = false\nclassifier.fit.epochs = 2",
            "class_maps.flip = false\nclassifier.fit.epochs = 2",
        ),
        ("pixelnet.maps.scale = 2.0", "masks.scale = 2.0"),
        ("keep.agreement = 0.1\ndecision.agreement = 0.2", "decision.agreement = 0.2"),
    ],
)
def test_names_of_earlier_versions_mean_those_of_today(tmp_path: Path, before: str, now: str):
    assert load_config(write(tmp_path, before)) == load_config(write(tmp_path, now)) != TrainConfig()


def test_a_name_of_an_earlier_version_can_be_an_override(tmp_path: Path):
    config = load_config(write(tmp_path, "decision.consistency_loss = 0.2"), {"keep.agreement": 0.1})
    assert (config.decision.consistency_loss, config.decision.agreement) == (0.2, 0.1)


def test_nothing_given_is_the_defaults():
    assert load_config() == TrainConfig()
    assert load_config(overrides={"rounds": None}) == TrainConfig()


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("round = 3", "round"),
        ("[pixelnet.fit]\nepoch = 3", "pixelnet.fit.epoch"),
        ("[crf]\nsteps = 'many'", "crf.steps"),
        ("[crf]\nsteps = 1.5", "crf.steps"),
        ("rounds = 0", "rounds"),
        ("long_side = 1000000", "long_side"),
        ("pixelnet = 3", "pixelnet"),
        ("[pixelnet]\nfit = [1, 2]", "pixelnet.fit"),
        ("[classifier.augment]\nsmallest = 2.0\nlargest = 1.0", "classifier.augment"),
        ("[saliency]\nmu = -1", "saliency.mu"),
    ],
)
def test_a_bad_setting_is_named_with_its_file(tmp_path: Path, text: str, setting: str):
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as fault:
        load_config(file)
    assert f"{file}: setting {setting}: " in str(fault.value)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("name", "value", "refused"), [("rounds", 0, "rounds"), ("crf.steps", "many", "crf.steps"), ("hints.x", 1, "hints")]
)
def test_a_bad_override_is_not_looked_for_in_the_file(tmp_path: Path, name: str, value: object, refused: str):
    file = write(tmp_path, "rounds = 3\n[crf]\nsteps = 5\n")
    with pytest.raises(ConfigError, match=f"^setting {refused}: "):
        load_config(file, {name: value, "seed": None})


@pytest.mark.parametrize(
    ("unknown", "closest"),
    [
        ("round", "rounds"),
        ("pixelnet.fit.epoch", "pixelnet.fit.epochs"),
        ("regionnet.fit.epoch", "regionnet.fit.epochs"),
        ("crf.stepps", "crf.steps"),
        ("pixelnett", "pixelnet"),
        ("min_size", "superpixels.min_size"),
        ("saliency.sigma_colour", "saliency.sigma_color"),
    ],
)
def test_an_unknown_setting_is_told_with_the_closest_known_ones(unknown: str, closest: str):
    with pytest.raises(ConfigError, match=rf"^setting {unknown}: unknown; the closest are {closest}, "):
        load_config(overrides={unknown: 1})


def test_a_bad_override_is_named_without_a_file():
    with pytest.raises(ConfigError, match=r"^setting pixelnet\.fit\.epochs: .*-1"):
        load_config(overrides={"pixelnet.fit.epochs": -1})


def test_an_override_below_a_setting_that_is_no_table(tmp_path: Path):
    with pytest.raises(ConfigError, match="setting pixelnet: "):
        load_config(write(tmp_path, "pixelnet = 3"), {"pixelnet.width": 64})


def test_what_is_no_toml_and_what_is_not_there(tmp_path: Path):
    file = write(tmp_path, "rounds = = 3")
    with pytest.raises(ConfigError, match=r"run\.toml: not TOML"):
        load_config(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"run\.toml: not TOML"):
        load_config(file)
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="is not a regular file; name an existing TOML file"):
        load_config(tmp_path)


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        load_config().rounds = 4  # type: ignore[misc]


def test_a_preset_lies_below_the_file_and_the_overrides(tmp_path: Path):
    fast = load_config(preset="fast")
    assert fast.rounds < TrainConfig().rounds
    assert load_config(write(tmp_path, "rounds = 7"), preset="fast") == fast.model_copy(update={"rounds": 7})
    assert load_config(overrides={"rounds": 6}, preset="fast") == fast.model_copy(update={"rounds": 6})


def test_presets_are_known_settings_and_differ():
    presets = [load_config(preset=name) for name in PRESETS]
    assert len(set(map(repr, presets))) == len(presets)


@given(epochs=st.integers(1, 20), batch=st.integers(1, 64), least=st.integers(1, 500), photos=st.integers(1, 3000))
def test_few_photos_are_passed_over_more_often(epochs: int, batch: int, least: int, photos: int):
    config = FitConfig(epochs=epochs, batch=batch, least_steps=least, learning_rate=1e-3)
    done = config.among(photos)
    steps = -(-photos // batch)
    assert done.epochs * steps >= least
    assert done.epochs == epochs or (done.epochs - 1) * steps < least
    assert done.among(photos) == done


def test_a_working_size_that_no_service_reads_is_refused_before_training():
    assert load_config(overrides={"long_side": 2048, "served_scale": 2}).served_scale == 2
    with pytest.raises(ConfigError, match=r"setting served_scale: .*long_side \(2048\) is above 4096 pixels"):
        load_config(overrides={"long_side": 2048, "served_scale": 2.01})


@pytest.mark.parametrize("endless", [float("inf"), float("nan")])
@pytest.mark.parametrize("name", [name for name, value, _ in walk(TrainConfig()) if isinstance(value, float)])
def test_what_run_json_cannot_hold_is_refused_before_training(name: str, endless: float):
    with pytest.raises(ConfigError, match=f"setting {name}: "):
        load_config(overrides={name: endless})
