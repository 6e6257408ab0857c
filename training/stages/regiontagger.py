"""The region tagger's training: learns from tags which superpixels show them, from all photos together.

Superpixels that a person vouches for teach it their label.

Then learns how much scores, saliency and hints say; see `training.fitting.evidence_odds`. Before, it finds the tags in
doubt, see `training.stages.doubts`, from whose photos nothing is learned.

Reads superpixels, saliency, and superpixel features of the localization before. Writes to round-N/regiontagger:
doubts.json, odds.json, which `read_odds` reads, and weights.pt, the network of training.networks.regiontagger. Where
tags show all over their photos, the network is trained again on what sets each superpixel apart from its photo, and
contrast.pt is used instead.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, Field

from tagmask import files
from tagmask.progress import Advance, silent
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.evidence_odds import (
    BACKDROP,
    EvidenceOdds,
    HintOdds,
    RegionScores,
    border_share,
    evidence_weights,
    object_share,
    offset_changes,
    saliency_agreement,
    saliency_odds,
    tag_offsets,
)
from training.fitting.settings import FitConfig, FitResult
from training.stages import saliency, superpixels
from training.stages.base import StageId, folder
from training.stages.doubts import leave_out_doubts, write_doubts
from training.stages.hint_evidence import hint_evidence
from training.stages.localization import features_file, localization_id
from training.stages.network import EarlierRun, NetworkStage, TrainingContext
from training.stages.pooling import average
from training.stages.vouched import vouched_regions

if TYPE_CHECKING:
    from training.networks.regiontagger import RegionTagger


class RegionTaggerConfig(BaseModel, frozen=True, extra="forbid"):
    """The region tagger's width and training."""

    width: int = Field(256, ge=8, le=4096, description="hidden units")
    dropout: float = Field(0.5, ge=0, lt=1, description="share of hidden units left out in training")
    sharpness: float = Field(2, ge=0.001, le=100, description="of the soft maximum; low: a tag is all over its photos")
    vouched_weight: float = Field(5, ge=0, le=100, description="weight of vouched superpixels, against photos' tags")
    doubt_below: float = Field(0.05, ge=0, lt=1, description="probability of a tag in doubt; 0: all are believed")
    rarity: float = Field(1.4, ge=-10, le=10, description="log odds taken from each score, as objects are rare")
    fit: FitConfig = FitConfig(epochs=3, least_steps=150, batch=32, learning_rate=1e-3)


