"""Object storage: S3 and what speaks its protocol, Google Cloud Storage, and Azure Blob Storage.

A place in it is a URL such as s3://bucket/prefix. Address and credentials come from the standard variables of the
environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …), never from the URL.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from tagmask.errors import ConfigError, ObjectStorageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_SECONDS = timedelta(seconds=60)


def open_objects(url: str) -> "ObjectStore":
    """The objects below `url`; nothing is requested yet.

    A request that fails for a reason that may pass is repeated for up to a minute. Raises ConfigError for an address
    that is not valid, and where the library is not installed.
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
            client_options={"allow_http": True, "connect_timeout": timedelta(seconds=5), "timeout": _SECONDS},
            retry_config={"max_retries": 8, "retry_timeout": _SECONDS},
        )
    except (BaseError, ValueError) as fault:
        raise ConfigError(f"{url}: {_reason(fault)}; give a URL such as s3://bucket/prefix") from fault


@contextmanager
def clear_errors(place: str) -> Iterator[None]:
    """Turn what the library raises for the object or prefix `place` into ObjectStorageError.

    FileNotFoundError for an object, and the errors of conditional requests, stay what they are.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError, NotModifiedError, PreconditionError

    try:
        yield
    except (AlreadyExistsError, NotModifiedError, PreconditionError):
        raise
    except (BaseError, OSError) as fault:
        if isinstance(fault, FileNotFoundError) and "NoSuchBucket" not in _reason(fault):
            raise
        raise ObjectStorageError(
            f"{place}: object storage failed ({_reason(fault)}); check the bucket, the network, and address and "
            "credentials in the environment"
        ) from fault


def _reason(fault: Exception) -> str:
    """The first line of the message, without address and duration; of the server's document nothing but the code."""
    line, _, document = str(fault).partition("\n")[0].partition(": <?xml")
    line = re.sub(r" https?://\S+ in [^ ,]+", "", line)
    code = re.search("<Code>([A-Za-z0-9]+)</Code>", document)
    return f"{line.strip()} {code[1]}" if code else line.strip()
