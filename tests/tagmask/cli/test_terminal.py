"""What the commands print."""

import pytest
from rich.table import Table

from tagmask.cli.terminal import show


def test_long_names_are_folded_and_not_cut_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("tagmask.cli.terminal.console.width", 80)
    name = "photos/33/" + "0123456789abcdef" * 8
    table = Table("photo", box=None)
    table.add_row(name)
    show(table)
    assert name in "".join(capsys.readouterr().out.split())
