"""Test whether maps depend on the labels that were learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench_metrics.retraining import compute_logits, restrict
from bench_metrics.similarity import Sanity, compare
from bench_metrics.ssim import SSIM


@dataclass(frozen=True)
class LabelRandomization(Sanity):
    """Compare each clean map with that of a network trained on permuted labels (data randomization of Adebayo et al.,
    NeurIPS 2018). The network is trained in the same way on the same images, and the class explained is the same. A map
    that explains what was learned from the labels is no longer similar.

    Undefined where the network does not fit the permuted labels: it has learned nothing, and its maps, many of them
    zero, say nothing. Use a long schedule on few images. The permutation follows from the seed.
    """

    name = "label_randomization"
    help = "similarity of maps to those of a network trained on permuted labels"
    paper = bench.papers.ADEBAYO2018
    examples = ("", "similarity=(pearson),fitted=0.5")
    similarity: bench.Metric = SSIM()
    fitted: float = bench.param(
        0.9, "accuracy on the permuted labels from which the network counts as fitted", low=0, high=1
    )

    def __call__(
        self,
        refit: Callable[..., nn.Module],
        train_data: bench.Data,
        schedule: bench.Schedule,
        explain: Callable[..., Tensor],
        images: Tensor,
        targets: Tensor,
        clean_maps: Tensor,
        seed: int,
    ) -> Tensor | bench.Undefined:
        if train_data.labels is None:
            raise bench.BadComponent(f"metric {self}: the training images have no labels to permute")
        data = restrict(train_data, schedule)
        assert data.labels is not None  # because the training data have labels
        labels = data.labels[order(len(data), seed)]
        permuted = dataclasses.replace(data, labels=labels)
        network = refit(permuted, "permuted", using=())
        rows = torch.arange(len(permuted))
        right = compute_logits(network, permuted, rows, images.device).argmax(1).cpu() == labels
        accuracy = float(right.double().mean())
        if accuracy < self.fitted:
            return bench.Undefined(
                f"the network failed to fit permuted labels: {accuracy:.1%} of {len(rows)} are right, "
                f"{self.fitted:.0%} are needed; train longer or on fewer images"
            )
        return compare(self.similarity, clean_maps, explain(network, images, targets))


def order(count: int, seed: int) -> Tensor:
    """Return a permutation that follows from a seed."""
    with bench.noise.rows(seed, "label_randomization", range(count)):
        return bench.noise.uniform(torch.empty(count, 1))[:, 0].argsort(stable=True)
