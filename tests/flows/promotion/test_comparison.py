"""The corrections that champion and challenger are compared on."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import onnx

from flows.promotion.comparison import corrections_not_learned
from tagmask.bundle import CORRECTED, add_samples, read_metadata, write_bundle
from tagmask.corrections import Correction
from tests.training.colour_bundle import write_colour_bundle

NAMES = [hashlib.sha256(bytes([number])).hexdigest() for number in range(6)]


def write_list(path: Path, numbers: list[int], corrected: list[int]) -> Path:
    records = []
    for number in numbers:
        record: dict[str, object] = {"image": f"photos/{NAMES[number]}.jpg", "tags": ["cat"]}
        if number in corrected:
            record["correction"] = asdict(Correction((2, 2), (("cat", "04"),)))
        records.append(json.dumps(record) + "\n")
        (path.parent / "photos").mkdir(exist_ok=True)
        (path.parent / "photos" / f"{NAMES[number]}.jpg").touch()
    path.write_text("".join(records))
    return path


def write_learned(path: Path, *numbers: int) -> Path:
    """A bundle that learned from the corrections of photos."""
    write_colour_bundle(path)
    model = onnx.load(path)
    if numbers:
        add_samples(model, [NAMES[number] for number in numbers], CORRECTED)
    write_bundle(path, model, read_metadata(path))
    return path


def test_models_are_compared_on_corrections_from_which_neither_learned(tmp_path: Path):
    lists = write_list(tmp_path / "a.jsonl", [0, 1, 2, 3], [0, 1, 2]), write_list(tmp_path / "b.jsonl", [4, 5], [4])
    bundles = write_learned(tmp_path / "new.onnx", 0), write_learned(tmp_path / "old.onnx", 1)
    neither = write_learned(tmp_path / "tags.onnx")

    def names(*bundles: Path) -> list[int]:
        return sorted(NAMES.index(photo.path.stem) for photo in corrections_not_learned(lists, bundles))

    assert names(*bundles) == [2, 4]
    assert names(bundles[0], neither) == [1, 2, 4]
    assert names(neither, neither) == [0, 1, 2, 4]
