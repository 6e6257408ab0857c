"""Whether the saliency network that a run used follows the tags."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

LEAST = 0.6
"""A network is of little use if its agreement with the tags is below this; 0.5 is chance."""


def useless_saliency(network: Path | None, evidence: Mapping[str, Any]) -> list[str]:
    """A warning, with the remedy, if a saliency network says little on these photos; else none.

    `evidence` is the ledger's line of that stage, empty before it has finished; `network` is None for the unsupervised
    saliency.
    """
    agreement = evidence.get("saliency_agreement")
    if network is None or agreement is None or agreement >= LEAST:
        return []
    return [
        f"saliency network {network.name}: agrees with the tags at {agreement:.2f}, where 0.5 is chance, so it hardly "
        "counts; leave it out, or, if its maps are wrong, set saliency.normalization "
        "(see docs/photos.md#saliency-networks)"
    ]
