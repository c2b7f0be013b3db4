"""Look for the worst image within a ball, member by member: the machinery of `standard`."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

import bench
from bench import noise
from bench.gradients import Passes, slope, softened
from bench_attacks.descent import FLAT, Aim, Best, Seen, walk
from bench_attacks.objectives import CenterShift, Goal, margins
from bench_attacks.random_search import corners, squares
from bench_attacks.steps import Adaptive, Step, momentum

DRAWS = 8  # of maps that draw noise, over which the clean maps and the judgement of an iterate are averaged
LOOKS = 5  # iterates of a walk that are judged where it sees one draw, or other maps
BETA = 20.0  # sharpness of the softplus that replaces ReLU, unless a member says otherwise
MARGIN = 0.5  # between the prediction's logit and the next, below which a walk turns back from the decision boundary
NEAR = 0.1  # how far from the clean image, as a share of the way into the ball, where the gradient there may be zero

MakeGoal = Callable[[Tensor], Goal]  # the goal on clean maps (B, H, W)


@dataclass(frozen=True)
class Walk:
    """A member that follows gradients.

    It follows the victim's own maps unless it names another explainer, or another network: the first of the victim's
    sources, or the victim's own in double precision, for the images where single precision gives no gradient.
    """

    name: str
    steps: int
    path: Literal["adaptive", "momentum"] = "adaptive"
    start: Literal["clean", "ball", "best"] = "clean"
    beta: float = BETA
    explainer: str = ""
    network: Literal["own", "source", "double"] = "own"


@dataclass(frozen=True)
class Queries:
    """A member that asks for maps alone: random squares, or an evolution strategy."""

    name: str
    steps: int
    kind: Literal["squares", "evolution"]


Member = Walk | Queries
Which = tuple[str, str]  # the explainer and the network that a walk follows
OWN: Which = ("", "own")


class Search:
    """The worst images so far, and what members need to look for worse ones.

    `known`: whether the attack knows the noise of the evaluation.
    """

    def __init__(
        self, victim: bench.Victim, images: Tensor, targets: Tensor, make_goal: MakeGoal, known: bool = False
    ) -> None:
        self.images, self.targets, self.make_goal, self.known = images, targets, make_goal, known
        self.victims, self.goals, self.predictions = {OWN: victim}, dict[Which, Goal](), dict[Which, Tensor]()
        self.everything = torch.arange(len(images), device=images.device)
        with torch.no_grad():
            first, again = (self._explain(OWN, images, targets)[0] for _ in range(2))
        self.draws = not torch.equal(first, again)

    def start(self, ball: bench.Ball) -> None:
        """Begin with the clean images, and look where single precision gives no gradient."""
        loss, logits = self.judge(self.everything, self.images)
        self.best = Best(self.images, logits.argmax(1), loss, is_open=self._goal(OWN).is_open)
        moved = self._near(self.images, ball).requires_grad_()
        with torch.enable_grad(), softened(BETA):
            gradient = slope(self.aim(OWN, self.everything)(moved).score, moved)
        flat = gradient.flatten(1)
        self.is_flat = (flat.isfinite().all(1) & flat.any(1)).logical_not()
        if ball.eps and not gradient.any():
            warnings.warn(FLAT, stacklevel=2)

    def run(self, member: Member, ball: bench.Ball) -> None:
        """Let a member look for worse images where there is something left to gain, and report what it leaves."""
        victim = self.victims[OWN]
        chosen = self.best.is_open(self.best.loss)
        if isinstance(member, Walk):
            if member.network == "double":
                chosen &= self.is_flat
            if (member.network == "source" and not victim.sources) or member.explainer == str(victim.explainer):
                chosen &= False
        which = (member.explainer, member.network) if isinstance(member, Walk) else OWN
        rows, passes = self.everything[chosen], Passes()
        if len(rows):
            self._goal(which), self._prediction(which)  # of all images, before noise is that of some rows
            with contextlib.ExitStack() as stack:
                stack.enter_context(noise.take(rows))
                stack.enter_context(passes)
                for network in {victim.network, self._victim(which).network}:
                    stack.enter_context(passes.watch(network))
                if isinstance(member, Walk):
                    self._walk(member, which, rows, ball)
                else:
                    self._ask(member, rows, ball)
        victim.report(f"left after {member.name}", self.best.loss)
        victim.report(f"passes of {member.name}", chosen * float(passes.forwards + passes.backwards))

    def aim(self, which: Which, rows: Tensor) -> Aim:
        """The aim of a walk for some of the images."""
        goal, targets, prediction = self._goal(which).at(rows), self.targets[rows], self._prediction(which)[rows]

        def aim(moved: Tensor) -> Seen:
            maps, logits = self._explain(which, moved, targets)
            score = goal.follow(maps) + (MARGIN - margins(logits, prediction)).relu()
            return Seen(score, logits, goal.loss(maps.detach()))

        return aim

    def judge(self, rows: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of images on the victim's own maps, and the logits. Where maps draw, the same noise for all images
        that are judged for a row."""
        goal, targets = self._goal(OWN).at(rows), self.targets[rows]
        losses = []
        with torch.no_grad():
            for number in range(DRAWS if self.draws else 1):
                with noise.call(number):
                    maps, logits = self._explain(OWN, moved, targets)
                losses.append(goal.loss(maps))
        return torch.stack(losses).mean(0), logits

    def _explain(self, which: Which, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Maps and logits, under the noise that the attack may know."""
        with noise.renamed("attacked_attributions") if self.known else contextlib.nullcontext():
            return self._victim(which).both(images, targets)

    def _victim(self, which: Which) -> bench.Victim:
        if which not in self.victims:
            (explainer, network), own = which, self.victims[OWN]
            given: dict[str, Any] = {}
            if explainer:
                given |= {"explainer": bench.component("explainer", explainer), "prepared": None}
            if network == "source":
                given["network"] = own.sources[0]
            if network == "double":
                learned = {n: t.double() if t.is_floating_point() else t for n, t in (own.prepared or {}).items()}
                given |= {"network": copy.deepcopy(own.network).double(), "prepared": learned}
            self.victims[which] = dataclasses.replace(own, **given)
        return self.victims[which]

    def _prediction(self, which: Which) -> Tensor:
        """What the network that a walk follows makes of the clean images."""
        if which not in self.predictions:
            with torch.no_grad():
                self.predictions[which] = self._victim(which).logits(self._clean(which)).argmax(1)
        return self.predictions[which]

    def _clean(self, which: Which) -> Tensor:
        return self.images.double() if which[1] == "double" else self.images

    def _goal(self, which: Which) -> Goal:
        """What has to go wrong with the maps that a walk follows."""
        if which not in self.goals:
            images = self._clean(which)
            with torch.no_grad(), noise.renamed("clean_attributions") if self.known else contextlib.nullcontext():
                maps = [self._victim(which).maps(images, self.targets) for _ in range(DRAWS if self.draws else 1)]
            self.goals[which] = self.make_goal(torch.stack(maps).mean(0))
        return self.goals[which]

    def _near(self, images: Tensor, ball: bench.Ball) -> Tensor:
        return images + NEAR * (ball.sample(images) - images)

    def _walk(self, member: Walk, which: Which, rows: Tensor, ball: bench.Ball) -> None:
        clean, best = self.images[rows], self.best.at(rows)
        start = {"clean": clean, "best": best.images}.get(member.start)
        if start is None:
            start = ball.sample(clean)
        elif isinstance(self._goal(which), CenterShift):  # the gradient of no distance is zero
            start = self._near(start, ball)
        if self.draws or which != OWN:
            best = Looking(best, lambda moved: self.judge(rows, moved.to(self.images.dtype)), -(-member.steps // LOOKS))
        aim = self.aim(which, rows)
        if member.network == "double":
            clean, start = clean.double(), start.double()
        step: Step = Adaptive(ball, clean, member.steps) if member.path == "adaptive" else momentum(ball, member.steps)
        walk(self._victim(which), best, ball, clean, aim, start, member.steps, step, member.beta, lenient=True)
        self.best.put(rows, best)

    def _ask(self, member: Queries, rows: Tensor, ball: bench.Ball) -> None:
        clean, best, aim = self.images[rows], self.best.at(rows), self.aim(OWN, rows)
        if member.kind == "squares":
            candidates = throw_squares(clean, best, ball, member.steps)
        else:
            candidates = evolve(clean, best, ball, member.steps, lambda moved: aim(moved).score)
        with torch.no_grad():
            for moved in candidates:
                loss, logits = self.judge(rows, moved)
                best.offer(moved, logits, loss)
        self.best.put(rows, best)


class Looking(Best):
    """Judges every few iterates of a walk by a function of images, which returns their loss and logits: the walk sees
    one draw of maps that draw noise, or other maps."""

    def __init__(self, best: Best, judge: Callable[[Tensor], tuple[Tensor, Tensor]], every: int) -> None:
        super().__init__(best.images, best.prediction, best.loss, is_open=best.is_open)
        self.judge_images, self.every, self.seen = judge, every, 0

    def offer(self, moved: Tensor, logits: Tensor, loss: Tensor) -> None:
        self._look(moved)

    def judge(self, moved: Tensor, aim: Aim) -> None:
        self._look(moved)

    def _look(self, moved: Tensor) -> None:
        self.seen += 1
        if self.seen % self.every == 0:
            loss, logits = self.judge_images(moved.detach())
            super().offer(moved.to(self.images.dtype), logits, loss)


def throw_squares(images: Tensor, best: Best, ball: bench.Ball, steps: int) -> Iterator[Tensor]:
    """Move a random square of the best image to a corner of the ball, as `random_search` does."""
    for number in range(steps):
        side = max(1, round(min(images.shape[2:]) * 0.5 * (1 - number / steps)))
        moved = torch.where(squares(images, side), images + ball.reach * corners(images), best.images)
        yield ball.project(moved, images)


def evolve(
    images: Tensor, best: Best, ball: bench.Ball, steps: int, score: Callable[[Tensor], Tensor]
) -> Iterator[Tensor]:
    """Follow, from the best image on, a gradient that is estimated from pairs of opposite coarse moves (a natural
    evolution strategy, as in Ilyas et al., ICML 2018)."""
    moved, summed, length = best.images, torch.zeros_like(images), 0.25 * ball.reach
    for _ in range(steps):
        coarse = noise.normal(images[:, :, ::4, ::4])
        way = F.interpolate(coarse, images.shape[2:], mode="nearest").sign()
        ahead, back = (ball.project(moved + sign * length * way, images) for sign in (1, -1))
        summed = 0.75 * summed + (score(ahead) - score(back))[:, None, None, None] * way
        moved = ball.project(moved - length * ball.steepest(summed), images)
        yield moved
