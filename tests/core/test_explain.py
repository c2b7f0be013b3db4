"""`bench explain`: pictures of one's own to panels, and what is wrong with them."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import center_crop, resize, to_tensor

import bench
from bench.publishing.examples import Example, load_picture, overlap
from bench.publishing.panels import _colours, draw_panel

TINY = ["--schedule", "quick:epochs=1,batch=32,limit=64", "--attack", "topk:k=5,steps=2", "--eps", "8/255"]


def picture(mode="RGB", size=(40, 30), seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store that all tests share, so that one network is trained for them."""
    return str(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def explain_(bench_, tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)

    def run(*words, attack=True):
        return bench_("explain", *words, *(TINY if attack else TINY[:2]), "--store", trained)

    return run


def test_a_panel_and_its_numbers(explain_, tmp_path):
    picture().save("a.png")
    picture(seed=1).save("b.jpg")
    code, out, err = explain_("a.png", "b.jpg", "--explainer", "gradient", "--explainer", "edge_map", "--json")
    assert code == 0 and err.splitlines()[-1] == "bench: wrote a panel of 4 rows to panel.png"
    rows = json.loads(out)
    assert [(row["image"], row["explainer"]) for row in rows] == [
        ("a.png", "gradient"),
        ("a.png", "edge_map"),
        ("b.jpg", "gradient"),
        ("b.jpg", "edge_map"),
    ]
    assert all(0 <= row["overlap"] <= 1 and row["ball"] == "linf:8/255" for row in rows)
    assert all(row["explained"] == row["predicted"] for row in rows)
    with Image.open(tmp_path / "panel.png") as panel:
        assert panel.format == "PNG" and panel.width == 1150 and panel.height > 1000


@pytest.mark.parametrize(("label", "name"), [("circle fork", "circle fork"), ("7", "rectangle tee")])
def test_without_an_attack_there_is_the_map_alone_of_any_class(explain_, label, name):
    picture().save("a.png")
    code, out, _ = explain_("a.png", "--class", label, "--json", "--out", "one.png", attack=False)
    (row,) = json.loads(out)
    assert code == 0 and row["explained"] == name and "overlap" not in row


@pytest.mark.parametrize("label", ["zebra", "10"])
def test_a_class_that_does_not_exist_is_named(explain_, label):
    picture().save("a.png")
    code, _, err = explain_("a.png", "--class", label, attack=False)
    start = f"bench: no class called {label!r}; there are 10, 0 to 9 (circle bar, circle fork, "
    assert code == 2 and err.startswith(start) and err.count("\n") == 1


def odd_pictures():
    deep = Image.fromarray((np.random.default_rng(0).random((30, 40)) * 65535).astype(np.uint16))
    first, second = picture("P"), picture("P", seed=2)
    return {
        "grey.png": lambda path: picture("L").save(path),
        "palette.png": lambda path: picture("P").save(path),
        "cmyk.jpg": lambda path: picture("CMYK").save(path),
        "deep.png": lambda path: deep.save(path),
        "alpha.png": lambda path: picture("RGBA").save(path),
        "moving.gif": lambda path: first.save(path, save_all=True, append_images=[second]),
        "one.png": lambda path: picture(size=(1, 1)).save(path),
        "wide.png": lambda path: picture(size=(400, 3)).save(path),
        "large.png": lambda path: Image.new("L", (12000, 12000), 80).save(path),
    }


def test_odd_pictures_are_explained(explain_, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name, save in odd_pictures().items():
        save(folder / name)
    code, out, _ = explain_("odd", "--json", attack=False)
    rows = json.loads(out)
    assert code == 0 and {row["image"] for row in rows} == set(odd_pictures())


@pytest.mark.parametrize(
    "frame", ["size=24,crop=none", "size=24,resize=30", "size=24,interpolation=bicubic", "size=20,resize=30,crop=none"]
)
def test_a_picture_is_prepared_as_the_data_set_prepares_its_own(tmp_path, frame):
    place = tmp_path / "set" / "test" / "ant"
    place.mkdir(parents=True)
    picture(size=(64, 40)).save(place / "a.png")
    dataset = bench.component("dataset", f"folder:path={tmp_path / 'set'},{frame}")
    data = dataset.load("test")
    assert torch.equal(load_picture(place / "a.png", data.shape, dataset.frame), data.images[torch.arange(1)][0])


def test_own_pictures_become_images_as_by_torchvision(tmp_path):
    files = [tmp_path / "a.png", str(tmp_path / "b.png")]
    pictures = [picture(size=size) for size in ((64, 40), (30, 50))]
    for file, each in zip(files, pictures, strict=True):
        each.save(file)
    framed = [to_tensor(center_crop(resize(each, 30), 24)) for each in pictures]
    assert torch.equal(bench.images.load(files, size=24, resize=30), torch.stack(framed))
    with pytest.raises(bench.EnvironmentProblem, match=r"c.png cannot be read \(No such file or directory\); check"):
        bench.images.load([tmp_path / "c.png"], size=24)
    with pytest.raises(bench.BadValue, match="resize is 20, smaller than the crop of size 24; give 24 or more"):
        bench.images.load(files, size=24, resize=20)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["text.png"], "picture text.png cannot be decoded (it is none of BMP, GIF, JPEG, "),
        (["cut.jpg"], "picture cut.jpg cannot be decoded ("),
        (["lost.png"], "picture lost.png cannot be read (No such file or directory); check the path"),
        (["empty"], "folder empty holds no pictures (.bmp, "),
        (["a.png", "--explainer", "gradeint"], "no explainer called 'gradeint'; did you mean 'gradient' or "),
        (["a.png", "--out", "no/where.png"], "--out no/where.png is not a file in an existing folder; name one"),
        (["a.png", "--out", "pipe"], "--out pipe is not a file in an existing folder; name one, such as panel.png"),
        (["a.png", "--out", "/dev/full"], "/dev/full cannot be written (No space left on device); free some space, or"),
        (["pipe"], "picture pipe cannot be read (it is a pipe, not a file); check the path"),
        (["a.png", "--class", "²"], "no class called '²'; there are 10, 0 to 9 (circle bar, "),
        (
            ["a.png", "--defense", "hessian", "--model", "lenet:activation=relu"],
            "defense hessian: the second derivative",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_explained_is_told_in_a_line(explain_, tmp_path, words, text):
    (tmp_path / "text.png").write_text("no picture at all")
    (tmp_path / "empty").mkdir()
    os.mkfifo("pipe")
    picture().save("a.png")
    buffer = io.BytesIO()
    picture(size=(300, 300)).save(buffer, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[:3000])
    code, out, err = explain_(*words, attack=False)
    assert code in (2, 3) and not out and err.startswith(f"bench: {text}") and err.count("\n") == 1, err
    assert not (tmp_path / "panel.png").exists()


def test_overlap_and_colours():
    first = torch.zeros(3, 10, 10)
    first[0, 0, :5] = torch.tensor([5.0, 4, 3, 2, 1])
    second = first.roll(1, 2)
    assert overlap(first, first) == 1 and overlap(first, second) == 0.8 and overlap(first, 0 * first) is None
    signed, magnitude = torch.randn(1, 8, 8), torch.rand(1, 8, 8)
    for attribution, scale in ((signed, "RdBu_r"), (magnitude, "inferno")):
        example = Example("a", None, "c", torch.rand(3, 8, 8), ("c", 0.5), attribution)
        found = _colours(example)
        assert found["cmap"] == scale and found["vmin"] == (-found["vmax"] if scale == "RdBu_r" else 0)


def test_a_drawing_is_the_same_every_time(tiny_case):
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    example = Example("a", tiny_case, "c", image, ("c", 0.5), image - 0.5)
    assert draw_panel([example]).as_png() == draw_panel([example]).as_png()
