"""Explainers on modern networks: the table of the documentation, and second derivatives beside finite differences."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import timm
import torch
from torch.testing import assert_close

import bench
from bench import noise

SPEC = importlib.util.spec_from_file_location("architectures", Path(__file__).parents[2] / "docs" / "architectures.py")
architectures = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(architectures)

TARGETS = torch.tensor([0, 2])
STEP = 1e-6


@pytest.mark.slow
def test_the_table_says_what_explainers_do():
    table = architectures.table()
    assert table in architectures.PAGE.read_text(encoding="utf-8"), "run python docs/architectures.py"
    assert "no map" not in table


@pytest.mark.parametrize(
    ("arch", "text"),
    [
        ("vit_tiny_patch16_224", "gradient"),
        ("vit_tiny_patch16_224", "lrp"),
        ("vit_tiny_patch16_224", "attention_rollout"),
        ("vit_tiny_patch16_224", "transformer_attribution"),
        ("vit_tiny_patch16_224", "gradcam"),
        ("swin_tiny_patch4_window7_224", "gradient"),
        ("swin_tiny_patch4_window7_224", "lrp"),
        ("swin_tiny_patch4_window7_224", "gradcam"),
    ],
)
def test_second_derivatives_on_transformers(arch, text):
    options = {"patch_size": 16, "depth": 2} if arch.startswith("vit") else {"window_size": 2, "depths": (1, 1)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(arch, num_classes=3, img_size=32, **options).double().eval().requires_grad_(False)
    with noise.rows(0, "transformers", range(2)):
        images = noise.uniform(torch.empty(2, 3, 32, 32, dtype=torch.float64), 0, 1)
        direction, weight = noise.normal(images), noise.uniform(images[:, 0], 0, 1)
    explainer = bench.component("explainer", text)

    def value(images):
        return (explainer.maps(network, images, TARGETS) * weight).sum()

    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    with torch.no_grad():
        slope = (value(images + STEP * direction) - value(images - STEP * direction)) / (2 * STEP)
    assert gradient.any()
    assert_close((gradient * direction).sum(), slope, rtol=1e-4, atol=1e-9)
