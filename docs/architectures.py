"""Writes the table of docs/architectures.md, which explainer suits which network: `python docs/architectures.py`."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import torch
from torch import nn

import bench

PAGE = Path(__file__).with_name("architectures.md")
EXPLAINERS = (
    "gradient", "lrp", "guided_backprop", "deeplift", "fullgrad", "gradcam", "gradcam_pp", "hirescam", "layercam",
    "attention_rollout", "transformer_attribution",
)  # fmt: skip
# Small or shallow variants, since what an explainer can follow does not depend on size.
NETWORKS = {
    "ViT": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2}),
    "Swin": ("swin_tiny_patch4_window7_224", {"img_size": 32, "window_size": 2, "depths": (1, 1)}),
    "ConvNeXt": ("convnext_atto", {"depths": (1, 1, 1, 1)}),
    "EfficientNet": ("efficientnet_b0", {}),
    "ResNet": ("resnet18", {}),
    "LeNet": ("lenet", {}),
}


def build(name: str) -> nn.Module:
    """A network with random weights, for images of 3 x 32 x 32 and 3 classes."""
    import timm

    arch, options = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if arch == "lenet":
            network = bench.component("model", arch).build((3, 32, 32), 3)
        else:
            network = timm.create_model(arch, num_classes=3, **options)
    return network.eval().requires_grad_(False)


def judge(explainer: str, network: nn.Module) -> str:
    """Whether an explainer gives maps that are finite and not zero, what it warns of, or why it refuses the network."""
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad(), warnings.catch_warnings(record=True, action="always") as told:
            found = bench.component("explainer", explainer).attribute(network, images, torch.tensor([0, 2]))
    except bench.BenchError as error:
        return f"refused: {_shorten(explainer, error)}"
    if not found.isfinite().all() or not found.any():
        return "no map"
    ours = [each.message for each in told if str(each.message).startswith(explainer)]
    return f"yes, with a warning: {_shorten(explainer, ours[0])}" if ours else "yes"


def _shorten(explainer: str, message: Exception) -> str:
    """A message up to its first comma, semicolon, bracket or number, without the explainer's name."""
    return re.split(r",|;| \(| by ", re.sub(f"^{explainer}:? ", "", str(message)))[0]


def table() -> str:
    """The table in Markdown."""
    networks = {name: build(name) for name in NETWORKS}
    rows = [["explainer", *networks], ["---"] * (len(networks) + 1)]
    rows += [[f"`{text}`", *(judge(text, network) for network in networks.values())] for text in EXPLAINERS]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    PAGE.write_text(
        re.sub(r"(?m)(^\|.*\n)+", lambda found: table(), PAGE.read_text(encoding="utf-8")), encoding="utf-8"
    )
