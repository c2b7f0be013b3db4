"""Load labelled images from the Hugging Face hub."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import bench
from bench.errors import quote_error
from bench.images import Frame
from bench_datasets.masks import Values
from bench_datasets.names import describe_left_out, splits_in
from bench_datasets.splits import assemble, reframe
from bench_datasets.tables import Table, check_cache, classes_of, one_of, quiet, rows_of

# What such columns are mostly called, best first, where a set has several that would do.
IMAGES, LABELS, MASKS = ("image", "img"), ("label", "labels"), ("mask", "segmentation", "annotation")


@dataclass(frozen=True)
class Hub(bench.Dataset):
    """Load labelled images from the Hugging Face hub. The library `datasets` reads them.

    Columns are found by their features: an Image for the images, another Image whose name says mask, segmentation or
    annotation for object masks, and a ClassLabel for the labels, which names the classes. Give `image`, `label` or
    `mask` where a set has several. Splits are told from their names (train, training; validation, valid, val, dev;
    test, testing, eval, evaluation); `split` names one to test on instead. The commit that `revision` stands for is
    part of the set's identity. Files are downloaded once, to the cache of the hub (HF_HOME), and found there without a
    network. Images are decoded on access and brought to one size, as those of `parquet`.
    """

    name = "hub"
    examples = ()
    repository: str = bench.param(help="name of the set, such as uoft-cs/cifar10")
    revision: str = bench.param("main", "commit, tag or branch; only a commit never changes")
    subset: str = bench.param("", "configuration of the set, where it has several")
    split: str = bench.param("", 'split to test on; "" for the one that is named so')
    size: int = bench.param(0, "height and width, in pixels; 0 for images that all have one size", low=0)
    resize: int = bench.param(0, "side before the middle is cut, in pixels; 0 for the size itself", low=0)
    crop: Literal["center", "none"] = bench.param("center", "side to scale: the shorter one (center), or both (none)")
    interpolation: Literal["bilinear", "bicubic"] = bench.param("bilinear", "how images are scaled")
    image: str = bench.param("", 'column of the images; "" to find it')
    label: str = bench.param("", 'column of the labels; "" to find it')
    mask: str = bench.param("", 'column of the object masks; "" to find it, where there is one')
    mask_values: Values = bench.param("auto", "what the values of masks mean, as `bench show dataset:parquet` tells")
    classes: int = bench.param(0, "number of classes, where the labels are plain numbers", low=0)
    validation: float = bench.param(
        0.1, "share of the training images to hold out where there is no validation split", low=0, high=0.9
    )
    damaged: Literal["stop", "skip"] = bench.param(
        "stop", "what to do about images that do not decode: stop, or check all first and skip them"
    )

    @classmethod
    def suggest(cls, text: str) -> str | None:
        is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not Path(text).exists()
        return f"{cls.name}:repository={text}" if is_name else None

    @property
    def provides(self) -> frozenset[str]:
        columns = self._find_columns(next(iter(self._tables()[0].values())))
        return frozenset({"labels"} | ({"object_masks"} if columns["mask"] else set()))

    @property
    def frame(self) -> Frame:
        return Frame(self.size, self.resize, self.crop, self.interpolation)

    def framed(self, frame: Frame) -> bench.Dataset:
        return reframe(self, frame)

    def find_problem(self) -> str | None:
        return self.frame.find_problem()

    def load(self, split: str) -> bench.Data:
        tables, commit = self._tables()
        named = {part: splits_in(part) for part in tables}
        chosen = {found[0]: part for part, found in named.items() if len(found) == 1}
        if self.split:
            if self.split not in tables:
                raise bench.UnknownName(
                    f"dataset hub: {self.repository} has no split {self.split!r}{bench.suggestion(self.split, tables)}"
                )
            chosen = {ours: part for ours, part in chosen.items() if part != self.split} | {"test": self.split}
        if not chosen:
            raise bench.EnvironmentProblem(
                f"dataset hub: no split of {self.repository} is named train, validation or test "
                f"(it has {', '.join(tables)}); name one to test on with split=..."
            )
        splits, names = {}, {}
        for ours, part in sorted(chosen.items()):
            table = tables[part]
            about, found = f"{self.repository} {part}", self._find_columns(table)
            splits[ours], names[ours] = rows_of(
                table, about, found["image"], found["label"], found["mask"], self.classes
            )
        classes = one_of(names, self.repository)
        left = [Path(part) for part in tables if part not in chosen.values()]
        note = describe_left_out(left, Path(), "no split that is used")
        return assemble(
            splits, split, classes, self.frame, self.validation, self.damaged, commit, self.mask_values, note
        )

    def _tables(self) -> tuple[dict[str, Table], str]:
        return _load(self.repository, self.revision, self.subset)

    def _find_columns(self, table: Table) -> dict[str, str]:
        """The columns of images, labels and masks, by their features unless parameters name them; no mask is ""."""
        pictures = [name for name, kind in table.kinds.items() if kind == "Image"]
        masks = [name for name in pictures if name != self.image and any(word in name.lower() for word in MASKS)]
        image = self.image or self._choose("image", [name for name in pictures if name not in masks], IMAGES, table)
        return {
            "image": image,
            "label": self.label or self._choose("label", list(table.classes), LABELS, table),
            "mask": self.mask or (self._choose("mask", masks, MASKS, table) if masks else ""),
        }

    def _choose(self, role: str, found: list[str], usual: Iterable[str], table: Table) -> str:
        best = [name for name in usual if name in found]
        if len(found) == 1 or best:
            return (best or found)[0]
        what = {"image": "column of images", "label": "column with class names", "mask": "column of masks"}[role]
        raise bench.EnvironmentProblem(
            f"dataset hub: {self.repository} has {'more than one' if found else 'no'} {what} (it has "
            f"{', '.join(found or table.columns)}); name one with {role}=..."
        )


@functools.cache
def _load(repository: str, revision: str, subset: str) -> tuple[dict[str, Table], str]:
    """The splits of a set by their names on the hub, and its commit."""
    about = f"dataset hub: {repository} at {revision}"
    try:
        import datasets
        import huggingface_hub

        with quiet():
            folder = huggingface_hub.snapshot_download(repository, repo_type="dataset", revision=revision)
            found: Mapping[str, Any] = datasets.load_dataset(folder, subset or None)
    except Exception as error:
        check_cache(error)
        raise bench.EnvironmentProblem(
            f"{about} cannot be loaded ({type(error).__name__}: {quote_error(error)}); check the names, or, where "
            "there is no network, bring the cache of the hub from a machine that has one, and name it with HF_HOME"
        ) from error
    tables = {}
    for part, rows in found.items():
        kinds = {name: type(feature).__name__ for name, feature in rows.features.items()}
        tables[part] = Table(rows.data.table, classes_of(rows.data.table.schema), kinds, reads_paths=True)
    return tables, Path(folder).name
