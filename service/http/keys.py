"""API keys, from a setting and from a file that is read again when it changes."""

import hashlib
import hmac
import logging
from pathlib import Path

from pydantic import SecretStr

from tagmask.errors import StartError
from tagmask.files import read_text

log = logging.getLogger("tagmask.keys")

_MIN_LENGTH = 16  # characters of a key


class Keys:
    """The keys in the setting `name` and in the file that `name`_FILE names; false if there are none."""

    def __init__(self, name: str, value: SecretStr, file: Path | None) -> None:
        """Raises StartError for a file that cannot be read or has no keys, and for keys that are too short."""
        self._name, self._file = name, file
        self._set = _digests(name, value.get_secret_value().split(","))
        self._version = _version(file)
        self._read = self._read_file()

    def __bool__(self) -> bool:
        return bool(self._set or self._file)

    def include(self, key: str) -> bool:
        """Whether `key` is one of them, in a time that does not depend on it. A file that is broken now is ignored."""
        version = _version(self._file)
        if version != self._version:
            self._version = version
            try:
                self._read = self._read_file()
                log.info("keys read again", extra={"file": str(self._file), "keys": len(self._read)})
            except StartError as error:
                log.error("keys not read again; the old ones stay valid", extra={"reason": str(error)})
        digest = _digest(key)
        return sum(hmac.compare_digest(digest, each) for each in (*self._set, *self._read)) > 0

    def _read_file(self) -> tuple[bytes, ...]:
        if self._file is None:
            return ()
        where = f"{self._name}_FILE={self._file}"
        try:
            lines = read_text(self._file).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"{where}: cannot be read ({error}); make it a text file with one key per line") from None
        if digests := _digests(where, lines):
            return digests
        raise StartError(f"{where}: has no keys; write one per line, or unset the variable")


def _version(file: Path | None) -> tuple[int, ...]:
    """What changes when the file does."""
    try:
        status = file.stat() if file else None
    except OSError:
        return (0,)
    return (status.st_mtime_ns, status.st_size, status.st_ino) if status else ()


def _digests(where: str, lines: list[str]) -> tuple[bytes, ...]:
    keys = sorted({line.strip() for line in lines if line.strip()})
    if short := [key for key in keys if len(key) < _MIN_LENGTH]:
        raise StartError(
            f"{where}: {len(short)} of {len(keys)} keys are shorter than {_MIN_LENGTH} characters; use longer keys"
        )
    return tuple(map(_digest, keys))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
