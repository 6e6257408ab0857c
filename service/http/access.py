"""Access control: API keys, admin keys, and the origin of a request."""

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.requests import HTTPConnection

from service.settings import Settings
from tagmask.errors import Forbidden, KeyMissing, KeyUnknown, StartError

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="tagmask"'}
_MIN_LENGTH = 16  # characters of a key


class Access:
    """Authorizes requests by the key in `Authorization: Bearer` or `X-API-Key`, or the password of Basic.

    Without any keys, only this machine may use the service, unless TAGMASK_ALLOW_OPEN is set.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises StartError for a key file that cannot be read, and for keys that are too short."""
        self._admins = _read_keys("TAGMASK_ADMIN_KEYS", settings.admin_keys, settings.admin_keys_file)
        self._users = _read_keys("TAGMASK_API_KEYS", settings.api_keys, settings.api_keys_file) + self._admins
        self._allow_open = settings.allow_open
        self._origins = frozenset(settings.origins)

    @property
    def closed(self) -> bool:
        """Whether requests require a key."""
        return bool(self._users)

    def check_host(self, host: str) -> None:
        """Raises StartError if the service must not listen on `host` with these settings."""
        if not (self.closed or self._allow_open or is_loopback(host)):
            raise StartError(
                f"refusing to listen on {host} without API keys. Set TAGMASK_API_KEYS or TAGMASK_API_KEYS_FILE, "
                "listen on 127.0.0.1, or set TAGMASK_ALLOW_OPEN=1 if something else protects the service"
            )

    def check_user(self, request: HTTPConnection) -> None:
        """Raises KeyMissing, KeyUnknown or Forbidden unless the sender may use the service."""
        self._check_origin(request)
        if self.closed:
            _check_key(request, self._users)
        elif not (self._allow_open or (_is_local(request) and _has_local_host(request))):
            raise Forbidden(
                "this service has no API keys, and accepts requests from its own machine only; set TAGMASK_API_KEYS",
                code="no_keys",
            )

    def check_admin(self, request: HTTPConnection) -> None:
        """Raises KeyMissing, KeyUnknown or Forbidden unless the sender may switch models."""
        self.check_user(request)
        if self._admins:
            try:
                _check_key(request, self._admins)
            except KeyUnknown as error:
                raise Forbidden("switching models requires an admin key", code="not_admin") from error
        elif self.closed or not _is_local(request):
            raise Forbidden(
                "switching models over the network is off; set TAGMASK_ADMIN_KEYS to allow it", code="admin_off"
            )

    def _check_origin(self, request: HTTPConnection) -> None:
        """Otherwise any web page could make its visitor's browser call a service on the visitor's machine."""
        origin = request.headers.get("origin")
        if origin is None or not self._origins.isdisjoint((origin, "*")):
            return
        if origin.partition("://")[2] != request.headers.get("host"):
            raise Forbidden(
                f"web pages of {origin[:200]} may not call this service; allow them with TAGMASK_CORS_ORIGINS",
                code="cross_origin",
                field="Origin",
            )


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine's loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_local(request: HTTPConnection) -> bool:
    """Whether the request arrived at a loopback address or a UNIX socket."""
    server = request.scope.get("server")
    return server is None or server[1] is None or is_loopback(server[0])  # a UNIX socket has no port


def _has_local_host(request: HTTPConnection) -> bool:
    """Whether the Host header is local; otherwise a web page could resolve its own name to us (DNS rebinding)."""
    try:
        return is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or "")
    except ValueError:
        return False


def _check_key(request: HTTPConnection, known: tuple[bytes, ...]) -> None:
    key = _key_of(request)
    if not key:
        raise KeyMissing("send an API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`", headers=_CHALLENGE)
    digest = _digest(key)
    if sum(hmac.compare_digest(digest, each) for each in known) == 0:  # constant time
        raise KeyUnknown("unknown API key; ask the operator of the service for one", headers=_CHALLENGE)


def _key_of(request: HTTPConnection) -> str:
    """The key of a request, or an empty string."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    if scheme.lower() == "basic":  # the only scheme of some programs, such as Label Studio; any user name
        with suppress(ValueError):
            return base64.b64decode(token.strip(), validate=True).partition(b":")[2].decode(errors="surrogateescape")
    return request.headers.get("x-api-key", "")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _read_keys(name: str, value: SecretStr, file: Path | None) -> tuple[bytes, ...]:
    lines: Iterable[str] = value.get_secret_value().split(",")
    if file is not None:
        try:
            lines = [*lines, *file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(
                f"{name}_FILE={file}: cannot be read ({error}); make it a text file with one key per line"
            ) from None
    keys = sorted({line.strip() for line in lines if line.strip()})
    if short := [key for key in keys if len(key) < _MIN_LENGTH]:
        raise StartError(
            f"{name}: {len(short)} of {len(keys)} keys are shorter than {_MIN_LENGTH} characters; use longer keys"
        )
    if file is not None and not keys:
        raise StartError(f"{name}_FILE={file}: has no keys; write one per line, or unset the variable")
    return tuple(map(_digest, keys))
