import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from examples.demo.drawing import make_demo_photos
from tagmask.bundle import read_metadata
from tagmask.cli import main as cli
from tagmask.errors import ConfigError
from tagmask.masks import read_mask
from tests.training.colour_bundle import write_colour_bundle
from tests.training.conftest import Command, draw_photos
from training.choices import OutputFormat
from training.cli.train import assignments
from training.datasets import Format

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three photos as a CSV with masks: a cat, a dog, both."""
    root = tmp_path / "data"
    drawn = draw_photos(root, 3)
    (root / "photos").rename(root / "images")
    (root / "truth").rename(root / "masks")
    rows = [f"{photo.path.name},{' '.join(photo.tags)}\n" for photo in drawn.photos]
    (root / "tags.csv").write_text("image,tags\n" + "".join(rows))
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tells cats, dogs and ground by their colours."""
    return write_colour_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (
            "train",
            ["DATA", "--out", "--split", "--classes", "--backbone", "--weights", "--rounds"],
        ),
        ("train", ["--config", "--set", "--saliency", "--device", "--workers", "--precision", "--seed", "--resume"]),
        ("train", ["--format", "--corrections", "--hints"]),
        ("quantize", ["MODEL", "--calibration", "--out", "--split", "--format"]),
        ("evaluate", ["MODEL", "DATA", "--split", "--classes", "--crf", "--json", "--format"]),
        ("score", ["PREDICTIONS", "TRUTH", "--classes-file", "--json"]),
        ("segment", ["PHOTO|FOLDER", "--model", "--out", "--tags", "--crf"]),
        ("label", ["DATA", "--model", "--out", "--split", "--none", "--crf", "--photos", "--format", "--data-format"]),
        ("look", ["RUN", "DATA", "--out", "--split", "--none", "--photos", "--format"]),
        ("report", ["RUN", "DATA", "--split", "--val", "--none", "--out", "--photos", "--workers", "--format"]),
        ("data check", ["DATA", "--split", "--classes", "--format", "--corrections", "--hints"]),
        ("data audit", ["DATA", "--model", "--split", "--classes", "--out", "--json", "--format"]),
        ("data suggest", ["RUN", "--count", "--out", "--json"]),
    ],
)
def test_help_tells_every_option(name: str, options: list[str]):
    result = CliRunner().invoke(cli.app, [*name.split(), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0
    output = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    assert [option for option in options if option not in output] == []


def test_a_locale_without_the_characters_of_a_name_does_not_end_a_command(tmp_path: Path):
    (tmp_path / "vélo").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "vélo" / "1.png")
    command = [Path(sys.executable).with_name("tagmask"), "--quiet", "data", "check", tmp_path, "--format", "folders"]
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.search(rb"^v\?lo +1 +\?{24}$", done.stdout, re.MULTILINE)


def test_help_loads_nothing_heavy():
    heavy = {"numpy", "PIL", "cv2", "pydantic", "onnxruntime", "torch", "bentoml", "prefect"}
    code = f"import sys, tagmask.cli.main; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_the_data_commands_load_no_torch(tmp_path: Path):
    make_demo_photos(tmp_path / "demo", photos=16)
    code = """
import sys
from tagmask.cli.main import main
try:
    main()
finally:
    assert "cv2" in sys.modules
    assert "torch" not in sys.modules
"""
    command = [sys.executable, "-c", code, "data", "check", tmp_path / "demo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_data_check_counts_the_photos_of_a_split(command: Command, tmp_path: Path):
    make_demo_photos(tmp_path / "demo", photos=40, seed=3)
    status, printed, _ = command("data", "check", tmp_path / "demo", "--split", "val")
    assert status == 0
    assert "no faults" in printed
    assert re.search(r"\b10\b", printed)


def test_data_check_counts_tags_and_names_faults(command: Command, data: Path):
    (data / "images" / "01.png").write_text("not a photo")
    status, output, _ = command("data", "check", data)
    assert status == 0
    assert re.search(r"cat +2\b", output)
    assert re.search(r"dog +1\b", output)
    assert "1 fault\n" in output
    assert "01.png" in output


@pytest.mark.parametrize(
    ("option", "tags", "counted", "fault"),
    [
        (
            "--corrections",
            ("cat", "dog", "cat"),
            r"corrections +3 photos: cat 2, dog 2\n",
            "shows dog, which its photo was not tagged with",
        ),
        (
            "--hints",
            ("cat", "cat", "dog"),
            r"hints +2 photos: cat 2, dog 1\n",
            "1 hint for other classes than the photo's tags; not used",
        ),
    ],
)
def test_corrections_and_hints_are_counted_by_class_and_what_contradicts_tags_is_a_fault(
    option: str, tags: tuple[str, ...], counted: str, fault: str, command: Command, data: Path
):
    rows = "".join(f"0{number}.png,{tag}\n" for number, tag in enumerate(tags))
    (data / "tags.csv").write_text(f"image,tags\n{rows}")
    status, output, _ = command("data", "check", data, option, data)
    assert status == 0
    assert re.search(counted, output)
    assert fault in output
    stopped = ("--out", data / "run", "--backbone", "resnet51", "--device", "cpu")  # once the photos are checked
    _, _, errors = command("train", data, option, data, *stopped)
    assert re.search(rf"^fault: .*{fault}", errors, re.MULTILINE)


def test_data_check_takes_several_data_sets_and_insists_on_a_layout(command: Command, data: Path, tmp_path: Path):
    more = draw_photos(tmp_path / "more", 4).root / "photos"
    (more / "cat").mkdir()
    for photo in more.glob("*.png"):
        photo.rename(more / "cat" / photo.name)
    status, output, _ = command("data", "check", data, more)
    assert status == 0
    assert re.search(r"cat +6\b", output)
    (more / "tags.csv").write_text("image,tags\ncat/00.png,dog\n")
    assert re.search(r"dog +1\b", command("data", "check", more)[1])
    assert re.search(r"cat +4\b", command("data", "check", more, "--format", "folders")[1])


def test_data_audit_lists_tags_that_may_be_wrong(command: Command, model: Path, data: Path, tmp_path: Path):
    audit = ("data", "audit", data, "--model", model)
    assert command(*audit)[1] == "0 photos of 3 with tags that may be wrong\n"
    (data / "tags.csv").write_text("image,tags\n00.png,dog\n01.png,\n02.png,cat dog owl\n")
    status, output, errors = command(*audit, "--out", tmp_path / "page.html")
    assert status == 0
    assert re.search(r"00 +dog +not found +1\.00", output)
    assert re.search(r"00 +cat +not tagged, but seen on \d+\.\d% of the photo +1\.00", output)
    assert re.search(r"01 +dog +not tagged, but seen on \d+\.\d% of the photo +0\.50", output)
    assert output.endswith(f"2 photos of 3 with tags that may be wrong\nwritten to {tmp_path / 'page.html'}\n")
    assert "left out: owl: the model does not know this tag" in errors
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")

    status, output, _ = command(*audit, "--json", "--out", tmp_path / "out", "--classes", "dog")
    assert status == 0
    findings = [json.loads(line) for line in output.splitlines()]
    assert sorted((each["photo"], each["tag"], each["finding"]) for each in findings) == [
        ("00", "dog", "not found"), ("01", "dog", "not tagged"), ("02", "dog", "found")
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audit.html", "interface.xml", "tasks.json"]
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    wrong, untagged = sorted(tasks, key=lambda task: str(task["data"]["image"]))
    assert wrong["data"]["reason"] == "dog: not found"
    assert untagged["data"]["tags"] == []
    assert untagged["predictions"][0]["result"][0]["value"] == {"choices": ["dog"]}
    status, _, errors = command(*audit, "--out", data)
    assert (status, "is the data set, whose own annotations could be replaced" in errors) == (2, True)
    assert not (data / "tasks.json").exists()
    assert command(*audit, "--out", tmp_path / "out")[0] == 0
    (tmp_path / "out" / "audit.html").unlink()
    status, _, errors = command(*audit, "--out", tmp_path / "out")
    assert (status, "holds other files, such as interface.xml, which could be replaced" in errors) == (2, True)


def test_evaluate_reads_data_at_a_url(command: Command, model: Path, memory: str):
    status, _, error = command("evaluate", model, f"{memory}/photos")
    assert (status, error.startswith(f"error: {memory}/photos: no known layout")) == (2, True), error


def test_evaluate_tells_both_figures_and_writes_them(command: Command, model: Path, data: Path, tmp_path: Path):
    file = tmp_path / "figures.json"
    status, output, _ = command("evaluate", model, data, "--classes", "cat,dog", "--json", file)
    assert status == 0
    assert re.search(r"class.*without tags.*with tags", output)
    figures = json.loads(file.read_text())
    assert list(figures) == ["without_tags", "with_tags"]
    for each in figures.values():
        assert list(each) == ["miou", "iou"]
        assert list(each["iou"]) == ["background", "cat", "dog"]
        assert each["miou"] == pytest.approx(sum(each["iou"].values()) / 3)
        assert each["miou"] > 95
    mean = f"{figures['without_tags']['miou']:.1f}"
    assert re.search(rf"mean.*{re.escape(mean)}", output)


def test_quantize_writes_a_bundle_and_tells_its_agreement(command: Command, model: Path, data: Path, tmp_path: Path):
    out = tmp_path / "new" / "int8.onnx"
    status, output, _ = command("quantize", model, "--calibration", data, "--out", out)
    assert status == 0
    metadata = read_metadata(out)
    done = metadata.quantization
    assert metadata.precision == "int8"
    assert done is not None
    assert (
        output
        == f"{metadata.version} agrees with 0123456789ab on {done.agreement:.1%} of the pixels of 1 photo; {out}\n"
    )
    again = ("quantize", out, "--calibration", data, "--out")
    assert command(*again, tmp_path / "again.onnx")[0] == 2
    assert not (tmp_path / "again.onnx").exists()


def test_quantize_does_not_replace_its_input(command: Command, model: Path, data: Path, tmp_path: Path):
    (tmp_path / "link.onnx").symlink_to(model)
    before = model.read_bytes()
    for out in (model, tmp_path / "link.onnx"):
        status, _, errors = command("quantize", model, "--calibration", data, "--out", out)
        assert (status, f"{out}: is the bundle to quantize, which would be replaced" in errors) == (2, True)
    assert model.read_bytes() == before


def save(path: Path, mask: list[list[int]]) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.array(mask, dtype=np.uint8)).save(path)


def test_score_is_what_one_counts_by_hand(command: Command, tmp_path: Path):
    save(tmp_path / "truth" / "a.png", [[0, 0, 1, 1], [0, 0, 2, 255]])
    save(tmp_path / "mine" / "a.png", [[0, 1, 1, 1], [0, 0, 0, 2]])
    save(tmp_path / "truth" / "b.png", [[0]])
    names, file = tmp_path / "classes.txt", tmp_path / "score.json"
    names.write_text("background\npolar [/bear]s\ndog\n")  # no markup of rich
    status, output, errors = command(
        "score", tmp_path / "mine", tmp_path / "truth", "--classes-file", names, "--json", file
    )
    assert status == 0
    assert errors == "not scored: 1 true mask without a prediction\n"
    # background: 3 hits of 4 true and 1 too many; bear: 2 of 2 and 1 too many; dog: 0 of 1; void counts nowhere.
    figures = json.loads(file.read_text())
    assert figures["iou"] == pytest.approx({"background": 60, "polar [/bear]s": 200 / 3, "dog": 0})
    assert figures["miou"] == pytest.approx((60 + 200 / 3) / 3)
    assert re.search(r"polar \[/bear\]s\W+66\.7", output)
    assert re.search(r"mean +. +42\.2", output)


def test_label_replaces_no_annotation_of_its_data_set(command: Command, model: Path, data: Path):
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    status, _, errors = command("label", data, "--model", model, "--out", data / "images" / "..", "--format", "voc")
    assert status == 2
    assert "is the data set, whose own annotations could be replaced; choose another folder" in errors
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("form", get_args(OutputFormat))
def test_label_replaces_nothing_in_another_data_set(
    command: Command, model: Path, data: Path, tmp_path: Path, form: str
):
    other = tmp_path / "other"
    assert command("label", data, "--model", model, "--out", other, "--format", form, "--photos")[0] == 0
    shutil.rmtree(other / "masks")
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    status, _, errors = command("label", data, "--model", model, "--out", other, "--format", form, "--none", "cat")
    assert (status, "which could be replaced; choose an empty folder" in errors) == (2, True)
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("names", ["photos", "classes"])
def test_label_tells_names_that_a_format_cannot_hold_before_the_first_photo(
    command: Command, model: Path, data: Path, tmp_path: Path, names: str
):
    if names == "photos":
        (data / "images" / "0").mkdir()
        for name in ("0/1.png", "0_1.png"):
            shutil.copy(data / "images" / "01.png", data / "images" / name)
        with (data / "tags.csv").open("a") as table:
            table.write("images/0/1.png,cat\nimages/0_1.png,cat\n")
    else:
        model = write_colour_bundle(tmp_path / "model.onnx", classes=("background", "cat", "a:dog"))
    status, _, errors = command("label", data, "--model", model, "--out", tmp_path / "out", "--format", "voc")
    assert status == 2
    assert re.search(r"would both be called '0_1'|class 'a:dog': VOC has class names in file names", errors)
    assert not (tmp_path / "out").exists()


def test_label_goes_on_where_it_was_killed_at_once(command: Command, model: Path, data: Path, tmp_path: Path):
    (tmp_path / "out" / "masks").mkdir(parents=True)
    (tmp_path / "out" / "masks" / ".0123456789abcdef.part").touch()
    assert command("label", data, "--model", model, "--out", tmp_path / "out", "--format", "coco")[0] == 0


def test_label_writes_masks_of_the_photos_own_tags(command: Command, model: Path, data: Path, tmp_path: Path):
    out = tmp_path / "labels"
    status, output, _ = command("label", data, "--model", model, "--out", out)
    assert (status, output) == (0, f"3 masks written, 0 kept from before, in {out}\n")
    assert [sorted(set(read_mask(out / f"0{i}.png").flat)) for i in range(3)] == [[0, 1], [0, 2], [0, 1, 2]]
    _, output, _ = command("label", data, "--model", model, "--out", out)
    assert output == f"0 masks written, 3 kept from before, in {out}\n"


def test_label_leaves_photos_that_show_nothing_empty(command: Command, model: Path, data: Path, tmp_path: Path):
    out = tmp_path / "labels"
    assert command("label", data, "--model", model, "--out", out, "--none", "cat")[0] == 0
    assert [sorted(set(read_mask(out / f"0{i}.png").flat)) for i in range(3)] == [[0], [0, 2], [0, 2]]


WRITTEN = {
    "voc": ["JPEGImages/00.jpg", "SegmentationClass/00.png", "ImageSets/Segmentation/train.txt"],
    "coco": ["annotations/instances_train.json"],
    "yolo": ["images/train/00.png", "labels/train/00.txt", "data.yaml"],
    "label-studio": ["tasks.json", "interface.xml"],
    "cvat": ["annotations.xml"],
    "datumaro": ["images/train/00.png", "annotations/train.json"],
}


@pytest.mark.parametrize("form", WRITTEN)
def test_label_writes_for_other_tools(command: Command, model: Path, data: Path, tmp_path: Path, form: str):
    out = tmp_path / "out"
    (data / "images" / "01.png").write_text("not a photo")
    arguments = ["label", data, "--model", model, "--out", out, "--format", form, "--data-format", "table"]
    status, output, errors = command(*arguments)
    assert status == 0
    assert output == f"2 masks written, 0 kept from before, in {out / 'masks'}\n2 photos for {form} in {out}\n"
    assert "left out: 01: " in errors
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {out / name for name in WRITTEN[form]} < set(files)
    masks = [out / "masks" / name for name in ("00.png", "02.png")]
    assert set(masks) < set(files)
    masks[0].unlink()
    assert command(*arguments)[1].startswith("1 mask written, 1 kept from before")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("form", [form for form in WRITTEN if form in get_args(Format)])
def test_what_label_writes_with_photos_is_a_data_set(
    command: Command, model: Path, data: Path, tmp_path: Path, form: str
):
    command("label", data, "--model", model, "--out", tmp_path / "out", "--format", form, "--photos")
    shutil.rmtree(data)
    (tmp_path / "out").rename(tmp_path / "moved")
    status, output, _ = command("data", "check", tmp_path / "moved")
    assert (status, output.splitlines()[-1]) == (0, "no faults")
    assert re.search(r"cat +2 .*\n *dog +2 ", output)


def test_a_split_is_a_subset_of_what_is_written(command: Command, model: Path, data: Path, tmp_path: Path):
    (data / "splits").mkdir()
    (data / "splits" / "val.txt").write_text("02\n")
    command("label", data, "--model", model, "--out", tmp_path / "out", "--format", "yolo", "--split", "val")
    assert [path.name for path in (tmp_path / "out/images/val").iterdir()] == ["02.png"]


BAD = [
    ("label {data} --model {model} --out {folder}/out --photos", "--photos: only files for another tool have photos"),
    ("data check {folder}/absent", "absent: no such folder or list"),
    ("data check {data} --classes cat,dogg", "no photo is tagged 'dogg', did you mean 'dog'?"),
    ("data check {data} --split tset", "split"),
    ("train {data} --out {folder}/run --set crf.stepps=3", "setting crf.stepps: unknown; the closest are crf.steps,"),
    ("train {data} --out {folder}/run --set rounds=0", "setting rounds: Input should be greater than or equal to 1"),
    ("train {data} --out {folder}/run --set rounds", "--set rounds: write NAME=VALUE"),
    ("train {data} --out {folder}/run --rounds 0", "setting rounds: "),
    ("train {data} --out {folder}/run --config {toml}", "bad [1].toml: not TOML"),
    ("train {data} --out {folder}/run --backbone resnet51", "timm has no network named 'resnet51'"),
    ("train {data} --out {data}", "data: holds other files"),
    ("train {data} --out {folder}/run --device gpu", "device: 'gpu' is not one of auto, cpu, cuda"),
    ("train {data} --out {folder}/run --saliency {toml}", "bad [1].toml: cannot be run"),
    ("evaluate {toml} {data}", "bad [1].toml: not an ONNX file"),
    ("evaluate {model} {data} --classes cat,cow", "class 'cow' is unknown to the model"),
    ("segment {photo} --model {model} --out {folder}/out --tags cow", "does not know 'cow'; it knows cat, dog"),
    ("segment {photo} {model}", "not a photo; name the model with --model"),
    ("segment {folder} --out {folder}", "00.png: would replace an input photo; choose another folder with --out"),
    ("segment {photo} --model {model} --out {loop}/out", "loop/out: cannot be written (Too many levels of symbolic"),
    ("label {data} --model {model} --out {loop}/out --format voc", "loop/out: cannot be written (Too many levels of"),
    (
        "quantize {model} --calibration {data} --out {loop}/q.onnx",
        "q.onnx: cannot be written (File exists); choose another folder",
    ),
    ("train {data} --out {loop}/run", "loop/run: cannot be written (Too many levels of symbolic links)"),
    ("label {data} --model {folder}/absent.onnx --out {folder}/out", "absent.onnx: cannot be read"),
    ("label {data} --model {model} --out {data}/masks", "00.png: would be taken for a mask of this model"),
    ("data check {data} --format voc", "data: no photos"),
    ("look {folder}/absent {data} --out {folder}/out", "absent: not a run, as it has no run.json; name the --out"),
    ("train {data} --out {folder}/run --set labels=3", "setting labels: must be a table of settings, got 3"),
    ("evaluate {data} {data}", "data: is not a regular file; use a model.onnx"),
    ("quantize {model} --calibration {data} --split val --out {folder}/q.onnx", "val"),
    ("quantize {photo} --calibration {data} --out {folder}/q.onnx", "00.png: not an ONNX file"),
    ("score {data}/masks {folder}/none --classes-file {data}/classes.txt", "none: no such folder"),
    ("score {data}/masks {data}/masks --classes-file {folder}/none.txt", "none.txt: cannot be read"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line.replace("{folder}/", "") for line, _ in BAD])
def test_what_a_user_caused_is_one_line_and_status_2(
    command: Command, data: Path, model: Path, tmp_path: Path, line: str, message: str
):
    toml = tmp_path / "bad [1].toml"
    toml.write_text("rounds = = 3")
    (tmp_path / "loop").symlink_to("loop")
    places = {"folder": tmp_path, "data": data, "toml": toml, "model": model, "photo": data / "images" / "00.png"}
    places["loop"] = tmp_path / "loop"
    status, out, errors = command("--quiet", *(part.format(**places) for part in line.split()))
    assert (status, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", errors)
    assert message in errors


def test_brackets_and_long_lines_are_printed_as_they_are(command: Command, tmp_path: Path):
    name = f"{tmp_path}/[bold]photos[/]/[red]/{'very ' * 40}long"
    assert command("data", "check", name)[2].startswith(f"error: {name}: no such folder or list")


def tagmask(*arguments: object) -> "subprocess.Popen[str]":
    # A shell makes background processes, and so their children, ignore interrupts.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from tagmask.cli.main import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_in_its_own_process_an_error_is_a_line_and_a_status(tmp_path: Path):
    process = tagmask("data", "check", tmp_path / "[absent]")
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(r"error: .*/\[absent\]: no such folder or list; [^\n]+\n", errors)


def test_the_device_is_told_unless_it_shall_be_quiet(command: Command, data: Path, tmp_path: Path):
    line = ("train", str(data), "--out", str(tmp_path / "run"), "--backbone", "resnet51", "--device", "cpu")
    assert "device: cpu\n" in command(*line)[2]
    assert "device" not in command("--quiet", *line)[2].replace("--device", "")


def test_ctrl_c_ends_every_process_without_a_traceback(tmp_path: Path):
    photos = draw_photos(tmp_path / "data", 20, (320, 240)).root / "photos"
    photos.rename(photos.parent / "cat")
    process = tagmask("train", photos.parent, "--out", tmp_path / "run", "--device", "cpu", "--workers", 1)
    while process.poll() is None and not list((tmp_path / "run").glob("superpixels/*/*.png")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_values_given_by_set_are_what_they_look_like():
    texts = ["a=1", "b=0.5", "c=true", "d.e=random", "f=x=y"]
    assert assignments(texts) == {"a": 1, "b": 0.5, "c": True, "d.e": "random", "f": "x=y"}
    for bad in ("a", "=1"):
        with pytest.raises(ConfigError, match="write NAME=VALUE"):
            assignments([bad])


@pytest.mark.parametrize("name", ["segment", "label", "coco", "train"])
def test_a_folder_that_cannot_be_made_is_one_line(
    name: str, command: Command, data: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "file"
    out.write_text("kept")
    arguments = {
        "segment": ["segment", data / "images", "--model", model, "--out", out / "x"],
        "label": ["label", data, "--model", model, "--out", out],
        "coco": ["label", data, "--model", model, "--out", out, "--format", "coco"],
        "train": ["train", data, "--out", out, "--backbone", "test_resnet", "--weights", "random"],
    }
    status, _, errors = command("--quiet", *map(str, arguments[name]))
    assert (status, out.read_text()) == (2, "kept")
    assert re.fullmatch(r"error: \S*file\S*: cannot be written \(.*\); [^\n]+\n", errors)