@dataclass(frozen=True)
class RegionTaggerTraining(NetworkStage):
    """Trains the region tagger on tags."""

    settings: RegionTaggerConfig

    name = "regiontagger"
    network = "the region tagger"
    light = True

    @property
    def reads(self) -> tuple[StageId, ...]:
        return (0, "superpixels"), (0, "saliency"), localization_id(self.round - 1)

    def fit_config(self, classes: tuple[str, ...], start: EarlierRun | None) -> FitConfig:
        return self.settings.fit

    def photos_after(self, data: TaggedPhotos) -> int:
        return len(data.photos)

    def train(self, context: TrainingContext, advance: Advance = silent) -> FitResult | None:
        write_doubts(context.data, context.run, self.round, self.settings.doubt_below)
        context = replace(context, data=leave_out_doubts(context.data, context.run, self.round))
        result = self._train(context, advance)
        if read_odds(context.run, self.round).border_share > BACKDROP:
            return self._train(context, silent, contrast=True)
        return result

    def _train(self, context: TrainingContext, advance: Advance, *, contrast: bool = False) -> FitResult | None:
        """Train on the features of superpixels, or on `contrast_features`."""
        import torch

        from training.fitting.inputs import TaggedRegions, join_regions
        from training.networks.backbones import read_state
        from training.networks.regiontagger import RegionTagger, region_tag_loss
        from training.networks.warm_start import load_by_name

        data, run, start = context.data, context.run, context.start
        features = np.load(features_file(data.photos[0], run, self.round - 1), mmap_mode="r").shape[1]
        torch.manual_seed(self.seed + 2000 + self.round)
        network = RegionTagger(features, len(data.classes), self.settings.width, self.settings.dropout)
        network.contrast = contrast
        weights = weights_file(run, self.round, contrast)
        if start is not None and (earlier := weights_file(start.root, self.round, contrast)).is_file():
            load_by_name(network, read_state(earlier), RegionTagger.HEAD, start.classes, data.classes)

        def vouched(photo: Photo) -> np.ndarray:
            """The vouched labels (R,) of the superpixels of a photo, 255 for none."""
            return vouched_regions(photo, data.classes, superpixels.read(photo, run))[0]

        settings = self.settings
        loss = partial(
            region_tag_loss, sharpness=settings.sharpness, vouched_weight=settings.vouched_weight, contrast=contrast
        )
        photos = TaggedRegions(
            data, lambda photo: np.load(features_file(photo, run, self.round - 1)), vouched if data.corrected else None
        )
        finish = partial(self._weigh, network, data, run, advance)
        return self.fit(context, network, photos, loss, advance, weights, collate=join_regions, finish=finish)

    def _weigh(self, network: "RegionTagger", data: TaggedPhotos, run: Path, advance: Advance) -> None:
        """Write how much the scores of `network`, saliency and hints say."""
        offsets, photos = tag_offsets(data, self.settings.rarity), []
        hints = defaultdict(list)
        network.eval()
        for photo in data.photos:
            photos.append(score_regions(network, photo, run, self.round, data.classes, offsets))
            for hint in hint_evidence(photo, run, data.classes, photos[-1]):
                hints[hint.name].append(hint.regions)
            advance(1)
        rarity, salient = self.settings.rarity, saliency_odds(photos)
        share = object_share(photos, salient, rarity)
        odds = EvidenceOdds(
            offsets=(offsets + offset_changes(data, photos, salient, rarity, share)).tolist(),
            weights=evidence_weights(data).tolist(),
            object_share=share,
            # of the network that saw more than contrast, whose training is the one that is repeated
            border_share=read_odds(run, self.round).border_share if network.contrast else border_share(photos, salient),
            saliency=salient.tolist(),
            agreement=saliency_agreement(photos),
            hints={
                name: HintOdds(odds=saliency_odds(each).tolist(), agreement=saliency_agreement(each))
                for name, each in sorted(hints.items())
            },
        )
        files.write_text(odds_file(run, self.round), odds.model_dump_json() + "\n")


def score_regions(
    network: "RegionTagger", photo: Photo, run: Path, number: int, classes: tuple[str, ...], offsets: np.ndarray
) -> RegionScores:
    """The superpixels of a photo in round `number`; scores are what each says for its tags beyond `offsets` (C,)."""
    import torch

    features = torch.from_numpy(np.load(features_file(photo, run, number - 1)).astype(np.float32))
    tags = [label - 1 for label in photo.labels(classes)[1:]]
    scores = (network.scores(features).cpu().numpy() - offsets)[:, tags]  # (R, L - 1)
    regions = superpixels.read(photo, run)  # (H, W)
    salient = average(saliency.read(photo, run)[None], regions)[:, 0]  # (R,)
    return RegionScores.of(scores, salient, regions)


def weights_file(run: Path, number: int, contrast: bool) -> Path:
    """The state dict of the region tagger of round `number`, or of the one that learned from `contrast_features`."""
    weights = RegionTaggerTraining.weights_of(run, number)
    return weights.with_name("contrast.pt") if contrast else weights


def odds_file(run: Path, number: int) -> Path:
    return folder(run, number, RegionTaggerTraining.name) / "odds.json"


def read_odds(run: Path, number: int) -> EvidenceOdds:
    """How much scores, saliency and hints say in round `number`."""
    return EvidenceOdds.model_validate_json(odds_file(run, number).read_bytes())
