"""What the most and the least important pixels teach."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench.maps import ranks
from bench_metrics.curves import emptied
from bench_metrics.retraining import Seen, predictions


@dataclass(frozen=True)
class DiffROAR(bench.Metric):
    """Accuracy of a network trained and tested on images of which the most important pixels are all that is there, less
    that on the least important ones, a value per share of pixels kept (Shah et al., NeurIPS 2021; of pixels and trained
    in this way Gong et al., CVPR 2024). Positive: the maps point at what can be learned from.

    Training and test images are masked by the maps of the network under test; of training images the class explained
    is, as of test images, the predicted one or the label. Shah et al. mask single elements by the gradient of the loss.
    Two trainings for each share. The value of an image is 1, 0 or -1; undefined where its map is zero.
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
    examples = ("", "shares=(0.2)")
    shares: tuple[float, ...] = bench.param((0.1, 0.3, 0.5), "of the pixels that are kept", low=0, high=1)
    fill: Literal["mean", "black"] = bench.param(
        "mean", "what stands for pixels that are not there: the mean colour, or black"
    )

    def find_problem(self) -> str | None:
        return None if self.shares else "shares is empty; give one share of the pixels at least, such as shares=(0.3)"

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
            predicted = predictions(network, train_data, part, images.device)
            targets = predicted
            if target == "label":
                assert train_data.labels is not None  # or the network would not have been trained
                targets = train_data.labels[part].to(images.device)
            train[part] = ranks(explain(network, shown, targets, part)).int().cpu()
        test, empty = ranks(clean_maps).int(), emptied(network, images, self.fill)
        found, pixels = [], test[0].numel()
        for share in self.shares:
            count = int(share * pixels + 1e-9)
            right = {}
            for side, low, high in (("top", 0, count), ("bottom", pixels - count, pixels)):
                kept, left = ((rank >= low) & (rank < high) for rank in (train, test))
                seen = Seen(train_data.images, kept, empty.cpu())
                trained = refit(dataclasses.replace(train_data, images=seen), f"{side}/{share!r}")
                shown = torch.where(left[:, None], images, empty)
                logits = bench.chunked(trained, shown, seed=0, name=self.name, indices=test_data.rows)
                right[side] = (logits.argmax(1) == labels).double()
            found.append(right["top"] - right["bottom"])
        values = torch.where(clean_maps.flatten(1).any(1)[:, None], torch.stack(found, 1), torch.nan)
        return bench.Levels(values, tuple(f"{100 * share:g}%" for share in self.shares))
