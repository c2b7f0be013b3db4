"""A slow walk of relevance through one image's tokens in a TinyTransformer, by the equations of AttnLRP."""

import math

import slow_explainers as slow
import torch


def linear(layer, x, r, dense, bias):
    """Relevance of each token (n, i) of that of its outputs (n, o)."""
    affine = slow.Affine(layer)
    rows = zip(x, r, strict=True)
    return torch.stack(
        [slow.epsilon_rule(affine, *row) if dense == "epsilon" else slow.z_plus(affine, *row, bias) for row in rows]
    )


def split_sum(o, s, r, residual):
    if residual == "signed":
        return slow.split_sum(o, s, r, "signed")
    if residual == "totals":  # Chefer et al., eq. 9 and 10, as in Add.relprop of their code
        a, b = o * r / (o + s), s * r / (o + s)
        size = a.sum().abs() + b.sum().abs()
        return tuple(part / part.sum() * (part.sum().abs() / size * r.sum()) for part in (a, b))
    return slow.split_sum(o.abs(), s.abs(), r, "positive")


def matrix_product(a, b, r):
    """Prop. 3.3: R(a_ji) = sum_p a_ji b_ip R_jp / 2 o_jp, and likewise for b."""
    r_a, r_b = torch.zeros_like(a), torch.zeros_like(b)
    for j in range(a.shape[0]):
        for p in range(b.shape[1]):
            parts = a[j] * b[:, p]
            r_a[j] += parts * r[j, p] / (2 * parts.sum())
            r_b[:, p] += parts * r[j, p] / (2 * parts.sum())
    return r_a, r_b


class Walk:
    """One image through a TinyTransformer and back.

    `kept` adds up what the bias of the softmax and the class token take, `attentions` has the relevance of each head's
    attention from the last block to the first.
    """

    def __init__(self, network, image, dense, residual, bias, softmax="taylor"):
        self.network, self.dense, self.residual, self.bias, self.softmax = network, dense, residual, bias, softmax
        self.image, self.kept, self.attentions = image, 0.0, []
        network_tokens = network.patches(image[None]).flatten(2)[0].T
        self.tokens = torch.cat([network.class_token[0], network_tokens]) + network.positions[0]

    def attention(self, query, key, value, r):
        """Prop. 3.1 for the softmax, Prop. 3.3 around it."""
        scores = query @ key.T / math.sqrt(query.shape[1])
        s = scores.exp() / scores.exp().sum(1, keepdim=True)
        r_s, r_value = matrix_product(s, value, r)
        self.attentions.append(r_s)
        if self.softmax == "identity":
            r_query, r_key = matrix_product(query, key.T, r_s)
            return r_query, r_key.T, r_value
        r_scores = torch.zeros_like(scores)
        for j in range(len(s)):
            for i in range(len(s)):
                r_scores[j, i] = scores[j, i] * (r_s[j, i] - s[j, i] * r_s[j].sum())
                slope = [s[j, i] * (float(i == k) - s[j, k]) for k in range(len(s))]
                shift = s[j, i] - sum(g * x for g, x in zip(slope, scores[j], strict=True))
                self.kept += float(shift * r_s[j, i] / s[j, i])
        r_query, r_key = matrix_product(query, key.T, r_scores)
        return r_query, r_key.T, r_value

    def block(self, block, tokens, r):
        """Relevance of the tokens of that of the block's output; the norms follow Prop. 3.4."""
        normed = block.before_attention(tokens)
        joint = block.queries_keys_values(normed)
        heads = [[part[:, 4 * h : 4 * h + 4] for part in joint.chunk(3, 1)] for h in range(2)]
        mixed = torch.cat([(q @ k.T / 2).softmax(1) @ v for q, k, v in heads], 1)
        middle = tokens + block.joined(mixed)
        first, act, second = block.units
        given = block.before_units(middle)
        inner = act(first(given))
        r_middle, r_units = split_sum(middle, second(inner), r, self.residual)
        r_middle = r_middle + self.linear(first, given, self.linear(second, inner, r_units))
        r_tokens, r_attention = split_sum(tokens, block.joined(mixed), r_middle, self.residual)
        r_mixed = self.linear(block.joined, mixed, r_attention)
        parts = [self.attention(*heads[h], r_mixed[:, 4 * h : 4 * h + 4]) for h in range(2)]
        r_joint = torch.cat([parts[h][part] for part in range(3) for h in range(2)], 1)
        return r_tokens + self.linear(block.queries_keys_values, normed, r_joint)

    def linear(self, layer, x, r):
        return linear(layer, x, r, self.dense, self.bias)

    def relevance(self, target):
        network = self.network
        tokens = [self.tokens]
        for block in network.blocks:
            tokens.append(block(tokens[-1][None])[0])
        r = torch.zeros_like(self.tokens)
        last = network.norm(tokens[-1])[:1]
        one = torch.eye(3, dtype=torch.float64)[[target]]
        r[:1] = self.linear(network.head, last, one)
        for block, given in zip(reversed(network.blocks), reversed(tokens[:-1]), strict=True):
            r = self.block(block, given, r)
        self.kept += float(r[0].sum())
        rows, columns = (size // 3 for size in self.image.shape[1:])
        r_patches = r[1:].T.reshape(-1, rows, columns)
        bounds = torch.zeros_like(self.image), torch.ones_like(self.image)
        return slow.z_box(slow.Affine(network.patches), self.image, r_patches, *bounds)
