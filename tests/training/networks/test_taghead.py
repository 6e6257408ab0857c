import torch

from training.networks.taghead import pool


def test_pooled_features_are_the_mean_and_the_greatest_value_of_each_channel() -> None:
    maps = torch.tensor([[[0.0, 0, 0], [0, 0, 6]], [[-2, -2, -2], [-2, -2, -2]]]).half()[None]  # (1, 2, 2, 3)
    pooled = pool(maps)
    assert pooled.dtype == torch.float32
    assert pooled.tolist() == [[1, -2, 6, -2]]
