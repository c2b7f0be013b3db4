"""Guided backprop, LRP, GradCAM and MoreauGrad beside slow walks from the papers, captum and zennit; in float64."""

from __future__ import annotations

import copy
import warnings

import captum.attr
import pytest
import slow_explainers as slow
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import SpecialFirstLayerMapComposite
from zennit.layer import Sum
from zennit.rules import Epsilon, Norm, Pass, ZBox, ZPlus
from zennit.types import Activation, AvgPool, BatchNorm, Linear

import bench
from bench import noise
from bench.gradients import input_gradient, softened

TARGETS = torch.tensor([0, 1, 3])
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.2, 0.3]


def act(kind):
    return nn.ReLU() if kind == "relu" else nn.Softplus(3)


def norm(channels):
    layer = nn.BatchNorm2d(channels)
    for tensor in (layer.running_mean, layer.weight.data, layer.bias.data):
        tensor.normal_()
    layer.running_var.uniform_(0.5, 2)
    return layer


def chain(kind):
    return [
        *(nn.Conv2d(3, 5, 3, padding=1), norm(5), act(kind)),
        *(nn.Conv2d(5, 6, 3, stride=2, padding=1, bias=False), norm(6), act(kind), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(24, 8), act(kind), nn.Linear(8, 4)),
    ]


def residual(kind):
    body = [nn.Conv2d(5, 5, 3, padding=1), norm(5), act(kind), nn.Conv2d(5, 5, 3, padding=1), norm(5)]
    return [
        *(nn.Conv2d(3, 5, 3, padding=1), norm(5), act(kind)),
        *(slow.Residual(body, []), act(kind)),
        *(slow.Residual([nn.Conv2d(5, 6, 3, stride=2, padding=1)], [nn.Conv2d(5, 6, 1, stride=2), norm(6)]), act(kind)),
        *(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)),
    ]


class Case:
    """A network as a list of layers, and as bench sees it."""

    def __init__(self, make, kind):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.layers = [layer.double().eval() for layer in make(kind)]
            self.images = torch.rand(3, 3, 8, 8, dtype=torch.float64)
        self.network = bench.Normalised(nn.Sequential(*self.layers), MEAN, STD).double().eval().requires_grad_(False)
        self.inner = (self.images - self.network.mean) / self.network.std
        self.low, self.high = (0 - self.network.mean) / self.network.std, (1 - self.network.mean) / self.network.std

    def found(self, text, network=None):
        with torch.no_grad():
            return bench.component("explainer", text).attribute(network or self.network, self.images, TARGETS)

    def expected(self, function, *given, images=3, **options):
        rows = zip(self.inner[:images], TARGETS[:images].tolist(), strict=True)
        return torch.stack([function(self.layers, x, t, *given, **options) for x, t in rows])


@pytest.fixture(params=[chain, residual], ids=["chain", "residual"])
def make(request):
    return request.param


@pytest.fixture(params=["relu", "softplus"])
def case(request, make):
    return Case(make, request.param)


FORMS = {
    "lrp": {},
    "lrp:residual=signed,dense=epsilon": {"residual": "signed", "dense": "epsilon"},
    "lrp:first=zplus": {"first": "zplus"},
    "lrp:bias=drop": {"bias": "drop"},
    "lrp:released": {"first": "zplus", "batch_norm": "pass"},
}


@pytest.mark.parametrize("form", FORMS)
def test_lrp_beside_a_slow_walk(case, form):
    expected = case.expected(slow.lrp, case.low, case.high, images=2, **FORMS[form])  # it is very slow
    assert_close(case.found(form)[:2], expected, rtol=1e-9, atol=1e-12)


def test_guided_backprop_beside_a_slow_walk(case):
    assert_close(case.found("guided_backprop") * case.network.std, case.expected(slow.guided_backprop))


def test_gradcam_beside_a_slow_walk(case):
    last = next(i for i, layer in enumerate(case.layers) if isinstance(layer, nn.AdaptiveAvgPool2d | nn.Flatten))
    if isinstance(case.layers[3], slow.Residual):
        last -= 1  # before the pooling to 2 x 2, in a network of which that is the last layer with feature maps
        assert_close(case.found("gradcam:layer=6"), case.expected(slow.gradcam, last))
    else:
        assert_close(case.found("gradcam"), case.expected(slow.gradcam, last))
    assert_close(case.found("gradcam:layer=2"), case.expected(slow.gradcam, 3))


