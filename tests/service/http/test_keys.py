from pathlib import Path

import pytest
from pydantic import SecretStr

from service.http.keys import Keys
from tagmask.errors import StartError

FIRST, SECOND = "the first of the keys", "the second of the keys"
NONE = SecretStr("")


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(FIRST)
    keys = Keys("TAGMASK_API_KEYS", NONE, file)
    assert (keys.include(FIRST), keys.include(SECOND)) == (True, False)
    new = tmp_path / "new"
    new.write_text(SECOND)
    new.replace(file)
    assert (keys.include(FIRST), keys.include(SECOND)) == (False, True)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"short", None])
def test_a_file_that_breaks_leaves_the_old_keys(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys"
    file.write_text(FIRST)
    keys = Keys("TAGMASK_API_KEYS", SecretStr(SECOND), file)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert keys.include(FIRST)
    assert keys.include(SECOND)
    assert [str(file) in vars(record)["reason"] for record in caplog.records] == [True]
    file.write_text(f"{SECOND}\n")
    assert not keys.include(FIRST)


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{FIRST}\r\n{SECOND}\r\n", encoding="utf-8-sig")
    keys = Keys("TAGMASK_API_KEYS", NONE, file)
    assert keys.include(FIRST)
    assert keys.include(SECOND)


def test_no_keys() -> None:
    assert not Keys("TAGMASK_API_KEYS", NONE, None)
    with pytest.raises(StartError, match="TAGMASK_API_KEYS: 1 of 1 keys"):
        Keys("TAGMASK_API_KEYS", SecretStr("short"), None)
