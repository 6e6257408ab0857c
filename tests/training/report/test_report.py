import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

import training.report
from tagmask.errors import DataError
from tagmask.masks import MAX_CLASSES
from tagmask.scores import Interval, Measured
from tests.training.report.conftest import CONFIG, Finished, describe, fill_ledger, make_run, without_masks
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.metrics import Confusion
from training.report import photos_of, write_report
from training.report.validation import Validation
from training.run.layout import Layout
from training.run.ledger import Ledger

VOID_TAGS = {"meta", "img", "br"}


class Page(HTMLParser):
    """The tags of a page, its addresses, and what can be read on it; it must nest as it should."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def addresses(self) -> list[str]:
        named = ("src", "href", "action", "srcset", "data", "xlink:href")
        return [value or "" for _, attributes in self.tags for name, value in attributes.items() if name in named]


Report = Callable[..., Page]


@pytest.fixture
def report(run: Finished) -> Report:
    """Write the report of the run, and read it."""

    def write(data: TaggedPhotos | None = run.data, **more: object) -> Page:
        write_report(run.layout, run.layout.report, data, **more)  # type: ignore[arg-type]
        return Page(run.layout.report.read_text(encoding="utf-8"))

    return write


def test_the_page_says_what_was_learned_from_how_well_and_what_was_kept(report: Report):
    text = report().text
    assert "3 photos 2 classes learned, from tags alone" in text
    assert "72.0 mIoU on training photos PixelNet's masks of round 2" in text
    assert "2 of 2 round kept" in text
    assert "Finished: all 24 stages of 2 rounds are done." in text
    assert "From the class maps to the masks of round 2, mIoU went from 53.0 to 72.0" in text
    assert "crf.steps 7 5 mean-field iterations" in text
    assert "24 min 0 s for all stages" in text


def test_the_page_needs_nothing_and_runs_nothing(report: Report):
    page = report()
    assert all(address.startswith(("#", "data:image/webp;base64,")) for address in page.addresses())
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    style = Path(training.report.__file__).with_name("page.css").read_text()
    assert not re.search(r"url\(|@import", style)
    (policy,) = (each["content"] for _, each in page.tags if each.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert all(each.get("alt") for tag, each in page.tags if tag == "img")


def test_the_same_run_gives_the_same_page(report: Report, run: Finished):
    report()
    first = run.layout.report.read_bytes()
    report()
    assert run.layout.report.read_bytes() == first


@pytest.mark.parametrize("lines", range(22))
def test_a_run_that_stopped_anywhere_has_a_report(report: Report, run: Finished, lines: int):
    run.cut(lines)
    for data in (run.data, without_masks(run.data), None):
        text = report(data).text
        assert ("Not finished" in text) == (lines < 24)
        assert ("are not available" in text) == (data is None)


def test_without_true_masks_it_says_that_accuracy_is_not_known(report: Report, run: Finished):
    run.layout.ledger.unlink()
    fill_ledger(run.layout, CONFIG, 2, measured=False)
    run.see(0, 2, 1, 2)
    text = report(without_masks(run.data)).text
    assert "0.900 tag consistency F1 of the photos' tags" in text
    assert "mIoU is unknown without true masks" in text
    assert "Tags against classes seen" in text
    assert "Pixels of" not in text
    assert "PixelNet also sees dog" in text
    assert text.index("00 cat") < text.index("01 dog")  # the one in which something else is seen comes first


def test_the_chart_of_miou_names_what_is_known(report: Report, run: Finished):
    estimate = {"miou": 61.0, "error": 7, "iou": {"background": 80.0, "cat": 42.0, "dog": 61.0}, "remarks": []}
    for measured in (True, False):
        run.layout.ledger.unlink()
        fill_ledger(run.layout, CONFIG, 2, measured=measured, estimate=estimate)
        text = report(run.data if measured else without_masks(run.data)).text
        assert "estimate for PixelNet's masks" in text
        assert ("labels, after DenseCRF" in text, "estimated without true masks." in text) == (measured, not measured)


def test_a_dropped_round_is_told_with_the_reason(report: Report, run: Finished):
    run.layout.ledger.unlink()
    fill_ledger(run.layout, CONFIG, 2, kept=False, why="coverage went from 0.4 to 0.1")
    text = report().text
    assert "1 of 2 round kept round 2 was dropped: coverage went from 0.4 to 0.1" in text
    assert "2 dropped: coverage went from 0.4 to 0.1" in text


def test_a_class_that_is_hardly_ever_painted_is_told_with_the_remedy(report: Report, run: Finished):
    assert "with its tag; add photos of it" not in report().text
    run.layout.ledger.unlink()
    fill_ledger(run.layout, CONFIG, 2, painted={"cat": 0.9, "dog": 0.04})
    text = report().text
    assert "dog: painted on 4% of the photos with its tag; add photos of it" in text
    assert "cat: painted" not in text


def test_a_saliency_network_is_told_with_its_normalization_and_whether_it_is_useless(report: Report, run: Finished):
    changed = CONFIG.saliency.model_copy(update={"network": Path("models/isnet.onnx")})
    describe(run.layout, run.data.classes, 3, CONFIG.model_copy(update={"saliency": changed}))
    lines = [json.loads(line) for line in run.layout.ledger.read_text().splitlines()]
    for line in lines:
        line |= {"saliency": {"normalization": "isnet", "why": "known"}, "evidence": {"saliency_agreement": 0.5}}.get(
            line["stage"], {}
        )
    run.layout.ledger.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = report().text
    assert "learned, from tags and a saliency network (most learned from masks of others)" in text
    assert "saliency isnet.onnx, normalization isnet" in text
    assert "saliency network isnet.onnx: agrees with the tags at 0.50" in text


def test_no_more_than_24_photos_are_shown(run: Finished, report: Report):
    run.cut(0)
    many = tuple(replace(photo, id=f"{photo.id}-{copy}") for copy in range(25) for photo in run.data.photos)
    assert [name for name, _ in report(replace(run.data, photos=many)).tags].count("article") == 24


def test_corrections_are_told(report: Report, run: Finished):
    assert "learned, from tags alone" in report().text
    describe(run.layout, run.data.classes, 3, corrected=1)
    assert "learned, from tags and corrections of 1 photo" in report().text
    describe(run.layout, run.data.classes, 3, corrected=3, held_out=("00", "01"))
    assert "learned, from tags and corrections of 1 photo" in report().text


def test_hints_are_told(report: Report, run: Finished):
    describe(run.layout, run.data.classes, 3, hinted=2)
    assert "learned, from tags and hints on 2 photos" in report().text


def test_what_was_measured_on_held_out_corrections_is_told(report: Report, run: Finished):
    assert "held-out" not in report().text
    figures = Measured(8, Interval(58.0, 49.0, 66.0), Interval(61.0, 52.0, 68.4))
    Ledger(run.layout.ledger).add(2, "export", file="model.onnx", weights_digest="", measured=asdict(figures))
    text = report().text
    assert "58 / 61 measured mIoU 8 held-out corrections; " in text
    assert "95% intervals 49 to 66 / 52 to 68" in text
    assert "measured on 8 corrected photos: mIoU 61 (52 to 68) with tags given, 58 (49 to 66) without." in text


def test_a_first_round_that_is_kept_in_any_case_says_what_it_lost(report: Report, run: Finished):
    describe(run.layout, run.data.classes, 3, CONFIG.model_copy(update={"rounds": 1}))
    run.layout.ledger.unlink()
    fill_ledger(run.layout, CONFIG.model_copy(update={"rounds": 1}), 2, why="vanished: dog")
    assert "1 of 1 round kept the first round is always kept; vanished: dog" in report().text


def test_a_validation_comes_first(report: Report):
    total = Confusion(3)
    total.counts[:] = [[90, 10, 0, 0], [0, 50, 0, 0], [0, 25, 75, 0]]
    validation = Validation("held-out", 7, ("cat", "dog"), total, total)
    text = report(validation=validation).text
    assert f"{total.miou():.1f} / {total.miou():.1f} mIoU on held-out 7 photos with true masks" in text
    assert "Pixels of held-out" in text
    assert "dog · 25 75 100" in text


def test_what_files_hold_is_text_on_the_page(tmp_path: Path):
    evil = '<img/src="x"/onerror=alert(1)>'
    run = make_run(tmp_path)
    describe(run.layout, (evil, "&lt;"), 3, CONFIG.model_copy(update={"backbone": evil, "weights": "\x1b'\"<b>"}))
    renamed = {"cat": evil, "dog": "&lt;"}
    photos = tuple(replace(photo, tags=tuple(sorted(renamed[tag] for tag in photo.tags))) for photo in run.data.photos)
    data = replace(run.data, classes=(evil, "&lt;"), photos=photos, mask_classes=("background", evil, "&lt;"))
    for folder in run.layout.root.rglob("00.*"):  # a photo by that name
        target = folder.with_name(f"x'><svg onload=alert(1)>{folder.suffix}")
        folder.rename(target)
    first = replace(photos[0], id="x'><svg onload=alert(1)>")
    write_report(run.layout, tmp_path / "page.html", replace(data, photos=(first, *photos[1:])))
    plain = make_run(tmp_path / "plain")
    write_report(plain.layout, tmp_path / "plain.html", plain.data)
    found, expected = (Page((tmp_path / name).read_text()) for name in ("page.html", "plain.html"))
    # One setting more differs from the defaults, so compare kinds of tags, not their number.
    assert {tag for tag, _ in found.tags} == {tag for tag, _ in expected.tags}
    assert all(address.startswith(("#", "data:image/webp;base64,")) for address in found.addresses())
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    for each in (evil, "&lt;", "x'><svg onload=alert(1)>", "\\x1b'\"<b>"):
        assert each in found.text


def test_a_run_of_very_many_classes_has_a_page_of_bounded_size(tmp_path: Path):
    classes = tuple(f"class{index:03}" for index in range(MAX_CLASSES))
    layout = Layout(tmp_path / "run")
    describe(layout, classes, 1)
    fill_ledger(layout, CONFIG, len(classes))
    validation = Validation("val", 9, classes, Confusion(len(classes) + 1), Confusion(len(classes) + 1))
    validation.without_tags.counts[:] = 3
    write_report(layout, layout.report, validation=validation)
    assert layout.report.stat().st_size < 1_000_000
    assert "Only the 25 weakest are shown." in Page(layout.report.read_text()).text


def test_a_report_that_fails_leaves_the_one_before(report: Report, run: Finished):
    report()
    before = run.layout.report.read_bytes()
    run.layout.ledger.write_text("{")
    with pytest.raises(Exception, match=r"ledger\.jsonl: damaged"):
        report()
    assert run.layout.report.read_bytes() == before


def test_the_photos_of_a_run_are_found_among_others(run: Finished):
    others = tuple(Photo(f"other{index}", Path("x.jpg"), ("cat",)) for index in range(3))
    both = replace(run.data, photos=(*run.data.photos, *others))
    assert photos_of(run.layout, both) == run.data
    with pytest.raises(DataError, match="holds no photo of the run"):
        photos_of(run.layout, replace(run.data, photos=others))
    assert photos_of(Layout(run.layout.root / "new"), both) == both


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_accessible_and_quiet(browser: Browser, report: Report, run: Finished, scheme: Any, width: int):
    report()
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = context.new_page()
    traffic: list[str] = []
    page.on("console", lambda message: traffic.append(message.text))
    page.on("request", lambda request: traffic.append(request.url))
    address = run.layout.report.resolve().as_uri()
    page.goto(address)
    for fold in page.locator("details").all():
        fold.evaluate("fold => fold.open = true")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert [each for each in traffic if not each.startswith("data:")] == [address]
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    context.close()
