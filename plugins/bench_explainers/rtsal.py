"""Train a network to mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench import noise
from bench_explainers.mask import blur


@dataclass(frozen=True)
class RTSal(bench.Explainer):
    """Train a masking network that gives the mask of a class in one pass (real-time saliency; Dabkowski and Gal,
    NeurIPS 2017).

    It learns on the training data of the network that it explains, under the case's schedule, in two phases. First, a
    selector tells from the coarsest features whether a class is in the image (half of the labels it sees are not).
    Then, masks minimise area_weight area^0.3 + smoothness TV^2 + destroyer + 0.3 preserver. The last two are margins of
    the network's logits: the class has to win by 5 where only the mask is visible, and to lose by 1 where the mask is
    hidden. Hidden pixels show a blurred image or a random colour with noise, with equal chance. For labels that are not
    in the image (30%), the mask should be empty.

    The authors' U-Net builds on the stages of a ResNet-50 and learns ImageNet. This one has its own encoder, three
    stages deep, so that it can explain any network on any data: a substitute at small scale. Masks have half the
    image's side.
    """

    name = "rtsal"
    differentiable = True
    mask_rule = "minmax"
    paper = bench.Paper(
        "Real Time Image Saliency for Black Box Classifiers",
        "Piotr Dabkowski and Yarin Gal",
        "NeurIPS",
        2017,
        "https://arxiv.org/abs/1705.07857",
    )
    examples = ("width=4",)
    width: int = bench.param(24, "channels of the first stage", low=1)
    area: float = bench.param(8.0, "weight of the mask's area to the power of 0.3", low=0)
    smoothness: float = bench.param(0.5, "weight of the squared total variation", low=0)
    confidence: float = bench.param(0.0, "threshold of the selector for a class when explaining", low=-20, high=20)

    def prepare(self, network: nn.Module, train_data: bench.Data, fit: bench.Fit) -> dict[str, Tensor]:
        classes = len(train_data.classes)
        if classes < 2 or not len(train_data):
            raise bench.BadComponent("rtsal needs training images of at least two classes")
        like = next(network.parameters())
        with torch.random.fork_rng():
            torch.manual_seed(0)
            masker = Masker(train_data.shape[0], classes, self.width).to(like)

        def mix_labels(batch: bench.Batch, share: float) -> tuple[Tensor, Tensor]:
            """Return labels, a share of them from other classes, and whether each is true."""
            coin, other = noise.uniform(batch.images.new_empty(len(batch.images), 2), 0, 1).unbind(1)
            true = coin >= share
            wrong = (batch.labels + 1 + (other * (classes - 1)).long()) % classes
            return torch.where(true, batch.labels, wrong), true

        def select(masker: nn.Module, batch: bench.Batch) -> Tensor:
            labels, true = mix_labels(batch, 0.5)
            return F.binary_cross_entropy_with_logits(
                cast(Masker, masker).presence(batch.images, labels), true.to(batch.images)
            )

        def mask(masker: nn.Module, batch: bench.Batch) -> Tensor:
            labels, true = mix_labels(batch, 0.3)
            return self.loss(network, batch.images, labels, true, masker(batch.images, labels))

        fit.minimise(masker, select, "selector")
        fit.minimise(masker, mask, "masker")
        return dict(masker.state_dict())

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, true: Tensor, mask: Tensor) -> Tensor:
        """Average over images. For labels that are not in the image, the terms of the network do not count."""
        size = mask.mean((1, 2, 3))
        rough = mask.diff(dim=2).square().mean((1, 2, 3)) + mask.diff(dim=3).square().mean((1, 2, 3))
        whole = F.interpolate(mask, images.shape[2:], mode="bilinear", align_corners=False)
        canvas = self.canvas(images)
        kept, gone = (
            bench.check_logits(network(share * images + (1 - share) * canvas), images) for share in (whole, 1 - whole)
        )
        terms = _margin(gone, labels, -1.0) + 0.3 * _margin(kept, labels, 5.0)
        return (self.area * (size + 1e-6) ** 0.3 + self.smoothness * rough + true * terms).mean()

    def canvas(self, images: Tensor) -> Tensor:
        """Make what hidden pixels show: the image blurred, or a random colour with noise."""
        coin = noise.uniform(images[:, :1, :1, :1], 0, 1)
        colour = noise.uniform(images[:, :, :1, :1], 0, 1) + 0.1 * noise.normal(images)
        return torch.where(coin < 0.5, blur(images, 11 / 224 * min(images.shape[2:])), colour.clamp(0, 1))

    def attribute(
        self, network: nn.Module, images: Tensor, targets: Tensor, prepared: dict[str, Tensor] | None = None
    ) -> Tensor:
        assert prepared, "pass what prepare returned"
        classes, _ = prepared["classes.weight"].shape
        with torch.device("meta"):  # draws no initial weights
            masker = Masker(images.shape[1], classes, self.width, self.confidence).eval()
        given = {name: tensor.to(images) for name, tensor in prepared.items()}
        masks = torch.func.functional_call(masker, given, (images, targets))
        return F.interpolate(masks, images.shape[2:], mode="bilinear", align_corners=False)


def _margin(logits: Tensor, labels: Tensor, lead: float) -> Tensor:
    """How far the class is from winning by a lead, or from losing where the lead is negative: (B, K), (B,) -> (B,)."""
    own = logits.gather(1, labels[:, None])[:, 0]
    best = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return F.relu(lead - (own - best)) if lead > 0 else F.relu(own - best - lead)


class Masker(nn.Module):
    """Three stages down, a choice of the class's features, and stages up to half the side: (B, C, H, W), (B,) ->
    (B, 1, H / 2, W / 2)."""

    def __init__(self, channels: int, classes: int, width: int, confidence: float = 0.0) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width]
        self.confidence = confidence
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.ReLU(), nn.Conv2d(b, b, 3, 1, 1), nn.ReLU())
            for a, b in zip([channels, *sizes], sizes, strict=False)
        )
        self.classes = nn.Embedding(classes, sizes[-1])
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a + b, b, 3, 1, 1), nn.ReLU())
            for a, b in zip(sizes[:0:-1], sizes[-2::-1], strict=True)
        )
        self.last = nn.Conv2d(width, 2, 3, 1, 1)

    def stages(self, images: Tensor) -> list[Tensor]:
        features = [2 * images - 1]
        for stage in self.down:
            features.append(stage(features[-1]))
        return features[1:]

    def presence(self, images: Tensor, labels: Tensor) -> Tensor:
        """Score the presence of a class in each image: (B,)."""
        features = self.stages(images)[-1]
        return torch.einsum("bchw,bc->bhw", features, self.classes(labels)).amax((1, 2))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        *finer, flow = self.stages(images)
        match = torch.einsum("bchw,bc->bhw", flow, self.classes(labels))[:, None]
        flow = flow * (match - self.confidence).sigmoid()
        for stage, side in zip(self.up, reversed(finer), strict=True):
            flow = stage(torch.cat([F.interpolate(flow, side.shape[2:], mode="nearest"), side], 1))
        a, b = self.last(flow).abs().chunk(2, 1)
        return a / (a + b + 1e-8)
