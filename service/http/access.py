"""Access control: API keys, admin keys, and the origin of a request."""

import base64
import ipaddress
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from service.http.keys import Keys
from service.settings import Settings
from tagmask.errors import Forbidden, KeyMissing, KeyUnknown, StartError

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="tagmask"'}
_FORWARDED = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"})


class Access:
    """Authorizes requests by the key in `Authorization: Bearer` or `X-API-Key`, or the password of Basic.

    Without any keys, only this machine may use the service, unless TAGMASK_ALLOW_OPEN is set.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises StartError for a key file that cannot be read, and for keys that are too short."""
        self._admins = Keys("TAGMASK_ADMIN_KEYS", settings.admin_keys, settings.admin_keys_file)
        self._users = Keys("TAGMASK_API_KEYS", settings.api_keys, settings.api_keys_file)
        self._allow_open = settings.allow_open
        self._origins = frozenset(settings.origins)

    @property
    def closed(self) -> bool:
        """Whether requests require a key."""
        return bool(self._users or self._admins)

    def check_host(self, host: str) -> None:
        """Raises StartError if the service must not listen on `host` with these settings."""
        if not (self.closed or self._allow_open or is_loopback(host)):
            raise StartError(
                f"refusing to listen on {host} without API keys. Set TAGMASK_API_KEYS or TAGMASK_API_KEYS_FILE, "
                "listen on 127.0.0.1, or set TAGMASK_ALLOW_OPEN=1 if something else protects the service"
            )

    def check_user(self, request: HTTPConnection) -> None:
        """Raises KeyMissing, KeyUnknown or Forbidden unless the sender may use the service."""
        known = self.closed and self._is_user(request)
        if not (known and _has_key_header(request)):
            self._check_origin(request)
        if self.closed:
            if not _key_of(request):
                message = "send an API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`"
                raise KeyMissing(message, headers=_CHALLENGE)
            if not known:
                raise KeyUnknown("unknown API key; ask the operator of the service for one", headers=_CHALLENGE)
        elif not (self._allow_open or (_is_local(request) and _has_local_host(request))):
            raise Forbidden(
                "this service has no API keys, and accepts requests from its own machine only; set TAGMASK_API_KEYS",
                code="no_keys",
            )

    def check_admin(self, request: HTTPConnection) -> None:
        """Raises KeyMissing, KeyUnknown or Forbidden unless the sender may switch models and forget samples."""
        self.check_user(request)
        if self._admins:
            if not self._admins.include(_key_of(request)):
                raise Forbidden("this requires an admin key", code="not_admin")
        elif self.closed or self._allow_open or not _is_local(request):
            raise Forbidden("this is off over the network; set TAGMASK_ADMIN_KEYS to allow it", code="admin_off")

    def _is_user(self, request: HTTPConnection) -> bool:
        key = _key_of(request)
        return self._users.include(key) | self._admins.include(key)

    def _check_origin(self, request: HTTPConnection) -> None:
        """Otherwise any web page could make its visitor's browser call a service on the visitor's machine.

        Not needed with a key in a header of its own, which no browser adds by itself: a proxy may change the Host.
        """
        origin = request.headers.get("origin")
        if origin is None or not self._origins.isdisjoint((origin, "*")):
            return
        host = origin.partition("://")[2]
        if host != request.headers.get("host"):
            raise Forbidden(
                f"web pages of {origin[:200]} may not call this service; allow them with TAGMASK_CORS_ORIGINS, or, if "
                f"this is the service's own page behind a proxy, make the proxy send `Host: {host[:200]}`",
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
    """Whether the request arrived at a loopback address or a UNIX socket, and not through a proxy that shows itself.

    In HTTP/1.0 only proxies ask, such as nginx by default, which sends the Host of this service and no other sign.
    """
    server = request.scope.get("server")
    if request.scope.get("http_version") == "1.0" or not _FORWARDED.isdisjoint(request.headers.keys()):
        return False
    return server is None or server[1] is None or is_loopback(server[0])  # a UNIX socket has no port


def _has_local_host(request: HTTPConnection) -> bool:
    """Whether the Host header is local; otherwise a web page could resolve its own name to us (DNS rebinding)."""
    try:
        return is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname or "")
    except ValueError:
        return False


def _has_key_header(request: HTTPConnection) -> bool:
    """Whether the key is where only a program puts it; browsers repeat the password of Basic authentication."""
    return not request.headers.get("authorization", "").lower().startswith("basic")


def _key_of(request: HTTPConnection) -> str:
    """The key of a request, or an empty string."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    if scheme.lower() == "basic":  # the only scheme of some programs, such as Label Studio; any user name
        with suppress(ValueError):
            return base64.b64decode(token.strip(), validate=True).partition(b":")[2].decode(errors="surrogateescape")
    return request.headers.get("x-api-key", "")
