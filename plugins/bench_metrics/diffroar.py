"""Compare what the most and the least important pixels teach."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

import bench
from bench.maps import ranks
from bench.networks import choose_class
from bench_metrics.curves import fill_in
from bench_metrics.retraining import MaskedImages, compute_logits


@dataclass(frozen=True)
class DiffROAR(bench.Metric):
    """Train on the most important pixels and on the least, and compare accuracies (Shah et al., NeurIPS 2021; with
    pixels and this training Gong et al., CVPR 2024). One network is trained and tested on the most important pixels
    alone, another on the least important ones, and the score is the difference of their accuracies: a value per share
    of pixels kept. It is positive where the maps point at what can be learned from.

    Maps of the network under test mask the training and test images. On training images they explain the class that
    the target names, as on test images. Shah et al. mask single elements by the gradient of the loss. Takes two
    trainings for each share. The value of an image is 1, 0 or -1; undefined where its map is zero.

    The networks are trained as the case's own is, by its defense as well. With a model, a schedule and a defense of its
    own, maps that do not depend on the network score the same whatever trained it. "gong2024" has those of Gong et al.
    (B.5): a plain ResNet-34, trained for 150 epochs.
    """

    name = "diffroar"
    range = (-1.0, 1.0)
    help = "accuracy after retraining on the most important pixels, less that on the least important ones"
    paper = bench.Paper(
        "Do Input Gradients Highlight Discriminative Features?",
        "Harshay Shah and Prateek Jain and Praneeth Netrapalli",
        "NeurIPS",
        2021,
        "https://arxiv.org/abs/2102.12781",
    )
    presets: ClassVar[dict[str, str]] = {
        "gong2024": "model=(torchvision:arch=resnet34),schedule=(gong2024_imagenette:epochs=150),defense=(ce)"
    }
    examples = ("", "shares=(0.2)", "shares=(0.2),defense=(ce),model=(lenet),schedule=(quick)")
    shares: tuple[float, ...] = bench.param((0.1, 0.3, 0.5), "shares of the pixels to keep", low=0, high=1)
    fill: Literal["mean", "black"] = bench.param("mean", "fill for missing pixels: the mean colour, or black")

    model: bench.Model | None = bench.param(None, "the network to train; none for the case's", added=True)
    schedule: bench.Schedule | None = bench.param(None, "how to train; none for as the case does", added=True)
    defense: bench.Defense | None = bench.param(None, "what trains; none for the case's defense", added=True)

    def refuse(self, case: bench.Case) -> str | None:
        other = dataclasses.replace(case, model=self.model or case.model, defense=self.defense or case.defense)
        return other.defense.refuse(other)

    def find_problem(self) -> str | None:
        return None if self.shares else "shares is empty; give at least one share of the pixels, such as shares=(0.3)"

    def __call__(
        self,
        refit: Callable[..., nn.Module],
        network: nn.Module,
        train_data: bench.Data,
        test_data: bench.Data,
        schedule: bench.Schedule,
        target: str,
        explain: Callable[..., Tensor],
        images: Tensor,
        labels: Tensor,
        clean_maps: Tensor,
    ) -> bench.Levels:
        rows = schedule.used(train_data)
        train = torch.zeros((len(train_data), *images.shape[2:]), dtype=torch.int32)
        for part in rows.split(256):
            shown = train_data.images[part].to(images.device)
            if target == "label":
                assert train_data.labels is not None  # or the network would not have been trained
                targets = train_data.labels[part].to(images.device)
            else:
                targets = choose_class(target, compute_logits(network, train_data, part, images.device))
            train[part] = ranks(explain(network, shown, targets, part)).int().cpu()
        test, empty = ranks(clean_maps).int(), fill_in(network, images, self.fill)
        differences, pixels = [], test[0].numel()
        for share in self.shares:
            count = int(share * pixels + 1e-9)
            right = {}
            for side, low, high in (("top", 0, count), ("bottom", pixels - count, pixels)):
                kept, left = ((rank >= low) & (rank < high) for rank in (train, test))
                masked = MaskedImages(train_data.images, kept, empty.cpu())
                trained = refit(
                    dataclasses.replace(train_data, images=masked),
                    f"{side}/{share!r}",
                    model=self.model,
                    schedule=self.schedule,
                    defense=self.defense,
                )
                shown = torch.where(left[:, None], images, empty)
                logits = bench.chunked(trained, shown, seed=0, name=self.name, indices=test_data.rows)
                right[side] = (logits.argmax(1) == labels).double()
            differences.append(right["top"] - right["bottom"])
        values = torch.where(clean_maps.flatten(1).any(1)[:, None], torch.stack(differences, 1), torch.nan)
        return bench.Levels(values, tuple(f"{100 * share:g}%" for share in self.shares))
