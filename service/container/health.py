"""A container's health check: exit status 0 while the service on BENTOML_PORT is ready, else 1, with the reason.

It needs the standard library alone, and follows no proxy settings.
"""

import http.client
import os
import sys

_SECONDS = 4


def fault(port: int) -> str | None:
    """Why the service on `port` of this machine is not ready; None if it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no answer on port {port}: {error}"
    finally:
        connection.close()
    return None if status == 200 else f"/readyz on port {port} answers {status}"


if __name__ == "__main__":
    sys.exit(fault(int(os.environ.get("BENTOML_PORT", "3000"))))
