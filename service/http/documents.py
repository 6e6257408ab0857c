"""JSON that clients send, read into pydantic models."""

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json

from tagmask.errors import BadRequest, Unprocessable


class Document(BaseModel):
    """A JSON object whose fields have exactly the types that are declared; unknown ones are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)


Read = TypeVar("Read", bound=Document)


def read_document(kind: type[Read], data: bytes) -> Read:
    """The JSON in `data`. Raises BadRequest for what is no JSON, and Unprocessable, naming the field at fault.

    Python objects take up to some thirty times the bytes of their JSON, so this is work for the gate's threads.
    """
    try:
        return kind.model_validate(from_json(data, allow_inf_nan=False))
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))[:100]
        message = f"{field or 'the body'}: {first['msg']}; correct it"
        raise Unprocessable(message, code="bad_field", field=field or None) from fault
    except ValueError as fault:
        raise BadRequest(f"the body is no JSON ({fault}); send a JSON object", code="bad_json") from fault


def described(*kinds: type[Document]) -> dict[str, dict[str, Any]]:
    """JSON Schemas of `kinds`, and of what they are made of, by name: components of the OpenAPI document."""
    read: list[tuple[type[BaseModel], Literal["validation"]]] = [(kind, "validation") for kind in kinds]
    return dict(models_json_schema(read, ref_template="#/components/schemas/{model}")[1]["$defs"])
