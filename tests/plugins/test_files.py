"""Data sets from files: what is read, what is decoded when, and what is wrong with them."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from bench_datasets.images import gaze_map
from bench_datasets.masks import object_mask
from bench_datasets.tables import parquet_files
from marks import mostly_slow
from PIL import Image
from slow_metrics import gaussian_gaze
from torch.testing import assert_close

import bench
from bench.components.files import use_data_dir
from bench.images import Frame, decode, pixels
from bench.testing import checks

CLASSES = ["ant", "bee", "cow"]
SHORT = "quick:epochs=1,batch=6"


def picture(seed, size=(32, 32)):
    return np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)


def content(image, form="PNG", **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def rows(count, size=(32, 32), first=0):
    return {
        "image": [{"bytes": content(picture(first + i, size)), "path": f"{i}.png"} for i in range(count)],
        "label": [i % 2 for i in range(count)],
    }


FEATURES = {"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES), "mask": datasets.Image()}


def write(path, columns, features=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = datasets.Features({name: (features or FEATURES)[name] for name in columns})
    datasets.Dataset.from_dict(columns, features=chosen).to_parquet(path)
    return path


@pytest.fixture
def parquet(tmp_path):
    """A folder of train and test files."""
    write(tmp_path / "set" / "train-00000-of-00001.parquet", rows(40))
    write(tmp_path / "set" / "test-00000-of-00001.parquet", rows(10, first=100))
    return tmp_path / "set"


def load(text, split="test"):
    return bench.component("dataset", text).load(split)


def test_images_labels_and_classes_are_what_the_file_holds(parquet):
    data = load(f"parquet:path={parquet}")
    assert data.classes == ("ant", "bee", "cow") and len(data) == 10 and data.shape == (3, 32, 32)
    assert data.labels.tolist() == [0, 1] * 5  # no cow is seen; it is a class all the same
    expected = torch.from_numpy(np.stack([picture(103), picture(100)])).permute(0, 3, 1, 2) / 255
    assert_close(data.images[torch.tensor([3, 0])], expected)


def test_validation_is_held_out_of_train_and_never_of_test(parquet):
    text = f"parquet:path={parquet},validation=0.25"
    train, held, test = (load(text, split) for split in ("train", "validation", "test"))
    assert (len(train), len(held), len(test)) == (30, 10, 10)
    assert held.labels.bincount().tolist() == [5, 5]
    everything = {
        image.numpy().tobytes()
        for image in load(f"parquet:path={parquet},validation=0", "train").images[torch.arange(40)]
    }
    parts = [{i.numpy().tobytes() for i in d.images[torch.arange(len(d))]} for d in (train, held)]
    assert parts[0] | parts[1] == everything and not parts[0] & parts[1]
    write(parquet / "validation.parquet", rows(6, first=500))
    assert len(load(text, "validation")) == 6 and len(load(text, "train")) == 40


def test_the_contracts_hold_on_files(parquet, tmp_path):
    folder = tmp_path / "pictures"
    for split, count in (("train", 12), ("test", 4)):
        for i in range(count):
            place = folder / split / CLASSES[i % 3] / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content(picture(i)))
    (parquet.parent / "cifar10").symlink_to(parquet)
    with use_data_dir(parquet.parent):
        for name in (f"parquet:path={parquet}", f"folder:path={folder}", "cifar10"):
            found = checks("dataset", name)
            assert len(found) == 3
            for check in found:
                check()


def test_a_single_file_is_one_split(parquet):
    file = parquet / "train-00000-of-00001.parquet"
    assert len(load(f"parquet:path={file}", "train")) == 36 and len(load(f"parquet:path={file}", "test")) == 0
    assert load(f"parquet:path={file}", "test").shape == (3, 32, 32)
    other = file.rename(parquet / "pictures.parquet")
    assert len(load(f"parquet:path={other}", "test")) == 40


def test_columns_of_other_names_masks_and_plain_numbers(tmp_path):
    masks = np.zeros((4, 32, 32), np.uint8)
    masks[:, :16] = 1
    path = write(
        tmp_path / "test.parquet",
        {"img": rows(4)["image"], "kind": [0, 3, 1, 2], "shape": [{"bytes": content(m), "path": None} for m in masks]},
        {"img": datasets.Image(), "kind": datasets.Value("int64"), "shape": datasets.Image()},
    )
    component = bench.component("dataset", f"parquet:path={path},image=img,label=kind,mask=shape,classes=5")
    data = component.load("test")
    assert data.classes == ("0", "1", "2", "3", "4") and data.labels.tolist() == [0, 3, 1, 2]
    assert component.provides == {"labels", "object_masks"}
    assert_close(data.object_masks[torch.arange(4)], torch.from_numpy(masks).float())
    assert load(f'parquet:path={path},image=img,label="",mask=shape').labels is None


@pytest.mark.parametrize(
    ("frame", "width", "height", "expected"),
    [
        (Frame(8, 0, "center"), 32, 16, lambda i: i.resize((16, 8), 2).crop((4, 0, 12, 8))),
        (Frame(8, 12, "center"), 16, 32, lambda i: i.resize((12, 24), 2).crop((2, 8, 10, 16))),
        (Frame(8, 0, "none"), 32, 16, lambda i: i.resize((8, 8), 2)),
        (Frame(0, 0, "center"), 5, 7, lambda i: i),
        (Frame(8, 12, "none"), 16, 32, lambda i: i.resize((12, 12), 2).crop((2, 2, 10, 10))),
        (Frame(8, 0, "center", "bicubic"), 32, 16, lambda i: i.resize((16, 8), 3).crop((4, 0, 12, 8))),
    ],
)
def test_images_come_to_one_size_by_the_declared_rule(frame, width, height, expected):
    image = Image.fromarray(picture(1, (width, height)))
    found = pixels(content(image), frame)
    assert_close(found, torch.from_numpy(np.asarray(expected(image)).copy()).permute(2, 0, 1) / 255)


def test_torchvision_frames_images_alike():
    from torchvision.transforms import v2

    image = Image.fromarray(picture(2, (300, 260)))
    theirs = v2.Compose(
        [v2.Resize(256, antialias=True), v2.CenterCrop(224), v2.ToImage(), v2.ToDtype(torch.float32, True)]
    )
    assert (pixels(content(image), Frame(224, 256, "center")) - theirs(image)).abs().max() <= 1 / 255


def test_all_sorts_of_images_become_rgb():
    grey = Image.fromarray(picture(1)[..., 0])
    assert np.array_equal(np.asarray(decode(content(grey)))[..., 2], np.asarray(grey))
    palette = Image.fromarray(picture(2)).quantize(16)
    assert np.array_equal(np.asarray(decode(content(palette))), np.asarray(palette.convert("RGB")))
    clear = Image.new("RGBA", (4, 4), (200, 10, 10, 0))
    assert (np.asarray(decode(content(clear))) == 255).all()
    half = np.asarray(decode(content(Image.new("RGBA", (4, 4), (0, 0, 0, 128)))))
    assert abs(int(half[0, 0, 0]) - 127) <= 1
    see_through = Image.new("P", (4, 4), 0)
    see_through.putpalette([9, 9, 9] * 256)
    assert (np.asarray(decode(content(see_through, transparency=0))) == 255).all()
    assert (np.asarray(decode(content(Image.new("LA", (4, 4), (7, 255))))) == 7).all()
    deep = Image.fromarray((np.arange(16).reshape(4, 4) * 4369).astype(np.uint16))
    assert np.array_equal(np.asarray(decode(content(deep)))[..., 0], np.arange(16).reshape(4, 4) * 17)
    assert np.asarray(decode(content(Image.new("1", (4, 4), 1)))).max() == 255
    assert decode(content(Image.new("CMYK", (4, 4)), "JPEG")).mode == "RGB"
    turned = Image.fromarray(picture(3, (8, 4)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    assert decode(content(turned, "JPEG", exif=exif)).size == (4, 8)


def test_a_file_without_rows_is_named(tmp_path):
    path = write(tmp_path / "test.parquet", {"image": [], "label": []})
    with pytest.raises(bench.EnvironmentProblem, match=r"test\.parquet has no rows; check its path"):
        load(f"parquet:path={path}")


def test_memory_does_not_grow_with_the_set(tmp_path):
    one = content(picture(1, (128, 128)))
    path = write(tmp_path / "test.parquet", {"image": [{"bytes": one, "path": None}] * 400, "label": [0] * 400})
    data = load(f"parquet:path={path}")
    data.images[torch.arange(2)]
    tracemalloc.start()
    for start in range(0, 400, 8):
        data.images[torch.arange(start, start + 8)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * len(one) / 10  # the eight at hand take 12 files' worth


def test_folders_name_the_classes_of_all_splits(tmp_path):
    for place in ("train/ant/1.png", "train/bee/2.JPEG", "val/cow/3.png", "test/bee/4.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(content(picture(int(place.split("/")[2][0]))))
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    train, held, test = (load(f"folder:path={tmp_path}", s) for s in ("train", "validation", "test"))
    assert train.classes == ("ant", "bee", "cow") and train.labels.tolist() == [0, 1]
    assert held.labels.tolist() == [2] and test.labels.tolist() == [1]
    flat = load(f"folder:path={tmp_path / 'train'}")
    assert flat.classes == ("ant", "bee") and len(flat) == 2


def test_cifar10_is_found_in_the_data_folder_and_known_by_its_content(parquet, monkeypatch):
    parquet.rename(parquet.parent / "cifar10")
    component = bench.component("dataset", "cifar10")
    with use_data_dir(parquet.parent):
        first, train = component.identity, component.load("train")
        assert len(train) == 36 and train.classes == ("ant", "bee", "cow")
    (parquet.parent / "other").mkdir()
    write(parquet.parent / "other" / "cifar10" / "train.parquet", rows(40))
    write(parquet.parent / "other" / "cifar10" / "test.parquet", rows(11))
    monkeypatch.setenv("BENCH_DATA_DIR", str(parquet.parent / "other"))
    assert component.identity != first
    assert component.identity.startswith("dataset/cifar10@2(validation=0.1,variant=official)#")


def test_cifar10_without_files_says_where_it_looked_and_how_to_get_them(tmp_path):
    with use_data_dir(tmp_path), pytest.raises(bench.EnvironmentProblem) as caught:
        load("cifar10")
    text = str(caught.value)
    assert f"looked in {tmp_path / 'cifar10'} (missing) and on the hub (uoft-cs/cifar10, not reached" in text
    assert "put its train-*.parquet and test-*.parquet into DATA/cifar10" in text and "--data-dir" in text
    (tmp_path / "cifar10").mkdir()
    write(tmp_path / "cifar10" / "train.parquet", rows(4))
    with use_data_dir(tmp_path), pytest.raises(bench.EnvironmentProblem, match=r"cifar10 has no test files \(SPLIT-"):
        load("cifar10")
    with (
        pytest.raises(bench.EnvironmentProblem, match="data folder nowhere does not exist; check --data-dir"),
        use_data_dir("nowhere"),
    ):
        pass


def test_a_damaged_image_is_named_and_stops_or_is_left_out(tmp_path, tiny_run):
    columns = rows(20)
    for row, harm in ((4, b"no image"), (11, columns["image"][11]["bytes"][:700]), (12, b"")):
        columns["image"][row]["bytes"] = harm
    path = write(tmp_path / "set" / "test.parquet", columns)
    write(tmp_path / "set" / "train.parquet", rows(20))
    data = load(f"parquet:path={path.parent}")
    assert data.images[torch.tensor([3, 5])].shape == (2, 3, 32, 32)
    message = (
        f"image 4 of {path} cannot be decoded \\(.*\\), and 2 more of the 20 requested; fix it, or skip all such "
        "images with damaged=skip"
    )
    with pytest.raises(bench.EnvironmentProblem, match=message):
        data.images[torch.arange(20)]
    outcome = tiny_run(
        dataset=[f"parquet:path={path.parent}"], samples=["20"], metric=["accuracy", "train_time"], schedule=[SHORT]
    )
    assert outcome.exit_code == 3 and [r.metric for r in outcome.records.values()] == ["train_time"]
    skipping = f"parquet:path={path.parent},damaged=skip"
    assert load(skipping).note == "3 of 20 images are damaged and skipped" and len(load(skipping)) == 17
    outcome = tiny_run(dataset=[skipping], samples=["17"], metric=["accuracy"], schedule=[SHORT])
    (record,) = outcome.records.values()
    assert record.n == 17 and record.provenance["data"] == "3 of 20 images are damaged and skipped"


def test_a_damaged_mask_is_one_too(tmp_path):
    columns = {**rows(4), "mask": rows(4, first=9)["image"]}
    columns["mask"][2]["bytes"] = b"no mask"
    path = write(tmp_path / "test.parquet", columns)
    with pytest.raises(bench.EnvironmentProblem, match=r"the mask of image 2 of .* cannot be decoded"):
        load(f"parquet:path={path}").object_masks[torch.arange(4)]
    data = load(f"parquet:path={path},damaged=skip")
    assert data.object_masks[torch.arange(3)].shape == (3, 32, 32) and data.note.startswith("1 of 4 images")


def wrong(tmp_path, columns, features, text):
    path = write(tmp_path / "test.parquet", columns, features)
    return f"parquet:path={path}{text}"


@pytest.mark.parametrize(
    ("columns", "features", "text", "message"),
    [
        (["label"], {}, "", r"test.parquet has no column 'image' \(it has label\); name it with image=\.\.\.$"),
        (
            ["image"],
            {},
            "",
            r"has no column 'label' \(it has image\); name it with label=..., or label=\"\" for a set with",
        ),
        (["image", "label"], {}, ",mask=cut", r"has no column 'cut' \(it has image, label\); name it with mask="),
        (["image", "label"], {"image": datasets.Value("int64")}, "", "column 'image' contains int64, not images"),
        (
            ["image", "label"],
            {"label": datasets.Value("int64")},
            "",
            "column 'label' has no class names; store it as a",
        ),
        (
            ["image", "label"],
            {"label": datasets.Value("string")},
            "",
            "column 'label' has no class names; store it as a",
        ),
        (
            ["image", "label"],
            {"label": datasets.Value("int64")},
            ",classes=1",
            "the 'label' of row 1 is 1, outside its 1 cl",
        ),
    ],
)
def test_a_file_without_what_is_asked_says_what_it_has(tmp_path, columns, features, text, message):
    values = {name: rows(4)[name] for name in columns}
    if "image" in features:
        values["image"] = [1, 2, 3, 4]
    if features.get("label") == datasets.Value("string"):
        values["label"] = ["a", "b", "a", "b"]
    with pytest.raises(bench.EnvironmentProblem, match=message):
        load(wrong(tmp_path, values, {**FEATURES, **features}, text))


def test_sizes_that_differ_and_files_that_are_none(tmp_path, parquet):
    columns = {"image": rows(1)["image"] + rows(1, (20, 10))["image"], "label": [0, 1]}
    path = write(tmp_path / "test.parquet", columns)
    with pytest.raises(
        bench.EnvironmentProblem, match=r"image 1 of .* has 10 x 20 pixels, but the first image has 32 x 32; give"
    ):
        load(f"parquet:path={path}").images[torch.arange(2)]
    assert load(f"parquet:path={path},size=8").images[torch.arange(2)].shape == (2, 3, 8, 8)
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(bench.EnvironmentProblem, match=r"test\.parquet cannot be read as Parquet"):
        load(f"parquet:path={path}")
    with pytest.raises(bench.EnvironmentProblem, match="nothing does not exist; check the path"):
        load("parquet:path=nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(bench.EnvironmentProblem, match="empty contains no Parquet files"):
        load(f"parquet:path={tmp_path / 'empty'}")
    with pytest.raises(bench.EnvironmentProblem, match=r"empty contains no images of the form \[SPLIT/\]CLASS/FILE"):
        load(f"folder:path={tmp_path / 'empty'}")
    with pytest.raises(bench.EnvironmentProblem, match="nothing is not a folder; check the path"):
        load("folder:path=nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resize=40", "dataset parquet: resize is 40 and size is 0; give the size to crop to as well"),
        ("size=32,resize=16", "resize is 16, smaller than the crop of size 32; give 32 or more"),
        ("size=32,resize=16,crop=none", "resize is 16, smaller than the crop of size 32; give 32 or more"),
    ],
)
def test_parameters_that_contradict_each_other(text, message):
    with pytest.raises(bench.BadValue, match=message):
        bench.component("dataset", f"parquet:path=x,{text}")


def test_parts_with_other_classes_are_refused(tmp_path):
    write(tmp_path / "set" / "train.parquet", rows(4))
    other = {**FEATURES, "label": datasets.ClassLabel(names=["bee", "ant", "cow"])}
    write(tmp_path / "set" / "test.parquet", rows(4), other)
    with pytest.raises(
        bench.EnvironmentProblem, match="the classes of train are ant, bee, cow, those of test bee, ant, cow"
    ):
        load(f"parquet:path={tmp_path / 'set'}")
    write(tmp_path / "two" / "test-0.parquet", rows(4))
    write(tmp_path / "two" / "test-1.parquet", rows(4), other)
    with pytest.raises(bench.EnvironmentProblem, match=r"test-1\.parquet are bee, ant, cow, those of test-0\.parquet"):
        load(f"parquet:path={tmp_path / 'two'}")


def test_other_content_of_the_same_age_is_another_set(tmp_path):
    path = tmp_path / "test.parquet"
    found = []
    for first in (0, 50):
        write(path, rows(4, first=first))
        os.utime(path, (1_000_000_000, 1_000_000_000))
        component = bench.component("dataset", f"parquet:path={path}")
        found.append((component.load("test").images[torch.arange(4)], component.identity))
    assert not torch.equal(found[0][0], found[1][0]) and found[0][1] != found[1][1]


def test_the_split_that_a_file_is_enters_its_identity(tmp_path):
    first = write(tmp_path / "a" / "train.parquet", rows(4))
    second = tmp_path / "a" / "validation.parquet"
    second.write_bytes(first.read_bytes())
    texts = [bench.component("dataset", f"parquet:path={path}").identity for path in (first, second)]
    assert texts[0] != texts[1]


def test_images_that_are_only_paths_are_refused(tmp_path):
    (tmp_path / "1.png").write_bytes(content(picture(1)))
    columns = {"image": [{"bytes": None, "path": str(tmp_path / "1.png")}], "label": [0]}
    path = tmp_path / "test.parquet"
    schema = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)}).arrow_schema
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), path)
    with pytest.raises(bench.EnvironmentProblem, match="cannot be decoded"):
        load(f"parquet:path={path},size=8").images[torch.arange(1)]


def test_a_folder_is_known_by_what_its_links_lead_to_and_is_read_again(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (real / "1.png").write_bytes(content(picture(1)))
    (tmp_path / "set" / "test").mkdir(parents=True)
    (tmp_path / "set" / "test" / "ant").symlink_to(real)
    (tmp_path / "set" / "test" / ".ipynb_checkpoints").mkdir()
    component = bench.component("dataset", f"folder:path={tmp_path / 'set'}")
    before, data = component.identity, component.load("test")
    assert (len(data), data.classes) == (1, ("ant",))
    (real / "2.png").write_bytes(content(picture(2)))
    assert component.identity != before and len(component.load("test")) == 2


def test_labels_that_are_missing_are_named(tmp_path):
    schema = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)}).arrow_schema
    columns = {"image": rows(3)["image"], "label": [0, None, 1]}
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), tmp_path / "test.parquet")
    with pytest.raises(bench.EnvironmentProblem, match="the 'label' of row 1 is missing; remove such rows"):
        load(f"parquet:path={tmp_path / 'test.parquet'}")


def test_a_split_that_is_not_there_is_named(parquet, tiny_run):
    file = parquet / "test-00000-of-00001.parquet"
    outcome = tiny_run(dataset=[f"parquet:path={file}"], metric=["accuracy"], split=["validation"])
    (failure,) = outcome.failures.values()
    assert f"dataset parquet:path={file} has no validation images; choose another split" in str(failure)
    outcome = tiny_run(dataset=[f"parquet:path={file}"], metric=["accuracy"])
    (failure,) = outcome.failures.values()
    assert "the data set has no training images; use another, or trained weights" in str(failure)


WITHOUT_DATASETS = """
import sys
sys.modules["datasets"] = None
import torch, bench
for text in sys.argv[1:]:
    try:
        data = bench.component("dataset", text).load("train")
        print(data.classes, data.labels.tolist(), data.images[torch.arange(len(data))].double().sum().item())
    except bench.EnvironmentProblem as problem:
        print(problem)
