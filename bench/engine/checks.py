"""Checks of an attack and of the maps that it is to change: figures per image, and the flags that they raise.

Thresholds lie between what honest explainers and cheats give; docs/threat-model.md has the figures.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

import torch
from torch import Tensor

from bench import noise
from bench.components import Attack, Ball, Victim
from bench.engine.bars import counted
from bench.engine.chunks import chunked
from bench.errors import BenchError
from bench.gradients import slope, softened
from bench.maps import top_pixels

Figures = Mapping[str, Tensor]

COMPARED = 3  # images on which the gradient that an attack follows is compared with fine differences
STEP = 1e-8  # half the width of these: small, since a max-pooling that switches within it makes a map jump
TURNS = {"rotation": 1e-5, "translation": 1e-6}  # the same where places of pixels are rounded, and must move by more
CHECKED = 8  # test images on which an attack is checked, or half of these where they are fewer than 16
LEAST = 4  # of these, where there are as many
TOP = 20  # pixels whose overlap is the score that checks compare
TRIES = 50  # images that the blind search tries, or as many as the attack takes steps where these are fewer
DRAWS = 4  # calls over which the score of an explainer that draws is averaged
NEAR = 0.2  # how far from the image the gradient by parameters is looked at, as a share of eps
LEVEL = 1 / 510  # longest half step of a coarse difference, as a change of every pixel: half a grey level

GAIN = 0.05  # share of a score by which two runs must differ, besides twice the standard error of the difference
ABOVE_CHANCE = 0.2  # overlap that a wide ball may leave beyond that of different images
FELL = 0.8  # share of images on which the objective must fall along its gradient
SLOPE = (0.5, 2.0)  # what it must change by along its gradient, as a share of the prediction
HUGE = 1000.0  # share from which on its digits say no more
UNMOVED = 0.25  # share of images that an attack may return as they were
ALIKE = 0.4  # overlap of maps of different images from which on they hardly depend on the image
MATES = 0.6  # the same of images of one class, where classes have few images
SAME = 0.99  # overlap of maps of two classes from which on they do not depend on the class
BLANK = 0.05  # share of images that may have no map
WIDE = Fraction(1, 4)  # of the largest ball: in that itself, a step flips predictions, and attacks stand still
WEIGHT = 4.0  # pixels, of equal mass, that the top ones must at least amount to


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Share of the first maps' top pixels among the second's, zero where either has none: (N, H, W) twice -> (N,)."""
    return (_top(first) * _top(second)).sum(1)


def _top(maps: Tensor) -> Tensor:
    """The top pixels of each map, as rows whose product is their overlap; zero where there is no map: (N, H * W)."""
    k = min(TOP, maps[0].numel())
    return (top_pixels(maps, k) & _is_map(maps)[:, None, None]).flatten(1).double() / k**0.5


def _is_map(maps: Tensor) -> Tensor:
    return maps.flatten(1).any(1)


