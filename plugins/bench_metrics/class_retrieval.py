"""Whether what a map leaves of an attacked image is still of the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

import bench


@dataclass(frozen=True)
class ClassRetrieval(bench.Metric):
    """1 where the network gives an image, seen through a mask, to the class that was explained on the clean image, else
    0 (Lim et al., CVPR 2021). Pixels that the mask takes away show the mean colour.

    The mask is the explainer's own, of the attacked image or of the clean one; the image is the attacked one, or, as in
    the authors' code, the clean one too. They explain the class of the clean image, which is the answer that is asked
    for: what optimises its mask for that class scores near 1 by construction. With explained=own the attacked image is
    explained for the class that the network gives it, which an attack on the class changes. Undefined where a mask is
    zero.
    """

    name = "class_retrieval"
    range = (0.0, 1.0)
    help = "share of images that keep the explained class when they are seen through the map's mask"
    paper = bench.papers.LIM2021
    examples = ("", "mask=clean,image=clean", "explained=own")
    mask: Literal["attacked", "clean"] = bench.param("attacked", "the image whose mask it is")
    image: Literal["attacked", "clean"] = bench.param("attacked", "the image that is seen through it")
    explained: Literal["clean", "own"] = bench.param(
        "clean", "class that a mask of the attacked image explains: that of the clean image, or its own prediction"
    )

    def find_problem(self) -> str | None:
        if self.mask == "clean" and self.explained == "own":
            return "explained=own changes masks of the attacked image only; leave it out, or take mask=attacked"
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
        seen = {"clean": images, "attacked": attacked_images}[self.image]
        own = attacked_logits.argmax(1)

        def explained(images: Tensor, targets: Tensor) -> Tensor:
            return explainer.masks(network, images, targets, prepared)

        def retrieved(images: Tensor, masks: Tensor, targets: Tensor) -> Tensor:
            shown = mean + masks.to(images.dtype) * (images - mean)
            return (network(shown).argmax(1) == targets).double()

        given: dict[str, Any] = {"seed": seed, "name": self.name, "indices": test_data.rows}
        if self.explained == "own":
            masks = bench.chunked(explained, attacked_images, own, **given)
        found = bench.chunked(retrieved, seen, masks, targets, **given)
        return torch.where(masks.flatten(1).any(1), found, torch.nan)
