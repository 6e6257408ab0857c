"""Whether a round is kept, judged without pixel labels."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from training.config import KeepConfig
from training.datasets.photos import TaggedPhotos
from training.evaluation import measure
from training.run.layout import Layout
from training.run.ledger import Ledger


def decide(data: TaggedPhotos, layout: Layout, ledger: Ledger, config: KeepConfig, number: int) -> dict[str, Any]:
    """Quality of round `number`, and whether it is kept: the figures of its line in the ledger."""
    quality = asdict(measure.round_quality(data, layout, number))
    faults = degradations(quality, ledger.find(number - 1, "decision"), config)
    return {**quality, "kept": not faults or number == 1, "why": "; ".join(faults)}


def degradations(quality: Mapping[str, float], before: Mapping[str, Any] | None, config: KeepConfig) -> list[str]:
    """In words, what makes a round worse than the one before; empty when it may be kept."""
    if before is None:
        return []
    faults = []
    if quality["consistency"] < before["consistency"] - config.consistency_loss:
        faults.append(f"tag consistency fell from {before['consistency']:.3f} to {quality['consistency']:.3f}")
    ratio = quality["coverage"] / max(before["coverage"], 1e-6)
    if not 1 / config.coverage_change <= ratio <= config.coverage_change:
        faults.append(f"coverage went from {before['coverage']:.3f} to {quality['coverage']:.3f}")
    if quality["agreement"] < config.agreement:
        faults.append(f"only {quality['agreement']:.3f} of the pixels agree with the round before")
    return faults
