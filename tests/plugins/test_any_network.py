"""Explainers and attacks on networks that strangers wrote: what they call, keep, overwrite and wrap changes nothing."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import bench
from bench.gradients import input_gradient

BALL = bench.Ball("linf", Fraction(8, 255))
EXPLAINERS = [
    "gradient",
    "lrp",
    "deeplift:baseline=black",
    "guided_backprop",
    "smoothgrad:samples=3",
    "gradcam:layer=b",
]


class Plain(nn.Module):
    """Two convolutions and a linear layer, whose middle is a function."""

    def __init__(self, act=F.relu):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.last = nn.Linear(8 * 16, 4)
        self.act = act
        self.double().eval().requires_grad_(False)

    def middle(self, x):
        return self.act(self.b(self.act(self.a(x))))

    def forward(self, images):
        return self.last(F.avg_pool2d(self.middle((images - 0.5) / 0.25), 2).flatten(1))


@pytest.fixture
def images():
    return torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def predict(network, images):
    with torch.no_grad():
        return network(images).argmax(1)


def explain(text, network, images):
    with torch.no_grad():
        return bench.component("explainer", text).attribute(network, images, predict(network, images))


def attack(network, images, explainer="gradient", text="topk:k=5,steps=6"):
    victim = bench.Victim(network, bench.component("explainer", explainer))
    return bench.component("attack", text).perturb(victim, images, predict(network, images), BALL)


RELUS = {
    "clamp": lambda z: z.clamp(min=0),
    "maximum": lambda z: torch.maximum(z, torch.zeros(())),
    "where": lambda z: torch.where(z > 0, z, 0),
    "threshold": nn.Threshold(0, 0),
    "mask": lambda z: z * (z > 0),
    "masked_fill": lambda z: z.masked_fill(z < 0, 0),
    "minimum": lambda z: -torch.minimum(-z, torch.zeros_like(z)),
}


@pytest.mark.parametrize("form", RELUS)
def test_a_relu_in_any_form_is_a_relu(form, images):
    network, plain = Plain(RELUS[form]), Plain()
    assert_close(attack(network, images), attack(plain, images))
    assert not torch.equal(attack(network, images), images)
    for text in ("deeplift:baseline=black", "guided_backprop", *(["lrp"] if form != "minimum" else [])):
        assert_close(explain(text, network, images), explain(text, plain, images))


@pytest.mark.parametrize(
    "act",
    [
        *(nn.RReLU(0.1, 0.3).eval(), nn.Hardshrink(0.1), nn.Softshrink(0.1), nn.Hardsigmoid(), nn.Softsign()),
        *(
            nn.Tanhshrink(),
            nn.LogSigmoid(),
            nn.Sigmoid(),
            lambda z: torch.maximum(z, 0.2 * z),
            lambda z: (z + z.abs()) / 2,
        ),
        lambda z: torch.where(z > 0, z, 0.1 * z),
    ],
)
def test_deeplift_is_complete(act, images):
    network = Plain(act)
    targets = predict(network, images)[:, None]
    with torch.no_grad():
        change = (network(images) - network(torch.zeros_like(images))).gather(1, targets)[:, 0]
    assert_close(explain("deeplift:baseline=black", network, images).sum((1, 2, 3)), change)


def unknown(z):
    return z * (z.sign() + 1) / 2


def test_an_activation_that_is_not_known_is_noticed_by_its_effect(images):
    with pytest.warns(UserWarning, match="the gradient that the attack follows is zero on every image: the network is"):
        attacked = attack(Plain(unknown), images)
    assert torch.equal(attacked, images)
    with pytest.warns(UserWarning, match=r"deeplift misses the difference of the logits by \d+%: the network has"):
        explain("deeplift:baseline=black", Plain(unknown), images)
    with pytest.warns(UserWarning, match="deeplift misses the difference"):
        explain("deeplift:baseline=black", Plain(lambda z: z * z.mean((2, 3), keepdim=True)), images)


def test_what_torch_cannot_differentiate_is_named(images):
    def step(z):
        return z * torch.heaviside(z, z.new_zeros(()))

    message = "torch has no derivative for heaviside, which the network calls; use an attack and an explainer without"
    with pytest.raises(bench.BadComponent, match=message):
        attack(Plain(step), images)
    with pytest.raises(bench.BadComponent, match=message):
        explain("gradient", Plain(step), images)


def test_a_linear_network_is_told_as_well(images):
    with pytest.warns(UserWarning, match="the network is linear, or has activations in a form that is not known"):
        attack(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).double(), images)


def test_an_exported_network_is_refused(images):
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(Plain(), (images,))
    for network, about in (
        (program.module(), "the network"),
        (nn.Sequential(program.module()), "layer 0"),
        (program, "the network"),
    ):
        with pytest.raises(bench.BadComponent, match=f"{about} is exported, and its activations cannot be replaced"):
            bench.Victim(network, bench.component("explainer", "gradient"))
    with pytest.raises(bench.BadComponent, match="the network is exported"):
        explain("lrp", program.module(), images)
    traced = torch.fx.symbolic_trace(Plain())  # calls the same functions
    assert_close(attack(traced, images), attack(Plain(), images))


class Recomputing(Plain):
    """Keeps no values of its middle, and computes them again in backward."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def middle(self, x):
        return self.how(super().middle, x)


