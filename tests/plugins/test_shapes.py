"""The drawn data set: the same everywhere, exact masks, and a background that tells nothing."""

from __future__ import annotations

import hashlib
import time

import pytest
import torch
from bench_datasets.shapes import SIZES, TAILS, Drawings
from sklearn.linear_model import LogisticRegression

import bench


@pytest.fixture(scope="module")
def shapes():
    return bench.component("dataset", "shapes")


def checksum(split, size=32):
    images = Drawings(split, SIZES[split], size)[torch.arange(40)]
    return hashlib.sha256((images * 255).round().byte().numpy().tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("split", "size", "expected"),
    [
        ("train", 32, "f7e0ad54a9a62c53"),
        ("validation", 32, "85855776272b9d0b"),
        ("test", 32, "28f0ac841aeecc38"),
        ("test", 64, "a4bd5a93457d09aa"),
    ],
)
def test_the_pixels_are_pinned(split, size, expected):
    assert checksum(split, size) == expected


def test_the_set_has_its_sizes_and_is_made_in_seconds(shapes):
    start = time.perf_counter()
    counts = {}
    for split in SIZES:
        data = shapes.load(split)
        images = data.images[torch.arange(len(data))]
        counts[split] = len(images)
        assert images.shape[1:] == (3, 32, 32) and data.labels.bincount().max() - data.labels.bincount().min() <= 1
    assert counts == {"train": 4096, "validation": 512, "test": 1024}
    assert time.perf_counter() - start < 30


def test_image_i_depends_on_split_and_i_alone(shapes):
    test, train = shapes.load("test").images, shapes.load("train").images
    rows = torch.tensor([900, 7, 33])
    assert torch.equal(test[rows], torch.cat([test[row[None]] for row in rows]))
    assert not torch.equal(test[rows], train[rows])
    assert len(test[torch.arange(1024)].flatten(1).unique(dim=0)) == 1024


def test_the_mask_is_where_the_object_changes_the_background():
    rows = torch.arange(100)
    whole, empty = Drawings("test", 1024, 32)[rows], Drawings("test", 1024, 32, empty=True)[rows]
    masks = Drawings("test", 1024, 32, masks=True)[rows]
    changed = (whole != empty).any(1).float()
    assert (changed <= masks).all()
    # A sliver of coverage can round to no change at all; nothing else may differ.
    assert (masks - changed).mean() < 0.01
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert masks.mean((1, 2)).min() > 0.1 and masks.mean((1, 2)).max() < 0.35


def test_a_larger_picture_shows_the_same_scene():
    rows = torch.arange(20)
    small, large = Drawings("test", 1024, 32, masks=True)[rows], Drawings("test", 1024, 512, masks=True)[rows]
    halved = torch.nn.functional.avg_pool2d(large[:, None], 16)[:, 0]
    assert ((halved > 0.5) == (small > 0)).float().mean() > 0.93
    assert halved[small == 0].mean() < 0.01
    assert Drawings("test", 1024, 512)[rows[:2]].shape == (2, 3, 512, 512)


def test_object_and_background_are_drawn_independently_of_the_class():
    rows = torch.arange(1024)
    masks = Drawings("test", 1024, 32, masks=True)[rows]
    grid = torch.arange(32.0)
    centre = (masks.sum(1) * grid).sum(1) / masks.sum((1, 2))
    by_class = torch.stack([centre[rows % 10 == c].mean() for c in range(10)])
    assert by_class.std() < 3 * centre.std() / 102**0.5


def test_the_background_alone_does_not_give_the_class_away():
    train, test = torch.arange(2000), torch.arange(1024)
    probe = LogisticRegression(C=0.01, max_iter=300)
    probe.fit(Drawings("train", 4096, 32, empty=True)[train].flatten(1), train % 10)
    found = probe.score(Drawings("test", 1024, 32, empty=True)[test].flatten(1), test % 10)
    assert 0.1 - 4 * 0.0094 < found < 0.1 + 4 * 0.0094  # chance, give or take four standard errors of 1024 images


def test_the_object_does():
    """What the probe above cannot find is there to be found: on masks alone the kind of tail is above chance."""
    train, test = torch.arange(2000), torch.arange(1024)
    probe = LogisticRegression(C=0.01, max_iter=300)
    area = Drawings("train", 4096, 32, masks=True)[train].mean((1, 2))[:, None] * 100
    probe.fit(area, train % len(TAILS))
    assert (
        probe.score(Drawings("test", 1024, 32, masks=True)[test].mean((1, 2))[:, None] * 100, test % len(TAILS)) > 0.25
    )


def test_a_size_out_of_range_is_named():
    with pytest.raises(bench.BadValue, match="dataset shapes: size is 8, must be a whole number from 16 to 2048"):
        bench.component("dataset", "shapes:size=8")
