from pathlib import Path

import pytest

from tagmask.errors import RunError
from training.run.ledger import Ledger


def test_lines_are_found_after_a_restart(tmp_path: Path):
    ledger = Ledger(tmp_path / "run" / "ledger.jsonl")
    assert list(ledger) == []
    ledger.add(0, "superpixels", photos=3, seconds=0.5)
    line = ledger.add(1, "seeds", photos=3, iou=[1.0, None])
    assert line == {"round": 1, "stage": "seeds", "photos": 3, "iou": [1.0, None]}
    again = Ledger(tmp_path / "run" / "ledger.jsonl")
    assert list(again) == list(ledger)
    assert again.find(1, "seeds") == line
    assert again.find(0, "seeds") is None
    assert again.find(1, "superpixels") is None


def test_reload_sees_what_another_process_added(tmp_path: Path):
    one, two = Ledger(tmp_path / "l.jsonl"), Ledger(tmp_path / "l.jsonl")
    one.add(0, "saliency", note="line\nbreaks \u2028 stay inside")
    assert two.find(0, "saliency") is None
    two.reload()
    assert two.find(0, "saliency") == one.find(0, "saliency")


@pytest.mark.parametrize("damage", [b'{"round": 1', b"3", b'{"stage": "seeds"}', b"[]", b"\xff\xfe", b"\n"])
def test_a_damaged_ledger_is_told(tmp_path: Path, damage: bytes):
    path = tmp_path / "l.jsonl"
    Ledger(path).add(0, "superpixels")
    path.write_bytes(path.read_bytes() + damage)
    with pytest.raises(RunError, match=r"l\.jsonl: damaged .*another folder"):
        Ledger(path)
