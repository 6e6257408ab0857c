"""What Label Studio asks of a machine learning backend, and its webhook: masks out, tagged photos in."""

from starlette.routing import Route

from service.http.label_studio import endpoints

ROUTES = [
    Route("/health", endpoints.health, methods=["GET"]),
    Route("/setup", endpoints.setup, methods=["POST"]),
    Route("/predict", endpoints.predict, methods=["POST"]),
    Route("/webhook", endpoints.webhook, methods=["POST"]),
]