def test_gradcam_masks_by_the_printed_minimum_and_maximum(case):
    maps = case.found("gradcam:layer=2")
    with torch.no_grad():
        found, percentile = (
            bench.component("explainer", f"gradcam:layer=2{more}").masks(case.network, case.images, TARGETS)
            for more in (",mask_rule=minmax", "")
        )
    for i in range(3):
        g = maps[i, 0].tolist()
        low, high = min(map(min, g)), max(map(max, g))
        expected = [[(value - low) / ((high - low) or 1) for value in row] for row in g]  # a zero map stays zero
        assert_close(found[i, 0], torch.tensor(expected, dtype=torch.float64))
    assert (percentile >= found).all() and (percentile > found).any()


@pytest.mark.parametrize("block", [0, 3])
def test_moreau_grad_beside_a_slow_loop(case, block):
    with torch.no_grad():
        sizes = input_gradient(case.network, case.images, TARGETS).abs() * case.network.std
    sparsity = float(sizes.median()) * (8 if block else 1)
    text = f"moreau_grad:steps=4,average=2,samples=2,noise=0.2,rate=0.3,smoothing=0.7,sparsity={sparsity},block={block}"
    with noise.rows(3, "x", range(3)):
        found = case.found(text)
    for i in range(3):
        width = 0.2 * (case.inner[i].max() - case.inner[i].min())
        with noise.rows(3, "x", [i]), noise.repeat(range(8)):
            draws = width * noise.normal(case.inner[i : i + 1].repeat(8, 1, 1, 1))

        def slope(point, target=int(TARGETS[i])):
            leaf = point[None].clone().requires_grad_()
            case.network.network(leaf)[0, target].backward()
            return leaf.grad[0]

        change = slow.moreau_grad(
            slope, case.inner[i], draws.view(4, 2, 3, 8, 8), 4, 2, 0.3, 0.7, sparsity, block=block or None
        )
        assert_close(found[i], -change / 0.7)
    assert found.any() and (found == 0).any()


def test_guided_backprop_and_gradcam_beside_captum(make):
    case = Case(make, "relu")
    captums = copy.deepcopy(case.network.network)
    with warnings.catch_warnings(action="ignore"):
        found = captum.attr.GuidedBackprop(captums).attribute(case.inner.clone().requires_grad_(), TARGETS)
    assert_close(case.found("guided_backprop") * case.network.std, found)
    features = captum.attr.LayerGradCam(captums, captums[2]).attribute(case.inner, TARGETS, relu_attributions=True)
    wide = F.interpolate(features, (8, 8), mode="bilinear", align_corners=True)
    assert_close(case.found("gradcam:layer=2"), wide.detach())


def test_guided_backprop_on_softplus_is_not_the_gradient_as_captum_has_it(make):
    case = Case(make, "softplus")
    captums = copy.deepcopy(case.network.network)
    with warnings.catch_warnings(action="ignore"):
        theirs = captum.attr.GuidedBackprop(captums).attribute(case.inner.clone().requires_grad_(), TARGETS)
    with torch.no_grad():
        plain = input_gradient(case.network, case.images, TARGETS)
    assert_close(theirs, plain * case.network.std)
    assert (case.found("guided_backprop") - plain).abs().max() > 0.01 * plain.abs().max()


class Summing(nn.Module):
    """slow.Residual as zennit wants it: the sum is a module."""

    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut, self.sum = body, shortcut, Sum()

    def forward(self, x):
        return self.sum(torch.stack([self.body(x), self.shortcut(x)], -1))


