"""The ensemble that boards rank by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

import bench
from bench import noise
from bench_attacks.objectives import Against, Goal, make_goal
from bench_attacks.search import OWN, Member, Queries, Search, Walk

RESCUE = Walk("double precision", 20, "momentum", network="double")

FULL: tuple[Member, ...] = (
    Walk("momentum", 100, "momentum"),
    Walk("momentum, ball", 100, "momentum", "ball"),
    Walk("adaptive, best", 75, "adaptive", "best", beta=60.0),
    RESCUE,
    Walk("gradient", 10, "momentum", explainer="gradient"),
    Walk("reference", 10, "momentum", network="source"),
    Queries("squares", 20, "squares"),
    Queries("evolution", 5, "evolution"),
)
MEMBERS: dict[str, tuple[Member, ...]] = {
    "quick": (Walk("momentum", 20, "momentum"), Walk("momentum, ball", 15, "momentum", "ball"), RESCUE),
    "full": FULL,
    "plus": tuple(dataclasses.replace(member, steps=2 * member.steps) for member in FULL),
}


@dataclass(frozen=True)
class Standard(bench.Attack):
    """Take the worst image that a fixed ensemble of attacks finds. The choice is made for each image on its own. Boards
    rank by what it leaves.

    Follows AutoAttack (Croce and Hein, ICML 2020) in that there is nothing to choose. The members are descents with
    momentum and with the steps of Auto-PGD, from the clean image, from the ball and from the worst image so far, on
    surrogates of two sharpnesses; a descent in double precision, where single precision gives no gradient; descents on
    the maps of the plain gradient and on the network that cross-entropy trains; and searches by queries. They lower
    what is counted: a descent follows the hinge of the overlap of the 20 most important pixels, and an iterate is
    judged by the overlap itself, then by the mass in these pixels. Near the decision boundary, a descent also follows
    the margin of the prediction, which every image has to keep. An image with nothing left to lose leaves the search.

    Maps that draw noise are followed under fresh draws and judged over eight others; noise=known gives the attack the
    noise of the evaluation. `against` names the metric to lower.

    Differs from AutoAttack: there are no classes to aim at, members may start from the worst image so far, and the
    images that the first members moved meet the others too.
    """

    name = "standard"
    paper = bench.Paper(
        "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
        "Francesco Croce and Matthias Hein",
        "ICML",
        2020,
        "https://arxiv.org/abs/2003.01690",
    )
    presets: ClassVar[dict[str, str]] = {
        "quick": "size=quick",
        "plus": "size=plus",
        "known_noise": "noise=known",
        **{name: f"against={name}" for name in ("spearman", "cosine", "center_shift")},
    }
    examples = ("quick", "quick,against=spearman,noise=known", "quick,against=center_shift", "quick,against=cosine")
    size: Literal["full", "quick", "plus"] = bench.param("full", "about 300 steps, a few, or twice as many as in full")
    against: Against = bench.param("topk_overlap", "the metric to lower")
    noise: Literal["fresh", "known"] = bench.param("fresh", "of maps that draw: unknown to the attack, or known")
    beta: ClassVar[float] = 20.0

    @property
    def members(self) -> tuple[Member, ...]:
        return MEMBERS[self.size]

    @property
    def doubled(self) -> Standard | None:
        """`plus` for the full size; the quick one is short on purpose."""
        return dataclasses.replace(self, size="plus") if self.size == "full" else None

    def sources(self, defense: bench.Defense) -> tuple[bench.Defense, ...]:
        reference = bench.component("defense", "ce")
        assert isinstance(reference, bench.Defense)
        asks = any(isinstance(member, Walk) and member.network == "source" for member in self.members)
        return (reference,) if asks and defense.trains and defense != reference else ()

    def refuse(self, case: bench.Case) -> str | None:
        if not case.surrogate.differentiable:
            return f"it follows a gradient, and that of {case.surrogate} is zero; choose another surrogate"
        return None

    def make_objective(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
        search = self._search(victim, images, targets)
        aim = search.aim(OWN, search.everything)
        return lambda moved: aim(moved).score

    def make_loss(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
        search = self._search(victim, images, targets)
        return lambda moved: search.judge(search.everything, moved)[0]

    def perturb(self, victim: bench.Victim, images: Tensor, targets: Tensor, ball: bench.Ball) -> Tensor:
        with noise.ensured(len(images)):
            search = self._search(victim, images, targets)
            search.start(ball)
            for member in self.members:
                search.run(member, ball)
        return search.best.images

    def _search(self, victim: bench.Victim, images: Tensor, targets: Tensor) -> Search:
        return Search(victim, images, targets, self._make_goal, self.noise == "known")

    def _make_goal(self, maps: Tensor) -> Goal:
        return make_goal(self.against, maps, self.name)
