"""Metrics of single images by plain loops, from their definitions."""

from __future__ import annotations

import math

import torch


def probability(network, image, target):
    with torch.no_grad():
        return float(network(image[None]).softmax(1)[0, target])


def logit(network, image, target):
    with torch.no_grad():
        return float(network(image[None])[0, target])


def gradient(network, image, target):
    leaf = image.clone().requires_grad_()
    with torch.enable_grad():
        network(leaf[None])[0, target].backward()
    return leaf.grad.flatten()


def hessian(network, image, target):
    """The whole matrix of second derivatives of a logit, by torch's own functional form."""

    def value(flat):
        return network(flat.view(1, *image.shape))[0, target]

    return torch.autograd.functional.hessian(value, image.flatten())


def first(values, count):
    """Places of the `count` largest of a list, of equal ones the first."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]


def aopc(network, image, target, map, steps, region, empty):
    """Samek et al. (2017), eq. 12, before the mean: f(x_0) - f(x_k) while squares go, most relevant first."""
    height, width = map.shape
    corners = [(top, left) for top in range(0, height, region) for left in range(0, width, region)]
    sums = [float(map[top : top + region, left : left + region].sum()) for top, left in corners]
    changed, start = image.clone(), probability(network, image, target)
    drops = [0.0]
    for place in first(sums, steps):
        top, left = corners[place]
        square = (slice(None), slice(top, top + region), slice(left, left + region))
        changed[square] = empty[square]
        drops.append(start - probability(network, changed, target))
    return drops


def curve_elements(network, image, target, attribution, steps, empty, away):
    """Probabilities while the elements of largest magnitude come, or go."""
    sizes = attribution.abs().expand_as(image).flatten().tolist()
    found = []
    for i in range(steps + 1):
        chosen = set(first(sizes, math.floor(i / steps * len(sizes) + 1e-9)))
        shown = [
            float(empty.flatten()[e]) if (e in chosen) == away else float(image.flatten()[e]) for e in range(len(sizes))
        ]
        found.append(probability(network, torch.tensor(shown, dtype=image.dtype).view_as(image), target))
    return found


def retrieved(network, image, mask, target, mean):
    """Lim et al. (2021): whether a masked image, in normalised space, is of the class."""
    shown = mean + mask * (image - mean)
    return float(int(network(shown[None]).argmax()) == target)


def infidelity(network, image, target, attribution, perturbations, scaled):
    """Yeh et al. (2019), definition 2.1, with the best factor of section 4 where scaled."""
    products, falls = [], []
    for step in perturbations:
        products.append(float((step * attribution).sum()))
        falls.append(logit(network, image, target) - logit(network, image - step, target))
    squares = sum(p * p for p in products)
    factor = sum(p * f for p, f in zip(products, falls, strict=True)) / squares if scaled and squares else 1.0
    return sum((factor * p - f) ** 2 for p, f in zip(products, falls, strict=True)) / len(products)


def crc(network, image, target, steps):
    """Joo et al. (2023): (1 - cos) / 2 of signed gradients, mean over steps."""
    here = gradient(network, image, target)
    found = []
    for step in steps:
        there = gradient(network, image + step, target)
        found.append((1 - float(here @ there / here.norm() / there.norm())) / 2)
    return sum(found) / len(found)


def crc_bound(network, image, target, steps):
    """Joo et al. (2023): |H r| / |gradient at x + r|, mean over steps."""
    curvature = hessian(network, image, target)
    found = [
        float((curvature @ step.flatten()).norm() / gradient(network, image + step, target).norm()) for step in steps
    ]
    return sum(found) / len(found)


def hessian_frobenius(network, image, target):
    return float(hessian(network, image, target).square().sum().sqrt())


def local_lipschitz(maps, map, moved, image):
    """Alvarez-Melis and Jaakkola (2018), eq. 2, over given images."""
    ratios = [
        float((other - map).norm() / (near - image).norm())
        for other, near in zip(maps, moved, strict=True)
        if other.any() and not torch.equal(near, image)
    ]
    return max(ratios) if ratios and map.any() else math.nan


def gaze_overlap(map, gaze, share):
    if not map.any() or not gaze.any():
        return math.nan
    count = max(1, round(share * map.numel()))
    return len({*first(map.flatten().tolist(), count)} & {*first(gaze.flatten().tolist(), count)}) / count


def diffroar_image(image, map, share, best, empty):
    """Shah et al. (2021): the image with its first, or last, share of pixels."""
    order = first(map.flatten().tolist(), map.numel())
    count = math.floor(share * len(order) + 1e-9)
    chosen = order[:count] if best else order[len(order) - count :]
    shown = empty.expand_as(image).clone()
    for place in chosen:
        row, column = divmod(place, map.shape[1])
        shown[:, row, column] = image[:, row, column]
    return shown


def gaussian_gaze(points, height, width, sigma):
    found = torch.zeros(height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            found[row, column] = sum(
                weight * math.exp(-((column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2) / (2 * sigma**2))
                for x, y, weight in points
            )
    return found / found.max() if points else found
