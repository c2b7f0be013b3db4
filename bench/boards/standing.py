"""Where a row stands: its score with lost images, under the strongest attack, as a share of its ceiling. Uses neither
torch nor plugins."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from bench.boards.doubts import Images
from bench.boards.statistics import Estimate, difference, fill, of_images, share

MORE = 0.15  # by which chance may be above that of the reference row; docs/threat-model.md has figures
LESS = 0.05  # of the score: what another attack has to take off before the score is that attack's


@dataclass(frozen=True)
class Standing:
    """`value` ranks a row: its score as a share of its ceiling, or the score itself. Undefined images count as lost.
    Where the score is that of a stronger attack, `beaten` is that of the protocol's."""

    value: Estimate
    score: Estimate
    ceiling: Estimate | None = None
    beaten: Estimate | None = None


def stand(score: Estimate, ceiling: Estimate | None, divide: bool) -> Standing | str:
    """The standing of a row, or why it has none. `divide` says whether the score counts as a share of the ceiling."""
    filled = fill(score)
    if filled is None:
        gone = sum(list(values).count(None) for values in score.images.values())
        count = sum(map(len, score.images.values()))
        return f"undefined for {gone} of {count} images, which have no worst value to count with"
    ratio = share(filled, ceiling) if ceiling and divide else filled
    return Standing(ratio, filled, ceiling) if ratio else "no share of its ceiling, which is zero or of other images"


def find_margin(standing: Standing, allowed: float, ceiling: float) -> float:
    """How far a share may be too large where the score may be off by `allowed` and its ceiling by `ceiling`."""
    value, score, whole = standing.value.value, standing.score.value, standing.ceiling
    if value is None or score is None or whole is None or whole.value is None:
        return allowed
    return value - max(0.0, score - allowed) / (whole.value + ceiling)


def find_ceiling(unmoved: Estimate | None, itself: Estimate | None) -> Estimate | None:
    """A row's ceiling, from its scores on unmoved images and those of each map beside itself: what ties take is added,
    since noise alone lowers a ceiling. An undefined image has the best value here, or losing it would cost nothing.
    None without a bound for it."""
    filled = fill(unmoved, best=True) if unmoved else None
    ceiling = dataclasses.replace(filled, lost=0) if filled and filled.lost else filled
    top = ceiling.range[1] if ceiling else None
    if ceiling is None or itself is None or top is None:
        return ceiling
    images = {
        seed: [
            value if value is None or tied is None else min(top, top - (tied - value))
            for value, tied in zip(values, itself.images[seed], strict=True)
        ]
        for seed, values in ceiling.images.items()
        if len(values) == len(itself.images.get(seed, ()))
    }
    if len(images) < len(ceiling.images):
        return ceiling
    raised = of_images(ceiling.records, images, ceiling.range)
    return ceiling if raised.value == ceiling.value else raised


def find_stronger(score: Estimate, others: Mapping[str, Estimate], images: Images) -> str:
    """The attack that leaves least among those that leave surely less than that of the score, "" where there is none:
    on the images whose prediction both keep, at least 5% of the mean less, and the 95% interval of the paired
    difference excludes zero."""
    sign = 1 if score.records[0].better == "higher" else -1
    mine, left = _keep(score, images), {}
    for name, other in others.items():
        there = difference(_keep(other, images), mine)
        if there and there.better is False:
            theirs, own = there.means
            if sign * (own - theirs) >= LESS * abs(own):
                left[name] = sign * (other.value or 0.0)
    return min(left, key=lambda name: left[name], default="")


def _keep(estimate: Estimate, images: Images) -> Estimate:
    """An estimate with values for the images alone whose prediction is kept."""
    keys = {record.axes.get("seed", ""): record.key for record in estimate.records}
    kept = {
        seed: [
            value if same is not False else None
            for value, (_, same) in zip(values, images.get(keys[seed], ()), strict=True)
        ]
        for seed, values in estimate.images.items()
    }
    return dataclasses.replace(estimate, images=kept)


def tell_noise(standing: Standing, noise: Estimate | None, name: str) -> list[str]:
    """Why a score tells noise and not robustness, if it does: its interval holds its own ceiling and what noise
    leaves."""
    ceiling, ends = standing.ceiling, standing.score.ci95
    marks = [estimate.value for estimate in (ceiling, noise) if estimate and estimate.value is not None]
    if ends and len(marks) == 2 and all(ends[0] <= mark <= ends[1] for mark in marks):
        return [f"noise: the interval of the score holds its ceiling and what {name} leaves"]
    return []


def tell_chance(chance: Estimate | None, reference: Estimate | None) -> list[str]:
    """Why a score tells of what all maps of a row share, if it does: its chance is surely far above the reference's."""
    there = difference(chance, reference) if chance and reference else None
    if there and there.ci95 and there.ci95[0] > MORE:
        mine, base = there.means
        return [f"chance: maps of different images score {mine:.3f}, and {base:.3f} in the reference row"]
    return []
