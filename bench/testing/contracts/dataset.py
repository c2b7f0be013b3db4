"""What data sets promise."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from bench.components import Data, Dataset
from bench.engine import Catalog
from bench.testing.contracts.shared import ensure, forbid_global_rng

SAMPLES = 16  # images decoded per split


def loads_images_and_labels(component: Dataset, catalog: Catalog) -> None:
    first: dict[str, Tensor] = {}
    for split in ("train", "validation", "test"):
        with forbid_global_rng():
            data = component.load(split)
        ensure(isinstance(data, Data), f"load returned a {type(data).__name__}, not a bench.Data")
        if not len(data):
            continue  # a set for testing alone has no training images, one without validation no validation images
        rows = torch.linspace(0, len(data) - 1, min(len(data), SAMPLES)).round().long()
        _check_images(component, split, data, rows)
        first[split] = data.images[torch.arange(len(rows))]
        _check_provided(component, split, data)
        _check_masks(split, data, rows)
        _check_labels(split, data)
    ensure(first, "no split has any images")
    same = {"train", "test"} <= set(first) and torch.equal(first["train"], first["test"])
    ensure(not same, "train and test contain the same images")


def _check_images(component: Dataset, split: str, data: Data, rows: Tensor) -> None:
    images = data.images[rows]
    ensure(
        images.ndim == 4 and len(images) == len(rows),
        f"images[rows] of {split} has shape {tuple(images.shape)} for {len(rows)} rows; return (n, C, H, W)",
    )
    ensure(images.dtype == torch.float32, f"images of {split} are {images.dtype}, not float32")
    ensure(
        images.min() >= 0 and images.max() <= 1,
        f"images of {split} range from {float(images.min()):.3g} to {float(images.max()):.3g}, not within [0, 1]; "
        "leave normalisation to the network",
    )
    ensure(torch.equal(data.images[rows[1:]], images[1:]), f"an image of {split} depends on which are read with it")
    ensure(torch.equal(component.load(split).images[rows], images), f"loading {split} twice gives different images")


def _check_provided(component: Dataset, split: str, data: Data) -> None:
    values = {"labels": data.labels, "object_masks": data.object_masks, "gaze": data.gaze}
    present = {name for name, value in values.items() if value is not None}
    ensure(
        present == set(component.provides),
        f"provides lists {_join(component.provides)}, but {split} has {_join(present)}",
    )


def _check_masks(split: str, data: Data, rows: Tensor) -> None:
    for name, masks in (("object_masks", data.object_masks), ("gaze", data.gaze)):
        if masks is not None:
            values, shape = masks[rows], (len(rows), *data.shape[1:])
            ensure(values.shape == shape, f"{name}[rows] of {split} has shape {tuple(values.shape)}, not {shape}")
            ensure(values.min() >= 0 and values.max() <= 1, f"{name} of {split} has values outside [0, 1], or NaN")


def _check_labels(split: str, data: Data) -> None:
    labels, classes = data.labels, len(data.classes)
    if labels is None:
        return
    ensure(labels.dtype == torch.int64, f"labels of {split} are {labels.dtype}, not int64")
    ensure(len(labels) == len(data), f"{split} has {len(labels)} labels for {len(data)} images")
    ensure(
        labels.min() >= 0 and labels.max() < classes,
        f"labels of {split} range from {int(labels.min())} to {int(labels.max())}, not within 0 to {classes - 1} for "
        f"{classes} classes",
    )


def _join(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
