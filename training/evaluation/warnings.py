"""What a finished round is warned of, in the words of the command line, the flows and the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tagmask.wording import count
from training.evaluation.agreement import useless_hints, useless_saliency
from training.evaluation.painted import rarely_painted

DOUBTS = 0.05
"""Tags in doubt, as a share of the photos, of which a run warns: some photos are only unlike others of their tag."""


def warnings(network: Path | None, evidence: Mapping[str, Any], decision: Mapping[str, Any]) -> list[str]:
    """A sentence without its full stop for each fault, with the remedy.

    `network` is the saliency network, None for the unsupervised saliency; `evidence` and `decision` are the round's
    lines in the ledger, empty before these stages have finished.
    """
    return [
        *useless_saliency(network, evidence),
        *useless_hints(evidence),
        *_doubtful_tags(evidence),
        *rarely_painted(decision.get("painted", {})),
    ]


def _doubtful_tags(evidence: Mapping[str, Any]) -> list[str]:
    doubts = evidence.get("doubts", 0)
    if not doubts or doubts < DOUBTS * evidence["photos"]:
        return []
    return [
        f"{count(doubts, 'tag')} on {evidence['photos']:,} photos may be wrong and taught nothing in round "
        f"{evidence['round']}; look at them with 'tagmask data audit' (see docs/method.md#tags-in-doubt)"
    ]
