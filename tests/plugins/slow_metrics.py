"""Slow reference forms of metrics of explanations, written from their definitions.

Every function takes one image (C, H, W) of float64 in [0, 1] and loops over squares, elements and draws.
`network` maps (1, C, H, W) to logits (1, K); an attribution is signed, of C channels or one; a map (H, W) is >= 0.
"""

import math

import torch


def logits(network, image) -> list:
    with torch.no_grad():
        return network(image[None])[0].tolist()


def logit(network, image, target) -> float:
    return logits(network, image)[target]


def probability(network, image, target) -> float:
    """Softmax of the logits, written out."""
    found = logits(network, image)
    top = max(found)
    return math.exp(found[target] - top) / sum(math.exp(one - top) for one in found)


def gradient(network, image, target, graph=False):
    """(x, the flat signed gradient of the target logit at x), the gradient differentiable if `graph`."""
    x = image.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        (found,) = torch.autograd.grad(network(x[None])[0, target], x, create_graph=graph)
        return x, found.flatten()


def hessian(network, image, target):
    """H[i, j] = d^2 f / dx_i dx_j of the target logit f, row by row."""
    x, slope = gradient(network, image, target, graph=True)
    found = torch.zeros(len(slope), len(slope), dtype=image.dtype)
    if not slope.requires_grad:  # f is linear around x
        return found
    for i in range(len(slope)):
        unit = torch.zeros_like(slope)
        unit[i] = 1.0
        (row,) = torch.autograd.grad(slope, x, unit, retain_graph=True, allow_unused=True)
        if row is not None:
            found[i] = row.flatten()
    return found


def norm(values) -> float:
    return math.sqrt(sum(value * value for value in values.flatten().tolist()))


def inner(a, b) -> float:
    return sum(p * q for p, q in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))


def ratio(a, b) -> float:
    """a / b, nan for a b of zero."""
    return a / b if b else math.nan


def mean(values) -> float:
    return sum(values) / len(values)


def descending(values) -> list:
    """Places of a list of numbers from the largest to the smallest, equal ones in their own order."""
    return sorted(range(len(values)), key=lambda place: (-values[place], place))


def share_of(share, number) -> int:
    return math.floor(share * number + 1e-9)


# Images that lose or keep a part.


def aopc(network, image, target, map, steps, region, empty) -> list:
    """Samek et al. (2017), MoRF: f(x_0) - f(x_k) for k = 0..steps, x_k without the k most relevant squares.

    Where there are fewer squares than steps, the last drop repeats.
    """
    height, width = map.shape
    squares, relevance = [], []
    for top in range(0, height, region):
        for left in range(0, width, region):
            pixels = []
            for row in range(top, min(top + region, height)):
                for column in range(left, min(left + region, width)):
                    pixels.append((row, column))
            total = 0.0
            for row, column in pixels:
                total += float(map[row, column])
            squares.append(pixels)
            relevance.append(total)
    order = descending(relevance)
    shown = image.clone()
    start = probability(network, image, target)
    drops = [0.0]
    for step in range(steps):
        if step < len(order):
            for row, column in squares[order[step]]:
                shown[:, row, column] = empty[:, row, column]
        drops.append(start - probability(network, shown, target))
    return drops


def curve_elements(network, image, target, attribution, steps, empty, away) -> list:
    """Probabilities with the share i / steps of the elements of largest |attribution| alone there, or away."""
    channels, height, width = image.shape
    places, sizes = [], []
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                places.append((channel, row, column))
                sizes.append(abs(float(attribution[channel if attribution.shape[0] > 1 else 0, row, column])))
    order = descending(sizes)
    found = []
    for i in range(steps + 1):
        shown = image.clone() if away else empty.expand_as(image).clone()
        source = empty.expand_as(image) if away else image
        for one in order[: share_of(i / steps, len(order))]:
            shown[places[one]] = source[places[one]]
        found.append(probability(network, shown, target))
    return found


def retrieved(network, image, mask, target, mean) -> float:
    """Lim et al. (2021), class retrieval: 1 if the image shows its class where the mask (H, W or 1, H, W) lets it.

    The network normalises inside, so a zero of the normalised space is the mean colour (C, 1, 1).
    """
    found = logits(network, mean + mask * (image - mean))
    return 1.0 if found.index(max(found)) == target else 0.0


def diffroar_image(image, map, share, best, empty):
    """Shah et al. (2021): the share of pixels with the largest, or else smallest, values, the rest `empty` (C, 1, 1).

    The smallest are the last in the order of the largest, so the largest s and the smallest 1 - s are complementary.
    """
    height, width = map.shape
    order = descending(map.flatten().tolist())
    count = share_of(share, height * width)
    kept = set(order[:count] if best else order[height * width - count :])
    shown = image.clone()
    for row in range(height):
        for column in range(width):
            if row * width + column not in kept:
                shown[:, row, column] = empty[:, 0, 0]
    return shown


