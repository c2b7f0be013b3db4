"""Curves, sparsity and localisation beside slow loops and cases solved by hand; in float64."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from slow_metrics import aopc, curve_elements, gaze_overlap, retrieved
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise
from bench.engine import dependencies
from bench.maps import mask, reduce
from bench.testing import tiny_images, tiny_network

IMAGES, TARGETS = tiny_images(4)


def maps():
    found = torch.rand(4, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found[1] = (found[1] * 3).round()  # many ties
    return found / found.sum((1, 2), keepdim=True)


def score(text, order, network=None):
    metric = bench.component("metric", text)
    given = {"network": network or tiny_network(True), "images": IMAGES, "targets": TARGETS}
    if text.startswith("relevance"):
        return metric(**given, clean_maps=order)
    name = "attacked_attributions" if text.startswith("adv") else "clean_attributions"
    return metric(**given, **{name: order if order.ndim == 4 else order[:, None]})


@pytest.mark.parametrize("kind", ["insertion", "adv_insertion", "deletion"])
@pytest.mark.parametrize("parameters", ["", "steps=7,fill=black", "steps=20,full=false"])
def test_curves_beside_a_slow_loop(kind, parameters):
    network, order = tiny_network(True), maps()
    found = score(f"{kind}:{parameters}" if parameters else kind, order)
    steps = 7 if "7" in parameters else 20
    shares = [i / steps for i in range(steps + ("false" not in parameters))]
    fill = torch.zeros(3, dtype=torch.float64) if "black" in parameters else network.mean.flatten()
    for i in range(4):
        ranked = sorted(range(144), key=lambda p, i=i: -float(order[i].flatten()[p]))
        for level, share in enumerate(shares):
            chosen = set(ranked[: int(share * 144 + 1e-9)])
            image = IMAGES[i].clone().flatten(1)
            for pixel in range(144):
                if (pixel in chosen) == (kind == "deletion"):
                    image[:, pixel] = fill
            with torch.no_grad():
                expected = network(image.view(1, 3, 12, 12)).softmax(1)[0, TARGETS[i]]
            assert_close(found.values[i, level], expected)
    assert found.names[:2] == ("0%", f"{100 / steps:g}%") and len(found.names) == len(shares)


def test_the_ends_of_the_curves_are_the_image_and_nothing():
    network, order = tiny_network(True), maps()
    inserted, deleted = score("insertion", order).values, score("deletion", order).values
    with torch.no_grad():
        whole = network(IMAGES).softmax(1).gather(1, TARGETS[:, None])[:, 0]
    assert_close(inserted[:, -1], whole)
    assert_close(deleted[:, 0], whole)
    assert_close(inserted[:, 0], deleted[:, -1])


class Looking(nn.Module):
    """Sees one corner, and nothing else."""

    def forward(self, images):
        seen = images[:, :, :3, :3].mean((1, 2, 3)) * 9
        return torch.stack([seen, -seen, seen * 0], 1)


def test_a_map_of_what_the_network_sees_is_inserted_and_deleted_best():
    right, wrong = torch.zeros(4, 12, 12, dtype=torch.float64), torch.zeros(4, 12, 12, dtype=torch.float64)
    right[:, :3, :3] = wrong[:, 6:9, 6:9] = 1 / 9
    metric = {"network": Looking(), "images": IMAGES, "targets": torch.zeros(4, dtype=torch.int64)}
    for text, sign in (("insertion:fill=black", 1), ("deletion:fill=black", -1)):
        component = bench.component("metric", text)
        good, bad = (component(**metric, clean_attributions=m[:, None]).values.mean(1) for m in (right, wrong))
        assert (sign * (good - bad) > 0.03).all()


def test_preservation_is_insertion_backwards_and_relevance_joins_the_two():
    order = maps()
    inserted, kept, deleted = (score(text, order).values for text in ("insertion", "preservation", "deletion"))
    assert_close(kept, inserted.flip(1))
    assert_close(
        score("preservation:steps=5,full=false", order).values, score("insertion:steps=5", order).values.flip(1)[:, :5]
    )
    for i in range(4):
        areas = [float(torch.trapezoid(values[i], dx=1 / 20)) for values in (kept, deleted)]
        expected = 2 / (1 / areas[0] + 1 / (1 - areas[1]))
        assert float(score("relevance", order)[i]) == pytest.approx(expected)


def test_the_printed_relevance_is_of_the_means_over_the_set():
    order = maps()
    order[2] = 0  # explains nothing, and has no areas
    steps, kept, taken = 20, [], []
    for i in (0, 1, 3):
        curves = [score(text, order).values[i].tolist() for text in ("preservation", "deletion")]
        areas = [sum((c[j] + c[j + 1]) / 2 for j in range(steps)) / steps for c in curves]
        kept.append(areas[0])
        taken.append(areas[1])
    expected = 2 / (1 / (sum(kept) / 3) + 1 / (1 - sum(taken) / 3))
    assert score("relevance:mean=set", order) == pytest.approx(expected, abs=1e-12)
    assert score("relevance:mean=set", order * 0) == bench.Undefined("all maps are zero")
    assert bench.component("metric", "relevance:lim2021").mean == "set"


def test_elements_and_norms_by_hand():
    clean = torch.tensor([[[[5.0, -4.0]], [[0.0, 1.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]], dtype=torch.float64)
    attacked = torch.tensor([[[[-1.0, 4.0]], [[3.0, 0.0]]], [[[1.0, 0.0]], [[0.0, 0.0]]]], dtype=torch.float64)
    overlap = bench.component("metric", "topk_overlap_elements:share=0.7")
    # Two of the three that are not zero: 5 and -4, of which the attacked one keeps the second.
    found = overlap(clean_attributions=clean, attacked_attributions=attacked)
    assert_close(found, torch.tensor([0.5, torch.nan], dtype=torch.float64), equal_nan=True)
    assert overlap(clean_attributions=clean[:1], attacked_attributions=-clean[:1]) == 1
    assert bench.component("metric", "l1_norm")(clean_attributions=clean).tolist() == [10.0, 0.0]


FAITHFULNESS = ["insertion:steps=5", "deletion:steps=5", "preservation:steps=5", "relevance:steps=5", "l1_norm"]


@pytest.mark.parametrize("text", [*FAITHFULNESS, "relevance:steps=5,mean=set", "infidelity:draws=3", "aopc:steps=3"])
@pytest.mark.parametrize("image", ["attacked", "clean"])
def test_faithfulness_under_attack_is_that_of_the_attacked_map(text, image):
    network, attributions = tiny_network(True), attribution(3)
    clean = bench.component("metric", text)
    attacked_images = (IMAGES + 0.05 * IMAGES.flip(3)).clamp(0, 1)
    given = {"network": network, "targets": TARGETS, "seed": 2, "test_data": SimpleNamespace(rows=torch.arange(4))}
    sides = {"attributions": attributions, "maps": reduce(attributions), "masks": mask(attributions, "percentile")}
    attacked = {f"attacked_{form}": value for form, value in sides.items()}
    found = bench.component("metric", f"under_attack:metric=({text}),image={image}")(
        images=IMAGES, attacked_images=attacked_images, **given, **attacked
    )
    seen = given | {"images": attacked_images if image == "attacked" else IMAGES}
    seen |= {f"clean_{form}": value for form, value in sides.items()}
    expected = clean(**{name: seen[name] for name in dependencies(type(clean).__call__)})
    values = [one.values if isinstance(one, bench.Levels) else torch.as_tensor(one) for one in (found, expected)]
    assert torch.equal(*values)


def test_without_a_budget_faithfulness_under_attack_is_that_of_the_clean_map(tiny_run):
    wrapped = [f"under_attack:metric=({text})" for text in FAITHFULNESS]
    retrieved = ["class_retrieval", "class_retrieval:mask=clean,image=clean"]
    others = ["mask_l1:relative=true", "perturbation", "under_attack:metric=(insertion:steps=5),image=clean"]
    outcome = tiny_run(metric=[*FAITHFULNESS, *wrapped, *retrieved, *others], defense=["ce"], eps=["0"])
    assert not outcome.failures
    found = {record.metric: record.value for record in outcome.records.values()}
    for text, under in zip(FAITHFULNESS, wrapped, strict=True):
        assert found[text] == found[under], text
    assert found[retrieved[0]] == found[retrieved[1]]
    assert found[others[2]] == found["insertion:steps=5"]
    assert (found["mask_l1:relative=true"], found["perturbation"]) == (1, 0)


def test_what_is_not_of_one_map_cannot_be_scored_under_attack():
    for text in ("cosine", "accuracy", "mask_mass", "stability"):
        with pytest.raises(bench.BadValue, match=f"metric {text} does not score one map of an image; use one such as"):
            bench.component("metric", f"under_attack:metric=({text})")


def test_sizes_of_changes_and_masks_by_hand():
    clean = torch.tensor([0.5, 0.5, 0.0]).double().view(3, 1, 1, 1).expand(3, 2, 1, 2).clone()
    attacked = clean.clone()
    attacked[0] += torch.tensor([[[0.3, 0.0]], [[0.0, -0.4]]])
    given = {"images": clean, "attacked_images": attacked}
    assert bench.component("metric", "perturbation")(**given).tolist() == pytest.approx([0.5, 0, 0])
    assert bench.component("metric", "perturbation:norm=linf")(**given).tolist() == pytest.approx([0.4, 0, 0])
    masks = {"clean_masks": clean, "attacked_masks": attacked}
    for text, expected in (("mask_l1", [1.9, 2, torch.nan]), ("mask_l1:relative=true", [0.95, 1, torch.nan])):
        found = bench.component("metric", text)(**masks)
        assert_close(found, torch.tensor(expected).double(), equal_nan=True)


def test_a_zero_map_has_no_curve_and_an_image_scores_the_same_alone():
    order = maps()
    order[2] = 0
    found = score("insertion", order).values
    assert found[2].isnan().all() and not found[[0, 1, 3]].isnan().any()
    metric = bench.component("metric", "insertion")
    alone = metric(
        network=tiny_network(True), images=IMAGES[:1], targets=TARGETS[:1], clean_attributions=order[:1, None]
    )
    assert_close(alone.values[0], found[0])


def test_the_preset_is_the_papers_grid():
    found = bench.component("metric", "insertion:joo2023")
    assert (found.steps, found.full, found.fill) == (20, False, "mean")
    assert score("adv_insertion:joo2023", maps()).names[-1] == "95%"


def test_sparsity_is_the_gini_index():
    order = maps()
    found = bench.component("metric", "sparsity")(clean_maps=order)
    for i in range(4):
        values = order[i].flatten()
        gaps = (values[:, None] - values[None]).abs().sum()
        assert_close(found[i], gaps / (2 * 144 * values.sum()))
    single, constant = torch.zeros(12, 12, dtype=torch.float64), torch.full((12, 12), 1 / 144, dtype=torch.float64)
    single[3, 4] = 1
    found = bench.component("metric", "sparsity")(clean_maps=torch.stack([single, constant, 0 * single]))
    assert_close(found, torch.tensor([1 - 1 / 144, 0.0, torch.nan], dtype=torch.float64), equal_nan=True)


def test_maps_on_objects_by_hand():
    order = torch.zeros(4, 4, 4, dtype=torch.float64)
    order[0, 0, 0], order[0, 0, 1], order[0, 3, 3] = 0.5, 0.2, 0.3
    order[1, 3, 3] = 1
    order[2] = 1 / 16
    masks = torch.zeros(4, 4, 4)
    masks[:, 0, :2] = 1
    given = {"clean_maps": order, "object_masks": masks}
    nan = torch.nan
    assert_close(
        bench.component("metric", "mask_mass")(**given), torch.tensor([0.7, 0, 0.125, nan]).double(), equal_nan=True
    )
    # Of equal pixels, those off the object come first, and zero is equal to zero.
    assert_close(
        bench.component("metric", "mask_overlap")(**given), torch.tensor([0.5, 0, 0, nan]).double(), equal_nan=True
    )
    assert_close(
        bench.component("metric", "pointing_game")(**given), torch.tensor([1.0, 0, 0, nan]).double(), equal_nan=True
    )
    masks[0] = 0
    assert bench.component("metric", "mask_mass")(**given)[0].isnan()


def test_void_pixels_count_neither_as_object_nor_as_background():
    maps = torch.zeros(3, 1, 5, dtype=torch.float64)
    maps[0, 0] = torch.tensor([0.4, 0.1, 0.2, 0.2, 0.1])  # the largest on void, then a tie off and on the object
    maps[1, 0, 0] = 1  # nothing but void
    maps[2, 0] = torch.tensor([0.0, 0, 0, 0, 1])
    masks = torch.tensor([0.5, 0, 0, 1, 1]).expand(3, 1, 5)
    expected = {
        "mask_mass": [0.3 / 0.6, torch.nan, 1],
        "mask_overlap": [0.5, torch.nan, 0.5],
        "pointing_game": [0, torch.nan, 1],
    }
    for name, values in expected.items():
        found = bench.component("metric", name)(clean_maps=maps, object_masks=masks)
        assert_close(found, torch.tensor(values, dtype=torch.float64), equal_nan=True)


@pytest.mark.slow
def test_the_harness_scores_them_on_shapes(tiny_run):
    names = [
        "insertion",
        "deletion",
        "preservation",
        "relevance",
        "adv_insertion",
        "sparsity",
        "mask_mass",
        "mask_overlap",
    ]
    names += ["pointing_game", "topk_overlap_elements"]
    outcome = tiny_run(metric=names)
    assert not outcome.failures
    found = {record.metric: record for record in outcome.records.values()}
    assert set(found) == set(names) and all(0 <= record.value <= 1 for record in found.values())
    assert set(found["insertion"].levels) == {f"{5 * step}%" for step in range(21)}
    assert "attack" in found["adv_insertion"].axes and "attack" not in found["insertion"].axes


def attribution(channels):
    found = torch.randn(4, channels, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found[1] = found[1].round()
    return found


@pytest.mark.parametrize("kind", ["insertion", "deletion"])
@pytest.mark.parametrize("channels", [1, 3])
def test_curves_of_elements_beside_a_slow_loop(kind, channels):
    network, given = tiny_network(True), attribution(channels)
    found = score(f"{kind}:parts=elements,steps=7,fill=black", given).values
    for i in range(4):
        expected = curve_elements(
            network, IMAGES[i], int(TARGETS[i]), given[i], 7, torch.zeros_like(IMAGES[i]), kind == "deletion"
        )
        assert_close(found[i].tolist(), [float(value) for value in expected])


def test_a_blurred_canvas_is_where_insertion_starts_from():
    network = tiny_network(True)
    found = score("insertion:fill=blur", maps()).values
    x = torch.arange(-5, 6, dtype=torch.float64)
    weights = (-(x**2) / 50).exp()
    weights = weights / weights.sum()
    padded = torch.nn.functional.pad(IMAGES, (5, 5, 5, 5), mode="reflect")
    for i in range(4):
        blurred = torch.zeros_like(IMAGES[i])
        for row in range(12):
            for column in range(12):
                blurred[:, row, column] = (
                    padded[i, :, row : row + 11, column : column + 11] * weights[:, None] * weights
                ).sum((1, 2))
        with torch.no_grad():
            assert_close(float(found[i, 0]), float(network(blurred[None]).softmax(1)[0, TARGETS[i]]))
    assert bench.component("metric", "insertion:petsiuk2018").fill == "blur"


@pytest.mark.parametrize("text", ["steps=5,region=4", "steps=9,region=5,fill=black", "steps=20,region=1,fill=noise"])
def test_aopc_beside_a_slow_loop(text):
    network, order, rows = tiny_network(True), maps(), torch.tensor([3, 8, 1, 0])
    order[1] = (order[1] / order[1][order[1] > 0].min()).round()  # whole numbers, whose sums are ties in any order
    metric = bench.component("metric", f"aopc:{text}")
    found = metric(
        network=network, images=IMAGES, targets=TARGETS, clean_maps=order, seed=5, test_data=SimpleNamespace(rows=rows)
    )
    with noise.rows(5, "aopc", rows):
        drawn = noise.uniform(IMAGES, 0, 1)
    empty = {"mean": network.mean.expand(4, 3, 12, 12), "black": 0 * IMAGES, "noise": drawn}[metric.fill]
    for i in range(4):
        expected = aopc(network, IMAGES[i], int(TARGETS[i]), order[i], metric.steps, metric.region, empty[i])
        assert_close(found.values[i].tolist(), [float(value) for value in expected])
    assert found.names == tuple(map(str, range(metric.steps + 1))) and not found.values[:, 0].any()


def test_more_steps_than_squares_is_told(tiny_case):
    metric = bench.component("metric", "aopc:region=16")
    words = "images of 32 x 32 pixels have 4 squares of 16; ask for 4 steps or fewer, or a smaller region"
    assert metric.refuse(tiny_case) == words
    with pytest.raises(bench.BadValue, match=f"metric aopc:region=16: {words}"):
        metric(None, torch.zeros(2, 3, 32, 32), TARGETS[:2], torch.rand(2, 32, 32), 0, None)


class Bright(nn.Module):
    """Two classes: whether the left or the right half is brighter than the mean colour."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5).double())

    def forward(self, images):
        left, right = images[..., :6].mean((1, 2, 3)), images[..., 6:].mean((1, 2, 3))
        return torch.stack([left - right, right - left], 1)


