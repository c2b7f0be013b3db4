"""Attention rollout and transformer attribution beside slow loops from the papers; in float64."""

from __future__ import annotations

import pytest
import timm
import torch
from bench_explainers.attention import attend_in_heads
from slow_transformers import Walk
from torch import nn
from torch.testing import assert_close
from torchvision.models import VisionTransformer

import bench
from bench.testing.fixtures import tiny_images, tiny_network, tiny_transformer

NAMES = ["attention_rollout", "transformer_attribution"]


def explain(text, network, images, targets):
    with torch.no_grad():
        return bench.component("explainer", text).attribute(network, images, targets)


def forward(network, image):
    """The logits of one image, and the attention (heads, n, n) of each block, with a graph between them."""
    patches = network.patches(image[None]).flatten(2)[0].T
    tokens = torch.cat([network.class_token[0], patches]) + network.positions[0]
    found = []
    for block in network.blocks:
        joint = block.queries_keys_values(block.before_attention(tokens))
        heads = [[part[:, 4 * h : 4 * h + 4] for part in joint.chunk(3, 1)] for h in range(2)]
        weights = torch.stack([(q @ k.T / 2).softmax(1) for q, k, _ in heads])
        found.append(weights if weights.requires_grad else weights.requires_grad_())
        mixed = torch.cat([found[-1][h] @ heads[h][2] for h in range(2)], 1)
        tokens = tokens + block.joined(mixed)
        tokens = tokens + block.units(block.before_units(tokens))
    return network.head(network.norm(tokens)[0]), found


def product(a, b):
    n = len(a)
    return torch.tensor(
        [[sum(float(a[i, k] * b[k, j]) for k in range(n)) for j in range(n)] for i in range(n)], dtype=torch.float64
    )


def show(matrices, height, width):
    joint = matrices[0]
    for matrix in matrices[1:]:
        joint = product(matrix, joint)
    return enlarge(joint[0, 1:].reshape(height // 3, width // 3), height, width)


def enlarge(coarse, height, width):
    """Bilinear interpolation between the centers of cells, and the value of the nearest beyond them."""
    rows, columns = coarse.shape
    fine = torch.zeros(height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * rows / height - 0.5, 0), rows - 1)
            x = min(max((j + 0.5) * columns / width - 0.5, 0), columns - 1)
            for r in range(rows):
                for c in range(columns):
                    fine[i, j] += max(0, 1 - abs(y - r)) * max(0, 1 - abs(x - c)) * coarse[r, c]
    return fine


@pytest.fixture
def case():
    shape = (3, 6, 9)
    return tiny_transformer(True, shape=shape), *tiny_images(3, shape)


def test_rollout_beside_a_slow_loop(case):
    network, images, targets = case
    found = explain("attention_rollout", network, images, targets)
    assert_close(found, explain("attention_rollout", network, images, targets.flip(0)))
    for i in range(3):
        _, attentions = forward(network, images[i])
        eye = torch.eye(7, dtype=torch.float64)
        expected = show([(0.5 * (w[0] + w[1]) / 2 + 0.5 * eye).detach() for w in attentions], 6, 9)
        assert_close(found[i, 0], expected)


def test_transformer_attribution_beside_a_slow_walk(case):
    network, images, targets = case
    found = explain("transformer_attribution", network, images, targets)
    for i, target in enumerate(targets.tolist()):
        logits, attentions = forward(network, images[i])
        gradients = torch.autograd.grad(logits[target], attentions)
        walk = Walk(network, images[i], "zplus", "totals", "drop", softmax="identity")
        walk.relevance(target)
        last, first = walk.attentions[:2], walk.attentions[2:]
        matrices = []
        for gradient, heads in zip(gradients, (first, last), strict=True):
            parts = [(gradient[h] * heads[h]).clamp(min=0) for h in range(2)]
            matrices.append(torch.eye(7, dtype=torch.float64) + (parts[0] + parts[1]) / 2)
        assert_close(found[i, 0], show(matrices, 6, 9), rtol=1e-6, atol=1e-9)
        assert found[i].std() > 1e-3 * found[i].mean()


def build(arch="vit_tiny_patch16_224", **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(arch, num_classes=3, **{"depth": 2, **options})
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("name", NAMES)
def test_fused_attention_of_timm_has_the_map_of_its_parts(name):
    network = build(img_size=32, patch_size=8).double()
    images, targets = tiny_images(2, (3, 32, 32))
    assert all(block.attn.fused_attn for block in network.blocks)
    fused = explain(name, network, images, targets)
    for block in network.blocks:
        block.attn.fused_attn = False
    assert_close(fused, explain(name, network, images, targets))


@pytest.mark.parametrize("name", NAMES)
def test_registers_are_no_part_of_the_map(name):
    network = build(img_size=32, patch_size=8, reg_tokens=2).double()
    images, targets = tiny_images(2, (3, 32, 32))
    found = explain(name, network, images, targets)
    with torch.no_grad():  # no patch notices that two registers change places
        network.reg_token.copy_(network.reg_token.flip(1))
    assert_close(found, explain(name, network, images, targets), rtol=1e-3, atol=1e-6)
    assert found.shape == (2, 1, 32, 32)


def pooled():
    return build(img_size=32, patch_size=8, class_token=False, global_pool="avg")


def averaged():
    return build(img_size=32, patch_size=8, global_pool="avg", fc_norm=False)


def windowed():
    return build("swin_tiny_patch4_window7_224", img_size=32, window_size=2, depths=(1, 1), depth=None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiny_network(True, torch.float32, (3, 32, 32)), "the network has no attention; use an explainer such"),
        (pooled, "the network has no class token, its logits read 16 of 16 tokens; use an explainer such as gradient"),
        (averaged, "the network has no class token, its logits read 1[67] of 17 tokens"),
        (windowed, r"has attention within windows, or to fewer tokens in some layers \(weights of shape \(32, 3, 4, 4"),
    ],
)
def test_networks_without_a_class_token_are_refused(name, make, message):
    images, targets = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    with pytest.raises(bench.BadComponent, match=f"^{name}: .*{message}"):
        explain(name, make(), images, targets)


