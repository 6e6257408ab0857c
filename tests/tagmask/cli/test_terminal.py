"""What the commands print."""

import pytest
from rich.table import Table

from tagmask.cli.terminal import Bars, errors, show


def test_long_names_are_folded_and_not_cut_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("tagmask.cli.terminal.console.width", 80)
    name = "photos/33/" + "0123456789abcdef" * 8
    table = Table("photo", box=None)
    table.add_row(name)
    show(table)
    assert name in "".join(capsys.readouterr().out.split())


def test_without_a_terminal_a_long_stage_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def lines(seconds: float) -> list[str]:
        """What a stage of eight photos prints that take this long each."""
        now = 0.0
        monkeypatch.setattr(errors, "get_time", lambda: now)
        with Bars().stage("round 1: labels", 8) as advance:
            for _ in range(8):
                now += seconds
                advance(1)
        return capsys.readouterr().err.splitlines()

    begun = "round 1: labels …"
    assert lines(3) == [begun]
    assert lines(20) == [
        begun, "round 1: labels, 25%, 0:02:00 left", "round 1: labels, 50%, 0:01:20 left",
        "round 1: labels, 75%, 0:00:40 left",
    ]  # fmt: skip
    assert lines(100)[:3] == [begun, "round 1: labels, 12%", "round 1: labels, 25%, 0:10:00 left"]