def retrieval(text, masks, **changed):
    images, attacked = torch.full((3, 3, 4, 12), 0.5).double(), torch.full((3, 3, 4, 12), 0.5).double()
    images[..., :6] = 0.9
    attacked[..., 6:] = 1.0
    attacked[..., :6] = 0.8
    given = {
        "network": bench.Normalised(Bright(), [0.5] * 3, [0.25] * 3).double(),
        "explainer": Everywhere(),
        "prepared": {},
        "images": images,
        "attacked_images": attacked,
        "targets": torch.tensor([0, 0, 0]),
        "clean_masks": masks,
        "attacked_masks": masks,
        "attacked_logits": torch.tensor([[0.0, 1], [0.0, 1], [0.0, 1]]),
        "seed": 0,
        "test_data": SimpleNamespace(rows=torch.arange(3)),
    }
    metric = bench.component("metric", text)
    return metric(**{**given, **changed}), metric, given


@dataclass(frozen=True)
class Everywhere(bench.Explainer):
    """One everywhere."""

    name = "everywhere"
    mask_rule = "none"

    def attribute(self, network, images, targets):
        return torch.ones_like(images[:, :1])


def test_class_retrieval_sees_the_image_through_the_mask():
    masks = torch.zeros(3, 1, 4, 12).double()
    masks[0, ..., :6] = 1
    masks[1] = 1
    nan = torch.nan
    for text, expected in (("", [1, 0, nan]), ("mask=clean,image=clean", [1, 1, nan]), ("explained=own", [0, 0, 0])):
        found, metric, given = retrieval(f"class_retrieval:{text}" if text else "class_retrieval", masks)
        assert_close(found, torch.tensor(expected).double(), equal_nan=True)
        seen = given["images" if metric.image == "clean" else "attacked_images"]
        mean = given["network"].mean
        for i in range(2):
            mask = torch.ones(1, 4, 12).double() if metric.explained == "own" else masks[i]
            assert float(found[i]) == retrieved(given["network"], seen[i], mask, 0, mean)
    with pytest.raises(bench.BadValue, match="explained=own changes masks of the attacked image only"):
        bench.component("metric", "class_retrieval:mask=clean,explained=own")


def test_gaze_overlap_beside_a_slow_form():
    order = maps()
    gaze = torch.rand(4, 12, 12, generator=torch.Generator().manual_seed(1)).double().round(decimals=1)
    order[2] = 0
    for share in (0.05, 0.1, 1.0):
        found = bench.component("metric", f"gaze_overlap:share={share}")(clean_maps=order, gaze=gaze)
        expected = [float(gaze_overlap(order[i], gaze[i], share)) for i in range(4)]
        assert_close(found, torch.tensor(expected).double(), equal_nan=True)