@pytest.mark.parametrize("dense", ["zplus", "epsilon"])
def test_lrp_beside_zennit(make, dense):
    """zennit splits sums by signed parts; its composites have the epsilon rule in linear layers."""
    case = Case(make, "relu")
    layers = copy.deepcopy(case.layers)
    network = nn.Sequential(*(Summing(m.body, m.shortcut) if isinstance(m, slow.Residual) else m for m in layers))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # the canonizer leaves eps behind
            module.running_var += module.eps
            module.eps = 0.0
    tiny = 1e-9
    rules = [(Activation, Pass()), (Sum, Norm(tiny)), (AvgPool, Norm(tiny)), (BatchNorm, Pass())]
    rules += [(nn.Linear, Epsilon(1e-6))] if dense == "epsilon" else []
    composite = SpecialFirstLayerMapComposite(
        [*rules, (Linear, ZPlus(tiny))],
        [(Linear, ZBox(case.low[None], case.high[None], tiny))],
        canonizers=[SequentialMergeBatchNorm()],
    )
    with Gradient(model=network, composite=composite) as attributor:
        _, expected = attributor(case.inner.clone(), torch.eye(4, dtype=torch.float64)[TARGETS])
    assert_close(case.found(f"lrp:residual=signed,dense={dense}"), expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("form", ["lrp", "lrp:dense=epsilon"])
def test_lrp_conserves_relevance_without_biases(make, form):
    case = Case(make, "relu")
    for module in case.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
            module.weight.abs_()
        if getattr(module, "bias", None) is not None:
            module.bias.zero_()
        if isinstance(module, nn.Linear):
            module.weight.abs_()  # so that no z+ is zero, where relevance would end
    assert_close(case.found(form).sum((1, 2, 3)), torch.ones(3, dtype=torch.float64), rtol=1e-5, atol=0)


def test_lrp_conserves_relevance_where_biases_are_dropped(make):
    case = Case(make, "relu")
    for module in case.network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.abs_()  # so that no z+ is zero, where relevance would end
            if module.bias is not None:
                module.bias.abs_()
        if isinstance(module, nn.BatchNorm2d):
            module.weight.abs_()
            module.running_mean.abs_().neg_()
            module.bias.abs_()
    assert (case.found("lrp").sum((1, 2, 3)) < 0.99).all()
    assert_close(case.found("lrp:bias=drop").sum((1, 2, 3)), torch.ones(3, dtype=torch.float64), rtol=1e-5, atol=0)


class Styled(nn.Module):
    """One network in several styles of code: normalisation, activations and sums, in place or not."""

    def __init__(self, style):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first, self.second, self.third = (nn.Conv2d(a, 6, 3, padding=1) for a in (3, 6, 6))
            self.norm, self.last = norm(6), nn.Linear(6, 4)
        self.relu = nn.ReLU(inplace=True)
        self.style = style

    def forward(self, images):
        if self.style == "plain":
            x = (images - 0.4) / 0.25
            x = F.relu(self.norm(self.first(x)))
            x = F.relu(x + self.third(F.relu(self.second(x))))
            return self.last(F.adaptive_avg_pool2d(x, 1).flatten(1))
        x = images.clone()
        x -= 0.4
        x.div_(0.25)
        x = self.relu(self.norm(self.first(x)))
        shortcut = x
        x = self.second(x).relu_()
        x = self.third(x)
        x += shortcut
        torch.relu_(x)
        return self.last(x.mean(dim=(2, 3)))


@pytest.mark.parametrize("text", ["lrp", "lrp:residual=signed", "guided_backprop"])
def test_the_style_of_a_network_changes_nothing(text):
    images = torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    explainer, found = bench.component("explainer", text), []
    for style in ("plain", "in place"):
        network = Styled(style).double().eval().requires_grad_(False)
        leaf = images.clone().requires_grad_()
        with softened(20.0):
            value = explainer.maps(network, leaf, TARGETS)[:, 2:5, 1:4].sum()
        found.append((explainer.maps(network, images, TARGETS), *torch.autograd.grad(value, leaf)))
    assert_close(found[1], found[0])
    assert found[0][1].abs().max() > 1e-3


@pytest.mark.parametrize("text", ["lrp", "lrp:residual=signed", "guided_backprop", "gradcam:layer=4"])
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "after"])
def test_second_derivatives_through_batch_norm_and_shortcuts(case, text, inside):
    explainer = bench.component("explainer", text)
    with noise.rows(0, "direction", range(3)):
        direction, weight = noise.normal(case.images), noise.uniform(case.images[:, 0], 0, 1)

    def value(images):
        with softened(20.0):
            return (explainer.maps(case.network, images, TARGETS) * weight).sum()

    leaf = case.images.clone().requires_grad_()
    if inside:
        with softened(20.0):
            (found,) = torch.autograd.grad(value(leaf), leaf)
    else:
        (found,) = torch.autograd.grad(value(leaf), leaf)
    step = 1e-7
    with torch.no_grad():
        slope = (value(case.images + step * direction) - value(case.images - step * direction)) / (2 * step)
    assert_close((found * direction).sum(), slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("text", ["lrp", "guided_backprop", "gradcam:layer=2"])
def test_a_gradient_by_weights_comes_through(case, text):
    network = case.network.requires_grad_(True)
    bench.component("explainer", text).maps(network, case.images, TARGETS)[:, 2:4].sum().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 1e-6 for p in network.parameters())


