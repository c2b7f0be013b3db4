"""Remove few pixels, at random among the most important ones, from a network that knows holes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import bench
from bench import noise
from bench.maps import ranks
from bench_metrics.curves import levels, name_levels
from bench_metrics.retraining import MaskedImages


@dataclass(frozen=True)
class FFidelity(bench.Metric):
    """Remove important pixels at random, for a network trained on images with holes (F-Fidelity; Zheng et al., ICLR
    2025). The holes are random as well. The score is the share of removals, drawn from the most important pixels, after
    which this network no longer predicts the explained class, where it did so for the whole image. It has a value for
    each size of the set of most important pixels.

    Each pixel of the set goes with the chance `alpha`, or less, so that no more than the share `beta` of all pixels is
    expected to go: the network has met as many holes in training, and their form tells nothing. With order=least, the
    set is that of the least important pixels, and lower is better. In the paper these are FFid+ and FFid-.

    The authors fine-tune the network, with fresh holes in every epoch, and their code explains the fine-tuned one. Here
    the holes of an image stay the same, the network is trained as the case's own, from the start, and one training
    serves all explainers; the map is that of the case, and the class the explained one, where their code takes the
    label. In training, each pixel goes with the chance `beta`, over all channels; their code blanks a fixed number of
    pixels in the first channel. Holes have the mean colour. Undefined where a map is zero.
    """

    name = "f_fidelity"
    range = (-1.0, 1.0)
    help = "share of removals among important pixels that change the class, by a network trained with holes"
    paper = bench.Paper(
        "F-Fidelity: A Robust Framework for Faithfulness Evaluation of Explainable AI",
        "Xu Zheng and Farhad Shirani and Zhuomin Chen and Chaohao Lin and Wei Cheng and Wenbo Guo and Dongsheng Luo",
        "ICLR",
        2025,
        "https://arxiv.org/abs/2410.02970",
    )
    examples = ("", "steps=4,draws=3,order=least")
    steps: int = bench.param(20, "parts of the pixels; one fewer sizes lie between none and all", low=2)
    order: Literal["most", "least"] = bench.param("most", "pixels that go, of the most or the least important")
    alpha: float = bench.param(0.5, "chance that a pixel of the set goes", low=0, high=1)
    beta: float = bench.param(0.1, "share of all pixels that go at most, and in training", low=0, high=1)
    draws: int = bench.param(50, "removals of each size", low=1)

    @property
    def better(self) -> Literal["higher", "lower"]:
        return "higher" if self.order == "most" else "lower"

    def __call__(
        self,
        refit: Callable[..., nn.Module],
        network: nn.Module,
        train_data: bench.Data,
        images: Tensor,
        targets: Tensor,
        clean_maps: Tensor,
        seed: int,
        test_data: bench.Data,
    ) -> bench.Levels:
        empty = bench.normalisation(network)[0].to(images)
        with noise.rows(seed, "f_fidelity/training", range(len(train_data))):
            shown = noise.uniform(torch.empty(len(train_data), *images.shape[2:]), 0, 1) >= self.beta
        holed = dataclasses.replace(train_data, images=MaskedImages(train_data.images, shown, empty.cpu()))
        trained = refit(holed, f"holes/{self.beta!r}", using=("network",))
        shares, pixels = levels(self.steps, False)[1:], clean_maps[0].numel()
        rank = ranks(clean_maps)
        rank = rank if self.order == "most" else pixels - 1 - rank

        def keeps(images: Tensor, targets: Tensor) -> Tensor:
            return (bench.check_logits(trained(images), images).argmax(1) == targets).double()

        def lose(images: Tensor, targets: Tensor, rank: Tensor) -> Tensor:
            whole, lost = keeps(images, targets), []
            for share in shares:
                count = int(share * pixels + 1e-9)
                chance = min(self.alpha, self.beta * pixels / max(count, 1))
                kept = torch.zeros_like(whole)
                for _ in range(self.draws):
                    gone = (rank < count) & (noise.uniform(images[:, 0], 0, 1) < chance)
                    kept += keeps(torch.where(gone[:, None], empty, images), targets)
                lost.append(whole - kept / self.draws)
            return torch.stack(lost, 1)

        values = bench.chunked(lose, images, targets, rank, seed=seed, name="f_fidelity", indices=test_data.rows)
        return bench.Levels(
            torch.where(clean_maps.flatten(1).any(1)[:, None], values, torch.nan), tuple(name_levels(shares))
        )
