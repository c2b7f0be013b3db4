"""Slow reference implementations of guided backprop, LRP (z+ / z^B), GradCAM and Sparse MoreauGrad.

Every function handles one image (C, H, W) in float64 and walks the layers explicitly, without autograd.
A network is a list of eval-mode modules among nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Softplus, nn.MaxPool2d,
nn.AvgPool2d, nn.AdaptiveAvgPool2d(1), nn.Flatten, nn.Linear and Residual; its input is the normalised image.
"""

import math

import torch
from torch import nn

STABILISER = 1e-9
EPSILON = 1e-6


class Residual(nn.Module):
    """body(x) + shortcut(x), with the identity for an empty shortcut."""

    def __init__(self, body: list, shortcut: list):
        super().__init__()
        self.body = nn.Sequential(*body)
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


def pair(value) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def number(tensor) -> torch.Tensor:
    return torch.as_tensor(tensor).detach().to(torch.float64)


def positive(tensor):
    return tensor.clamp(min=0)


def negative(tensor):
    return tensor.clamp(max=0)


def stabilised(z, eps=STABILISER):
    """z + eps * sgn(z), with sgn(0) = 1."""
    return z + eps * torch.where(z >= 0, 1.0, -1.0).to(z)


# Linear maps and their transposes.


def pad(x, padding, value=0.0):
    """x (C, H, W) with `padding` = (rows, columns) of `value` on each side."""
    rows, columns = padding
    channels, height, width = x.shape
    out = torch.full((channels, height + 2 * rows, width + 2 * columns), value, dtype=torch.float64)
    out[:, rows : rows + height, columns : columns + width] = x
    return out


def crop(x, padding):
    """Inverse of pad."""
    rows, columns = padding
    return x[:, rows : x.shape[1] - rows, columns : x.shape[2] - columns]


