"""The stages of the method, a module each; the folder, the settings and the ledger use the module's name.

Before the rounds:

    superpixels     the regions of a photo that are mined
    saliency        how much each pixel stands out, whatever its class
    classifier      trains the tag classifier on tags alone
    class_maps      where each tag is, by the tag classifier; the features of superpixels

In each round:

    regiontagger    trains the region tagger, on tags and the features of superpixels
    evidence        how far each superpixel speaks for each tag, by the region tagger, saliency, and the last masks
    seeds           the superpixels that are confidently one class or background
    regionnet       trains RegionNet on the seeds of all photos
    regions         every superpixel relabelled by RegionNet
    refinement      regions corrected by each tag's own evidence
    labels          refined regions smoothed by DenseCRF, unsure pixels void
    pixelnet        trains PixelNet on the labels
    masks           PixelNet's masks, which the next round starts from
    decision        whether the round is kept

What they share: `base` and `network` say what a stage is, `localization` is common to class_maps and masks, `pooling`
averages under superpixels. A new stage is a module and a line in the lists below.
"""

from training.stages.base import Stage
from training.stages.class_maps import ClassMaps
from training.stages.classifier import ClassifierTraining
from training.stages.decision import Decision
from training.stages.evidence import Evidence
from training.stages.labels import Labels
from training.stages.masks import Masks
from training.stages.pixelnet import PixelNetTraining
from training.stages.refinement import Refinement
from training.stages.regionnet import RegionNetTraining
from training.stages.regions import Regions
from training.stages.regiontagger import RegionTaggerTraining
from training.stages.saliency import Saliency
from training.stages.seeds import Seeds
from training.stages.superpixels import Superpixels

BEFORE_ROUNDS: tuple[type[Stage], ...] = (
    Superpixels,
    Saliency,
    ClassifierTraining,
    ClassMaps,
)

EACH_ROUND: tuple[type[Stage], ...] = (
    RegionTaggerTraining,
    Evidence,
    Seeds,
    RegionNetTraining,
    Regions,
    Refinement,
    Labels,
    PixelNetTraining,
    Masks,
    Decision,
)