# Attributions against the network's own changes.


def infidelity(network, image, target, attribution, perturbations, normalised) -> float:
    """Yeh et al. (2019): the mean of (beta I.a - (f(x) - f(x - I)))^2 over I, beta 1 or the one that is best."""
    here = logit(network, image, target)
    expected, seen = [], []
    for perturbation in perturbations:
        expected.append(inner(perturbation, attribution.expand_as(perturbation)))
        seen.append(here - logit(network, image - perturbation, target))
    beta = 1.0
    if normalised:
        below = sum(one * one for one in expected)
        if below != 0:
            beta = sum(one * change for one, change in zip(expected, seen, strict=True)) / below
    return mean([(beta * one - change) ** 2 for one, change in zip(expected, seen, strict=True)])


def crc(network, image, target, steps) -> float:
    """Joo et al. (2023): the mean of (1 - cos(grad f(x + r), grad f(x))) / 2 over r; nan where a gradient is zero."""
    _, here = gradient(network, image, target)
    found = []
    for step in steps:
        _, there = gradient(network, image + step, target)
        found.append((1 - ratio(inner(there, here), norm(there) * norm(here))) / 2)
    return mean(found)


def crc_bound(network, image, target, steps) -> float:
    """Joo et al. (2023): the mean of |H r| / |grad f(x + r)| over r, H the whole Hessian at x."""
    curvature = hessian(network, image, target)
    found = []
    for step in steps:
        _, there = gradient(network, image + step, target)
        moved = torch.tensor([inner(row, step) for row in curvature], dtype=image.dtype)
        found.append(ratio(norm(moved), norm(there)))
    return mean(found)


def l2_criterion(network, image, target, steps) -> float:
    """Joo et al. (2023): the mean of |grad f(x + r) - grad f(x)| over r."""
    _, here = gradient(network, image, target)
    return mean([norm(gradient(network, image + step, target)[1] - here) for step in steps])


def hessian_frobenius(network, image, target) -> float:
    return norm(hessian(network, image, target))


def loss_hessian(network, image, target):
    """H[i, j] = d^2 (log sum exp g - g_y) / dx_i dx_j = sum_k (p_k - 1[k = y]) H_k + W A W^T, A = diag(p) - p p^T."""
    shares = [probability(network, image, k) for k in range(len(logits(network, image)))]
    slopes = [gradient(network, image, k)[1] for k in range(len(shares))]
    found = torch.zeros(image.numel(), image.numel(), dtype=image.dtype)
    for k, share in enumerate(shares):
        found += (share - (k == target)) * hessian(network, image, k)
        for j, other in enumerate(shares):
            found += (share * (k == j) - share * other) * torch.outer(slopes[k], slopes[j])
    return found


# Maps against other maps.


def local_lipschitz(maps, map, moved, image) -> float:
    """Alvarez-Melis and Jaakkola (2018): the largest |map(x') - map(x)| / |x' - x|, without x' = x and zero maps."""
    if not norm(map):
        return math.nan
    largest = math.nan
    for other, near in zip(maps, moved, strict=True):
        if not norm(other) or torch.equal(near, image):
            continue
        found = norm(other - map) / norm(near - image)
        if math.isnan(largest) or found > largest:
            largest = found
    return largest


def gaze_overlap(map, gaze, share) -> float:
    """The part of the map's top pixels that are top pixels of the gaze; nan where either is all zero."""
    if not norm(map) or not norm(gaze):
        return math.nan
    k = max(1, round(share * map.shape[0] * map.shape[1]))
    mine, theirs = map.flatten().tolist(), gaze.flatten().tolist()
    # Without ties the order is one; of equal pixels, those come first that the other map has not.
    theirs = sorted(range(len(theirs)), key=lambda place: (-theirs[place], mine[place]))[:k]
    mine = sorted(range(len(mine)), key=lambda place: (-mine[place], place in theirs))[:k]
    return len([place for place in mine if place in theirs]) / k


def gaussian_gaze(points, height, width, sigma):
    """Gaussians at the fixations (x, y, weight) over pixel centres, the largest value 1; zeros without a fixation."""
    found = torch.zeros(height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            for x, y, weight in points:
                away = (column + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2
                found[row, column] += weight * math.exp(-away / (2 * sigma**2))
    largest = float(found.max())
    return found / largest if largest else found
