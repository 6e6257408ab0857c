"""Who may do what: API keys, admin keys, and where a request comes from."""

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
_SHORTEST = 16


class Access:
    """Judges requests by the key in `Authorization: Bearer` or `X-API-Key`, or the password of Basic.

    Without any key the service is open to this machine alone, unless told otherwise.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises StartError for a key file that cannot be read, and for keys that are too short."""
        self._admins = _read("TAGMASK_ADMIN_KEYS", settings.admin_keys, settings.admin_keys_file)
        self._users = _read("TAGMASK_API_KEYS", settings.api_keys, settings.api_keys_file) + self._admins
        self._allow_open = settings.allow_open
        self._origins = frozenset(settings.origins)

    @property
    def closed(self) -> bool:
        """Whether requests need a key."""
        return bool(self._users)

    def check_host(self, host: str) -> None:
        """Raises StartError if the service must not listen on `host` with these settings."""
        if not (self.closed or self._allow_open or is_loopback(host)):
            raise StartError(
                f"refusing to listen on {host} without API keys. Set TAGMASK_API_KEYS or TAGMASK_API_KEYS_FILE, "
                "listen on 127.0.0.1, or set TAGMASK_ALLOW_OPEN=1 if something else guards the service"
            )

    def check_user(self, request: HTTPConnection) -> None:
        """Raises KeyMissing, KeyUnknown or Forbidden unless the sender may use the service."""
        self._check_origin(request)
        if self.closed:
            _check_key(request, self._users)
        elif not (self._allow_open or (_arrived_locally(request) and _calls_us_local(request))):
            raise Forbidden(
                "this service has no API keys, and answers its own machine alone; set TAGMASK_API_KEYS", code="no_keys"
            )

    def check_admin(self, request: HTTPConnection) -> None:
        """Raises KeyMissing, KeyUnknown or Forbidden unless the sender may switch models."""
        self.check_user(request)
        if self._admins:
            try:
                _check_key(request, self._admins)
            except KeyUnknown as fault:
                raise Forbidden("switching models needs an admin key, this is another one", code="not_admin") from fault
        elif self.closed or not _arrived_locally(request):
            raise Forbidden(
                "switching models over the network is off; set TAGMASK_ADMIN_KEYS to allow it", code="admin_off"
            )

    def _check_origin(self, request: HTTPConnection) -> None:
        """A web page elsewhere could otherwise make its visitor's browser call a service on the visitor's machine."""
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
    """Whether `host`, a name or an address, is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _arrived_locally(request: HTTPConnection) -> bool:
    server = request.scope.get("server")
    return server is None or server[1] is None or is_loopback(server[0])  # a UNIX socket has no port


def _calls_us_local(request: HTTPConnection) -> bool:
    """A web page elsewhere could otherwise give its own name our address, and pass for a page of ours."""
    try:
        return is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or "")
    except ValueError:
        return False


def _check_key(request: HTTPConnection, known: tuple[bytes, ...]) -> None:
    given = _given(request)
    if not given:
        raise KeyMissing("send an API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`", headers=_CHALLENGE)
    digest = _digest(given)
    if sum(hmac.compare_digest(digest, each) for each in known) == 0:  # all are compared, in the same time
        raise KeyUnknown("this API key is not known; ask who runs the service for one", headers=_CHALLENGE)


def _given(request: HTTPConnection) -> str:
    """The key that a request carries, or nothing."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    if scheme.lower() == "basic":  # of programs that know nothing else, such as Label Studio; any user name will do
        with suppress(ValueError):
            return base64.b64decode(token.strip(), validate=True).partition(b":")[2].decode(errors="surrogateescape")
    return request.headers.get("x-api-key", "")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _read(name: str, given: SecretStr, file: Path | None) -> tuple[bytes, ...]:
    keys: Iterable[str] = given.get_secret_value().split(",")
    if file is not None:
        try:
            keys = [*keys, *file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as fault:
            raise StartError(
                f"{name}_FILE={file}: cannot be read ({fault}); make it a text with a key a line"
            ) from None
    kept = sorted({key.strip() for key in keys if key.strip()})
    if short := [key for key in kept if len(key) < _SHORTEST]:
        raise StartError(
            f"{name}: {len(short)} of {len(kept)} keys are shorter than {_SHORTEST} characters; lengthen them"
        )
    if file is not None and not kept:
        raise StartError(f"{name}_FILE={file}: holds no key; put one a line into it, or unset the variable")
    return tuple(map(_digest, kept))