class Explicit(nn.Module):
    """torch's MultiheadAttention, written as networks of timm have it."""

    def __init__(self, attention):
        super().__init__()
        self.joint = nn.Linear(8, 24).double()
        self.joint.weight, self.joint.bias = attention.in_proj_weight, attention.in_proj_bias
        self.out = attention.out_proj

    def forward(self, tokens, *others, **options):
        parts = self.joint(tokens).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        return self.out(
            ((query * 0.5) @ key.transpose(2, 3)).softmax(-1).matmul(value).transpose(1, 2).flatten(2)
        ), None


@pytest.fixture
def torchvision_vit():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VisionTransformer(16, 8, 2, 2, 8, 16, num_classes=3).double()
        nn.init.normal_(network.heads.head.weight)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("text", ["lrp", "lrp:dense=epsilon,residual=signed", *NAMES])
def test_attention_of_torch_has_the_map_of_its_parts(text, torchvision_vit):
    images, targets = tiny_images(2, (3, 16, 16))
    found = explain(text, torchvision_vit, images, targets)
    for block in torchvision_vit.encoder.layers:
        block.self_attention = Explicit(block.self_attention)
    assert_close(found, explain(text, torchvision_vit, images, targets), rtol=1e-6, atol=1e-9)
    assert found.flatten(1).std(1).min() > 0


def test_rollout_of_torchvision_beside_the_weights_that_torch_reports(torchvision_vit):
    (image,), (target,) = tiny_images(1, (3, 16, 16))
    network, eye = torchvision_vit, torch.eye(5, dtype=torch.float64)
    patches = network.conv_proj(image[None]).flatten(2).mT
    tokens = torch.cat([network.class_token, patches], 1) + network.encoder.pos_embedding
    rolled = eye
    for block in network.encoder.layers:
        normed = block.ln_1(tokens)
        mixed, weights = block.self_attention(normed, normed, normed)
        rolled = product(0.5 * weights[0] + 0.5 * eye, rolled)
        tokens = tokens + mixed
        tokens = tokens + block.mlp(block.ln_2(tokens))
    expected = enlarge(rolled[0, 1:].reshape(2, 2), 16, 16)
    assert_close(explain("attention_rollout", network, image[None], target[None])[0, 0], expected)


@pytest.mark.parametrize("shared", [True, False])
def test_attention_in_heads_is_that_of_torch(shared):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.MultiheadAttention(8, 2, bias=shared).double().requires_grad_(False)
        query, key, value = (torch.randn(n, 3, 8, dtype=torch.float64) for n in (4, 5, 5))
    tokens = (query, query, query) if shared else (query, key, value)
    given = (8, 2, module.in_proj_weight, module.in_proj_bias, None, None, False, 0.0)
    for options in ({}, {"average_attn_weights": False}, {"need_weights": False}):
        found = attend_in_heads(*tokens, *given, module.out_proj.weight, module.out_proj.bias, **options)
        for mine, torchs in zip(found, module(*tokens, **options), strict=True):
            assert (mine is None) == (torchs is None)
            if mine is not None:
                assert_close(mine, torchs)


def test_attention_of_torch_with_a_mask_is_refused():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = layer, nn.Linear(8, 3)

        def forward(self, images):
            tokens = images.flatten(2).mT.repeat(1, 1, 8 // 3 + 1)[:, :, :8]
            return self.head(self.layer(tokens, torch.zeros(16, 16))[:, 0])

    expected = r"calls torch.s multi_head_attention_forward with masks, .* not taken apart; take a network of timm"
    with pytest.raises(bench.BadComponent, match=expected):
        explain("attention_rollout", Network().eval(), torch.rand(2, 3, 4, 4), torch.tensor([0, 1]))
