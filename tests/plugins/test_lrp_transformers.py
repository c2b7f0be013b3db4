"""LRP through attention, norms and gates, beside slow walks with the equations of AttnLRP; in float64."""

from __future__ import annotations

import pytest
import slow_explainers as slow
import torch
import torch.nn.functional as F
from bench_explainers import rules
from bench_explainers.attention import attend
from slow_transformers import Walk
from torch import nn
from torch.testing import assert_close

import bench
from bench.testing.fixtures import tiny_images, tiny_transformer


def explain(text, network, images, targets):
    with torch.no_grad():
        return bench.component("explainer", text).attribute(network, images, targets)


FORMS = {
    "lrp": ("zplus", "positive", "keep"),
    "lrp:bias=drop": ("zplus", "positive", "drop"),
    "lrp:dense=epsilon,residual=signed": ("epsilon", "signed", "keep"),
}


@pytest.mark.parametrize("form", FORMS)
def test_lrp_through_attention_beside_a_slow_walk(form):
    network, (images, targets) = tiny_transformer(True, shape=(3, 6, 9)), tiny_images(2, (3, 6, 9))
    found = explain(form, network, images, targets)
    for i, target in enumerate(targets.tolist()):
        expected = Walk(network, images[i], *FORMS[form]).relevance(target)
        assert_close(found[i], expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_what_the_image_does_not_get_is_with_the_class_token_and_the_bias_of_the_softmax():
    network, (images, targets) = tiny_transformer(True, shape=(3, 6, 9)), tiny_images(2, (3, 6, 9))
    for name, parameter in network.named_parameters():
        if "bias" in name:
            parameter.zero_()
    form = "lrp:dense=epsilon,residual=signed"  # z+ also loses what a unit of negative summands gets
    found = explain(form, network, images, targets)
    for i, target in enumerate(targets.tolist()):
        walk = Walk(network, images[i], *FORMS[form])
        walk.relevance(target)
        assert abs(walk.kept) > 0.01
        assert_close(found[i].sum() + walk.kept, torch.tensor(1.0, dtype=torch.float64), rtol=1e-3, atol=0)  # epsilon


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_each_rule_conserves_relevance():
    r, a, b = drawn(2, 3, 4), drawn(2, 3, 5), drawn(2, 5, 4)
    with torch.no_grad():
        parts = rules.bilinear(torch.matmul)(r, a, b)
        assert_close(sum(part.sum() for part in parts), r.sum())
        assert_close(parts[0].sum(), parts[1].sum())
        wide, gate = drawn(2, 3, 4), drawn(2, 1, 4)
        parts = rules.split_product(r, wide, gate)
        assert_close(sum(part.sum() for part in parts), r.sum())
        assert parts[1].shape == gate.shape
        parts = rules.split_sum("positive", {"layer_norm"})(r, wide, drawn(2, 3, 4))
        assert_close(sum(part.sum() for part in parts), r.sum())
        (part,) = rules.share_mean(lambda x: x.mean(1), {"layer_norm"})(drawn(2, 4), wide)
        assert_close(part.sum(), drawn(2, 4).sum())


class Gated(nn.Module):
    """Squeeze and excitation between two layers."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
            self.reduce, self.expand = nn.Linear(4, 2), nn.Linear(2, 4)

    def forward(self, images):
        x = F.silu(self.first(images))
        gate = torch.sigmoid(self.expand(F.silu(self.reduce(x.mean((2, 3))))))
        return self.last((x * gate[:, :, None, None]).mean((2, 3)))


def test_lrp_through_a_gate_beside_a_slow_walk():
    network, (images, targets) = Gated().double().eval().requires_grad_(False), tiny_images(2, (3, 6, 5))
    found = explain("lrp", network, images, targets)
    for i, target in enumerate(targets.tolist()):
        x = F.silu(network.first(images[i : i + 1]))[0]
        squeezed = x.mean((1, 2))
        reduced = F.silu(network.reduce(squeezed))
        gated = x * torch.sigmoid(network.expand(reduced))[:, None, None]

        def share(values, r):
            return values.abs() * (r / values.abs().sum((1, 2)))[:, None, None]

        r = slow.z_plus(slow.Affine(network.last), gated.mean((1, 2)), torch.eye(3, dtype=torch.float64)[target])
        r_gated = share(gated, r)
        r_gate = r_gated.sum((1, 2)) / 2  # Prop. 3.2
        r_reduced = slow.z_plus(slow.Affine(network.expand), reduced, r_gate)
        r_squeezed = slow.z_plus(slow.Affine(network.reduce), squeezed, r_reduced)
        r_x = r_gated / 2 + share(x, r_squeezed)
        bounds = torch.zeros_like(images[i]), torch.ones_like(images[i])
        expected = slow.z_box(slow.Affine(network.first), images[i], r_x, *bounds)
        assert_close(found[i], expected, rtol=1e-6, atol=1e-9)


class Formed(nn.Module):
    """A network whose body a function computes."""

    def __init__(self, body):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.first, self.second, self.last = nn.Conv2d(3, 4, 3, 3), nn.Linear(4, 4), nn.Linear(4, 3)
        self.body = body

    def forward(self, images):
        tokens = F.gelu(self.first(images)).flatten(2).transpose(1, 2)
        return self.last(self.body(self, tokens).mean(1))


def through_matmul(network, tokens):
    return tokens @ network.second.weight.T + network.second.bias


def through_matmul_from_the_left(network, tokens):
    return (network.second.weight @ tokens.transpose(1, 2)).transpose(1, 2) + network.second.bias


@pytest.mark.parametrize("body", [through_matmul, through_matmul_from_the_left])
def test_a_product_with_a_constant_is_a_linear_layer(body):
    images, targets = tiny_images(2, (3, 9, 6))
    linear = Formed(lambda network, tokens: network.second(tokens)).double().eval().requires_grad_(False)
    network = Formed(body).double().eval().requires_grad_(False)
    found, expected = (explain("lrp:bias=drop", each, images, targets) for each in (network, linear))
    assert_close(found, expected)


NORMS = {
    "layer_norm": lambda network, tokens: F.layer_norm(tokens, (4,)),
    "rms_norm": lambda network, tokens: F.rms_norm(tokens, (4,)),
    "group_norm": lambda network, tokens: F.group_norm(tokens.transpose(1, 2), 2).transpose(1, 2),
    "instance_norm": lambda network, tokens: F.instance_norm(tokens),
    "normalize": lambda network, tokens: F.normalize(tokens, dim=-1),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_passes_on_what_it_gets(name):
    network, (images, targets) = Formed(NORMS[name]).double().eval().requires_grad_(False), tiny_images(2, (3, 9, 6))
    found = explain("lrp:bias=drop", network, images, targets)
    for i, target in enumerate(targets.tolist()):
        x = F.gelu(network.first(images[i : i + 1]))
        tokens = network.body(network, x.flatten(2).transpose(1, 2))[0]
        one = torch.eye(3, dtype=torch.float64)[target]
        r = slow.z_plus(slow.Affine(network.last), tokens.mean(0), one, "drop")
        r = (tokens.abs() / tokens.abs().sum(0) * r).T.reshape(x.shape[1:])
        bounds = torch.zeros_like(images[i]), torch.ones_like(images[i])
        assert_close(found[i], slow.z_box(slow.Affine(network.first), images[i], r, *bounds), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"attn_mask": torch.ones(5, 5).tril().bool()},
        {"attn_mask": torch.linspace(-2, 1, 25).view(5, 5).double(), "scale": 0.3},
        {"enable_gqa": True},
    ],
    ids=str,
)
def test_attention_in_parts_is_that_of_torch(options):
    heads = 2 if options.get("enable_gqa") else 4
    query, key, value = drawn(2, 4, 5, 3), drawn(2, heads, 5, 3), drawn(2, heads, 5, 3) + 1
    assert_close(attend(query, key, value, **options), F.scaled_dot_product_attention(query, key, value, **options))


def test_relevance_is_finite_where_attention_is_masked():
    def masked(network, tokens):
        return F.scaled_dot_product_attention(tokens, tokens, tokens, is_causal=True)

    network, (images, targets) = Formed(masked).double().eval().requires_grad_(False), tiny_images(2, (3, 9, 6))
    assert explain("lrp", network, images, targets).isfinite().all()
