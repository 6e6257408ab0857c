"""KServe's V2 protocol, also called Open Inference Protocol, over REST, with its extension for binary tensors."""

from starlette.routing import Route

from service.http.kserve import endpoints

_MODEL = "/v2/models/{name}"

ROUTES = [
    Route("/v2", endpoints.server, methods=["GET"]),
    Route("/v2/health/live", endpoints.live, methods=["GET"]),
    Route("/v2/health/ready", endpoints.ready, methods=["GET"]),
    *(
        Route(path + end, endpoint, methods=[method])
        for path in (_MODEL + "/versions/{version}", _MODEL)
        for end, endpoint, method in (
            ("", endpoints.model, "GET"),
            ("/ready", endpoints.model_ready, "GET"),
            ("/infer", endpoints.infer, "POST"),
        )
    ),
]