def check_attack(
    victim: Victim,
    attack: Attack,
    ball: Ball,
    seed: int,
    images: Tensor,
    targets: Tensor,
    attacked: Tensor,
    rows: Tensor,
) -> dict[str, Tensor]:
    """Figures per image, (n,) each, of an attack and the points that it returned; `rows` are the images' indices.

    The overlap with the clean maps that is left: by the attack ("left"), with twice its steps ("doubled"), in a ball of
    twice the size ("larger"), in one a quarter of the largest ("wide"), and by a blind search ("blind"). NaN where a
    run failed. A run that cannot raise a flag, given those before it, is left out, and its figures raise none. Whether
    the map of the attacked image alone is zero ("lost"), and the gradient of the objective ("flat"). How the objective
    changes along its gradient, over a grey level or a fifth of eps, as predicted and on the real network ("predicted",
    "actual").

    A transformation has no "wide", since a map may rightly stay the same in any of its balls, and no slopes: places
    between pixels and max-pooling make the objective of honest explainers so uneven that it often rises over a step.
    """
    names: list[str] = []

    def look(*chunk: Tensor) -> tuple[Tensor, ...]:
        figures = _check_chunk(victim, attack, ball, *chunk)
        names[:] = figures
        return tuple(figures.values())

    def left(attack: Attack, ball: Ball) -> Tensor:
        def run(images: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
            try:
                with noise.rows(seed, "attack_run", rows):  # the noise of the attack proper
                    moved = attack.perturb(victim, images.clone(), targets.clone(), ball).detach()
            except BenchError:  # such as a gradient that is not finite, where the attack proper met none
                return torch.full((len(images),), torch.nan, dtype=torch.float64, device=images.device)
            return _make_score(victim, ball, images, targets)(ball.project(moved, images))

        with torch.no_grad():
            result: Tensor = chunked(run, images, targets, rows, seed=seed, name="attack_checks", indices=rows)
        return result

    whole = _largest(ball, images).eps
    with counted(4 if ball.space == "images" else 3, "attack_checks", "run") as add:
        figures = chunked(look, images, targets, attacked, seed=seed, name="attack_checks", indices=rows)
        seen = dict(zip(names, figures, strict=True))
        add(1)
        own = seen["left"]
        seen["larger"] = left(attack, ball.resize(min(2 * ball.eps, whole)))
        add(1)
        seen["doubled"] = left(attack.doubled, ball) if attack.doubled and may_gain(own) else own
        add(1)
        if ball.space == "images":
            # A wide ball holds the smaller ones.
            least = torch.minimum(own, seen["larger"])
            is_low = float(least.mean()) <= ABOVE_CHANCE  # not where a run failed
            seen["wide"] = least if is_low else left(attack, ball.resize(max(WIDE * whole, ball.eps)))
            add(1)
    return seen


def may_gain(left: Tensor) -> bool:
    """Whether any run could leave so much less on some images, (n,), that its gain is beyond twice the standard error.

    On m of n images with anything left, an equal gain is the clearest one. It is then m / n in units of itself, and its
    standard error is sqrt(m (n - m) / (n - 1)) / n.
    """
    n, m = len(left), int((left > 0).sum())
    return m > 0 and (n == 1 or m * (n - 1) > 4 * (n - m))


def _check_chunk(
    victim: Victim, attack: Attack, ball: Ball, images: Tensor, targets: Tensor, attacked: Tensor
) -> dict[str, Tensor]:
    with torch.no_grad():
        score = _make_score(victim, ball, images, targets)
        figures = {
            "left": score(attacked),
            "blind": score(_search_blindly(victim, score, ball, images, getattr(attack, "steps", TRIES))),
        }
        with noise.call(0):
            figures["lost"] = _is_map(victim.maps(images, targets))
        with noise.call(0):
            figures["lost"] &= _is_map(victim.maps(ball.apply(attacked, images), targets)).logical_not()
    return figures | _compare_slopes(victim, attack, ball, images, targets)


def _make_score(victim: Victim, ball: Ball, images: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
    """A function (n, ...) -> (n,) of points: overlap with the clean maps on the real network, under the same noise."""

    def draw(number: int, moved: Tensor) -> Tensor:
        with noise.call(number):
            return victim.maps(moved, targets)

    with torch.no_grad():
        clean = [draw(number, images) for number in range(2)]
        same = torch.equal(*clean)
        clean = clean[:1] if same else [*clean, *(draw(number, images) for number in range(2, DRAWS))]

    def compare(number: int, points: Tensor) -> Tensor:
        maps = draw(number, ball.apply(points, images))
        first, second = ball.align(clean[number][:, None], maps[:, None], points)
        return overlap(first[:, 0], second[:, 0])

    return lambda points: torch.stack([compare(number, points) for number in range(len(clean))]).mean(0)


def _largest(ball: Ball, images: Tensor) -> Ball:
    """The ball of a norm that holds every image, or of a transformation that holds all that it makes of one."""
    whole = {
        "linf": Fraction(1),
        "l2": Fraction(images[0].numel() ** 0.5),
        "l0": Fraction(images[0, 0].numel()),
        "rotation": Fraction(180),
        "translation": Fraction(max(images.shape[2:])),
        "colour": Fraction(1),
    }[ball.norm]
    return ball.resize(max(whole, Fraction(ball.eps)))


def _search_blindly(
    victim: Victim, score: Callable[[Tensor], Tensor], ball: Ball, images: Tensor, steps: int
) -> Tensor:
    """The best points that keep the prediction, of draws from the ball and of random blocks moved on the best so far,
    or of parameters near the best."""
    best, prediction = ball.center(images), victim.logits(images).argmax(1)
    least = score(best)
    tries = min(steps, TRIES)
    for number in range(tries):
        if number % 2:
            tried = ball.sample(images)
        elif ball.space == "parameters":
            tried = ball.project(best + 0.5 * (1 - number / tries) * ball.sample(images), images)
        else:
            side = max(1, round(min(images.shape[2:]) * 0.5 * (1 - number / tries)))
            corner = images + ball.reach * noise.signs(images[:, :, :1, :1])
            tried = ball.project(torch.where(_draw_blocks(images, side), corner, best), images)
        now = score(tried)
        better = (now <= least) & (victim.logits(ball.apply(tried, images)).argmax(1) == prediction)
        best, least = torch.where(_broadcast(better, tried), tried, best), torch.where(better, now, least)
    return best


def _broadcast(values: Tensor, like: Tensor) -> Tensor:
    """Shape values (n,) so that they meet the rows of a tensor (n, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _draw_blocks(images: Tensor, side: int) -> Tensor:
    """Mark a block of pixels at a random place in each image: (n, 1, H, W) bool."""
    place = noise.uniform(images.new_empty(len(images), 2), 0, 1)
    rows, columns = (
        torch.arange(size, device=images.device) - (place[:, axis, None] * (size - side + 1)).long()
        for axis, size in enumerate(images.shape[2:])
    )
    inside = [(offset >= 0) & (offset < side) for offset in (rows, columns)]
    return inside[0][:, None, :, None] & inside[1][:, None, None, :]


def check_gradient(
    victim: Victim, attack: Attack, ball: Ball, images: Tensor, targets: Tensor, seed: int, rows: Tensor
) -> Tensor:
    """Error of the gradient that an attack follows against finite differences, relative to either: (n,).

    Taken in float64, near the clean images, or at parameters drawn from the ball.
    """
    exact = dataclasses.replace(
        victim,
        network=copy.deepcopy(victim.network).double(),
        references=None if victim.references is None else victim.references.double(),
        prepared={n: t.double() if t.is_floating_point() else t for n, t in (victim.prepared or {}).items()},
    )
    clean = images.double()
    with noise.rows(seed, "gradient_error", rows):
        objective = attack.make_point_objective(exact, clean, targets, ball)
        assert objective is not None  # the caller has seen one
        if ball.space == "images":
            start, step = clean + 0.01 * noise.uniform(clean), STEP
        else:
            start, step = ball.sample(clean), TURNS.get(ball.norm, STEP)
        direction = noise.normal(start)

        def value(moved: Tensor) -> Tensor:
            with noise.call(0), contextlib.nullcontext() if attack.beta is None else softened(attack.beta):
                return objective(moved)

        with torch.enable_grad():
            leaf = start.requires_grad_()
            gradient = slope(value(leaf), leaf)
        with torch.no_grad():
            difference = (value(start + step * direction) - value(start - step * direction)) / (2 * step)
    followed = (gradient * direction).flatten(1).sum(1)
    return (followed - difference).abs() / (followed.abs() + difference.abs()).clamp(min=1e-12)


def _compare_slopes(victim: Victim, attack: Attack, ball: Ball, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        objective = attack.make_point_objective(victim, images, targets, ball)
        assert objective is not None  # the caller has seen one
        start = ball.sample(images)
        if ball.space == "parameters":  # far from the image, nothing may be left to gain, and the gradient is zero
            start = NEAR * start

    def value(moved: Tensor) -> Tensor:
        with noise.call(0):
            return objective(moved)

    with torch.enable_grad(), contextlib.nullcontext() if attack.beta is None else softened(attack.beta):
        leaf = start.clone().requires_grad_()
        gradient = slope(value(leaf), leaf)
    flat = gradient.flatten(1).any(1).logical_not()
    if ball.space == "parameters":
        return {"flat": flat}
    half = min(ball.reach / 10, LEVEL * _largest(ball, images).reach) * ball.steepest(gradient)
    with torch.no_grad():
        above, below = (start + half).clamp(0, 1), (start - half).clamp(0, 1)
        return {
            "flat": flat,
            "predicted": (gradient * (above - below)).flatten(1).sum(1).double(),
            "actual": (value(above) - value(below)).double(),
        }


def check_maps(
    victim: Victim, images: Tensor, targets: Tensor, classes: int, seed: int, rows: Tensor
) -> dict[str, Tensor]:
    """Overlap of each image's map, (n,) each, with that of another image under the same noise ("swapped"), and with
    that of another class ("class"); the latter is NaN for two classes, whose logits may mirror each other."""

    def explain(images: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad(), noise.rows(seed, "map_checks", rows):
            return victim.maps(images, targets)

    maps = explain(images, targets)
    swapped = overlap(maps, explain(images.roll(1, 0), targets.roll(1, 0)))
    other = overlap(maps, explain(images, (targets + 1) % classes))
    nowhere = torch.full_like(other, torch.nan)
    return {"swapped": swapped if len(images) > 1 else nowhere, "class": other if classes > 2 else nowhere}


def compare_maps(maps: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Figures per map, (N,) each.

    The mean overlap with the maps of other images ("others"), and of those of the same class ("class_mates"), NaN where
    there are none. Whether it is zero ("blank"). The number of pixels of equal mass that its top pixels amount to,
    (sum m)^2 / sum m^2 ("weight").
    """
    top = _top(maps)
    pairs = torch.eye(len(maps), dtype=torch.bool, device=maps.device).logical_not()
    mates = pairs & (targets[:, None] == targets)
    shared = top @ top.T
    mass = maps.flatten(1).double().sort(1, descending=True).values[:, :TOP]
    return {
        "others": (shared * pairs).sum(1) / pairs.sum(1),
        "class_mates": (shared * mates).sum(1) / mates.sum(1),
        "blank": _is_map(maps).logical_not(),
        "weight": mass.sum(1).square() / mass.square().sum(1),
    }


def flag_attack(figures: Figures, chance: float) -> Iterator[str]:
    """What the figures of `check_attack` say against an attack; `chance` is the overlap of maps of different images."""
    left, n = figures["left"], len(figures["left"])
    about = f"of the top {TOP} pixels on {n} images"

    def compare(more: Tensor, less: Tensor) -> str | None:
        gain = more - less
        error = float(gain.std()) / n**0.5 if n > 1 else 0.0
        if not float(gain.mean()) > max(GAIN * float(more.mean()), 2 * error):
            return None
        return f"{float(less.mean()):.3f} instead of {float(more.mean()):.3f} {about}"

    if better := compare(left, figures["doubled"]):
        yield f"attack too short: twice its steps leave {better}"
    if better := compare(figures["larger"], left):
        yield f"attack stuck: half the budget leaves {better}"
    if better := compare(left, figures["blind"]):
        yield f"attack beaten: a blind search leaves {better}"
    if "wide" in figures:  # such a ball holds the smaller ones
        least = torch.stack([left, figures["larger"], figures["wide"]]).amin(0)
        if float(least.mean()) > chance + ABOVE_CHANCE:
            wide = f"with a wide budget it leaves {float(least.mean()):.3f} {about}, chance is {chance:.3f}"
            yield f"attack blocked: {wide}"
    if failed := [name for name in ("doubled", "larger", "wide") if name in figures and figures[name].isnan().any()]:
        yield f"attack unstable: it fails in the checks {', '.join(failed)}"
    if figures["flat"].any():
        yield f"gradient masked: it is zero on {_share(figures['flat'])} of {n} images"
    if "predicted" in figures:
        predicted, actual = figures["predicted"], figures["actual"]
        fell, ratio = (predicted * actual > 0).double(), float(actual.sum() / predicted.sum())
        if not (float(fell.mean()) >= FELL and SLOPE[0] <= ratio <= SLOPE[1]) and not figures["flat"].all():
            yield f"gradient misleading: {_tell_fall(predicted, actual, fell, ratio)}"
    if figures["lost"].any():
        yield f"map lost: it is zero on {_share(figures['lost'])} of {n} attacked images"


def _tell_fall(predicted: Tensor, actual: Tensor, fell: Tensor, ratio: float) -> str:
    if not torch.stack([predicted, actual]).isfinite().all():
        return "along it the change of the objective is not a number"
    along = f"along it the objective falls on {_share(fell)} of {len(fell)} images"
    if not predicted.sum():
        return f"{along}, and no fall is predicted"
    return f"{along}, by {f'{ratio:.2f}' if abs(ratio) < HUGE else 'a huge multiple'} of the prediction"


def flag_maps(figures: Figures) -> Iterator[str]:
    """What the figures of `check_maps` and `compare_maps` say against maps."""
    means = {name: float(values.double().nanmean()) for name, values in figures.items()}
    about = f"of their top {TOP} pixels"
    images = max(means["others"], means["swapped"])
    if images > ALIKE:
        yield f"the map hardly depends on the image: maps of different images share {images:.3f} {about}"
    elif means["class_mates"] > MATES:
        yield f"the map hardly depends on the image: maps of one class share {means['class_mates']:.3f} {about}"
    if means["class"] > SAME:
        yield f"the map does not depend on the class explained: maps of two classes share {means['class']:.3f} {about}"
    if means["blank"] > BLANK:
        yield f"no map: it is zero on {means['blank']:.0%} of the clean images"
    if means["weight"] < WEIGHT:
        yield f"few pixels: the top {TOP} weigh as much as {means['weight']:.1f} equal ones"


def _share(marks: Tensor) -> str:
    return f"{float(marks.double().mean()):.0%}"
