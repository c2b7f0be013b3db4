"""Softplus and convolution against torch's own, to the third derivative, and what they cost."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.gradients import twice_differentiable
from bench.layers import CheapSecondDerivatives, Softplus, softplus, softplus_by_blocks

POINTS = torch.cat(
    [
        torch.linspace(-60, 60, 2401, dtype=torch.float64),
        torch.tensor([-1e4, -800.0, 0.0, 6.6666, 6.6667, 20 / 3, 20.0, 800.0, 1e4], dtype=torch.float64),
    ]
)


def derivatives(function, order):
    points = POINTS.clone().requires_grad_()
    values = [function(points)]
    for _ in range(order):
        values.append(torch.autograd.grad(values[-1].sum(), points, create_graph=True)[0])
    return torch.stack(values).detach()


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0, 20.0, 50.0])
def test_softplus_and_three_derivatives_are_those_of_torch(beta):
    ours, theirs = (derivatives(lambda z, f=f: f(z, beta), 3) for f in (softplus, F.softplus))
    assert ours.isfinite().all()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_derivatives_of_softplus_are_those_of_finite_differences():
    points = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)

    def slope(z):
        return torch.autograd.grad(softplus(z, 3.0).sum(), z, create_graph=True)[0]

    assert torch.autograd.gradcheck(lambda z: softplus(z, 3.0), points)
    assert torch.autograd.gradgradcheck(lambda z: softplus(z, 3.0), points)
    assert torch.autograd.gradgradcheck(slope, points)


@pytest.mark.parametrize("beta", [1.0, 3.0, 20.0])
def test_softplus_by_blocks_is_as_exact_as_torch(beta):
    points = torch.linspace(-85 / beta, 85 / beta, 200_003)
    exact = torch.logaddexp(points.double() * beta, torch.zeros((), dtype=torch.float64)) / beta
    ours, theirs = (f(points, beta).double() - exact for f in (softplus_by_blocks, F.softplus))
    assert ours.abs().max() <= theirs.abs().max()
    # Half a unit in the last place more than torch: exp, log and their sum round once each.
    ulp = exact * 2.0**-23
    assert (ours / ulp).abs().max() <= (theirs / ulp).abs().max() + 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_softplus_by_blocks_rounds_half_precision_once(dtype):
    points = torch.linspace(-9, 9, 4001).to(dtype)
    assert torch.equal(softplus_by_blocks(points, 3.0), softplus_by_blocks(points.float(), 3.0).to(dtype))


@pytest.mark.parametrize(
    "points",
    [
        torch.randn(0, 3),
        torch.randn(3, 5).t()[::2],
        torch.randn(2, 4, 5, 6).to(memory_format=torch.channels_last),
        torch.randn(2, 3)[:, :1].expand(2, 7),
        torch.tensor(0.3),
        torch.tensor([torch.inf, -torch.inf, torch.nan]),
        torch.randn(2, 300_001),
    ],
    ids=["empty", "strided", "channels last", "expanded", "scalar", "not finite", "several blocks"],
)
def test_softplus_by_blocks_takes_any_layout(points):
    ours = softplus_by_blocks(points, 2.0)
    torch.testing.assert_close(ours, F.softplus(points, 2.0), equal_nan=True)
    if points.ndim == 4:
        assert ours.is_contiguous(memory_format=torch.channels_last)


def test_softplus_works_under_torchs_function_transforms():
    hessian = torch.func.jacrev(torch.func.grad(lambda z: softplus(z, 3.0).sum()))(torch.tensor([0.2, -0.1]))
    torch.testing.assert_close(
        hessian.diag(), 3 * torch.sigmoid(torch.tensor([0.6, -0.3])) * torch.sigmoid(torch.tensor([-0.6, 0.3]))
    )


def network(*, dtype=torch.float64):
    torch.manual_seed(0)
    layers = [
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d((2, 3), (2, 1), (1, 0), ceil_mode=True)),
        nn.Conv2d(4, 8, 3, groups=2, dilation=2, padding="same"),
        nn.Conv2d(8, 6, (3, 2), padding=(1, 0), bias=False),
        nn.Conv2d(6, 6, 3, groups=6, padding=1, padding_mode="reflect"),
    ]
    parts = [part for layer in layers for part in (layer, Softplus(3.0))]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(6 * 9 * 13, 3)).to(dtype)


def third_order(around, layout):
    """Gradients of a loss that holds a gradient and a product with the Hessian."""
    net = network().to(memory_format=layout)
    torch.manual_seed(1)
    images = torch.rand(4, 3, 16, 16, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    with around:
        logits = net(images)
    (first,) = torch.autograd.grad(logits[:, 0].sum(), images, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(3).sum(), images, create_graph=True)
    (logits.logsumexp(1).sum() + first.square().sum() + 1e3 * second.square().sum()).backward()
    return [images.grad, *(weight.grad for weight in net.parameters())]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_convolution_and_pooling_have_the_derivatives_of_torch(layout):
    ours, theirs = third_order(CheapSecondDerivatives(), layout), third_order(contextlib.nullcontext(), layout)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_pooling_keeps_channels_last_in_every_derivative():
    images = torch.rand(2, 4, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    direction = torch.rand_like(images).requires_grad_()
    with CheapSecondDerivatives():
        values = F.max_pool2d(images, 2)
    above = torch.ones_like(values).requires_grad_()
    (first,) = torch.autograd.grad(values, images, above, create_graph=True)
    (second,) = torch.autograd.grad(first, above, direction, create_graph=True)
    (third,) = torch.autograd.grad(second.square().sum(), direction)
    for tensor in (values, first, second, third):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


def calls(profile):
    """The kernels of convolutions, with the spatial size of what they take for a kernel."""
    return [
        event.input_shapes[1 if "backward" not in event.name else 2][-1]
        for event in profile.events()
        if event.name in ("aten::convolution", "aten::convolution_backward")
    ]


@pytest.mark.parametrize("is_frozen", [False, True])
def test_second_derivative_of_a_convolution_costs_convolutions_with_its_own_kernel(is_frozen):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Softplus(3.0), nn.Conv2d(8, 8, 3, padding=1), Softplus(3.0))
    net.requires_grad_(not is_frozen)
    images = torch.rand(2, 3, 16, 16, requires_grad=True)

    def kernels(around):
        with around:
            values = net(images)
        with torch.profiler.profile(record_shapes=True) as profile:
            (slope,) = torch.autograd.grad(values.sum(), images, create_graph=True)
            slope.square().sum().backward()
        return calls(profile)

    assert max(kernels(contextlib.nullcontext())) > 3
    ours = kernels(twice_differentiable())
    # The slope takes a pass by the input in each layer, and no gradient of a weight. Its derivative takes a convolution
    # and, by the activations, a pass by the input in each. Weights that train have two gradients each as well, one of
    # them in the pass by the input.
    assert set(ours) == {3}
    assert len(ours) == 2 + 2 + 2 + (0 if is_frozen else 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_second_derivative_with_frozen_weights_has_the_bits_of_torch(dtype):
    net = network(dtype=dtype).requires_grad_(False)

    def second(around):
        images = torch.rand(4, 3, 16, 16, dtype=dtype, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with around:
            logits = net(images)
        (first,) = torch.autograd.grad(logits[:, 0].sum(), images, create_graph=True)
        return torch.autograd.grad(first.abs().sum(), images)[0]

    assert torch.equal(second(CheapSecondDerivatives()), second(contextlib.nullcontext()))


def test_convolutions_of_constants_and_under_transforms_are_those_of_torch():
    net = network(dtype=torch.float32)
    images = torch.rand(2, 3, 16, 16)
    with CheapSecondDerivatives():
        with torch.no_grad():
            assert net[0](images).grad_fn is None
        assert net.requires_grad_(False)[0](images).grad_fn is None
        slopes = torch.func.vmap(torch.func.grad(lambda image: net[0][0](image[None]).square().sum()))(images)
    leaf = images.requires_grad_()
    torch.testing.assert_close(slopes, torch.autograd.grad(net[0][0](leaf).square().sum(), leaf)[0])


def test_convolutions_follow_autocast():
    layer = nn.Conv2d(3, 4, 3)
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = layer(images)
        with CheapSecondDerivatives():
            ours = layer(images)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, theirs)
    ours.float().sum().backward()
    assert layer.weight.grad.dtype == images.grad.dtype == torch.float32
