"""Smoothed feature maps beside a slow filter of scipy's, and where the block goes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bench_models.feature_smoothing import Smoothing, blur
from scipy import ndimage
from torch.testing import assert_close

import bench


def slow_blur(maps):
    height, width = maps.shape[2:]
    kernel = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            down, right = (0.3 * ((side - 1) * 0.5 - 1) + 0.8 for side in (height, width))
            kernel[i, j] = np.exp(-((i - 1) ** 2) / (2 * down**2) - (j - 1) ** 2 / (2 * right**2))
    kernel /= kernel.sum()
    return np.array([[ndimage.correlate(channel, kernel, mode="mirror") for channel in image] for image in maps])


def test_the_block_adds_a_mixture_of_blurred_channels():
    maps = torch.rand(2, 3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    blurred = slow_blur(maps.numpy())
    assert_close(blur(maps), torch.from_numpy(blurred), rtol=0, atol=1e-12)
    block = Smoothing(3).double()
    weight, bias = block.mix.weight.detach().numpy()[:, :, 0, 0], block.mix.bias.detach().numpy()
    expected = maps.numpy() + np.einsum("oc,bchw->bohw", weight, blurred) + bias[None, :, None, None]
    assert_close(block(maps).detach(), torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_the_block_follows_the_layer_and_nothing_else_moves():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = bench.component("model", "resnet20").build((3, 16, 16), 4).eval()
        torch.manual_seed(0)
        smoothed = bench.component("model", "feature_smoothing").build((3, 16, 16), 4).eval()
    images = torch.rand(2, 3, 16, 16)
    stages = plain.network
    maps = stages.layer1(stages.act(stages.bn1(stages.conv1((images - plain.mean) / plain.std))))
    features = stages.layer3(stages.layer2(smoothed.network.layer1[1](maps)))
    assert_close(smoothed(images), stages.linear(features.mean((2, 3))))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer=layer11", "model resnet20 has no layer 'layer11'; did you mean 'layer1'?"),
        ("layer=linear", r"layer linear gives \(1, 4\), not feature maps \(B, C, h, w\); name another layer"),
    ],
)
def test_layers_that_cannot_be_smoothed_are_refused(text, message):
    with pytest.raises(bench.BadComponent, match=message):
        bench.component("model", f"feature_smoothing:{text}").build((3, 16, 16), 4)


def test_trained_weights_are_refused():
    inner = "torchvision:arch=resnet18,weights=IMAGENET1K_V1"
    with pytest.raises(bench.BadValue, match="has trained weights, which know no smoothing; give one with fresh"):
        bench.component("model", f"feature_smoothing:model=({inner})")
