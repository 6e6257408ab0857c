"""Whether the saliency network, and the hints, that a run used follow the tags."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tagmask.wording import some

LEAST = 0.6
"""Saliency is of little use, and hints are not used, if their agreement with the tags is below this; 0.5 is chance."""


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


def useless_hints(evidence: Mapping[str, Any]) -> list[str]:
    """A warning, with the remedy, if hints were not used; else none. `evidence` is as above."""
    found = evidence.get("hint_agreement", {}).items()
    dropped = [f"{name} at {agreement:.2f}" for name, agreement in found if agreement < LEAST]
    if not dropped:
        return []
    return [
        f"hints that disagree with the tags on most photos were not used: {some(dropped, 5)}, where 0.5 is chance; "
        "look at them, and leave out those that are wrong (see docs/hints.md)"
    ]
