import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tagmask.masks import VOID
from training.networks.pixelnet import pixel_loss

RANDOM = np.random.default_rng(0)
LABELS = np.array([[[0, 1, VOID], [2, VOID, 0]]], dtype=np.uint8)
PHOTOS = torch.zeros(1, 3, 2, 3, dtype=torch.uint8)


class Fixed(nn.Module):
    """Returns the same scores for any photo."""

    def __init__(self, scores: np.ndarray) -> None:
        super().__init__()
        self.scores = torch.from_numpy(scores)

    def forward(self, photos: Tensor) -> Tensor:
        return self.scores


def test_the_loss_is_the_mean_cross_entropy_of_the_pixels_that_are_not_void():
    scores = RANDOM.normal(size=(1, 3, 2, 3)).astype(np.float32)
    entropy = np.log(np.exp(scores).sum(axis=1)) - np.take_along_axis(scores, LABELS[:, None] % 3, axis=1)[:, 0]
    expected = entropy[LABELS != VOID].mean()
    loss = pixel_loss(Fixed(scores), (PHOTOS, torch.from_numpy(LABELS)), offsets=torch.zeros(3))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_offsets_are_added_to_the_scores():
    scores = RANDOM.normal(size=(1, 3, 2, 3)).astype(np.float32)
    offsets = np.array([1.0, -2.0, 0.5], dtype=np.float32)
    batch = PHOTOS, torch.from_numpy(LABELS)
    assert pixel_loss(Fixed(scores), batch, offsets=torch.from_numpy(offsets)).item() == pytest.approx(
        pixel_loss(Fixed(scores + offsets[:, None, None]), batch, offsets=torch.zeros(3)).item(), rel=1e-5
    )


@pytest.mark.parametrize("weight", [0, 3])
def test_sources_of_labels_have_a_weight_and_offsets_of_their_own(weight: float):
    scores = RANDOM.normal(size=(1, 3, 2, 3)).astype(np.float32)
    is_vouched = np.array([[[True, False, True], [True, True, False]]])
    mined, vouched = np.where(is_vouched, VOID, LABELS), np.where(is_vouched, LABELS, VOID)
    offsets = np.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]], dtype=np.float32)
    adjusted = scores + np.where(is_vouched[:, None], offsets[1, :, None, None], offsets[0, :, None, None])
    entropy = np.log(np.exp(adjusted).sum(axis=1)) - np.take_along_axis(adjusted, LABELS[:, None] % 3, axis=1)[:, 0]
    weights = np.where(is_vouched, weight, 1) * (LABELS != VOID)
    batch = PHOTOS, torch.from_numpy(np.stack([mined, vouched], axis=-1))
    loss = pixel_loss(Fixed(scores), batch, offsets=torch.from_numpy(offsets), weights=(1, weight))
    assert loss.item() == pytest.approx((entropy * weights).sum() / weights.sum(), rel=1e-5)


def test_photos_of_void_alone_have_no_loss():
    scores = RANDOM.normal(size=(1, 3, 2, 3)).astype(np.float32)
    labels = torch.full((1, 2, 3), VOID, dtype=torch.uint8)
    assert pixel_loss(Fixed(scores), (PHOTOS, labels), offsets=torch.zeros(3)).item() == 0
