"""Field types that several documents share.

Documents are TypedDicts: mypy checks each one where it is built, their JSON Schemas are those of the OpenAPI document,
and no time is spent on validating run lengths that we have just computed.
"""

from typing import Annotated

from pydantic import Field, NonNegativeInt
from typing_extensions import TypedDict  # pydantic does not accept the one of `typing` before Python 3.12

Share = Annotated[float, Field(ge=0, le=1)]
Box = tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt]
"""x, y, width and height in pixels."""


class Size(TypedDict):
    """A photo's size in pixels."""

    width: NonNegativeInt
    height: NonNegativeInt
