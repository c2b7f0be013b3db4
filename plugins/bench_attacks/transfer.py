"""Attack another network, and transfer the images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

import bench
from bench_attacks.topk import TopK


@dataclass(frozen=True)
class Transfer(bench.Attack):
    """Attack the network of another defense, and use the images here. That network is trained on the same data with the
    same model, schedule and seed. If its images change maps more than a white-box attack on the defense itself, the
    defense hides its gradients (Athalye et al., ICML 2018).

    The attack keeps the prediction of the other network; the kept rate says how often this network keeps its own.
    """

    name = "transfer"
    paper = bench.Paper(
        "Obfuscated Gradients Give a False Sense of Security: Circumventing Defenses to Adversarial Examples",
        "Anish Athalye and Nicholas Carlini and David Wagner",
        "ICML",
        2018,
        "https://arxiv.org/abs/1802.00420",
    )
    examples = ("source=(ce),attack=(topk:k=5,steps=4)",)
    source: bench.Defense = bench.param(help="the defense whose network is attacked instead")
    attack: bench.Attack = bench.param(TopK(), "the attack on that network")

    def refuse(self, case: bench.Case) -> str | None:
        other = dataclasses.replace(case, defense=self.source, attack=self.attack)
        return self.source.refuse(other) or self.attack.refuse(other)

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        if victim.trained_by is None:
            raise bench.BadValue(
                "transfer needs the network of another defense; from Python give bench.Victim(..., trained_by=function)"
            )
        other = dataclasses.replace(victim, network=victim.trained_by(self.source))
        return self.attack.perturb(other, images, targets, ball)