def windows(height, width, kernel, stride):
    """Yields (i, j, rows, columns): the output position and the slices of the padded input under it."""
    for i in range((height - kernel[0]) // stride[0] + 1):
        for j in range((width - kernel[1]) // stride[1] + 1):
            top, left = i * stride[0], j * stride[1]
            yield i, j, slice(top, top + kernel[0]), slice(left, left + kernel[1])


def output_shape(height, width, kernel, stride):
    return (height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1


def convolution(x, weight, stride, padding):
    """out[o, i, j] = sum_{c,a,b} weight[o, c, a, b] * padded_x[c, i*s + a, j*s + b]."""
    padded = pad(x, padding)
    kernel = tuple(weight.shape[2:])
    out = torch.zeros(weight.shape[0], *output_shape(*padded.shape[1:], kernel, stride), dtype=torch.float64)
    for i, j, rows, columns in windows(*padded.shape[1:], kernel, stride):
        for o in range(weight.shape[0]):
            out[o, i, j] = (weight[o] * padded[:, rows, columns]).sum()
    return out


def convolution_transposed(r, weight, stride, padding, shape):
    """The transpose of `convolution` applied to r, for an input of `shape`."""
    padded = pad(torch.zeros(shape, dtype=torch.float64), padding)
    for i, j, rows, columns in windows(*padded.shape[1:], tuple(weight.shape[2:]), stride):
        for o in range(weight.shape[0]):
            padded[:, rows, columns] += weight[o] * r[o, i, j]
    return crop(padded, padding)


class Affine:
    """A conv or linear layer as weight, bias, and the two linear maps x -> w x and r -> w^T r."""

    def __init__(self, layer):
        self.layer = layer
        self.weight = number(layer.weight)
        outputs = self.weight.shape[0]
        self.bias = torch.zeros(outputs, dtype=torch.float64) if layer.bias is None else number(layer.bias)
        if isinstance(layer, nn.Conv2d):
            if pair(layer.dilation) != (1, 1) or layer.groups != 1 or layer.padding_mode != "zeros":
                raise ValueError("only ungrouped, undilated, zero-padded convolutions")
            if isinstance(layer.padding, str):
                raise ValueError("padding must be a number")
            self.bias = self.bias.reshape(-1, 1, 1)

    def apply(self, x, weight):
        if isinstance(self.layer, nn.Linear):
            return weight @ x
        return convolution(x, weight, pair(self.layer.stride), pair(self.layer.padding))

    def transposed(self, r, weight, shape):
        if isinstance(self.layer, nn.Linear):
            return weight.T @ r
        return convolution_transposed(r, weight, pair(self.layer.stride), pair(self.layer.padding), shape)


def batch_norm_scale_shift(layer):
    """(a, c) with batch_norm(x) = a * x + c: a = gamma / sqrt(var + eps), c = beta - mean * a."""
    if layer.training or layer.running_mean is None:
        raise ValueError("batch norm must be in eval mode with running statistics")
    mean, var = number(layer.running_mean), number(layer.running_var)
    gamma = torch.ones_like(mean) if layer.weight is None else number(layer.weight)
    beta = torch.zeros_like(mean) if layer.bias is None else number(layer.bias)
    scale = gamma / torch.sqrt(var + layer.eps)
    return scale, beta - mean * scale


def pool_geometry(layer):
    stride = layer.kernel_size if layer.stride is None else layer.stride
    if layer.ceil_mode or pair(getattr(layer, "dilation", 1)) != (1, 1):
        raise ValueError("pooling with ceil_mode or dilation is not supported")
    return pair(layer.kernel_size), pair(stride), pair(layer.padding)


def max_pool_winners(layer, x):
    """Yields (c, i, j, y, z): output position (c, i, j) copies the padded pixel (c, y, z), the first of the maxima."""
    kernel, stride, padding = pool_geometry(layer)
    padded = pad(x, padding, -math.inf)
    for i, j, rows, columns in windows(*padded.shape[1:], kernel, stride):
        for c in range(x.shape[0]):
            best = (rows.start, columns.start)
            for y in range(rows.start, rows.stop):
                for z in range(columns.start, columns.stop):
                    if padded[c, y, z] > padded[c, best[0], best[1]]:
                        best = (y, z)
            yield c, i, j, best[0], best[1]


def max_pool(layer, x):
    kernel, stride, padding = pool_geometry(layer)
    padded = pad(x, padding, -math.inf)
    out = torch.zeros(x.shape[0], *output_shape(*padded.shape[1:], kernel, stride), dtype=torch.float64)
    for c, i, j, y, z in max_pool_winners(layer, x):
        out[c, i, j] = padded[c, y, z]
    return out


def max_pool_transposed(layer, x, r):
    padding = pool_geometry(layer)[2]
    padded = pad(torch.zeros_like(x), padding)
    for c, i, j, y, z in max_pool_winners(layer, x):
        padded[c, y, z] += r[c, i, j]
    return crop(padded, padding)


def average_windows(layer, x):
    """(shape of the output, padding, [(i, j, rows, columns, n)]) with n the divisor of each window."""
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        if pair(layer.output_size) != (1, 1):
            raise ValueError("only AdaptiveAvgPool2d(1)")
        height, width = x.shape[1:]
        return (x.shape[0], 1, 1), (0, 0), [(0, 0, slice(0, height), slice(0, width), height * width)]
    kernel, stride, padding = pool_geometry(layer)
    inside = pad(torch.ones_like(x), padding)[0]
    found = []
    for i, j, rows, columns in windows(*inside.shape, kernel, stride):
        n = kernel[0] * kernel[1] if layer.count_include_pad else inside[rows, columns].sum().item()
        found.append((i, j, rows, columns, layer.divisor_override or n))
    return (x.shape[0], *output_shape(*inside.shape, kernel, stride)), padding, found


def average_pool(layer, x):
    shape, padding, found = average_windows(layer, x)
    padded, out = pad(x, padding), torch.zeros(shape, dtype=torch.float64)
    for i, j, rows, columns, n in found:
        out[:, i, j] = padded[:, rows, columns].sum(dim=(1, 2)) / n
    return out


def average_pool_transposed(layer, x, r):
    _, padding, found = average_windows(layer, x)
    padded = pad(torch.zeros_like(x), padding)
    for i, j, rows, columns, n in found:
        padded[:, rows, columns] += (r[:, i, j] / n).reshape(-1, 1, 1)
    return crop(padded, padding)


# The forward walk.


def forward_layer(layer, x):
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        affine = Affine(layer)
        return affine.apply(x, affine.weight) + affine.bias
    if isinstance(layer, nn.BatchNorm2d):
        scale, shift = batch_norm_scale_shift(layer)
        return scale.reshape(-1, 1, 1) * x + shift.reshape(-1, 1, 1)
    if isinstance(layer, nn.ReLU):
        return positive(x)
    if isinstance(layer, nn.Softplus):
        scaled = layer.beta * x
        return torch.where(scaled > layer.threshold, x, torch.log1p(torch.exp(scaled)) / layer.beta)
    if isinstance(layer, nn.MaxPool2d):
        return max_pool(layer, x)
    if isinstance(layer, (nn.AvgPool2d, nn.AdaptiveAvgPool2d)):
        return average_pool(layer, x)
    if isinstance(layer, nn.Flatten):
        return x.reshape(-1)
    if isinstance(layer, Residual):
        return forward(layer.body, x)[-1] + forward(layer.shortcut, x)[-1]
    raise TypeError(f"unsupported layer {type(layer).__name__}")


def forward(layers, x) -> list:
    """[x, output of layers[0], ..., output of layers[-1]]."""
    values = [number(x)]
    for layer in layers:
        values.append(forward_layer(layer, values[-1]))
    return values


def one_hot(logits, target):
    if logits.ndim != 1:
        raise ValueError("the network must end in a vector of logits")
    seed = torch.zeros_like(logits)
    seed[target] = 1.0
    return seed


# Gradients and guided backprop.


def gradient_walk(layers, x, r, guided):
    """Chain rule from r at the output of `layers` to their input x; `guided` adds 1(r > 0) at activations."""
    values = forward(layers, x)
    for layer, z in zip(reversed(list(layers)), reversed(values[:-1]), strict=True):
        r = gradient_layer(layer, z, r, guided)
    return r


def gradient_layer(layer, z, r, guided):
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        affine = Affine(layer)
        return affine.transposed(r, affine.weight, z.shape)
    if isinstance(layer, nn.BatchNorm2d):
        return r * batch_norm_scale_shift(layer)[0].reshape(-1, 1, 1)
    if isinstance(layer, (nn.ReLU, nn.Softplus)):
        slope = (z > 0).to(z) if isinstance(layer, nn.ReLU) else 1 / (1 + torch.exp(-layer.beta * z))
        return slope * (positive(r) if guided else r)
    if isinstance(layer, nn.MaxPool2d):
        return max_pool_transposed(layer, z, r)
    if isinstance(layer, (nn.AvgPool2d, nn.AdaptiveAvgPool2d)):
        return average_pool_transposed(layer, z, r)
    if isinstance(layer, nn.Flatten):
        return r.reshape(z.shape)
    if isinstance(layer, Residual):
        return gradient_walk(layer.body, z, r, guided) + gradient_walk(layer.shortcut, z, r, guided)
    raise TypeError(f"unsupported layer {type(layer).__name__}")


def gradient(layers, x, target):
    """d logit_target / d x, by the normalised image."""
    x = number(x)
    return gradient_walk(layers, x, one_hot(forward(layers, x)[-1], target), guided=False)


def guided_backprop(layers, x, target):
    """Gradient of the logit with R_in = act'(z) * R_out * 1(R_out > 0) at activations; (C, H, W).

    act'(z) = 1(z > 0) for ReLU and sigmoid(beta z) for Softplus.
    """
    x = number(x)
    return gradient_walk(layers, x, one_hot(forward(layers, x)[-1], target), guided=True)


# Layer-wise relevance propagation.


def folded(layers) -> list:
    """`layers` with every batch norm that directly follows a conv merged into it.

    w' = w * gamma / sqrt(var + eps), b' = (b - mean) * gamma / sqrt(var + eps) + beta.
    """
    out = []
    for layer in layers:
        if isinstance(layer, Residual):
            out.append(Residual(folded(layer.body), folded(layer.shortcut)))
        elif isinstance(layer, nn.BatchNorm2d) and out and isinstance(out[-1], nn.Conv2d):
            conv = Affine(out[-1])
            scale, shift = batch_norm_scale_shift(layer)
            merged = nn.Conv2d(
                out[-1].in_channels,
                out[-1].out_channels,
                out[-1].kernel_size,
                out[-1].stride,
                out[-1].padding,
                bias=True,
                dtype=torch.float64,
            )
            merged.weight.data = conv.weight * scale.reshape(-1, 1, 1, 1)
            merged.bias.data = conv.bias.reshape(-1) * scale + shift
            out[-1] = merged
        else:
            out.append(layer)
    return out


def z_plus(affine, x, r, bias="keep"):
    """R_i = x_i^+ sum_j w_ij^+ R_j/z~_j + x_i^- sum_j w_ij^- R_j/z~_j, z = x^+ w^+ + x^- w^- (+ b^+)."""
    w_pos, w_neg = positive(affine.weight), negative(affine.weight)
    z = affine.apply(positive(x), w_pos) + affine.apply(negative(x), w_neg)
    if bias == "keep":
        z = z + positive(affine.bias)
    s = r / stabilised(z)
    return positive(x) * affine.transposed(s, w_pos, x.shape) + negative(x) * affine.transposed(s, w_neg, x.shape)


def z_box(affine, x, r, low, high):
    """R_i = x_i sum w S - l_i sum w^+ S - h_i sum w^- S, S = R / stab(z - z_l - z_h)."""
    w, w_pos, w_neg = affine.weight, positive(affine.weight), negative(affine.weight)
    z = affine.apply(x, w) + affine.bias
    z_low = affine.apply(low, w_pos) + positive(affine.bias)
    z_high = affine.apply(high, w_neg) + negative(affine.bias)
    s = r / stabilised(z - z_low - z_high)
    return (
        x * affine.transposed(s, w, x.shape)
        - low * affine.transposed(s, w_pos, x.shape)
        - high * affine.transposed(s, w_neg, x.shape)
    )


def epsilon_rule(affine, x, r):
    """R_i = x_i sum_j w_ij R_j / (z_j + 1e-6 sgn z_j), z = w x + b."""
    z = affine.apply(x, affine.weight) + affine.bias
    return x * affine.transposed(r / stabilised(z, EPSILON), affine.weight, x.shape)


def split_sum(o, s, r, residual):
    """Relevance (R_o, R_s) of the two terms of o + s."""
    if residual == "positive":
        o, s = positive(o), positive(s)
    elif residual != "signed":
        raise ValueError(residual)
    ratio = r / stabilised(o + s)
    return o * ratio, s * ratio


def lrp_layer(layer, x, r, box, residual, dense, bias):
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        affine = Affine(layer)
        if box is not None:
            return z_box(affine, x, r, *box)
        if isinstance(layer, nn.Linear) and dense == "epsilon":
            return epsilon_rule(affine, x, r)
        return z_plus(affine, x, r, bias)
    if isinstance(layer, (nn.ReLU, nn.Softplus, nn.BatchNorm2d)):
        return r
    if isinstance(layer, nn.MaxPool2d):
        return max_pool_transposed(layer, x, r)
    if isinstance(layer, (nn.AvgPool2d, nn.AdaptiveAvgPool2d)):
        share = r / stabilised(average_pool(layer, positive(x)))
        return positive(x) * average_pool_transposed(layer, x, share)
    if isinstance(layer, nn.Flatten):
        return r.reshape(x.shape)
    if isinstance(layer, Residual):
        o, s = forward(layer.body, x)[-1], forward(layer.shortcut, x)[-1]
        r_o, r_s = split_sum(o, s, r, residual)
        return lrp_walk(layer.body, x, r_o, box, residual, dense, bias) + lrp_walk(
            layer.shortcut, x, r_s, box, residual, dense, bias
        )
    raise TypeError(f"unsupported layer {type(layer).__name__}")


def boxes(layers, values, box) -> list:
    """For each layer, the bounds (low, high) of its input if that input is the image itself, else None."""
    found = []
    for layer, value in zip(layers, values, strict=False):
        found.append(box)
        if box is None:
            continue
        if isinstance(layer, nn.Flatten):
            box = (box[0].reshape(-1), box[1].reshape(-1))
        elif isinstance(layer, (nn.Conv2d, nn.Linear, Residual)):
            box = None
        else:
            raise ValueError(f"{type(layer).__name__} between the image {tuple(value.shape)} and the first conv")
    return found


def lrp_walk(layers, x, r, box, residual, dense, bias):
    """Relevance at the input x of `layers` for relevance r at their output; `box` bounds x if x is the image."""
    layers = list(layers)
    values = forward(layers, x)
    bounds = boxes(layers, values, box)
    for index in reversed(range(len(layers))):
        r = lrp_layer(layers[index], values[index], r, bounds[index], residual, dense, bias)
    return r


def lrp(layers, x, target, low, high, residual="positive", first="box", dense="zplus", batch_norm="fold", bias="keep"):
    """Relevance (C, H, W) for the seed one-hot(target): z+ everywhere, z^B with bounds low, high at the image.

    residual: "positive" splits a sum by R o^+/(o^+ + s^+), R s^+/(o^+ + s^+); "signed" by R o/(o+s), R s/(o+s).
    first: "box" or "zplus". dense: "zplus" or "epsilon" for nn.Linear. batch_norm: "fold" or "pass".
    """
    if first not in ("box", "zplus") or dense not in ("zplus", "epsilon") or batch_norm not in ("fold", "pass"):
        raise ValueError((first, dense, batch_norm))
    x = number(x)
    layers = folded(layers) if batch_norm == "fold" else list(layers)
    box = (number(low).expand(x.shape), number(high).expand(x.shape)) if first == "box" else None
    return lrp_walk(layers, x, one_hot(forward(layers, x)[-1], target), box, residual, dense, bias)


# GradCAM.


def resize_bilinear(image, height, width):
    """Bilinear resize of (h, w) with align_corners: output row i reads source row i * (h - 1) / (height - 1)."""
    h, w = image.shape
    out = torch.zeros(height, width, dtype=torch.float64)
    for i in range(height):
        y = i * (h - 1) / (height - 1) if height > 1 else 0.0
        top = min(math.floor(y), h - 1)
        bottom, v = min(top + 1, h - 1), y - top
        for j in range(width):
            x = j * (w - 1) / (width - 1) if width > 1 else 0.0
            left = min(math.floor(x), w - 1)
            right, u = min(left + 1, w - 1), x - left
            out[i, j] = (1 - v) * ((1 - u) * image[top, left] + u * image[top, right]) + v * (
                (1 - u) * image[bottom, left] + u * image[bottom, right]
            )
    return out


def gradcam(layers, x, target, at):
    """relu(sum_k w_k A_k) resized to the image, A = layers[:at](x), w_k = mean_{ij} d logit / d A_kij; (1, H, W)."""
    layers = list(layers)
    x = number(x)
    activation = forward(layers[:at], x)[-1]
    slope = gradient(layers[at:], activation, target)
    cam = torch.zeros(activation.shape[1:], dtype=torch.float64)
    for k in range(activation.shape[0]):
        cam += slope[k].mean() * activation[k]
    return resize_bilinear(positive(cam), x.shape[1], x.shape[2]).unsqueeze(0)


# Sparse MoreauGrad.


def soft_threshold(d, threshold):
    """sign(d) * max(|d| - threshold, 0)."""
    return torch.sign(d) * positive(d.abs() - threshold)


def block_soft_threshold(d, threshold, block):
    """d_B * max(0, 1 - threshold / |d_B|_2) for each block x block group of pixels over all channels."""
    out = torch.zeros_like(d)
    for top in range(0, d.shape[1], block):
        for left in range(0, d.shape[2], block):
            part = d[:, top : top + block, left : left + block]
            norm = math.sqrt((part**2).sum().item())
            factor = max(0.0, 1 - threshold / norm) if norm > 0 else 0.0
            out[:, top : top + block, left : left + block] = factor * part
    return out


def moreau_grad(gradient_at, x, noises, steps, average, rate, smoothing, sparsity, block=None):
    """Mean of the last `average` ISTA iterates; (C, H, W).

    Minimises mean_n g(x + xi_n + d) + |d|_2^2 / (2 smoothing) + sparsity |d|_1 over d:
    d_0 = 0, d <- prox(d - rate * (mean_n grad g(x + xi_n + d) + d / smoothing)), where prox is the soft threshold
    at sparsity * rate, elementwise or, with block = b, by groups of b x b pixels. noises[t] lists the xi of step t.
    """
    if not 1 <= average <= steps:
        raise ValueError("average must lie between 1 and steps")
    x = number(x)
    d = torch.zeros_like(x)
    iterates = []
    for t in range(steps):
        total = torch.zeros_like(x)
        for noise in noises[t]:
            total += number(gradient_at(x + number(noise) + d))
        moved = d - rate * (total / len(noises[t]) + d / smoothing)
        if block is None:
            d = soft_threshold(moved, sparsity * rate)
        else:
            d = block_soft_threshold(moved, sparsity * rate, block)
        iterates.append(d)
    return sum(iterates[-average:]) / average
