"""Starting a network from a trained one whose classes may differ."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from tagmask.classes import find_class


def load_by_name(
    network: nn.Module, state: Mapping[str, Tensor], head: str, known: Sequence[str], learned: Sequence[str]
) -> None:
    """Load `state`, whose module `head` has one output for each of `known`, into a network with one for each `learned`.

    Outputs are matched by name: new ones keep their random values, and those that are no longer learned are dropped.
    """
    loaded = dict(state)
    for name, random in network.state_dict().items():
        if name.startswith(f"{head}."):
            rows = random.clone()
            for row, label in enumerate(learned):
                if found := find_class(label, known):
                    rows[row] = state[name][known.index(found)]
            loaded[name] = rows
    network.load_state_dict(loaded)
