import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.networks.warm_start import load_by_name

names = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


class Net(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Conv2d(4, outputs, 1)


@given(names, names)
def test_outputs_follow_their_names(known: list[str], learned: list[str]):
    before, after = Net(len(known)), Net(len(learned))
    drawn = {name: tensor.clone() for name, tensor in after.state_dict().items()}
    load_by_name(after, before.state_dict(), "head", known, learned)
    assert torch.equal(after.body.weight, before.body.weight)
    for row, name in enumerate(learned):
        for part in ("weight", "bias"):
            expected = getattr(before.head, part)[known.index(name)] if name in known else drawn[f"head.{part}"][row]
            assert torch.equal(getattr(after.head, part)[row], expected)
