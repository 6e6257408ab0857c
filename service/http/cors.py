"""Web pages of other origins, where they are allowed."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from service.http import problems
from tagmask.errors import BadRequest


class Cors(CORSMiddleware):
    """Starlette's, except that a preflight request that is refused is told of as every other fault."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """200, or 400 when the origin, the method or a header is not allowed."""
        allowed = super().preflight_response(request_headers)
        if allowed.status_code == 200:
            return allowed
        refused = problems.response(
            BadRequest(
                f"{bytes(allowed.body).decode()}; allow the origin with TAGMASK_CORS_ORIGINS, and send nothing but "
                "what the Access-Control-Allow headers name",
                code="cross_origin",
                field="Origin",
            ),
            path="",
        )
        refused.raw_headers += [each for each in allowed.raw_headers if not each[0].startswith(b"content-")]
        return refused
