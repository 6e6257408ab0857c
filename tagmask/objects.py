"""Object storage: S3 and what speaks its protocol, Google Cloud Storage, and Azure Blob Storage.

A place in it is a URL such as s3://bucket/prefix. Address and credentials come from the standard variables of the
environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …), never from the URL.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from tagmask.documents import Changed, Document
from tagmask.errors import ConfigError, ObjectStorageError, TagmaskError

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta, PutMode, UpdateVersion
    from obstore.store import ObjectStore

PATIENCE = timedelta(seconds=60)
"""How long a request that fails for a reason that may pass is repeated by default."""

_TRANSFER = timedelta(seconds=60)  # for a single request
_NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound")


class Objects:
    """The objects below `url`, by the rest of their names.

    All methods raise `error` when the storage does not answer or denies the request.
    """

    def __init__(
        self, url: str, error: type[TagmaskError] = ObjectStorageError, patience: timedelta = PATIENCE
    ) -> None:
        """Raises as `open_objects` does; nothing is requested yet."""
        self.url = url.rstrip("/")
        self._store = open_objects(self.url, patience)
        self._error = error

    def place(self, name: str = "") -> str:
        """What messages call an object, or all of them."""
        return f"{self.url}/{name}" if name else self.url

    def list(self, folder: str | None = None, *, after: str | None = None) -> "Iterator[ObjectMeta]":
        """The metadata of each object, or of those in `folder`, whose name follows `after`; sorted in S3."""
        import obstore

        with self._clear_errors(folder or ""):
            for page in obstore.list(self._store, folder, offset=after, chunk_size=1000):
                yield from page

    def get(self, name: str) -> tuple[str, Iterator[bytes]]:
        """ETag of an object, and its content in parts, transferred as they are taken.

        Raises FileNotFoundError if it does not exist.
        """
        import obstore

        with self._clear_errors(name):
            found = obstore.get(self._store, name)
        return found.meta["e_tag"] or "", self._parts(name, found)

    def _parts(self, name: str, found: "GetResult") -> Iterator[bytes]:
        with self._clear_errors(name):
            yield from map(bytes, found)

    def read(self, name: str, known: Document | None = None) -> Document | None:
        """A document; None if it does not exist. It is only transferred if it is not the one that is `known`."""
        import obstore
        from obstore.exceptions import NotModifiedError

        try:
            with self._clear_errors(name):
                found = obstore.get(self._store, name, options={"if_none_match": known.tag} if known else {})
                return Document(bytes(found.bytes()), found.meta["e_tag"] or "", found.meta["version"])
        except FileNotFoundError:
            return None
        except NotModifiedError:
            return known

    def size(self, name: str) -> int | None:
        """Size of an object in bytes; None if it does not exist."""
        import obstore

        try:
            with self._clear_errors(name):
                return int(obstore.head(self._store, name)["size"])
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write an object, in place of any other."""
        import obstore

        with self._clear_errors(name):
            obstore.put(self._store, name, data)

    def replace(self, name: str, data: bytes, now: Document | None) -> None:
        """Write a document whose content is `now`, None if it does not exist. Raises Changed if it is another."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        modes: list[PutMode] = ["create"]
        if now is not None:  # Google compares the version; Ceph 16 the tag with its quotes, and finds no match
            version: UpdateVersion = {"version": now.version} if now.version else {}
            modes = [{"e_tag": tag, **version} for tag in (now.tag, now.tag.strip('"'))]
        for mode in modes:
            try:
                with self._clear_errors(name):
                    obstore.put(self._store, name, data, mode=mode)
                    return
            except (AlreadyExistsError, PreconditionError):
                found = self.read(name)
                if found is not None and found.data == data:
                    return  # the answer to an earlier attempt was lost
                if found != now:
                    break
        raise Changed

    def remove(self, *names: str) -> None:
        """Remove objects, some of which may be gone."""
        import obstore

        for name in names:
            with self._clear_errors(name), suppress(FileNotFoundError):
                obstore.delete(self._store, name)

    @contextmanager
    def _clear_errors(self, name: str) -> Iterator[None]:
        """Turn what the library raises into the `error`; FileNotFoundError and those of conditions stay."""
        from obstore.exceptions import AlreadyExistsError, BaseError, NotModifiedError, PreconditionError

        try:
            yield
        except (AlreadyExistsError, NotModifiedError, PreconditionError):
            raise
        except (BaseError, OSError) as fault:
            if isinstance(fault, FileNotFoundError) and not _NO_BUCKET.search(_reason(fault)):
                raise
            raise self._error(
                f"{self.place(name)}: object storage failed ({_reason(fault)}); check the bucket, the network, and "
                "address and credentials in the environment"
            ) from fault


def open_objects(url: str, patience: timedelta) -> "ObjectStore":
    """The objects below `url`; nothing is requested yet.

    A request that fails for a reason that may pass is repeated for as long as `patience`. Raises ConfigError for an
    address that is not valid, and where the library is not installed.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ModuleNotFoundError as fault:
        raise ConfigError(f"{url}: {fault.name} is not installed; run pip install 'tagmask[object-storage]'") from fault
    try:
        return from_url(
            url,
            # plain HTTP is for an address that says so
            client_options={"allow_http": True, "connect_timeout": timedelta(seconds=5), "timeout": _TRANSFER},
            retry_config={"max_retries": 8, "retry_timeout": patience},
        )
    except (BaseError, ValueError) as fault:
        raise ConfigError(
            f"{url}: {_reason(fault)}; check the URL, and the variables that docs/object-storage.md lists"
        ) from fault


def _reason(fault: Exception) -> str:
    """The first line of the message, without address and duration; of the server's document only the code."""
    text = str(fault)
    line = re.sub(r" https?://\S+ in [^ ,]+", "", text.partition("\n")[0].partition(": <?xml")[0])
    code = re.search("<Code>([A-Za-z0-9]+)</Code>", text)
    return f"{line.strip()} {code[1]}" if code else line.strip()
