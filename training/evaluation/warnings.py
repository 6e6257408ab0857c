"""What a finished round is warned of, in the words of the command line, the flows and the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.evaluation.painted import rarely_painted
from training.evaluation.saliency import useless_saliency


def warnings(network: Path | None, evidence: Mapping[str, Any], decision: Mapping[str, Any]) -> list[str]:
    """A sentence without its full stop for each fault, with the remedy.

    `network` is the saliency network, None for the unsupervised saliency; `evidence` and `decision` are the round's
    lines in the ledger, empty before these stages have finished.
    """
    return [*useless_saliency(network, evidence), *rarely_painted(decision.get("painted", {}))]