class Formed(nn.Module):
    """A network whose layers a function calls."""

    def __init__(self, form):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.first, self.second, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, stride=2), norm(6)
            self.third, self.last, self.flat = nn.Linear(54, 8), nn.Linear(8, 4), nn.BatchNorm1d(8)
            for tensor in (self.flat.running_mean, self.flat.weight.data, self.flat.bias.data):
                tensor.normal_()
        self.inside = nn.BatchNorm2d(3, eps=0.0, affine=False)
        self.inside.running_mean.fill_(0.375)
        self.inside.running_var.fill_(0.25**2)
        self.form = form

    def forward(self, images):
        return self.form(self, images)

    def begun(self, images):
        return F.relu(self.first((images - 0.375) / 0.25))

    def ended(self, x):
        return self.last(F.relu(self.flat(self.third(x.flatten(1)))))


def plain(network, images):
    return network.ended(F.relu(network.norm(network.second(network.begun(images)))))


def normed_inside(network, images):
    x = F.relu(network.first(network.inside(images)))
    return network.ended(F.relu(network.norm(network.second(x))))


def channels_apart(network, images):
    x = torch.cat([(images[:, i : i + 1] - 0.375) / 0.25 for i in range(3)], 1)
    return network.ended(F.relu(network.norm(network.second(F.relu(network.first(x))))))


def with_places(network, images):
    x = torch.cat([(images - 0.375) / 0.25, torch.linspace(0, 1, 8).to(images).expand(len(images), 1, 8, 8)], 1)
    x = F.relu(F.conv2d(x, F.pad(network.first.weight, (0, 0, 0, 0, 0, 1)), network.first.bias, padding=1))
    return network.ended(F.relu(network.norm(network.second(x))))


def dropped_out(network, images):
    x = F.dropout(network.second(network.begun(images)), 0.5, training=False).contiguous()
    return network.ended(F.relu(network.norm(x)))


def of_torch(network, images):
    b, x = network.norm, network.second(network.begun(images))
    x = torch.batch_norm(x, b.weight, b.bias, b.running_mean, b.running_var, False, 0.1, b.eps, False)
    return network.ended(F.relu(x))


def folded(network, images):
    x, scale = F.relu(network.norm(network.second(network.begun(images)))), network.flat.running_var + network.flat.eps
    scale = network.flat.weight / scale.sqrt()
    bias = (network.third.bias - network.flat.running_mean) * scale + network.flat.bias
    return network.last(F.relu(F.linear(x.flatten(1), network.third.weight * scale[:, None], bias)))


@pytest.mark.parametrize("form", [normed_inside, channels_apart, with_places, dropped_out, of_torch, folded])
@pytest.mark.parametrize("text", ["lrp", "lrp:dense=epsilon"])
def test_lrp_sees_the_layers_of_a_network_in_whatever_form(text, form):
    images = torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    networks = [Formed(f).double().eval().requires_grad_(False) for f in (form, plain)]
    found, expected = (bench.component("explainer", text).attribute(n, images, TARGETS) for n in networks)
    assert_close(found, expected, rtol=1e-9, atol=1e-12)


