"""Metrics beside those of Quantus, where both measure the same."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from bench_metrics import road
from torch.testing import assert_close

import bench
from bench.testing import tiny_images, tiny_network

IMAGES, TARGETS = tiny_images(5)
IMAGES = IMAGES.float()
MASKS = torch.zeros(5, 12, 12)
MASKS[:, 3:8, 2:7] = 1


@pytest.fixture(scope="module")
def quantus():
    with warnings.catch_warnings(action="ignore"):
        import quantus

        yield quantus


def attributions(channels):
    return torch.rand(5, channels, 12, 12, generator=torch.Generator().manual_seed(0))


def theirs(metric, attributions, *more, **options):
    quiet = {"abs": False, "normalise": False, "display_progressbar": False, "disable_warnings": True}
    with warnings.catch_warnings(action="ignore"):
        found = metric(**options, **quiet)(
            tiny_network(True).float(), IMAGES.numpy(), TARGETS.numpy(), attributions.numpy(), *more, softmax=True
        )
    return torch.tensor(np.array(found, dtype=np.float64))


def ours(text, **evidence):
    return bench.component("metric", text)(**evidence)


@pytest.mark.parametrize(
    "name, text",
    [
        ("Sparseness", "sparsity"),
        ("Complexity", "complexity"),
        ("RelevanceRankAccuracy", "mask_overlap"),
        ("RelevanceMassAccuracy", "mask_mass"),
        ("PointingGame", "pointing_game"),
        ("AUC", "mask_auc"),
    ],
)
def test_of_maps_and_masks(quantus, name, text):
    maps = attributions(1)[:, 0]
    maps = maps / maps.sum((1, 2), keepdim=True)
    masks = {} if text in ("sparsity", "complexity") else {"object_masks": MASKS}
    more = [MASKS[:, None].numpy()] if masks else []
    found = theirs(getattr(quantus, name), maps[:, None], *more)
    # Its Gini index is that of the map plus 1e-7.
    assert_close(ours(text, clean_maps=maps, **masks), found, rtol=2e-5 if text == "sparsity" else 1e-6, atol=1e-6)


def test_pixel_flipping_is_deletion_of_elements_without_its_first_level(quantus):
    """Quantus flips elements in the order of signed values and leaves out the image itself; of pixels, all channels
    together, it has no form."""
    given = attributions(3)
    found = ours(
        "deletion:parts=elements,fill=black,steps=18",
        network=tiny_network(True).float(),
        images=IMAGES,
        targets=TARGETS,
        clean_attributions=given,
    )
    flipped = theirs(quantus.PixelFlipping, given, features_in_step=24, perturb_baseline=0.0)
    assert_close(found.values[:, 1:], flipped, rtol=1e-5, atol=1e-6)


def test_imputation_from_neighbours(quantus):
    gone = torch.rand(5, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.6
    found = road.impute(IMAGES.double(), gone)
    for i in range(5):
        places = gone[i].flatten().nonzero()[:, 0].numpy()
        assert_close(
            found[i], torch.from_numpy(quantus.noisy_linear_imputation(IMAGES[i].double().numpy(), places, noise=0))
        )