"""


def test_parquet_files_are_read_without_datasets(parquet, tmp_path, monkeypatch):
    write(tmp_path / "data" / "cifar10" / "train-0.parquet", rows(10))
    write(tmp_path / "data" / "cifar10" / "train-1.parquet", rows(10, first=10))
    write(tmp_path / "data" / "cifar10" / "test.parquet", rows(4, first=50))
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path / "data"))
    texts = [f"parquet:path={parquet}", "cifar10"]
    done = subprocess.run([sys.executable, "-c", WITHOUT_DATASETS, *texts], capture_output=True, text=True)
    expected = []
    for text in texts:
        data = load(text, "train")
        expected.append(f"{data.classes} {data.labels.tolist()} {data.images[torch.arange(len(data))].double().sum()}")
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")


def test_without_datasets_the_hub_counts_as_not_reached(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(bench.EnvironmentProblem) as caught:
        load("cifar10", "train")
    message = str(caught.value)
    assert "on the hub (uoft-cs/cifar10, not reached: ModuleNotFoundError); put its train-*" in message


def test_images_may_be_plain_bytes_and_not_paths(tmp_path):
    names = [datasets.Value("binary"), datasets.Value("large_binary"), datasets.Value("string")]
    plain = [{"image": [content(picture(7))], "label": [1]}] * 2 + [{"image": ["1.png"], "label": [1]}]
    first, second, path = (
        write(tmp_path / f"{i}" / "test.parquet", columns, {**FEATURES, "image": name})
        for i, (columns, name) in enumerate(zip(plain, names, strict=True))
    )
    for file in (first, second):
        image = load(f"parquet:path={file}").images[torch.arange(1)][0]
        assert_close(image, torch.from_numpy(picture(7)).permute(2, 0, 1) / 255)
    with pytest.raises(bench.EnvironmentProblem, match="column 'image' contains string, not images"):
        load(f"parquet:path={path}")


def fill(place, splits, classes, size=(40, 30)):
    """Pictures in the layout SPLIT/CLASS/FILE, two of each class."""
    for split in splits:
        for number in range(classes):
            for i in range(2):
                file = place / split / f"n{number:04}" / f"{i}.JPEG"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content(picture(number * 2 + i + 500 * (split != "train"), size), "JPEG"))


NAMED = {"imagenette": (10, ("train", "val")), "imagenet100": (100, ("train", "val")), "flowers": (102, None)}


@pytest.mark.parametrize("name", mostly_slow(NAMED, "imagenette", "flowers"))
def test_sets_of_a_name_are_read_as_they_are_unpacked(tmp_path, name):
    classes, splits = NAMED[name]
    fill(tmp_path / name, splits or ("train", "val", "test"), classes)
    with use_data_dir(tmp_path):
        train, held, test = (load(f"{name}:size=24,resize=30", split) for split in ("train", "validation", "test"))
        assert [len(train), len(held), len(test)] == (
            [2 * classes] * 3 if splits is None else [round(1.8 * classes), round(0.2 * classes), 2 * classes]
        )
        assert len(train.classes) == classes and train.shape == (3, 24, 24)
        first = test.images[torch.tensor([0])]
        found = pixels(
            (tmp_path / name / ("test" if splits is None else "val") / "n0000" / "0.JPEG").read_bytes(),
            Frame(24, 30, "center"),
        )
        assert torch.equal(first[0], found)
        assert load(name, "test").shape == (3, 224, 224)
        for check in checks("dataset", f"{name}:size=24"):
            check()


def test_sets_of_a_name_are_read_from_parquet_too(tmp_path):
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=[f"n{i}" for i in range(10)])}
    for split, first in (("train", 0), ("validation", 100)):
        write(tmp_path / "imagenette" / f"{split}-00000.parquet", rows(20, first=first), features)
    with use_data_dir(tmp_path):
        assert [len(load("imagenette:size=32", s)) for s in ("train", "validation", "test")] == [18, 2, 20]


@pytest.mark.parametrize("name", [*NAMED, "cub_gha"])
def test_a_set_that_is_not_there_says_what_to_put_where(tmp_path, name):
    with pytest.raises(bench.EnvironmentProblem, match=f"dataset {name}: no data folder is set; put .* DATA/{name}"):
        load(name)
    with use_data_dir(tmp_path), pytest.raises(bench.EnvironmentProblem, match=f"{name} does not exist; put"):
        load(name)
    if name in NAMED:
        fill(tmp_path / name, ("train", "val"), 3)
        with use_data_dir(tmp_path), pytest.raises(bench.EnvironmentProblem, match="3 classes, but the set has 10"):
            load(name)


def test_cub_gha_is_read_as_it_is_unpacked(tmp_path):
    birds, gaze = tmp_path / "cub_gha" / "CUB_200_2011", tmp_path / "cub_gha" / "CUB_GHA"
    gaze.mkdir(parents=True)
    lists = {"images.txt": [], "image_class_labels.txt": [], "train_test_split.txt": [], "classes.txt": []}
    for number in range(1, 25):
        kind = (number - 1) % 3 + 1
        name = f"{kind:03}.Bird/{number}.jpg"
        file = birds / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content(picture(number, (40, 30)), "JPEG"))
        if number != 7:  # four official training images have no map
            attention = np.zeros((30, 40), np.uint8)
            attention[:, :20] = 200
            (gaze / f"{number}.jpg").write_bytes(content(attention, "JPEG", quality=100))
        lists["images.txt"].append(f"{number} {name}")
        lists["image_class_labels.txt"].append(f"{number} {kind}")
        lists["train_test_split.txt"].append(f"{number} {int(number <= 12)}")
    lists["classes.txt"] = [f"{kind} {kind:03}.Bird" for kind in (1, 2, 3)]
    for name, lines in lists.items():
        (birds / name).write_text("".join(f"{line}\n" for line in lines))
    with use_data_dir(tmp_path):
        train, test = (load("cub_gha:size=24,resize=24,validation=0", split) for split in ("train", "test"))
        assert (len(train), len(test)) == (11, 12) and train.classes == ("001.Bird", "002.Bird", "003.Bird")
        assert train.labels.tolist() == [0, 1, 2, 0, 1, 2, 1, 2, 0, 1, 2]
        maps = test.gaze[torch.arange(2)]
        assert maps.shape == (2, 24, 24) and maps[:, :, :8].min() > 0.75 and maps[:, :, 16:].max() < 0.05
        assert load("cub_gha", "test").shape == (3, 448, 448)
        for check in checks("dataset", "cub_gha:size=24"):
            check()
        (gaze / "3.jpg").write_bytes(b"no picture")
        with pytest.raises(bench.EnvironmentProblem, match=r"the gaze map of .*3\.jpg cannot be decoded"):
            load("cub_gha:size=24,validation=0", "train").gaze[torch.arange(4)]
        (birds / "classes.txt").unlink()
        with pytest.raises(bench.EnvironmentProblem, match=r"classes.txt cannot be read \(No such file or directory\)"):
            load("cub_gha")


def test_scene_gaze_is_read_with_its_fixations(tmp_path):
    place = tmp_path / "scene-gaze"
    place.mkdir()
    rows = [
        {"image": picture(1, (40, 30)), "fix_x": [10.0, 30.0], "fix_y": [15.0, 15.0], "width": 40, "height": 30},
        {"image": picture(2, (30, 30)), "fix_x": [], "fix_y": [], "width": 30, "height": 30},
        {"image": picture(3, (24, 48)), "fix_x": [12.0], "fix_y": [2.0], "width": 24, "height": 48},
    ]
    features = datasets.Features(
        image=datasets.Image(),
        fix_x=datasets.Sequence(datasets.Value("float32")),
        fix_y=datasets.Sequence(datasets.Value("float32")),
        width=datasets.Value("int32"),
        height=datasets.Value("int32"),
    )
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["image"] = [{"bytes": content(image), "path": None} for image in columns["image"]]
    datasets.Dataset.from_dict(columns, features=features).to_parquet(place / "test-00000-of-00001.parquet")
    with use_data_dir(tmp_path):
        data = load("scene_gaze:size=24,resize=24,sigma=0.1", "test")
        assert data.shape == (3, 24, 24) and data.labels is None and len(data) == 3 and len(data.classes) == 1000
        assert not len(load("scene_gaze:size=24,resize=24", "train"))
        found = data.gaze[torch.arange(3)]
        # 40 x 30 comes to 32 x 24, of which the middle 24 are cut: x' = 0.8 x - 4.
        first = gaussian_gaze([(4.0, 12.0, 1.0), (20.0, 12.0, 1.0)], 24, 24, 2.4)
        assert_close(found[0].double(), torch.as_tensor(first).double(), atol=1e-6, rtol=1e-6)
        assert not found[1].any()
        # 24 x 48 is not scaled, and its fixation lies 10 pixels above the cut: its Gaussian's tail is what is seen.
        third = gaussian_gaze([(12.0, -10.0, 1.0)], 24, 24, 2.4)
        assert_close(found[2].double(), torch.as_tensor(third).double(), atol=1e-6, rtol=1e-6)
        assert_close(data.gaze[torch.tensor([2])], found[2:])
        for check in checks("dataset", "scene_gaze:size=24,resize=24"):
            check()
    missing = pytest.raises(bench.EnvironmentProblem, match="no column 'fix_x'; put the scenes with")
    with use_data_dir(tmp_path), missing:
        (place / "test-00000-of-00001.parquet").unlink()
        datasets.Dataset.from_dict(
            {"image": columns["image"]}, features=datasets.Features(image=datasets.Image())
        ).to_parquet(place / "test-00000-of-00001.parquet")
        load("scene_gaze")
    with pytest.raises(bench.EnvironmentProblem, match="dataset scene_gaze: no data folder is set; put the scenes"):
        load("scene_gaze")


@pytest.mark.parametrize("home", ["file", "missing"])
def test_a_cache_that_cannot_be_written_is_named_and_not_the_data(parquet, tmp_path, monkeypatch, home, tiny_run):
    place = tmp_path / "home" if home == "file" else "/proc/nothing"
    (tmp_path / "home").write_text("a file")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", f"{place}/datasets")
    message = rf"the library datasets cannot write its cache {place}/datasets \(.*\); name a folder for it with HF_HOME"
    for dataset, folder in ((f"parquet:path={parquet}", None), ("cifar10", parquet.parent)):
        if folder:
            (folder / "cifar10").symlink_to(parquet)
        with use_data_dir(folder), pytest.raises(bench.EnvironmentProblem, match=message):
            tiny_run(dataset=[dataset], metric=["accuracy"], reference=False)


def mask_of(image, values="auto", form="PNG", **options):
    return object_mask(content(image, form, **options), Frame(0, 0, "none"), values).tolist()


IDS = np.array([[0, 0, 1, 5], [0, 255, 255, 5], [0, 0, 0, 7]], np.uint8)
VOC = [[0, 0, 1, 1], [0, 0.5, 0.5, 1], [0, 0, 0, 1]]


def voc_palette():
    """The palette of PASCAL VOC: every third bit of an id, lowest first, is a bit of one colour, highest first."""
    return [
        [sum(((number >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
        for number in range(256)
    ]


def paletted(ids, palette):
    image = Image.frombytes("P", ids.shape[::-1], ids.tobytes())
    image.putpalette(np.asarray(palette, np.uint8).tobytes())
    return image


@pytest.mark.parametrize("form", ["grey", "palette", "colours", "16 bits", "32 bits", "tiff"])
def test_any_id_is_the_object_and_void_is_neither(form):
    palette = voc_palette()
    assert palette[1] == [128, 0, 0] and palette[5] == [128, 0, 128] and palette[255] == [224, 224, 192]
    deep = np.where(IDS == 255, 65535, IDS * 100).astype(np.uint16)
    image = {
        "grey": Image.fromarray(IDS),
        "palette": paletted(IDS, palette),
        "colours": paletted(IDS, palette).convert("RGB"),
        "16 bits": Image.fromarray(deep),
        "32 bits": Image.fromarray(IDS.astype(np.int32)),
        "tiff": Image.fromarray(IDS),
    }[form]
    assert mask_of(image, form="TIFF" if form in ("32 bits", "tiff") else "PNG") == VOC


def test_masks_of_one_value_show_the_object_whatever_the_value_is():
    expected = [[0, 0, 1], [0, 1, 1]]
    here = np.array(expected, np.uint8)
    sorted_palette = paletted(1 - here, [[255, 255, 255], [0, 0, 0]] + [[0, 0, 0]] * 254)  # white comes first
    cut_out = Image.fromarray(np.stack([*[np.full_like(here, 90)] * 3, here * 255], -1), "RGBA")
    for image in (
        *(Image.fromarray(here * value) for value in (1, 7, 128, 255)),
        Image.fromarray(here.astype(np.uint16) * 65535),
        Image.fromarray(here.astype(bool)),
        paletted(here, [[9, 9, 9]] * 256),
        sorted_palette,
        cut_out,
    ):
        assert mask_of(image) == expected, image.mode


def test_masks_of_shades():
    soft = np.zeros((8, 8), np.uint8)
    soft[2:6, 1:7], soft[2:6, 2:6] = 140, 255
    message = "it is mostly 255, with values such as 140; give mask_values=ids where 255 is void, or mask_values=shades"
    with pytest.raises(ValueError, match=message):
        mask_of(Image.fromarray(soft))
    assert mask_of(Image.fromarray(soft), "ids")[3] == [0, 1, 0.5, 0.5, 0.5, 0.5, 1, 0]
    soft[soft == 140] = 100
    assert mask_of(Image.fromarray(soft), "shades")[3] == [0, 0, 1, 1, 1, 1, 0, 0]
    white = Image.fromarray(np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((16, 16), np.uint8)))
    lossy = np.asarray(mask_of(white, form="JPEG", quality=30))
    assert set(lossy.ravel()) == {0, 1} and lossy.mean() == pytest.approx(0.5, abs=0.01)
    chances = Image.fromarray(np.array([[0.1, 0.2], [0.7, 0.9]], np.float32))
    assert mask_of(chances, form="TIFF") == [[0, 0], [1, 1]]


def test_a_set_of_masks_says_what_its_values_are(tmp_path):
    soft = np.full((32, 32), 255, np.uint8)
    soft[:2], soft[2:4] = 0, 200
    path = write(tmp_path / "test.parquet", {**rows(1), "mask": [{"bytes": content(soft), "path": None}]})
    every = torch.arange(1)
    message = r"the mask of image 0 of .* cannot be decoded \(it is mostly 255"
    with pytest.raises(bench.EnvironmentProblem, match=message):
        load(f"parquet:path={path}").object_masks[every]
    sums = {v: load(f"parquet:path={path},mask_values={v}").object_masks[every].sum() for v in ("ids", "shades")}
    assert sums == {"ids": 2 * 32 + 28 * 32 / 2, "shades": 30 * 32}
    skipped = load(f"parquet:path={path},damaged=skip")
    assert len(skipped) == 0 and skipped.note == "1 of 1 images are damaged and skipped"


@pytest.mark.parametrize(
    ("image", "form", "expected"),
    [
        (np.linspace(0, 1, 6, dtype=np.float32), "TIFF", [0, 51, 102, 153, 204, 255]),
        (np.array([0, 257, 32896, 65535, 4369, 60000], np.uint16), "TIFF", [0, 1, 128, 255, 17, 233]),
        (np.array([0, 257, 32896, 65535, 4369, 60000], np.uint16), "PNG", [0, 1, 128, 255, 17, 233]),
        (np.array([0, 257, 32896, 65535, 4369, 60000], np.uint16), "PPM", [0, 1, 128, 255, 17, 233]),
        (np.array([0, 257, 32896, 65535, 4369, 60000], np.uint16), "JPEG2000", [0, 1, 128, 255, 17, 233]),
    ],
    ids=["float", "16 bits", "16-bit PNG", "16-bit PGM", "16-bit JPEG 2000"],
)
def test_deep_pictures_are_scaled_by_what_their_format_says(image, form, expected):
    image = np.repeat(np.repeat(image.reshape(2, 3), 16, 0), 16, 1)
    options = {"irreversible": False} if form == "JPEG2000" else {}
    file = content(Image.fromarray(image), form, **options)
    found = pixels(file, Frame(0, 0, "none"))
    assert (255 * found[1, ::16, ::16]).round().int().flatten().tolist() == expected
    assert torch.equal(gaze_map(file, Frame(0, 0, "none")), found[0])


def tiff(values, bits, interpretation=1):
    """A grey TIFF of one strip, written by hand."""
    tags = {256: values.shape[1], 257: values.shape[0], 258: bits, 259: 1, 262: interpretation, 273: 8, 277: 1}
    tags |= {278: values.shape[0], 279: 0}
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(int)
        data = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    else:
        data = values.tobytes()
    tags[279] = len(data)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def test_tiffs_say_how_many_bits_they_have_and_which_end_is_white():
    frame = Frame(0, 0, "none")
    twelve = tiff(np.array([[0, 4095], [2048, 1024]]), 12)
    assert (255 * pixels(twelve, frame)[0]).round().int().tolist() == [[0, 255], [128, 64]]
    inverted = tiff(np.array([[0, 65535], [257, 32896]], np.uint16), 16, interpretation=0)
    assert (255 * pixels(inverted, frame)[0]).round().int().tolist() == [[255, 0], [254, 127]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, 255.0]], np.float32), r"float pixels from 0 to 255; store them in \[0, 1\], or as 8 bits"),
        (np.array([[-0.5, 0.5]], np.float32), r"float pixels from -0.5 to 0.5; store them in \[0, 1\]"),
        (np.array([[0.5, np.nan]], np.float32), "float pixels from nan to nan"),
        (np.array([[0, 255]], np.int32), "32-bit pixels from 0 to 255; store 8 or 16 bits"),
    ],
)
def test_pictures_of_unknown_range_are_refused(tmp_path, values, message):
    place = tmp_path / "set" / "ant" / "a.tif"
    place.parent.mkdir(parents=True)
    place.write_bytes(content(Image.fromarray(values), "TIFF"))
    with pytest.raises(bench.EnvironmentProblem, match=r"a.tif and all that follow cannot be decoded"):
        load(f"folder:path={place.parents[1]}")
    with pytest.raises(bench.EnvironmentProblem, match=rf"a.tif cannot be decoded \({message}"):
        load(f"folder:path={place.parents[1]},size=4").images[torch.arange(1)]


def read_by_hugging_face(base):
    """The splits that the library itself finds, by the names of files; it calls a test split without a name train."""
    patterns = datasets.data_files.get_data_patterns(str(base))
    found = datasets.data_files.DataFilesDict.from_patterns(patterns, base_path=str(base))
    return {str(split): {os.path.relpath(file, base) for file in files} for split, files in found.items()}


LAYOUTS = {
    "a name before": ["toy-train.parquet", "toy-test.parquet"],
    "words and numbers": ["train2017.parquet", "val_2017.parquet", "my eval.parquet", "latest.parquet", "0.parquet"],
    "shards": ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "extra/test.parquet"],
    "folders before files": ["train/0.parquet", "train/test.parquet", "testing/0.parquet", "valid.parquet"],
    "two folders of a split": ["train/0.parquet", "training/0.parquet", "dev/0.parquet"],
    "deep folders": ["a/toy_train/x/0.parquet", "a/b/evaluation.1/0.parquet", "a/c/0.parquet"],
    "hidden": ["train.parquet", ".train.parquet", ".cache/test.parquet", "__pycache__/test.parquet"],
    "none": ["contest.parquet", "trainer.parquet", "a/devil.parquet"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_splits_are_read_from_names_as_hugging_face_reads_them(tmp_path, layout):
    for name in LAYOUTS[layout]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, note = parquet_files(tmp_path)
    ours = {split: {str(file.relative_to(tmp_path)) for file in files} for split, files in found.items()}
    theirs = read_by_hugging_face(tmp_path)
    assert ours == ({"test": theirs["train"]} if layout == "none" else theirs)
    visible = {name for name in LAYOUTS[layout] if not any(part.startswith((".", "__")) for part in name.split("/"))}
    left_out = sorted(visible - set().union(*ours.values()))
    more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
    assert note == (f"{left_out[0]}{more} left out: the name has no split" if left_out else "")


def test_a_name_of_two_splits_is_refused(tmp_path):
    (tmp_path / "train-test.parquet").touch()
    with pytest.raises(bench.EnvironmentProblem, match=r"train-test\.parquet has names of train and test; rename it"):
        parquet_files(tmp_path)


def fill_folder(place, names):
    for i, name in enumerate(names):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content(picture(i, (8, 8))))


def test_a_share_of_a_folder_without_splits_is_held_out_for_tests(tmp_path):
    fill_folder(tmp_path / "set", [f"{name}/{row}.png" for name in ("ant", "bee") for row in range(10)])
    text = f"folder:path={tmp_path / 'set'},test=0.3,validation=0.15"
    parts = [load(text, split) for split in ("train", "validation", "test")]
    assert [part.labels.bincount().tolist() for part in parts] == [[6, 6], [1, 1], [3, 3]]
    found = [image.tobytes() for part in parts for image in part.images[torch.arange(len(part))].numpy()]
    assert len(set(found)) == 20
    # The rule as `Folder` states it, from the draws themselves.
    with bench.noise.rows(0, "samples", range(20)):
        draws = bench.noise.uniform(torch.empty(20, 1))[:, 0]
    chosen = sorted(row for first in (0, 10) for row in sorted(range(first, first + 10), key=lambda r: draws[r])[:3])
    whole = load(f"folder:path={tmp_path / 'set'}")
    assert torch.equal(parts[2].images[torch.arange(6)], whole.images[torch.tensor(chosen)])
    fill_folder(tmp_path / "split", ["test/ant/0.png", "train/ant/1.png"])
    message = f"dataset folder: test is 0.3, but {tmp_path / 'split'} has folders of splits; leave it out"
    with pytest.raises(bench.BadValue, match=message):
        load(f"folder:path={tmp_path / 'split'},test=0.3")


def test_folders_of_splits_are_joined_and_hidden_ones_do_not_count(tmp_path):
    names = ["train/ant/0.png", "training/ant/1.png", "toy-eval/bee/2.png"]
    hidden = ["train/ant/.thumbs/3.png", "train/ant/__MACOSX/4.png", "train/.git/5.png", "train/bee/._6.png"]
    fill_folder(tmp_path / "set", [*names, *hidden, "raw/7.png", "test/8.png"])
    text = f"folder:path={tmp_path / 'set'},validation=0"
    train, test = load(text, "train"), load(text, "test")
    assert train.classes == ("ant", "bee") and train.labels.tolist() == [0, 0] and test.labels.tolist() == [1]
    assert torch.equal(test.images[torch.arange(1)], torch.from_numpy(picture(2, (8, 8))).permute(2, 0, 1)[None] / 255)
    assert train.note == test.note == "raw/7.png and 1 more left out: not in a folder of a class of a split"


def test_links_repeat_no_image_and_never_end(tmp_path):
    place = tmp_path / "set"
    fill_folder(place, ["test/ant/0.png", "test/ant/more/1.png", "test/bee/2.png"])
    (place / "test" / "ant" / "again").symlink_to(place / "test" / "ant")
    (place / "test" / "ant" / "more" / "up").symlink_to(place / "test" / "ant")
    (place / "test" / "ant" / "copy").symlink_to(place / "test" / "ant" / "more")
    (place / "test" / "bee" / "3.png").symlink_to(place / "test" / "bee" / "2.png")
    (place / "validation").symlink_to(place / "test")  # another split may have the same images
    data = load(f"folder:path={place}")
    assert data.labels.tolist() == [0, 0, 1] and data.note.endswith("left out: the same files again, by links")
    assert len(load(f"folder:path={place}", "validation")) == 3


def test_a_class_may_have_the_name_of_a_split(tmp_path):
    fill_folder(tmp_path / "flat", ["car/0.png", "train/1.png", "plane/2.png"])
    data = load(f"folder:path={tmp_path / 'flat'}")
    assert data.classes == ("car", "plane", "train") and len(data) == 3
    fill_folder(tmp_path / "split", ["train/train/0.png", "train/car/1.png", "test/train/2.png"])
    assert load(f"folder:path={tmp_path / 'split'}").labels.tolist() == [1]
    fill_folder(tmp_path / "bare", ["train/0.png", "test/1.png", "car/2.png"])
    with pytest.raises(bench.EnvironmentProblem, match="test and train contain images themselves; put these"):
        load(f"folder:path={tmp_path / 'bare'}")
