"""Grad-CAM beside one by hand on networks whose features are channels first, channels last, or tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import bench

TARGETS = torch.tensor([0, 2])


@pytest.fixture
def images():
    return torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Patches(nn.Module):
    """Patches of 4 by 4 pixels with 6 channels, mixed by a body, pooled and classified."""

    def __init__(self, body, pooled):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.patches = nn.Conv2d(3, 6, 4, 4)
            self.norm, self.linear, self.head = nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.mark, self.body, self.pooled = nn.Identity(), body, pooled
        self.double().eval().requires_grad_(False)

    def forward(self, images):
        x = self.mark(self.body(self, self.patches(images)))
        return self.head(x.tanh().mean(self.pooled))


def by_hand(network, images, rearrange):
    """Grad-CAM of what goes through `mark`, which `rearrange` brings to (B, C, h, w)."""
    kept = []
    handle = network.mark.register_forward_hook(lambda module, given, output: kept.append(output))
    logits = network(images.clone().requires_grad_())
    handle.remove()
    (slope,) = torch.autograd.grad(logits.gather(1, TARGETS[:, None]).sum(), kept[0])
    maps, slope = rearrange(kept[0]), rearrange(slope)
    coarse = (slope.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu()
    return F.interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=True).detach()


def first(network, x):
    return F.gelu(network.conv(x)) + x


def last(network, x):
    return network.linear(network.norm(x.permute(0, 2, 3, 1))) * 0.5


def moved(network, x):
    return network.norm(x.movedim(1, -1)).roll(1, 2)


def windows(network, x):
    """As in Swin: tokens of windows of 2 by 2, put together again, and a shortcut."""
    x = x.permute(0, 2, 3, 1)
    cut = x.view(-1, 2, 2, 2, 2, 6).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 6)
    back = network.linear(cut).view(-1, 2, 2, 2, 2, 6).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 4, 6)
    return x + back


def tokens_to_maps(network, x):
    """As in PVT: tokens become feature maps."""
    tokens = network.linear(network.norm(x.flatten(2).transpose(1, 2)))
    return tokens.reshape(-1, 4, 4, 6).permute(0, 3, 1, 2).contiguous()


def transposed_tokens(network, x):
    return network.norm(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (4, 4))


def same(x):
    return x


def to_first(x):
    return x.permute(0, 3, 1, 2)


FORMS = {
    "first": (first, (2, 3), same),
    "last": (last, (1, 2), to_first),
    "moved": (moved, (1, 2), to_first),
    "windows": (windows, (1, 2), to_first),
    "tokens to maps": (tokens_to_maps, (2, 3), same),
    "transposed tokens": (transposed_tokens, (2, 3), same),
}


@pytest.mark.parametrize("form", FORMS)
def test_gradcam_knows_where_the_channels_are(form, images):
    body, pooled, rearrange = FORMS[form]
    network = Patches(body, pooled)
    expected = by_hand(network, images, rearrange)
    assert expected.flatten(1).any(1).all()
    for text in ("gradcam:layer=mark", "gradcam"):
        with torch.no_grad():
            assert_close(bench.component("explainer", text).attribute(network, images, TARGETS), expected)


def split_channels(network, x):
    return network.conv(x).view(-1, 2, 3, 4, 4).transpose(1, 2).reshape(-1, 6, 4, 4)


def sides_swapped(network, x):
    return network.conv(x).transpose(2, 3)


@pytest.mark.parametrize("body", [split_channels, sides_swapped])
def test_what_nothing_says_has_to_be_asked_for(body, images):
    network = Patches(body, (2, 3))
    message = (
        r"layer mark gives \(2, 6, 4, 4\), and nothing says which axis has the channels; say so by "
        "gradcam:layer=mark,reshape=nchw or reshape=nhwc"
    )
    for text in ("gradcam", "gradcam:layer=mark"):
        with pytest.raises(bench.BadComponent, match=message):
            bench.component("explainer", text).attribute(network, images, TARGETS)
    with torch.no_grad():
        found = bench.component("explainer", "gradcam:layer=mark,reshape=nchw").attribute(network, images, TARGETS)
    assert_close(found, by_hand(network, images, same))
    with pytest.raises(bench.BadValue, match=r"reshape is nhwc, but no layer is named; name one, layer=\.\.\."):
        bench.component("explainer", "gradcam:reshape=nhwc")


@pytest.mark.parametrize("front", [0, 1, 3])
def test_tokens_have_to_be_asked_for(front, images):
    def tokens(network, x):
        x = network.norm(x.flatten(2).transpose(1, 2))
        return network.linear(torch.cat([x.mean(1, keepdim=True).expand(-1, front, -1), x], 1))

    network = Patches(tokens, 1)
    with pytest.raises(bench.BadComponent, match=r"layer mark gives \(2, .*, 6\), not feature maps .*reshape=tokens"):
        bench.component("explainer", "gradcam:layer=mark").attribute(network, images, TARGETS)
    with torch.no_grad():
        found = bench.component("explainer", "gradcam:layer=mark,reshape=tokens").attribute(network, images, TARGETS)
    expected = by_hand(network, images, lambda x: x[:, front:].transpose(1, 2).reshape(2, 6, 4, 4))
    assert_close(found, expected)


@pytest.mark.parametrize(
    ("arch", "layer", "rearrange"), [("test_mambaout", "stages", to_first), ("test_convnext", "stages", same)]
)
def test_gradcam_on_networks_of_timm(arch, layer, rearrange):
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(arch, num_classes=3).double().eval().requires_grad_(False)
        images = torch.rand(2, 3, 96, 96, dtype=torch.float64)
    network.mark = network.stages
    expected = by_hand(network, images, rearrange)
    with torch.no_grad():
        assert_close(bench.component("explainer", "gradcam").attribute(network, images, TARGETS), expected)


VIT = {"model_name": "vit_tiny_patch16_224", "img_size": 32, "patch_size": 8, "depth": 2}
SWIN = {"model_name": "swin_tiny_patch4_window7_224", "img_size": 32, "window_size": 2, "depths": (1, 1)}


@pytest.mark.parametrize(
    ("options", "layer", "rearrange"),
    [
        (VIT, "blocks.1.norm1", lambda x: x[:, 1:].transpose(1, 2).reshape(2, 192, 4, 4)),
        ({**VIT, "reg_tokens": 3}, "blocks.1.norm1", lambda x: x[:, 4:].transpose(1, 2).reshape(2, 192, 4, 4)),
        (
            {**VIT, "class_token": False, "global_pool": "avg"},
            "blocks.1.norm2",
            lambda x: x.transpose(1, 2).reshape(2, 192, 4, 4),
        ),
        (SWIN, "norm", to_first),
    ],
    ids=["class token", "registers", "no class token", "swin"],
)
def test_class_maps_on_transformers_of_timm(options, layer, rearrange):
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(num_classes=3, **options)
        images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    network = network.double().eval().requires_grad_(False)
    kept = []
    handle = network.get_submodule(layer).register_forward_hook(lambda module, given, output: kept.append(output))
    (gradient,) = torch.autograd.grad(network(images.requires_grad_())[[0, 1], TARGETS].sum(), kept[0])
    handle.remove()
    a, g = rearrange(kept[0].detach()), rearrange(gradient)
    below = 2 + g * a.sum((2, 3), keepdim=True)
    expected = {
        "gradcam": (g.mean((2, 3), keepdim=True) * a).sum(1).relu(),
        "hirescam": (g * a).sum(1),
        "layercam": (g.relu() * a).sum(1).relu(),
        "gradcam_pp": ((g.relu() / below).sum((2, 3), keepdim=True) * a).sum(1).relu(),
    }
    for name, coarse in expected.items():
        with torch.no_grad():
            found = bench.component("explainer", name).attribute(network, images, TARGETS)
        wide = F.interpolate(coarse[:, None], (32, 32), mode="bilinear", align_corners=True)
        assert_close(found, wide, rtol=1e-6, atol=1e-12)
