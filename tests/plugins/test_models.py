"""Networks: their layout, and what libraries' networks go through."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from marks import mostly_slow
from PIL import Image
from torch import nn
from torch.testing import assert_close

import bench
from bench.checkpoints import place
from bench.engine.selection import select, select_record
from bench.images import pixels


def photograph(size, path):
    """A smooth random picture of some width and height, saved."""
    values = np.random.default_rng(0).integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)
    image.save(path)
    return image


def build(text, shape=(3, 64, 64), classes=7):
    return bench.component("model", text).build(shape, classes).eval()


@pytest.mark.parametrize(
    ("text", "count"), [("lenet", 1_116_970), ("resnet18_cifar", 11_173_962), ("resnet20", 269_722)]
)
def test_the_number_of_weights_is_the_papers(text, count, wide_lenet):
    assert sum(p.numel() for p in build(text, (3, 32, 32), 10).parameters()) == count


def test_resnet20_is_he_et_als_layer_by_layer():
    """A slow form from the paper: plain functions on the state dict, the shortcut by indices."""
    network = build("resnet20", (3, 32, 32), 10)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    state = network.network.state_dict()
    images = torch.rand(2, 3, 32, 32)

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = F.relu(norm(F.conv2d((images - mean) / std, state["conv1.weight"], padding=1), "bn1"))
    for stage in (1, 2, 3):
        for block in range(3):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = F.relu(norm(F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
            inner = norm(F.conv2d(inner, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2:
                wide = torch.zeros_like(inner)
                wide[:, x.shape[1] // 2 : x.shape[1] // 2 + x.shape[1]] = x[:, :, ::2, ::2]
                x = wide
            x = F.relu(inner + x)
    expected = x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]
    with torch.no_grad():
        assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    mostly_slow(
        [
            "torchvision:arch=resnet18",
            "torchvision:arch=mobilenet_v3_small",
            "timm:arch=efficientnet_b0",
            "timm:arch=vit_tiny_patch16_224",
            "torchvision:arch=mobilenet_v2",
            "torchvision:arch=squeezenet1_0",
        ],
        "torchvision:arch=resnet18",
        "timm:arch=vit_tiny_patch16_224",
    ),
)
def test_an_untouched_library_network_takes_an_attack(text):
    torch.manual_seed(0)
    network = build(text).requires_grad_(False)
    images = torch.rand(2, 3, 64, 64)
    explainer, attack = bench.component("explainer", "gradient"), bench.component("attack", "topk:steps=8")
    targets = network(images).argmax(1)
    moved = attack.perturb(bench.Victim(network, explainer), images, targets, bench.Ball("linf", Fraction(4, 255)))
    objective = attack.make_objective(bench.Victim(network, explainer), images, targets)
    with torch.no_grad():
        assert (objective(moved) < objective(images)).all()
    assert (moved - images).abs().max() <= 4 / 255 + 1e-6


@pytest.mark.parametrize(
    ("text", "smooth"),
    [
        ("torchvision:arch=squeezenet1_0", False),
        ("torchvision:arch=resnet18,activation=softplus", True),
        ("timm:arch=efficientnet_b0,activation=softplus", True),
        ("timm:arch=vit_tiny_patch16_224", True),
        ("timm:arch=vit_tiny_patch16_224,activation=relu", True),
        ("torchvision:arch=regnet_x_400mf", False),
    ],
)
def test_activations_are_exchanged_everywhere(text, smooth):
    model = bench.component("model", text)
    assert model.smooth is smooth
    network = build(text)
    kinds = {type(m).__name__ for m in network.modules()}
    if model.activation == "softplus":
        assert "Softplus" in kinds and not kinds & {"ReLU", "SiLU", "GELU"}
    with torch.no_grad():
        assert network(torch.rand(2, 3, 64, 64)).shape == (2, 7)


def test_an_activation_that_cannot_be_exchanged_is_named():
    with pytest.raises(bench.BadComponent, match="calls relu as a function, which activation=softplus cannot replace"):
        build("torchvision:arch=densenet121,activation=softplus")
    assert build("torchvision:arch=densenet121")(torch.rand(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize(
    ("text", "shape", "error", "message"),
    [
        (
            "timm:arch=resnet18x",
            (3, 32, 32),
            bench.UnknownName,
            "model timm has no arch 'resnet18x'; did you mean 'resnet18'",
        ),
        (
            "timm:arch=resnet50.a9_in1k",
            (3, 32, 32),
            bench.UnknownName,
            r"model timm has no arch 'resnet50.a9_in1k'; did you mean 'resnet50\.\w+_in1k'",
        ),
        (
            "torchvision:arch=resnet50.IMAGENET1K_V7",
            (3, 32, 32),
            bench.UnknownName,
            r"no arch 'resnet50.IMAGENET1K_V7'; did you mean 'resnet50\.IMAGENET1K_V\d'",
        ),
        (
            "torchvision:arch=resnet-18",
            (3, 32, 32),
            bench.UnknownName,
            "torchvision has no arch 'resnet-18'; did you mean",
        ),
        (
            "torchvision:arch=qqqq",
            (3, 32, 32),
            bench.UnknownName,
            r"model torchvision has no arch 'qqqq'; torchvision.models.list_models\(\) lists all \d+$",
        ),
        ("resnet20", (1, 32, 32), bench.BadComponent, "model resnet20 needs images of three channels, not 1"),
        ("torchvision:arch=resnet18", (1, 32, 32), bench.BadComponent, "needs images of three channels, not 1"),
    ],
)
def test_what_cannot_be_built_is_said(text, shape, error, message):
    with pytest.raises(error, match=message):
        build(text, shape)
    if "arch" in text:
        with pytest.raises(bench.BadValue, match="needs arch: write"):
            bench.component("model", text.partition(":")[0])


def test_a_name_that_a_library_lacks_fails_its_cells_alone(tiny_run):
    outcome = tiny_run(model=["timm:arch=resnet18x", "lenet"], metric=["accuracy"])
    assert len(outcome.records) == 1 and "no arch 'resnet18x'; did you mean" in str(*outcome.failures.values())


TAGS = ["tf_efficientnet_b0.ap_in1k", "resnet50.a1_in1k", "inception_v3.tv_in1k", "vit_base_patch16_clip_224.openai"]


def squashed():
    """Full names of weights whose images are scaled to a square, one with a cut and one without."""
    found = {}
    for name in timm.list_pretrained():
        settings = timm.get_pretrained_cfg(name)
        if settings.crop_mode == "squash" and settings.input_size[1] == settings.input_size[2]:
            found.setdefault(settings.crop_pct == 1, name)
    assert set(found) == {True, False}
    return list(found.values())


@pytest.mark.parametrize("size", [(300, 200), (201, 333), (64, 64)], ids=str)
def test_full_names_frame_images_as_timm_does(tmp_path, size):
    image = photograph(size, tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for name in (*TAGS, *squashed()):
        settings = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        theirs = timm.data.create_transform(**{**settings, "mean": (0.0,) * 3, "std": (1.0,) * 3})(image)
        assert_close(pixels(content, bench.component("model", f"timm:arch={name}").frame), theirs)


@pytest.mark.parametrize(
    "name", ["vit_b_16.IMAGENET1K_SWAG_E2E_V1", "efficientnet_b3.IMAGENET1K_V1", "resnet50.IMAGENET1K_V2"]
)
def test_full_names_frame_images_as_torchvision_does(tmp_path, name):
    image = photograph((300, 200), tmp_path / "a.png")
    arch, _, tag = name.partition(".")
    theirs = torchvision.models.get_model_weights(arch)[tag].transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (theirs.mean, theirs.std))
    frame = bench.component("model", f"torchvision:arch={name}").frame
    ours = (pixels((tmp_path / "a.png").read_bytes(), frame) - mean) / std
    assert_close(ours, theirs(image), rtol=0, atol=1e-5)


def test_weights_under_their_full_name_answer_as_in_timm(tmp_path, catalog):
    torch.manual_seed(0)
    name = "tf_efficientnet_b0.ap_in1k"
    theirs = timm.create_model(name).eval()
    settings = timm.data.resolve_model_data_config(theirs)
    assert settings["mean"] == (0.5,) * 3 and timm.get_pretrained_cfg("tf_efficientnet_b0").mean != (0.5,) * 3
    image = photograph((300, 200), tmp_path / "set" / "test" / "ant" / "a.png")
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    given = {"dataset": [f"folder:path={tmp_path / 'set'}"], "model": [f"timm:arch={name}"]}
    (case,) = select(catalog, given, reference=False).cases
    data = case.dataset.load("test")
    ours = case.model.build(data.shape, 1000)
    place(ours, tmp_path / "weights.pth")
    with torch.no_grad():
        expected = theirs(timm.data.create_transform(**settings)(image)[None])
        assert_close(ours.eval()(data.images[torch.arange(1)]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", mostly_slow(["googlenet", "inception_v3"], "googlenet"))
def test_weights_with_auxiliary_heads_answer_as_in_torchvision(tmp_path, arch):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(arch, weights=None, transform_input=True, init_weights=False).eval()
    assert any(name.lower().startswith("aux") for name in theirs.state_dict())
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = build(f"torchvision:arch={arch}.IMAGENET1K_V1", (3, 96, 96), 1000)
    place(ours, tmp_path / "weights.pth")
    images = torch.rand(2, 3, 96, 96)
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        assert_close(ours(images), theirs(normalise(images)), rtol=1e-4, atol=1e-5)
        assert build(f"torchvision:arch={arch}", (3, 96, 96)).train()(images).shape == (2, 7)


def test_a_full_name_frames_a_data_set_that_does_not_say_how(catalog, tmp_path):
    (tmp_path / "set").mkdir()

    def dataset_with(model, dataset):
        (case,) = select(catalog, {"dataset": [dataset], "model": [model]}, reference=False).cases
        axes = {axis: str(choice) for axis, choice in case.axes.items()}
        (again,) = select_record(catalog, "accuracy", axes).cases
        assert again == case
        return str(case.dataset).replace(str(tmp_path), "")

    name, text = "timm:arch=resnet50.a1_in1k", f"folder:path={tmp_path}"
    assert dataset_with(name, text) == "folder:path=,size=224,resize=235,interpolation=bicubic"
    assert dataset_with(name, f"{text},size=64") == "folder:path=,size=64"
    assert dataset_with("timm:arch=resnet50", text) == "folder:path="
    assert dataset_with(name, "imagenette") == "imagenette:resize=235,interpolation=bicubic"
    assert dataset_with(name, "shapes") == "shapes"
    assert dataset_with("torchvision:arch=resnet50.IMAGENET1K_V1", "flowers") == "flowers"


def test_caffe_weights_see_blue_first_and_bytes_less_a_mean():
    text = "torchvision:arch=squeezenet1_0,preprocessing=caffe"
    ours, theirs = build(text), torchvision.models.squeezenet1_0(num_classes=7).eval()
    theirs.load_state_dict(ours.network.state_dict())
    images = torch.rand(2, 3, 64, 64)
    blue_first = images[:, [2, 1, 0]] * 255 - torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1)
    assert_close(ours(images), theirs(blue_first), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("explainer", ["lrp", "deeplift", "guided_backprop", "gradcam"])
def test_channels_that_a_network_reverses_are_explained_in_the_images_order(explainer):
    reversing = build("torchvision:arch=squeezenet1_0,preprocessing=caffe")
    plain = torchvision.models.squeezenet1_0(num_classes=7).eval()
    plain.load_state_dict(reversing.network.state_dict())
    plain.features[0].weight.data = plain.features[0].weight.data.flip(1)
    mean, std = (part.flatten().tolist() for part in bench.normalisation(reversing))
    images, targets = torch.rand(2, 3, 64, 64), torch.tensor([0, 3])
    method = bench.component("explainer", explainer)
    with torch.no_grad():
        found, expected = (
            method.attributions(network, images, targets) for network in (reversing, bench.Normalised(plain, mean, std))
        )
    assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
