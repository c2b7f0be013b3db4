"""Test whether an attacked image seen through its map keeps the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

import bench


@dataclass(frozen=True)
class ClassRetrieval(bench.Metric):
    """Score 1 where a masked image keeps the class explained on the clean image (Lim et al., CVPR 2021). Otherwise, the
    score is 0. Masked pixels show the mean colour.

    The mask is that of the explainer for the attacked or the clean image. The image is the attacked one, or the clean
    one as in the authors' code. The authors explain the class of the clean image, which is also the right answer, so an
    explainer that optimises its mask for that class scores near 1 by construction. With explained=own, the attacked
    image is explained for its own predicted class, which an attack on the class changes. Undefined where a mask is
    zero.
    """

    name = "class_retrieval"
    version = 2
    range = (0.0, 1.0)
    grain = 1.0
    help = "share of images that keep the explained class when they are seen through the map's mask"
    paper = bench.papers.LIM2021
    examples = ("", "mask=clean,image=clean", "explained=own")
    mask: Literal["attacked", "clean"] = bench.param("attacked", "image whose mask is used")
    image: Literal["attacked", "clean"] = bench.param("attacked", "image that is seen through the mask")
    explained: Literal["clean", "own"] = bench.param(
        "clean", "class that the attacked image's mask explains: the one of the clean image, or its own prediction"
    )

    def find_problem(self) -> str | None:
        if self.mask == "clean" and self.explained == "own":
            return "explained=own changes masks of the attacked image only; leave it out, or use mask=attacked"
        return None

    def __call__(
        self,
        network: nn.Module,
        explainer: bench.Explainer,
        prepared: dict[str, Tensor],
        images: Tensor,
        attacked_images: Tensor,
        targets: Tensor,
        clean_masks: Tensor,
        attacked_masks: Tensor,
        attacked_logits: Tensor,
        seed: int,
        test_data: bench.Data,
    ) -> Tensor:
        mean, _ = bench.normalisation(network)
        masks = {"clean": clean_masks, "attacked": attacked_masks}[self.mask]
        pictures = {"clean": images, "attacked": attacked_images}[self.image]
        own = attacked_logits.argmax(1)

        def explain(images: Tensor, targets: Tensor) -> Tensor:
            return explainer.masks(network, images, targets, prepared)

        def retrieve(images: Tensor, masks: Tensor, targets: Tensor) -> Tensor:
            shown = mean + masks.to(images.dtype) * (images - mean)
            return (bench.check_logits(network(shown), shown).argmax(1) == targets).double()

        given: dict[str, Any] = {"seed": seed, "name": self.name, "indices": test_data.rows}
        if self.explained == "own":
            masks = bench.chunked(explain, attacked_images, own, **given)
        hits = bench.chunked(retrieve, pictures, masks, targets, **given)
        defined = masks.flatten(1).any(1) & masks.flatten(1).isfinite().all(1)
        return torch.where(defined, hits, torch.nan)