class Halved(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x / 2

    @staticmethod
    def backward(context, above):
        return above / 2


def of_its_own(network, images):
    return network.ended(F.relu(network.norm(network.second(Halved.apply(network.begun(images))))))


def written_into(network, images):
    whole = images.new_zeros(len(images), 6, 8, 8)
    whole[:, :6] = network.begun(images)
    return network.ended(F.relu(network.norm(network.second(whole))))


def of_the_batch(network, images):
    x = F.batch_norm(network.second(network.begun(images)), None, None, training=True)
    return network.ended(F.relu(x))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (of_its_own, "lrp has no rule for an autograd.Function of its own, or writing into a part of a tensor"),
        (written_into, "lrp has no rule for an autograd.Function of its own, or writing into a part of a tensor"),
        (of_the_batch, "lrp has no rule for batch_norm with the statistics of the batch"),
    ],
)
def test_what_relevance_cannot_pass_is_told(form, message):
    network = Formed(form).double().eval().requires_grad_(False)
    with pytest.raises(bench.BadComponent, match=message):
        bench.component("explainer", "lrp").attribute(network, torch.rand(3, 3, 8, 8).double(), TARGETS)


def test_gradcam_has_a_second_derivative_before_attention():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.last = nn.Conv2d(3, 4, 2, 2), nn.Linear(4, 4)

        def forward(self, images):
            x = self.patches(images).flatten(2).mT[:, None]
            return self.last(F.scaled_dot_product_attention(x, x, x)[:, 0].mean(1))

    network, leaf = Attention().requires_grad_(False), torch.rand(3, 3, 8, 8).requires_grad_()
    maps = bench.component("explainer", "gradcam:layer=patches").maps(network, leaf, TARGETS)
    assert torch.autograd.grad(maps.square().sum(), leaf)[0].any()


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        x = F.gelu(self.conv(images))
        return (x / x.mean((2, 3), keepdim=True)).mean((2, 3))


def test_what_cannot_be_explained_says_so():
    network, images = Gated().eval(), torch.rand(3, 3, 8, 8)
    said = {
        "lrp": "lrp has no rule for div of two parts",
        "guided_backprop": "guided_backprop has no gate for gelu, which the network calls and whose slope has both",
        "gradcam:layer=cov": r"gradcam: the network has no layer 'cov'; did you mean 'conv'\?",
    }
    for text, message in said.items():
        with pytest.raises(bench.BadComponent, match=message):
            bench.component("explainer", text).attribute(network, images, TARGETS)
    for activation in (nn.SiLU, nn.Mish, nn.Hardswish):
        mixed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 6), activation(), nn.Flatten())
        with pytest.raises(bench.BadComponent, match=f"no gate for {activation.__name__.lower()}"):
            bench.component("explainer", "guided_backprop").attribute(mixed, images, TARGETS)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(bench.BadComponent, match="guided_backprop finds no ReLU or softplus in the network"):
        bench.component("explainer", "guided_backprop").attribute(flat, images, TARGETS)
    with pytest.raises(bench.BadComponent, match="no layer of the network gives feature maps"):
        bench.component("explainer", "gradcam").attribute(flat, images, TARGETS)
    with pytest.raises(bench.BadComponent, match=r"layer 1 gives \(3, 4\), not feature maps"):
        bench.component("explainer", "gradcam:layer=1").attribute(flat, images, TARGETS)
    with pytest.raises(bench.BadComponent, match="the network is scripted"), warnings.catch_warnings(action="ignore"):
        bench.component("explainer", "gradcam").attribute(torch.jit.script(flat), images, TARGETS)
    aside = Formed(lambda network, images: network.begun(images).detach().mean((2, 3)) + images.sum((1, 2, 3))[:, None])
    with pytest.raises(bench.BadComponent, match="gradcam: the logits do not depend on layer first"):
        bench.component("explainer", "gradcam:layer=first").attribute(aside, images, TARGETS)
    tokens = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(2), nn.Linear(4, 4), nn.Flatten(), nn.Linear(16, 4))
    with pytest.raises(bench.BadComponent, match="works on tokens"):
        bench.component("explainer", "gradcam").attribute(tokens, images, TARGETS)