class ByHand(torch.autograd.Function):
    @staticmethod
    def forward(context, function, x):
        context.function = function
        context.save_for_backward(x)
        return function(x)

    @staticmethod
    def backward(context, above):
        (x,) = context.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = context.function(leaf)
        return None, torch.autograd.grad(value, leaf, above)[0]


def nested(function, x):
    return checkpoint(lambda y: checkpoint(function, y, use_reentrant=False), x, use_reentrant=False)


CHECKPOINTS = {
    "reentrant": lambda function, x: checkpoint(function, x, use_reentrant=True),
    "not reentrant": lambda function, x: checkpoint(function, x, use_reentrant=False),
    "nested": nested,
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # of torch, for a plain forward pass
@pytest.mark.parametrize("how", CHECKPOINTS)
@pytest.mark.parametrize("text", EXPLAINERS)
def test_checkpoints_change_nothing(how, text, images):
    network = Recomputing(CHECKPOINTS[how])
    assert_close(explain(text, network, images), explain(text, Plain(), images))
    assert_close(attack(network, images, text), attack(Plain(), images, text))


def test_a_memory_efficient_densenet_is_a_densenet():
    from torchvision.models import DenseNet

    networks = []
    for efficient in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = DenseNet(4, (2, 2), 8, memory_efficient=efficient, num_classes=4)
        networks.append(network.double().eval().requires_grad_(False))
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for text in ("deeplift:baseline=black", "guided_backprop", "gradient"):
        assert_close(*(explain(text, network, images) for network in networks))
    assert_close(*(attack(network, images) for network in networks))


def test_checkpoints_work_as_before_afterwards(images):
    attack(Recomputing(CHECKPOINTS["not reentrant"]), images)
    runs = []

    def count(x):
        runs.append(1)
        return x.relu()

    checkpoint(count, images.requires_grad_(), use_reentrant=False).sum().backward()
    assert len(runs) == 2


@pytest.mark.parametrize("text", ["deeplift", "guided_backprop"])
def test_activations_inside_a_function_of_its_own_are_refused(text, images):
    network = Recomputing(ByHand.apply)
    message = "the network computes relu inside the autograd.Function ByHand, where it cannot be replaced in backward"
    with pytest.raises(bench.BadComponent, match=message):
        attack(network, images)
    with pytest.raises(bench.BadComponent, match=message):
        explain(text, network, images)
    with pytest.raises(bench.BadComponent, match="gradcam: the logits do not depend on layer b"):
        explain("gradcam:layer=b", network, images)
    assert_close(explain("gradient", network, images), explain("gradient", Plain(), images))


EVERY_EXPLAINER = [
    *("gradient", "input_x_gradient", "integrated_gradients:steps=2", "smoothgrad:samples=2", "unigrad:samples=2"),
    *("vargrad:samples=2", "sparse_gradient", "sparsified_smoothgrad:samples=2", "deeplift", "occlusion", "lrp"),
    *("mask:steps=2,cells=4", "relex:steps=2,samples=2", "guided_backprop", "gradcam"),
    *("moreau_grad:steps=2,average=1,samples=2", "gradcam_pp", "hirescam", "layercam", "fullgrad"),
    *("rise:samples=3,cells=3", "blur_integrated_gradients:steps=2", "aggregation", "smooth:samples=2"),
]
NO_TARGETS = {
    "a tensor (1,) in int64": torch.tensor([1]),
    "a tensor (1, 4) in int64": torch.tensor([[0, 1, 2, 3]]),
    "a tensor () in int64": torch.tensor(1),
    "a tensor (4,) in int32": torch.tensor([0, 1, 2, 3], dtype=torch.int32),
    "a tensor (4,) in float32": torch.tensor([0.0, 1.0, 2.0, 3.0]),
    "a tensor (4,) in bool": torch.tensor([True, False, True, False]),
    "a list of 3": [0, 1, 2],
    "a list of float, int": [0.5, 1, 2, 3],
    "a bool": True,
    "a float": 1.0,
    "a NoneType": None,
}


@pytest.mark.parametrize("text", EVERY_EXPLAINER)
def test_targets_are_one_for_each_image_or_one_for_all(text, images):
    explainer, network = bench.component("explainer", text), Plain()
    with torch.no_grad():
        for given, same in ((2, [2, 2, 2, 2]), ([0, 1, 2, 3], [0, 1, 2, 3])):
            expected = explainer.attribute(network, images, torch.tensor(same))
            assert torch.equal(explainer.attribute(network, images, given), expected)
            assert expected.shape[0] == 4 and expected.flatten(1).any(1).all()
        for about, targets in NO_TARGETS.items():
            with pytest.raises(bench.BadValue) as told:
                explainer.maps(network, images, targets)
            assert f"targets are {about}, but there are 4 images; give a tensor (4,) in int64, a list" in str(
                told.value
            )
        for targets in (4, [0, 1, -1, 2]):
            with pytest.raises(bench.BadValue, match=r"targets run from .* but the network has 4 classes"):
                explainer.attribute(network, images, targets)


@pytest.mark.parametrize("text", ["topk:k=5,steps=2", "pgd:steps=2", "target_map:steps=2", "random_search:queries=2"])
def test_attacks_take_targets_as_explainers_do(text, images):
    component, victim = bench.component("attack", text), bench.Victim(Plain(), bench.component("explainer", "gradient"))
    expected = component.perturb(victim, images, torch.tensor([2, 2, 2, 2]), BALL)
    assert torch.equal(component.perturb(victim, images, 2, BALL), expected)
    assert torch.equal(component.perturb(victim, images, [2] * 4, BALL), expected)
    with pytest.raises(bench.BadValue, match=r"targets are a tensor \(1,\) in int64, but there are 4 images"):
        component.perturb(victim, images, torch.tensor([2]), BALL)


def test_metrics_take_no_fewer_rows_than_images(images):
    maps = torch.rand(4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    insertion = bench.component("metric", "insertion:steps=4")
    given = {"network": Plain(), "images": images, "clean_attributions": maps[:, None]}
    expected = insertion(targets=torch.tensor([1, 1, 1, 1]), **given).values
    assert torch.equal(insertion(targets=1, **given).values, expected)
    with pytest.raises(bench.BadValue, match=r"targets are a tensor \(1,\) in int64, but there are 4 images"):
        insertion(targets=torch.tensor([1]), **given)
    with pytest.raises(bench.BadValue, match=r"labels are a tensor \(4, 1\) in int64, but there are 4 images"):
        bench.component("metric", "accuracy")(clean_logits=torch.rand(4, 3), labels=torch.zeros(4, 1).long())
    for name in ("cosine", "l1_distance", "topk_overlap:k=3", "ssim"):
        message = rf"metric {name}: attacked_maps has shape \(1, 8, 8\), but clean_maps has \(4, 8, 8\); give the same"
        with pytest.raises(bench.BadValue, match=message):
            bench.component("metric", name)(clean_maps=maps, attacked_maps=maps[:1])
    with pytest.raises(bench.BadValue, match=r"object_masks has shape \(2, 8, 8\), but clean_maps has \(4, 8, 8\)"):
        bench.component("metric", "mask_mass")(clean_maps=maps, object_masks=maps[:2])


class Overwriting(Plain):
    """Normalises its images in place."""

    def __init__(self, write):
        super().__init__()
        self.write = write

    def forward(self, images):
        return self.last(F.avg_pool2d(self.middle(self.write(images)), 2).flatten(1))


WRITES = {
    "sub_ and div_": lambda images: images.sub_(0.5).div_(0.25),
    "a part by a part": lambda images: [images[:, i].sub_(0.5).div_(0.25) for i in range(3)] and images,
    "without a graph": lambda images: torch.no_grad()(images.sub_)(0.5).div_(0.25),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("text", EVERY_EXPLAINER)
def test_a_network_may_write_into_its_images(text, write, images):
    if text == "lrp" and write != "sub_ and div_":
        pytest.skip("has no rule for writing into a part of a tensor, and says so")
    network, before = Overwriting(WRITES[write]), images.clone()
    targets = torch.tensor([0, 1, 2, 3])
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            found = bench.component("explainer", text).attribute(network, images, targets)
            expected = bench.component("explainer", text).attribute(Plain(), images, targets)
        assert torch.equal(images, before)
        assert_close(found.detach(), expected.detach())
    assert not network._forward_hooks and not network._forward_pre_hooks


@pytest.mark.parametrize("text", ["topk:k=5,steps=3", "pgd:steps=3", "random_search:queries=3", "target_map:steps=3"])
def test_an_attack_s_network_may_write_into_its_images(text, images):
    before, network = images.clone(), Overwriting(WRITES["sub_ and div_"])
    victim, plain = (bench.Victim(n, bench.component("explainer", "gradient")) for n in (network, Plain()))
    targets = torch.tensor([0, 1, 2, 3])
    found, expected = (bench.component("attack", text).perturb(v, images, targets, BALL) for v in (victim, plain))
    assert_close(found, expected)
    assert_close(victim.logits(images), plain.logits(images))
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    "text", ["infidelity:draws=3", "insertion:steps=3", "crc:draws=2", "deletion:steps=3,fill=blur"]
)
def test_a_metric_s_network_may_write_into_its_images(text, images):
    before = images.clone()
    data = bench.Data(images, torch.tensor([0, 1, 2, 3]), ("a", "b", "c", "d"))
    given = {"images": images, "targets": data.labels, "clean_attributions": images - 0.5, "seed": 0, "test_data": data}
    metric = bench.component("metric", text)
    names = [name for name in given if name in inspect.signature(type(metric).__call__).parameters]
    scores = [
        metric(network=network, **{name: given[name] for name in names})
        for network in (Overwriting(WRITES["sub_ and div_"]), Plain())
    ]
    found, expected = (score.values if isinstance(score, bench.Levels) else score for score in scores)
    assert_close(found, expected)
    assert torch.equal(images, before)


@pytest.mark.parametrize("text", EVERY_EXPLAINER)
def test_inference_mode_changes_no_map(text, images):
    explainer, network, targets = bench.component("explainer", text), Plain(), torch.tensor([0, 1, 2, 3])
    with torch.no_grad():
        expected = explainer.maps(network, images, targets)
    with torch.inference_mode():
        for given in ((images, targets), (images.clone(), targets.clone()), (images.clone(), targets.tolist())):
            found = explainer.maps(network, *given)
            assert torch.equal(found, expected) and not found.requires_grad
        assert torch.is_inference_mode_enabled()


@pytest.mark.parametrize("text", ["topk:k=5,steps=2", "pgd:steps=2", "target_map:steps=2", "random_search:queries=2"])
def test_inference_mode_changes_no_attack(text, images):
    victim = bench.Victim(Plain(), bench.component("explainer", "smoothgrad:samples=2"))
    component, targets = bench.component("attack", text), torch.tensor([0, 1, 2, 3])
    expected = component.perturb(victim, images, targets, BALL)
    with torch.inference_mode():
        assert torch.equal(component.perturb(victim, images.clone(), targets.clone(), BALL), expected)
        maps, logits = victim.both(images.clone(), targets)
    with torch.no_grad():
        assert torch.equal(maps, victim.maps(images, targets)) and torch.equal(logits, victim.logits(images))


def test_inference_mode_changes_no_metric_and_no_gradient(images):
    network, targets = Plain(F.silu), torch.tensor([0, 1, 2, 3])
    data = bench.Data(images, targets, ("a", "b", "c", "d"))
    metric = bench.component("metric", "hessian_norm:draws=2")
    expected = metric(network=network, images=images, targets=targets, seed=0, test_data=data)
    with torch.no_grad():
        gradient = input_gradient(network, images, targets)
    with torch.inference_mode():
        found = metric(network=network, images=images.clone(), targets=targets.clone(), seed=0, test_data=data)
        assert torch.equal(found, expected)
        assert torch.equal(input_gradient(network, images.clone(), targets.clone()), gradient)
        inside = Plain()
    with pytest.raises(bench.BadComponent, match=r"the network was made under torch.inference_mode and has no"):
        bench.component("explainer", "gradient").attribute(inside, images, targets)


class NearGrey(torch.autograd.Function):
    """The images, with a derivative of NaN where one is near grey, but not grey."""

    @staticmethod
    def forward(context, images):
        context.save_for_backward(images)
        return images.clone()

    @staticmethod
    def backward(context, above):
        distance = (context.saved_tensors[0] - 0.5).abs().flatten(1).amax(1)
        near = (distance > 0) & (distance < 0.04)
        return above.masked_fill(near.view(-1, 1, 1, 1), torch.nan)


@dataclass(frozen=True)
class Breaking(bench.Explainer):
    """Squares of the images."""

    name = "breaking"
    differentiable = True

    def attribute(self, network, images, targets):
        ramp = torch.linspace(1, 2, images.shape[3], dtype=images.dtype)
        return (ramp * NearGrey.apply(images)).square()


@dataclass(frozen=True)
class Follow(bench.Attack):
    """Steps along a gradient that nobody looks at."""

    name = "follow"

    def perturb(self, victim, images, targets, ball):
        for _ in range(3):
            leaf = images.detach().requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(victim.maps(leaf, targets)[:, 0, 0].sum(), leaf)
            images = leaf.detach() - 0.01 * slope
            with torch.no_grad():
                victim.maps(images, targets)
        return images


def test_a_gradient_that_breaks_on_the_way_is_the_explainers():
    images = torch.full((3, 3, 8, 8), 0.6, dtype=torch.float64)
    images[1] = 0.5
    victim = bench.Victim(Plain(), Breaking())
    message = r"the gradient of the maps of explainer breaking contains NaN or infinity at step 2 of 6, on image 1 of 3"
    with pytest.raises(bench.BadComponent, match=message):
        bench.component("attack", "topk:k=5,steps=6").perturb(victim, images, [0, 1, 2], BALL)
    with pytest.raises(bench.BadComponent, match="attack follow moved image 1 of 3 to NaN or infinity, after a"):
        Follow().perturb(victim, images, [0, 1, 2], BALL)
    images[2] = torch.nan
    with pytest.raises(bench.BadValue, match="image 2 of 3 contains NaN or infinity and cannot be explained"):
        victim.maps(images, [0, 1, 2])


class Unstable(Plain):
    def forward(self, images):
        return super().forward(images) + (images[:, 0, 0, :1] - images[:, 0, 0, :1].detach()).abs().sqrt()


def test_a_gradient_of_the_network_that_breaks_is_the_networks(images):
    victim = bench.Victim(Unstable(), bench.component("explainer", "gradient"))
    with pytest.raises(bench.BadComponent, match="the gradient of the network contains NaN or infinity at step 1 of 2"):
        bench.component("attack", "pgd:steps=2").perturb(victim, images, 0, BALL)
