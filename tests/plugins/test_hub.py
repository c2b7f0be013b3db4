"""Sets of the Hugging Face hub, from a cache of the hub that is made by hand. Tests never ask the hub itself."""

from __future__ import annotations

import json

import datasets
import huggingface_hub.constants
import numpy as np
import pytest
import torch
from test_files import CLASSES, content, picture, rows, write
from torch.testing import assert_close

import bench

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = COMMIT[::-1]


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub; returns a function that makes the folder of a commit in it, which main names."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def commit(repository, name=COMMIT):
        place = tmp_path / f"datasets--{repository.replace('/', '--')}"
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / "main").write_text(name)
        (place / "snapshots" / name).mkdir(parents=True, exist_ok=True)
        return place / "snapshots" / name

    return commit


def load(text, split="test"):
    return bench.component("dataset", text).load(split)


def test_columns_classes_and_masks_are_found_by_features(hub):
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 4:30] = 1
    columns = {"photo": rows(6)["image"], "object_mask": [{"bytes": content(mask), "path": None}] * 6}
    features = {"photo": datasets.Image(), "object_mask": datasets.Image(), "kind": datasets.ClassLabel(names=CLASSES)}
    place = hub("someone/animals")
    for split in ("train", "test"):
        table = {**columns, "kind": [2, 1, 0, 1, 2, 0]}
        write(place / "data" / f"{split}-00000-of-00001.parquet", table, features)
    dataset = bench.component("dataset", "hub:repository=someone/animals")
    data = dataset.load("test")
    assert dataset.provides == {"labels", "object_masks"}
    assert data.classes == tuple(CLASSES) and data.labels.tolist() == [2, 1, 0, 1, 2, 0] and data.shape == (3, 32, 32)
    assert_close(data.images[torch.tensor([4])][0], torch.from_numpy(picture(4)).permute(2, 0, 1) / 255)
    assert torch.equal(data.object_masks[torch.tensor([0])][0], torch.from_numpy(mask).float())
    assert dataset.identity.endswith(f"#{COMMIT}")
    assert len(dataset.load("train")) == 5 and len(dataset.load("validation")) == 1


def test_the_commit_is_part_of_the_identity_and_main_moves(hub):
    for name, count in ((COMMIT, 4), (OTHER, 6)):
        write(hub("someone/moving", name) / "test-00000-of-00001.parquet", rows(count))
    assert len(load(f"hub:repository=someone/moving,revision={COMMIT}")) == 4
    dataset = bench.component("dataset", "hub:repository=someone/moving")
    assert len(dataset.load("test")) == 6 and dataset.identity.endswith(f"#{OTHER}")


def test_folders_of_classes_are_read_from_their_files(hub):
    place = hub("someone/folders")
    for split in ("train", "test"):
        for row, name in enumerate(CLASSES):
            file = place / split / name / "0.png"
            file.parent.mkdir(parents=True)
            file.write_bytes(content(picture(row)))
    data = load("hub:repository=someone/folders")
    assert data.classes == tuple(CLASSES) and data.labels.tolist() == [0, 1, 2]
    assert_close(data.images[torch.tensor([1])][0], torch.from_numpy(picture(1)).permute(2, 0, 1) / 255)


def test_another_split_can_be_tested_on_and_subsets_chosen(hub):
    place = hub("someone/splits")
    hidden = {**rows(3), "label": [-1] * 3}  # as sets of competitions publish them
    for part, columns in (("train", rows(20)), ("validation", rows(4)), ("test", hidden)):
        write(place / "photos" / f"{part}-00000-of-00001.parquet", columns)
    write(place / "drawings" / "test-00000-of-00001.parquet", rows(2))
    settings = [
        {"config_name": "photos", "data_files": [{"split": part, "path": f"photos/{part}-*"} for part in
                                                 ("train", "validation", "test")]},
        {"config_name": "drawings", "data_files": [{"split": "test", "path": "drawings/test-*"}]},
    ]  # fmt: skip
    (place / "README.md").write_text(f"---\nconfigs: {json.dumps(settings)}\n---\n")
    text = "hub:repository=someone/splits,subset=photos"
    with pytest.raises(bench.EnvironmentProblem, match="'label' of row 0 is -1, outside its 3 classes"):
        load(text)
    data = load(f"{text},split=validation")
    assert len(data) == 4 and data.note == "test left out: no split that is used"
    assert len(load(f"{text},split=validation", "validation")) == 2  # a tenth of the training images
    assert len(load("hub:repository=someone/splits,subset=drawings")) == 2


def put(hub, name, columns, features=None, file="test-00000-of-00001.parquet"):
    write(hub(name) / file, columns, features)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"a": "image", "b": "image", "label": "label"}, "", r"has more than one column of images \(it has a, b\)"),
        ({"label": "label"}, "", r"has no column of images \(it has label\); name one with image="),
        ({"image": "image", "x": "label", "y": "label"}, "", r"more than one column with class names \(it has x, y\)"),
        ({"image": "image", "label": "label"}, ",split=dev", r"no split 'dev'"),
        ({"image": "image", "label": "label"}, ",mask=mask", r"has no column 'mask' \(it has image, label\); name it"),
    ],
)  # fmt: skip
def test_what_is_unclear_is_named(hub, columns, options, message):
    table = {name: rows(2)[role] for name, role in columns.items()}
    features = {
        name: datasets.Image() if role == "image" else datasets.ClassLabel(names=CLASSES)
        for name, role in columns.items()
    }
    name = f"someone/unclear-{'-'.join(columns)}{options.replace(',', '-').replace('=', '-')}"
    put(hub, name, table, features)
    with pytest.raises(bench.BenchError, match=message):
        load(f"hub:repository={name}{options}")


def test_splits_without_a_known_name_are_named(hub):
    put(hub, "someone/parts", rows(2))
    settings = [{"config_name": "default", "data_files": [{"split": "whole", "path": "test-*"}]}]
    (hub("someone/parts") / "README.md").write_text(f"---\nconfigs: {json.dumps(settings)}\n---\n")
    with pytest.raises(
        bench.EnvironmentProblem, match=r"is named train, validation or test \(it has whole\); name one"
    ):
        load("hub:repository=someone/parts")
    assert len(load("hub:repository=someone/parts,split=whole")) == 2


def test_a_set_that_is_neither_cached_nor_reached_is_one_line():
    with pytest.raises(bench.EnvironmentProblem) as told:
        load("hub:repository=someone/absent,revision=v1")
    text = str(told.value)
    assert text.startswith("dataset hub: someone/absent at v1 cannot be loaded (LocalEntryNotFoundError: ")
    assert text.endswith("bring the cache of the hub from a machine that has one, and name it with HF_HOME")
    assert "\n" not in text and len(text) < 500
