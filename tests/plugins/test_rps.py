"""Similarity under random noise."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from bench_metrics.data_dependence import partners
from torch.testing import assert_close

import bench
from bench import noise
from bench.gradients import input_gradient
from bench.testing import tiny_images, tiny_network


def score(text, rows=range(5)):
    images, targets = tiny_images(5)
    rows = torch.tensor(list(rows))
    network, explainer = tiny_network(True), bench.component("explainer", "gradient")
    with torch.no_grad():
        return bench.component("metric", text)(
            network=network,
            explain=lambda network, images, targets: explainer.maps(network, images, targets),
            images=images[rows],
            targets=targets[rows],
            clean_maps=explainer.maps(network, images[rows], targets[rows]),
            seed=3,
            test_data=SimpleNamespace(rows=rows),
        )


def test_rps_beside_a_slow_loop():
    images, targets = tiny_images(5)
    network, expected = tiny_network(True), []
    for i in range(5):
        clean = input_gradient(network, images[i : i + 1], targets[i : i + 1]).detach()[0].abs().sum(0).flatten()
        values = []
        with noise.rows(3, "rps", [i]):
            for _ in range(4):
                noisy = (images[i : i + 1] + 8 / 255 * noise.uniform(images[i : i + 1])).clamp(0, 1)
                moved = input_gradient(network, noisy, targets[i : i + 1]).detach()[0].abs().sum(0).flatten()
                values.append(clean @ moved / clean.norm() / moved.norm())
        expected.append(sum(values) / 4)
    assert_close(score("rps:eps=8/255,draws=4"), torch.stack(expected))


def test_an_image_scores_the_same_alone():
    assert_close(score("rps:draws=2", [3]), score("rps:draws=2")[3:4])


def test_without_noise_it_is_the_best_value_and_more_noise_is_worse():
    assert_close(score("rps:eps=0,draws=1"), torch.ones(5, dtype=torch.float64))
    assert_close(score("rps:similarity=(topk_overlap),eps=0"), torch.ones(5, dtype=torch.float64))
    assert score("rps:eps=4/255").mean() > score("rps:eps=16/255").mean()


def test_it_is_as_good_as_its_similarity_says():
    assert bench.component("metric", "rps:similarity=(spearman)").better == "higher"
    with pytest.raises(bench.BadValue, match="similarity accuracy does not compare two maps; use one such as cosine"):
        bench.component("metric", "rps:similarity=(accuracy)")


def test_rps_is_run_by_the_harness(tiny_run):
    outcome = tiny_run(defense=["ce"], metric=["rps:draws=2"], explainer=["gradient", "smoothgrad:samples=2"])
    assert not outcome.failures
    assert all(0 < r.value <= 1 and "attack" not in r.axes for r in outcome.records.values())


def test_data_dependence_compares_each_map_with_another_ones():
    groups = torch.tensor([0, 1, 0, 0, 1, 2])
    indices = torch.tensor([9, 3, 4, 11, 0, 7])
    anyone, own = partners(torch.zeros_like(groups), indices), partners(groups, indices)
    for found in (anyone, own):
        assert sorted(found.tolist()) == list(range(6)) or found is own
        assert (found != torch.arange(6)).all()
    # The only one of its class is compared with any other.
    assert torch.equal(groups[own][:5], groups[:5]) and own[5] == anyone[5]
    again = partners(torch.zeros_like(groups), indices.flip(0))
    assert torch.equal(5 - again.flip(0), anyone)  # whatever order they come in


def test_maps_that_are_all_the_same_depend_on_nothing(tiny_run):
    maps = torch.rand(6, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    given = {"targets": torch.zeros(6, dtype=torch.int64), "test_data": SimpleNamespace(rows=torch.arange(6))}
    metric = bench.component("metric", "data_dependence:similarity=(pearson)")
    assert metric.better == "lower"
    assert_close(metric(clean_maps=maps[:1].expand(6, 4, 4), **given), torch.ones(6, dtype=torch.float64))
    assert metric(clean_maps=maps, **given).abs().max() < 0.99
    # As a chance level of the overlap: each map with the next one in the order that is drawn, ties against it.
    overlap = bench.component("metric", "data_dependence:similarity=(topk_overlap:k=4)")
    other = partners(given["targets"], torch.arange(6))
    tops = [set(m.flatten().argsort(descending=True)[:4].tolist()) for m in maps]
    expected = [len(tops[i] & tops[int(j)]) / 4 for i, j in enumerate(other)]
    assert overlap.better == "lower" and overlap(clean_maps=maps, **given).tolist() == expected
    assert overlap(clean_maps=maps[:1].expand(6, 4, 4), **given).tolist() == [1.0] * 6
    assert overlap(clean_maps=torch.ones(6, 4, 4), **given).tolist() == [0.0] * 6
    alone = {"targets": torch.zeros(1, dtype=torch.int64), "test_data": SimpleNamespace(rows=torch.arange(1))}
    assert metric(clean_maps=maps[:1], **alone).reason == "there is one image, and no other to compare it with"
    outcome = tiny_run(metric=["data_dependence", "data_dependence:within=class"])
    assert not outcome.failures and all("attack" not in r.axes for r in outcome.records.values())
