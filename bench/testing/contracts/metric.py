"""What metrics promise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.components import Levels, Metric, Undefined
from bench.engine import Catalog, dependencies, seeded
from bench.testing.contracts.shared import ensure, forbid_changes
from bench.testing.fixtures import tiny_evidence


def scores_images_independently(component: Metric, catalog: Catalog) -> None:
    evidence = tiny_evidence()
    whole = _score(component, evidence)
    if whole is None:
        return
    ensure(not whole.isnan().all(), f"every score of {len(whole)} ordinary images is nan")
    again = _score(component, evidence)
    ensure(_are_equal(whole, again), "two runs on the same evidence with the same seed differ")
    for row in range(len(whole)):
        alone = _score(component, {n: v[row : row + 1] if isinstance(v, Tensor) else v for n, v in evidence.items()})
        ensure(
            alone is not None and torch.allclose(alone[0], whole[row], equal_nan=True),
            f"an image scores {_show(alone)} alone and {_show(whole[row:])} in a batch; the score of an image must not "
            "depend on the others",
        )


def is_best_for_identical_maps(component: Metric, catalog: Catalog) -> None:
    evidence = tiny_evidence()
    if not _compares_maps(component):
        return
    same, sign = _score(component, evidence), 1 if component.better == "higher" else -1
    for other in (evidence["clean_maps"].flip(0), evidence["clean_maps"].roll(3, 2)):
        changed = _score(component, {**evidence, "attacked_maps": other})
        if same is not None and changed is not None:
            for own, others in zip(same.flatten().tolist(), changed.flatten().tolist(), strict=True):
                ensure(
                    not sign * (own - others) < -1e-9,
                    f"better is {component.better!r}, but a map scores {own:.4g} against itself and {others:.4g} "
                    "against another map",
                )


def is_undefined_for_zero_maps(component: Metric, catalog: Catalog) -> None:
    evidence = tiny_evidence()
    if not _compares_maps(component):
        return
    for sides in (("attacked_maps",), ("clean_maps",), ("clean_maps", "attacked_maps")):
        first = torch.zeros_like(evidence["targets"][:1])
        zeroed = {side: evidence[side].index_fill(0, first, 0) for side in sides}
        scores = _score(component, {**evidence, **zeroed})
        ensure(
            scores is None or scores[0].isnan().all(),
            f"where {' and '.join(sides)} are zero it scores {_show(scores)}; return nan, since a zero map explains "
            "nothing",
        )


def is_undefined_for_undefined_evidence(component: Metric, catalog: Catalog) -> None:
    evidence = tiny_evidence()
    plain = _score(component, evidence)
    for name in dependencies(type(component).__call__) if plain is not None else ():
        given = evidence[name]
        if not isinstance(given, Tensor) or not given.is_floating_point():
            continue
        broken = given.clone()
        broken[0].view(-1)[-1] = torch.nan  # one number is enough
        scores = _score(component, {**evidence, name: broken})
        ensure(
            scores is not None and scores[0].isnan().all(),
            f"where {name} contain NaN it scores {_show(scores)}; return nan, since what is undefined has no score",
        )
        assert plain is not None and scores is not None
        ensure(
            torch.allclose(scores[1:], plain[1:], equal_nan=True),
            f"NaN in the {name} of one image changes the scores of the others",
        )


def _compares_maps(component: Metric) -> bool:
    return {"clean_maps", "attacked_maps"} <= set(dependencies(type(component).__call__))


def _score(component: Metric, evidence: dict[str, Any]) -> Tensor | None:
    """Scores (N, L) on evidence.

    None where there is one value for all images, or where the metric needs evidence that only a run can compute.
    """
    names = dependencies(type(component).__call__)
    if not set(names) <= set(evidence):
        return None
    given = {name: evidence[name] for name in names}
    tensors = [value for value in given.values() if isinstance(value, Tensor)]
    with forbid_changes(*tensors), seeded(0, "contract"), torch.no_grad():
        score = component(**given)
    if isinstance(score, Undefined | int | float):
        return None
    count = len(tensors[0]) if tensors else 0
    if isinstance(score, Levels):
        shape = (count, len(score.names))
        ensure(
            score.values.shape == shape,
            f"for {count} images and {len(score.names)} levels, the values have shape {tuple(score.values.shape)}, not "
            f"{shape}",
        )
    else:
        ensure(
            isinstance(score, Tensor),
            f"it returned a {type(score).__name__}; return a tensor (N,), bench.Levels, a number or bench.Undefined",
        )
        ensure(score.shape == (count,), f"for {count} images, scores have shape {tuple(score.shape)}, not {(count,)}")
    values = (score.values if isinstance(score, Levels) else score[:, None]).double()
    ensure(not values.isinf().any(), "a score is infinite; return nan where it is undefined")
    return values


def _are_equal(first: Tensor, second: Tensor | None) -> bool:
    return second is not None and torch.equal(first.nan_to_num(9), second.nan_to_num(9))


def _show(scores: Tensor | None) -> str:
    """The score of the first row, of all levels."""
    return "nothing" if scores is None else ", ".join(f"{float(value):.4g}" for value in scores[0])
