"""What Label Studio calls, in the OpenAPI document."""

from service.http.operation import BODY, KEYED, PHOTO, json_answer, json_body, operation
from service.http.schemas import Schema
from tagmask import errors


def paths() -> Schema:
    """The operations by path and method."""
    return {
        "/health": {"get": operation("health", "The service answers", {200: json_answer("Health")}, KEYED)},
        "/setup": {
            "post": operation(
                "setup", "The version that answers a project", {200: json_answer("Setup")}, BODY,
                body=json_body("SetupRequest"),
            )
        },
        "/predict": {
            "post": operation(
                "predict", "Brush masks of tasks, or what is wrong with each, in order",
                {200: json_answer("Predictions")}, BODY, body=json_body("PredictRequest"),
            )
        },
        "/webhook": {
            "post": operation(
                "webhook", "Keep the photo of an annotation for the next retraining",
                {200: json_answer("Heard", "known already, or nothing to keep"), 201: json_answer("Sample", "kept")},
                (*PHOTO, errors.NotFound, errors.StorageFull), body=json_body("Event"),
            )
        },
    }  # fmt: skip
