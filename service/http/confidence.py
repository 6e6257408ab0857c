"""How good a mask is, as every response states it: in headers, in the answers of a batch, and to KServe's clients."""

from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Self
from urllib.parse import quote

from service.http.operation import Schema
from tagmask.formats.fields import Share
from tagmask.segmentation import Segmentation


@dataclass(frozen=True)
class Confidence:
    """The IoU to expect of a mask, whether it is below TAGMASK_LOW_CONFIDENCE, and given tags that appear nowhere."""

    expected_iou: Share
    low_confidence: bool
    unpainted: list[str]

    @classmethod
    def of(cls, segmentation: Segmentation) -> Self:
        """That of the masks of one photo."""
        unpainted = [segmentation.model.classes[label] for label in segmentation.unpainted]
        return cls(segmentation.expected_iou, segmentation.low_confidence, unpainted)

    @property
    def parameters(self) -> dict[str, float | bool | str]:
        """The fields as KServe's parameters; tags are joined by commas."""
        return {**asdict(self), "unpainted": ",".join(self.unpainted)}

    @property
    def headers(self) -> dict[str, str]:
        """The fields as headers; tags are percent-encoded UTF-8 and joined by commas, with an ellipsis for the rest."""
        values = self.expected_iou, str(self.low_confidence).lower(), _join([*map(quote, self.unpainted)])
        return dict(zip(HEADERS, map(str, values), strict=True))


_MOST = 1000  # characters of a header: nginx refuses answers whose headers take more than 4 kB together


def _join(names: list[str]) -> str:
    """As many of `names` as fit into a header, joined by commas, and an ellipsis if some do not."""
    ends = accumulate(len(name) + 1 for name in names)
    fitting = sum(end <= _MOST for end in ends)
    return ",".join(names if fitting == len(names) else [*names[:fitting], quote("…")])


HEADERS: dict[str, Schema] = {
    "X-Expected-IoU": {
        "schema": {"type": "number", "minimum": 0, "maximum": 1},
        "description": "intersection over union to expect of the mask",
    },
    "X-Low-Confidence": {
        "schema": {"type": "boolean"},
        "description": "whether it is below TAGMASK_LOW_CONFIDENCE",
    },
    "X-Unpainted": {
        "schema": {"type": "string"},
        "description": "given tags that are painted nowhere, in percent-encoded UTF-8, separated by commas; the last "
        "is … if there are more than fit",
    },
}
"""The headers in the OpenAPI document."""
