"""Attributions projected on the plane of the data, beside a decomposition of each image's neighbours; in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import bench
from bench.testing import tiny_images, tiny_network
from bench.testing.fixtures import tiny_data

STORED, TARGETS = tiny_images()
IMAGES = 0.9 * STORED + 0.04  # none of the training data


def projected(text, network, data, images=IMAGES, targets=TARGETS):
    explainer = bench.component("explainer", f"tangent_projection:{text}" if text else "tangent_projection")
    prepared = {name: each.double() for name, each in explainer.prepare(network, data, None).items()}
    with torch.no_grad():
        return explainer.attributions(network, images, targets, prepared)


def by_singular_vectors(data, image, attribution, first, last):
    """Project on the span of the differences to some of 15 references, in order of their distance."""
    references, point = data.at(data.choice(15)).images.double().flatten(1).numpy(), image.flatten().numpy()
    order = np.argsort([((point - other) ** 2).sum() for other in references])
    vectors = np.linalg.svd(references[order[first:last]] - point, full_matrices=False)[2]
    return torch.from_numpy(vectors.T @ (vectors @ attribution.flatten().numpy())).view_as(image)


@pytest.mark.parametrize("inner", ["gradient", "input_x_gradient"])
def test_projection_beside_singular_vectors(inner):
    network, data = tiny_network(True), tiny_data()
    found = projected(f"explainer=({inner}),neighbours=4,references=15", network, data)
    with torch.no_grad():
        whole = bench.component("explainer", inner).attributions(network, IMAGES, TARGETS)
    for i in range(len(IMAGES)):
        assert_close(found[i], by_singular_vectors(data, IMAGES[i], whole[i], 0, 4), rtol=1e-6, atol=1e-9)


def test_networks_that_agree_on_the_data_have_equal_projections():
    """The claim of the paper: what a manipulation adds across the data does not show."""
    generator = torch.Generator().manual_seed(3)
    plane = torch.randn(5, 3 * 12 * 12, generator=generator, dtype=torch.float64)
    points = (0.5 + 0.02 * torch.randn(24, 5, generator=generator, dtype=torch.float64) @ plane).clamp(0, 1)
    images = points.view(24, 3, 12, 12)
    across = torch.randn(3 * 12 * 12, generator=generator, dtype=torch.float64)
    across -= torch.linalg.pinv(plane) @ (plane @ across)
    honest, manipulated = (nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 3)).double() for _ in range(2))
    manipulated.load_state_dict(honest.state_dict())
    with torch.no_grad():
        manipulated[1].weight += 10 * across
        manipulated[1].bias -= 10 * (across @ points[0])
    data = bench.Data(images.float(), torch.arange(24) % 3, ("a", "b", "c"))
    seen, labels = images[:4], torch.tensor([0, 1, 2, 0])
    assert_close(manipulated(seen), honest(seen))
    with torch.no_grad():
        plain = [bench.component("explainer", "gradient").maps(each, seen, labels) for each in (honest, manipulated)]
    assert (plain[0] - plain[1]).abs().sum((1, 2)).min() > 0.1
    first, second = (
        projected("neighbours=6,references=24", each, data, seen, labels) for each in (honest, manipulated)
    )
    assert_close(first, second, rtol=1e-3, atol=1e-5)  # the data are in single precision


def test_an_image_among_its_neighbours_adds_no_direction():
    network, data = tiny_network(True), tiny_data()
    images = data.at(data.choice(15)).images.double()[:2]
    found = projected("neighbours=4,references=15", network, data, images, TARGETS[:2])
    with torch.no_grad():
        whole = bench.component("explainer", "gradient").attributions(network, images, TARGETS[:2])
    for i in range(2):
        assert_close(found[i], by_singular_vectors(data, images[i], whole[i], 1, 4), rtol=1e-6, atol=1e-9)


def test_what_an_inner_explainer_learns_is_passed_on():
    found = projected("explainer=(expected_gradients:samples=2),neighbours=2", tiny_network(True), tiny_data())
    assert found.shape == IMAGES.shape and found.any()


def test_words_for_what_cannot_be_projected():
    with pytest.raises(bench.BadValue, match="neighbours is 30, must be at most references, 20"):
        bench.component("explainer", "tangent_projection:references=20")
    words = "tangent_projection: neighbours is 30, but there are 24 training images; lower neighbours"
    with pytest.raises(bench.BadValue, match=words):
        projected("", tiny_network(True), tiny_data())
    words = "tangent_projection: edge_map gives 1 channel, and images have 3; use an explainer of all channels"
    with pytest.raises(bench.BadValue, match=words):
        projected("explainer=(edge_map),neighbours=3", tiny_network(True), tiny_data())
