"""Trained weights of libraries by their names, from caches of downloads that are made by hand."""

from __future__ import annotations

import json

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from torchvision import models

import bench

SQUEEZENET = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
TINY = "test_resnet.r160_in1k"


def fill(network):
    """Weights that no constructor draws."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05)
    return network.eval()


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Folders that hold the weights of a network of torchvision, and of one of timm."""
    place = tmp_path_factory.mktemp("caches")
    checkpoints = place / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(fill(models.squeezenet1_1()).state_dict(), checkpoints / SQUEEZENET.url.rpartition("/")[2])
    repository = place / "hub" / f"models--timm--{TINY}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    file = repository / "snapshots" / ("0" * 40) / "model.safetensors"
    safetensors.torch.save_file(fill(timm.create_model(TINY.partition(".")[0])).state_dict(), file)
    return place


@pytest.fixture
def cached(caches, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(caches / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(caches / "hub"))
    return caches


def load(text, shape, classes):
    model = bench.component("model", text)
    network = model.build(shape, classes)
    model.load_weights(network, shape)
    return network.eval()


def test_weights_of_torchvision_are_those_of_the_file(cached):
    network = load("torchvision:arch=squeezenet1_1,weights=DEFAULT", (3, 64, 64), 1000)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (SQUEEZENET.transforms().mean, SQUEEZENET.transforms().std))
    with torch.no_grad():
        torch.testing.assert_close(network(images), fill(models.squeezenet1_1())((images - mean) / std))


def test_weights_of_timm_are_those_of_the_file(cached):
    network = load(f"timm:arch={TINY},pretrained=true", (3, 64, 64), 1000)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    source = timm.create_model(TINY.partition(".")[0])
    mean, std = (torch.tensor(source.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(network(images), fill(source)((images - mean) / std))


@pytest.mark.parametrize(
    ("text", "head"),
    [("torchvision:arch=squeezenet1_1,weights=DEFAULT", "classifier.1"), (f"timm:arch={TINY},pretrained=true", "fc")],
)
def test_a_last_layer_for_other_classes_stays_fresh(cached, text, head):
    network, full = load(text, (3, 64, 64), 7), load(text, (3, 64, 64), 1000)
    theirs = full.network.state_dict()
    for name, tensor in network.network.state_dict().items():
        if name.startswith(f"{head}."):
            assert len(tensor) == 7
        else:
            assert torch.equal(tensor, theirs[name])


def test_default_names_the_weights_that_it_stands_for():
    model = bench.component("model", "torchvision:arch=resnet50,weights=DEFAULT")
    assert str(model) == "torchvision:arch=resnet50,weights=IMAGENET1K_V2"
    assert model.identity.endswith("weights=IMAGENET1K_V2)#11ad3fa6")
    assert model.frame == bench.images.Frame(224, 232, "center", "bilinear")
    assert model.classes == tuple(models.ResNet50_Weights.IMAGENET1K_V2.meta["categories"])
    assert str(bench.component("model", "timm:arch=test_resnet,pretrained=true")) == f"timm:arch={TINY},pretrained=true"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torchvision:arch=resnet50,weights=BEST", r"no arch 'resnet50\.BEST'"),
        ("torchvision:arch=resnet50.IMAGENET1K_V2,weights=DEFAULT", r"names weights, and weights is DEFAULT; give"),
        ("torchvision:arch=resnet5,weights=DEFAULT", r"no arch 'resnet5\.DEFAULT'"),
        ("timm:arch=resnet50.a9_in1k,pretrained=true", r"no arch 'resnet50\.a9_in1k'"),
        ("timm:arch=resnet20,pretrained=true", r"no arch 'resnet20'"),
    ],
)  # fmt: skip
def test_weights_that_do_not_exist_are_named(text, message):
    with pytest.raises(bench.BenchError, match=message):
        load(text, (3, 64, 64), 1000)


def test_weights_that_are_neither_cached_nor_reached_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(bench.EnvironmentProblem) as told:
        load("torchvision:arch=squeezenet1_1,weights=DEFAULT", (3, 64, 64), 1000)
    assert str(told.value) == (
        f"model torchvision:arch=squeezenet1_1,weights=IMAGENET1K_V1: {SQUEEZENET.url} cannot be downloaded (no "
        f"network); put that file into {tmp_path}/hub/checkpoints"
    )
    with pytest.raises(bench.EnvironmentProblem) as told:
        load(f"timm:arch={TINY},pretrained=true", (3, 64, 64), 1000)
    text = str(told.value)
    assert text.startswith(
        f"model timm:arch={TINY},pretrained=true: its weights cannot be loaded (LocalEntryNotFoundError"
    )
    assert text.endswith("bring the cache of the hub from a machine that has one, and name it with HF_HOME")
    assert "\n" not in text


def test_old_names_of_densenet_are_read(tmp_path, monkeypatch):
    network = fill(models.densenet121())
    old = {
        name.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): tensor
        for name, tensor in network.state_dict().items()
    }
    weights = models.DenseNet121_Weights.DEFAULT
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(old, tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = load("torchvision:arch=densenet121,weights=DEFAULT", (3, 64, 64), 1000).network.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in network.state_dict().items())


def test_unknown_names_of_networks_are_suggested(bench_):
    code, _, error = bench_("run", "--model", "resnet50")
    assert code == 2 and "no model called 'resnet50'; write timm:arch=resnet50 or torchvision:arch=resnet50" in error
    code, _, error = bench_("run", "--dataset", "uoft-cs/cifar10")
    assert code == 2 and "no dataset called 'uoft-cs/cifar10'; write hub:repository=uoft-cs/cifar10" in error


def test_the_defense_weights_takes_those_of_the_model(cached, bench_):
    words = ["--no-reference", "--defense", "weights", "--metric", "accuracy", "--samples", "10", "--device", "cpu"]
    code, _, error = bench_("run", "--model", "lenet", *words)
    assert code == 0 and "model lenet names no trained weights; give a file, weights:path=FILE" in error
    code, _, error = bench_("run", "--model", f"timm:arch={TINY},pretrained=true", *words)
    assert (
        code == 1
        and f"weights of timm:arch={TINY},pretrained=true tell 1000 classes apart, and the data set has" in error
    )


def test_explaining_with_trained_weights_needs_no_data_set(cached, bench_, tmp_path):
    model = "torchvision:arch=squeezenet1_1,weights=DEFAULT"
    Image.effect_noise((300, 260), 80).convert("RGB").save(tmp_path / "dog.png")
    out = tmp_path / "panel.png"
    words = ["explain", str(tmp_path / "dog.png"), "--model", model, "--out", str(out), "--json", "--device", "cpu"]
    code, text, error = bench_(*words)
    assert code == 0, error
    (row,) = json.loads(text)
    assert row["defense"] == "weights" and out.exists()
    # The prediction is that of the network on the picture as its weights' transforms bring it to size.
    chosen = bench.component("model", model)
    network = load(model, (3, chosen.frame.size, chosen.frame.size), 1000)
    image = bench.images.pixels((tmp_path / "dog.png").read_bytes(), chosen.frame)[None]
    with torch.no_grad():
        assert row["predicted"] == chosen.classes[int(network(image).argmax())]
    assert not (tmp_path / "store").exists() or not any((tmp_path / "store").glob("trained/*"))
    code, _, error = bench_(*words, "--explainer", "expected_gradients")
    assert code == 2 and "explainer expected_gradients learns from training images first; give a --dataset" in error
