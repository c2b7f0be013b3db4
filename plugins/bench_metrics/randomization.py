"""Test whether maps depend on what the network has learned."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import bench
from bench_metrics.similarity import Sanity, compare
from bench_metrics.ssim import SSIM


@dataclass(frozen=True)
class Randomization(Sanity):
    """Compare each clean map with that of the network with weights drawn afresh (cascading randomization of Adebayo et
    al., NeurIPS 2018). Weights are drawn from the output layer down to some depth: a value per depth. A map that
    explains what was learned is no longer similar.

    `Defense.build` makes the new weights. Batch norm's affine weights and running statistics change with the rest.
    Depths follow the order of the forward pass. A layer whose weights another module uses without calling it, as
    attention does, changes with that module. The explained class stays that of the trained network; the authors'
    script for Inception takes that of the current network. Maps near zero are similar in ssim whatever they show, so
    look at similarity=(pearson) too.
    """

    name = "randomization"
    help = "similarity of maps before and after weights are drawn afresh from the output down, mean over depths"
    paper = bench.papers.ADEBAYO2018
    examples = ("", "similarity=(pearson),depths=2")
    similarity: bench.Metric = SSIM()
    depths: int = bench.param(
        0, "number of evenly spread depths, the last of them the whole network; 0 for every layer", low=0
    )

    def __call__(
        self,
        network: nn.Module,
        model: bench.Model,
        defense: bench.Defense,
        explain: Callable[..., Tensor],
        images: Tensor,
        targets: Tensor,
        clean_maps: Tensor,
        seed: int,
        test_data: bench.Data,
    ) -> bench.Levels:
        fresh = defense.build(model, test_data.shape, len(test_data.classes)).to(images)
        new, changed = dict(fresh.named_modules()), copy.deepcopy(network)
        old = dict(changed.named_modules())
        layers = layers_from_the_output(changed, images[:1])
        count = len(layers) if self.depths == 0 else min(self.depths, len(layers))
        ends = [round(len(layers) * (i + 1) / count) for i in range(count)]
        scores, names, start = [], [], 0
        for end in ends:
            for layer in itertools.chain(*layers[start:end]):
                own = {**new[layer]._parameters, **new[layer]._buffers}
                for name, values in own.items():
                    if values is not None:
                        getattr(old[layer], name).data.copy_(values.data)
            start = end
            maps = explain(changed, images, targets)
            scores.append(compare(self.similarity, clean_maps, maps))
            last = layers[end - 1][0]
            names.append(last.removeprefix("network.") or type(old[last]).__name__)
        return bench.Levels(torch.stack(scores, 1), tuple(names))


def layers_from_the_output(network: nn.Module, images: Tensor) -> list[list[str]]:
    """List the modules with weights of their own, from the last that a forward pass calls to the first.

    A module that is not called joins the nearest module above it that is, or the next one with weights after that.
    """
    reached: dict[str, None] = {}

    def reach(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object) -> None:
            reached.pop(name, None)
            reached[name] = None

        return hook

    handles = [module.register_forward_pre_hook(reach(name)) for name, module in network.named_modules()]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    weighted = [
        name
        for name, module in network.named_modules()
        if any(weight is not None for weight in module._parameters.values()) or hasattr(module, "running_mean")
    ]
    order = list(reached)
    groups = {name: [name] for name in order if name in weighted}
    for name in weighted:
        if name in reached or not groups:
            continue
        above = name
        while above not in reached:
            above = above.rpartition(".")[0]
        following = (other for other in order[order.index(above) :] if other in groups)
        groups[next(following, next(reversed(groups)))].append(name)
    return list(reversed(groups.values()))
