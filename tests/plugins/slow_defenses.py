"""Slow, obvious reference forms of training losses that defend saliency maps. For tests only.

Conventions shared by every function:
- `network` is in eval mode, maps pixel images in [0,1] to logits and normalises inside: x_n = (x - mean) / std.
- One image at a time, explicit loops, Jacobians and Hessians built row by row.
- A gradient by the normalised image is std * (gradient by the pixel image); `std` is (C,1,1).
- Every random draw is an argument. Losses keep their graph by the weights; attacks return detached images.
"""

import torch

TINY = 1e-12


# Small pieces


def leaf(image):
    """A fresh differentiable copy of one image (C,H,W)."""
    return image.detach().clone().requires_grad_(True)


def logits_of(network, image):
    """Logits (classes,) of one image (C,H,W)."""
    return network(image.unsqueeze(0))[0]


def unit_std(image, std):
    """The given std as (C,1,1)."""
    return torch.as_tensor(std, dtype=image.dtype).reshape(-1, 1, 1)


def ce_one(network, image, label):
    """Cross-entropy of one image: -log softmax(g)_y."""
    return -log_softmax(logits_of(network, image))[int(label)]


def log_softmax(logits):
    """g - log sum exp g, of one vector."""
    return logits - torch.logsumexp(logits, dim=0)


def cross_entropy(network, images, labels):
    """Mean over the batch of -log softmax(g(x))_y."""
    return torch.stack([ce_one(network, image, label) for image, label in zip(images, labels, strict=True)]).mean()


def logit_gradient(network, image, index, std, graph=True):
    """Gradient (C,H,W) of one logit at one image, times std. With `graph`, differentiable by the weights."""
    point = leaf(image)
    (gradient,) = torch.autograd.grad(logits_of(network, point)[int(index)], point, create_graph=graph)
    return unit_std(image, std) * gradient


def ce_gradient(network, image, label, std):
    """Gradient q (C,H,W) of one image's own cross-entropy (never divided by the batch size), times std."""
    point = leaf(image)
    (gradient,) = torch.autograd.grad(ce_one(network, point, label), point)
    return unit_std(image, std) * gradient


def l2(tensor):
    """Euclidean length of all elements (a zero tensor gives 0 with a zero gradient only if not differentiated)."""
    return (tensor * tensor).sum().sqrt()


def cosine(first, second):
    """<u,v> / (|u||v|) over all elements; the denominator is kept above 1e-12."""
    return (first * second).sum() / torch.clamp(l2(first) * l2(second), min=TINY)


def kl(log_first, log_second):
    """KL(first || second) = sum p log(p/q) of two vectors of log-probabilities."""
    return (log_first.exp() * (log_first - log_second)).sum()


# l2, Cosd, l2+Cosd (Joo et al., 2023)


def l2_cosd(network, images, labels, std, draws, l2_weight, cos_weight, power=2):
    """CE + l2_weight * mean |G(x+d) - G(x)|^power + cos_weight * (1 - mean cos(G(x+d), G(x))) / 2 (Joo et al., 2023).

    G is the raw signed gradient of the true logit by the normalised image. `draws` (B,C,H,W) are the pixel
    perturbations d (not clipped). G(x) is a constant.
    """
    distances, cosines = [], []
    for image, label, draw in zip(images, labels, draws, strict=True):
        clean = logit_gradient(network, image, label, std).detach()
        moved = logit_gradient(network, image + draw, label, std)
        distances.append(torch.linalg.vector_norm(moved - clean) ** power)
        cosines.append(cosine(moved, clean))
    penalty = l2_weight * torch.stack(distances).mean() + cos_weight * (1 - torch.stack(cosines).mean()) / 2
    return cross_entropy(network, images, labels) + penalty


# Hessian (Dombrowski et al., 2022)


def hessian_matrix(network, image, label, std):
    """The full Hessian (d,d) of the label's logit by one normalised image, row by row: diag(std) H_pixel diag(std)."""
    scale = unit_std(image, std)
    point = leaf(image)
    (gradient,) = torch.autograd.grad(logits_of(network, point)[int(label)], point, create_graph=True)
    entries = (scale * gradient).reshape(-1)
    rows = []
    for entry in entries:
        (row,) = torch.autograd.grad(entry, point, create_graph=True, materialize_grads=True)
        rows.append((scale * row).reshape(-1))
    return torch.stack(rows)


def hessian_exact(network, images, labels, std):
    """Batch mean of |H|_F^2 (squared, no root), H the logit's Hessian by the normalised image."""
    values = [
        (hessian_matrix(network, image, label, std) ** 2).sum() for image, label in zip(images, labels, strict=True)
    ]
    return torch.stack(values).mean()


def hessian_estimate(network, images, labels, std, draws):
    """Batch mean of mean_v |H v|^2, v ~ N(0, I) (Dombrowski et al., 2022); draws are (S,B,C,H,W)."""
    values = []
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        matrix = hessian_matrix(network, image, label, std)
        squares = [((matrix @ draw[index].reshape(-1)) ** 2).sum() for draw in draws]
        values.append(torch.stack(squares).mean())
    return torch.stack(values).mean()


def hessian(network, images, labels, std, weight, draws):
    """CE + weight * R, R estimated by the given draws (S,B,C,H,W)."""
    return cross_entropy(network, images, labels) + weight * hessian_estimate(network, images, labels, std, draws)


# SSR (Wang et al., 2020)


def logit_jacobian(network, image):
    """W (d,classes), columns the gradients of the logits at one image, by its pixels in [0,1]."""
    point = leaf(image)
    logits = logits_of(network, point)
    columns = []
    for logit in logits:
        (gradient,) = torch.autograd.grad(logit, point, create_graph=True)
        columns.append(gradient.reshape(-1))
    return torch.stack(columns, dim=1), logits


def ssr_hessian(network, image, top=None):
    """The Gauss-Newton input Hessian of CE, W A W^T (d,d), A = diag(p) - p p^T (Wang et al., 2020).

    `top` keeps the m classes of the highest p: W and A lose the other classes' columns (and rows); p is the full
    softmax.
    """
    jacobian, logits = logit_jacobian(network, image)
    probabilities = log_softmax(logits).exp()
    if top is not None:
        kept = torch.argsort(probabilities.detach(), descending=True)[:top]
        jacobian, probabilities = jacobian[:, kept], probabilities[kept]
    middle = torch.diag(probabilities) - torch.outer(probabilities, probabilities)
    return jacobian @ middle @ jacobian.T


def ssr_eigenvalue(network, image, top=None):
    """The largest eigenvalue of W A W^T at one image. Its derivative is v v^T."""
    matrix = ssr_hessian(network, image, top)
    return torch.linalg.eigvalsh((matrix + matrix.T) / 2)[-1]


def ssr_penalty(network, images, top=None):
    """Batch mean of the largest eigenvalue at the training points themselves (no neighbours, no labels)."""
    return torch.stack([ssr_eigenvalue(network, image, top) for image in images]).mean()


def ssr(network, images, labels, beta, scale=1.0, top=None):
    """SSR (Wang et al., 2020): beta * scale * mean lambda_max + (1 - beta) * CE."""
    penalty = beta * scale * ssr_penalty(network, images, top)
    return penalty + (1 - beta) * cross_entropy(network, images, labels)


# A projected ascent shared by the inner maximisations


def project(perturbation, epsilon, norm):
    """Nearest point of the ball: clamp for "linf", rescale for "l2" (one image)."""
    if norm == "linf":
        return perturbation.clamp(-epsilon, epsilon)
    if norm == "l2":
        length = float(l2(perturbation))
        return perturbation * (epsilon / length) if length > epsilon else perturbation
    raise ValueError(norm)


def direction(gradient, norm):
    """Step direction: sign(g) for "linf", g/|g| for "l2" (a zero gradient gives no step)."""
    return torch.sign(gradient) if norm == "linf" else gradient / max(float(l2(gradient)), TINY)


def ascend(objective, image, epsilon, step, steps, start, norm="linf", mask=None):
    """Projected gradient ascent of objective(candidate) for one image, in pixels.

    Start: x + start, onto the ball, clipped to [0,1]. Each step: x + step * direction * mask, ball, box.
    """
    current = (image + project(start, epsilon, norm)).clamp(0, 1)
    for _ in range(steps):
        point = leaf(current)
        (gradient,) = torch.autograd.grad(objective(point), point)
        move = step * direction(gradient, norm)
        if mask is not None:
            move = move * mask
        current = (image + project(current + move - image, epsilon, norm)).clamp(0, 1)
    return current.detach()


# IG-NORM and IG-SUM-NORM (Chen et al., 2019)


def ig_of_loss(network, image, end, label, points, approx):
    """IG of the loss from x to x': (x' - x) * mean_k grad of CE at x + (k/m)(x' - x), k = a, 2a, ..., m (Chen et al.).

    m = points, a = approx. Differentiable by the weights and by `end`.
    """
    steps = [approx * (1 + index) for index in range(points // approx)]
    total = torch.zeros_like(image)
    for k in steps:
        point = image.detach() + (k / points) * (end - image.detach())
        if not point.requires_grad:
            point = leaf(point)
        (gradient,) = torch.autograd.grad(ce_one(network, point, label), point, create_graph=True)
        total = total + gradient
    return (end - image.detach()) * total / len(steps)


def ig_norm_term(network, images, adversarial, labels, points, approx):
    """|IG(x, x')|_1 summed over all elements of the whole batch."""
    terms = [
        ig_of_loss(network, image, end.detach(), label, points, approx).abs().sum()
        for image, end, label in zip(images, adversarial, labels, strict=True)
    ]
    return torch.stack(terms).sum()


def ig_norm(network, images, labels, adversarial, weight, points, approx, summed):
    """IG-NORM: mean CE(x) + weight * |IG(x, x')|_1; IG-SUM-NORM (`summed`): CE(x') in place of CE(x) (Chen et al.).

    x' is a constant.
    """
    term = ig_norm_term(network, images, adversarial, labels, points, approx)
    ce = cross_entropy(network, adversarial.detach() if summed else images, labels)
    return ce + weight * term / len(images)


def ig_norm_attack(network, images, labels, epsilon, step, steps, start, points, approx):
    """x' by linf sign ascent of |IG(x, x')|_1, by the subsampled path, from x + start, inside the ball and [0,1]."""
    results = []
    for image, label, draw in zip(images, labels, start, strict=True):

        def objective(point, image=image, label=label):
            return ig_of_loss(network, image, point, label, points, approx).abs().sum()

        results.append(ascend(objective, image, epsilon, step, steps, draw))
    return torch.stack(results)


# IGA / ART (Singh et al., 2020)


def best_other(logits, label):
    """i*: the class of the highest logit other than the label."""
    order = torch.argsort(logits.detach(), descending=True).tolist()
    return next(index for index in order if index != int(label))


def cosine_distance(first, second):
    """d(u,v) = 1 - cos(u,v) over all elements."""
    return 1 - cosine(first, second)


def iga_triplet(anchors, positives, negatives):
    """Batch mean of log(1 + exp(-(d(negative, anchor) - d(positive, anchor)))) (Singh et al., 2020).

    Anchors: normalised images; positives: gradients of the true logit; negatives: gradients of logit i*.
    """
    losses = []
    for anchor, positive, negative in zip(anchors, positives, negatives, strict=True):
        gap = cosine_distance(negative, anchor) - cosine_distance(positive, anchor)
        losses.append(torch.log1p(torch.exp(-gap)))
    return torch.stack(losses).mean()


def iga_mined_triplet(anchors, twin_anchors, positives, twin_positives, negatives, twin_negatives):
    """The soft margin with hard mining over the 2N batch [x; x_adv] (Singh et al., 2020), mean over 2N anchors.

    d_p is the larger of the anchor's distances to its own and its twin's positive, d_n the smaller of those to the
    two negatives; loss log(1 + exp(-(d_n - d_p))).
    """
    losses = []
    for index in range(len(anchors)):
        for anchor in (anchors[index], twin_anchors[index]):
            near = [cosine_distance(anchor, one) for one in (positives[index], twin_positives[index])]
            far = [cosine_distance(anchor, one) for one in (negatives[index], twin_negatives[index])]
            hard_positive = near[0] if near[0] >= near[1] else near[1]
            hard_negative = far[0] if far[0] <= far[1] else far[1]
            losses.append(torch.log1p(torch.exp(-(hard_negative - hard_positive))))
    return torch.stack(losses).mean()


def iga_attributions(network, image, label, mean, std):
    """(anchor, positive, negative) of one image: x_n, grad of g_y, grad of g_i*, all in normalised space.

    i* is taken at this very image. Differentiable by the weights, and by the image where it requires a gradient.
    """
    point = image if image.requires_grad else leaf(image)
    scale = unit_std(point, std)
    centre = torch.as_tensor(mean, dtype=point.dtype).reshape(-1, 1, 1)
    logits = logits_of(network, point)
    other = best_other(logits, label)
    (positive,) = torch.autograd.grad(logits[int(label)], point, create_graph=True)
    (negative,) = torch.autograd.grad(logits[other], point, create_graph=True)
    return (point - centre) / scale, scale * positive, scale * negative


def iga_attribution_loss(network, images, labels, adversarial, mean, std, mining):
    """L_attr: with `mining` over [x; x_adv]; without, the plain soft-margin triplet at x_adv only."""
    clean = [iga_attributions(network, image, label, mean, std) for image, label in zip(images, labels, strict=True)]
    twin = [iga_attributions(network, end, label, mean, std) for end, label in zip(adversarial, labels, strict=True)]
    clean_anchors, clean_positives, clean_negatives = zip(*clean, strict=True)
    twin_anchors, twin_positives, twin_negatives = zip(*twin, strict=True)
    clean_anchors = [anchor.detach() for anchor in clean_anchors]
    twin_anchors = [anchor.detach() for anchor in twin_anchors]
    if mining:
        return iga_mined_triplet(
            clean_anchors, twin_anchors, clean_positives, twin_positives, clean_negatives, twin_negatives
        )
    return iga_triplet(twin_anchors, twin_positives, twin_negatives)


def iga(network, images, labels, adversarial, mean, std, weight, mining, source):
    """CE(x_adv, y) + weight * L_attr (Singh et al., 2020).

    `source` is the net of the attribution passes: the same weights with ReLU swapped for Softplus 50.
    """
    attribution = iga_attribution_loss(source, images, labels, adversarial, mean, std, mining)
    return cross_entropy(network, adversarial, labels) + weight * attribution


def iga_objective(network, candidate, label, mean, std):
    """The inner objective for one candidate: log(1 + exp(-(d(grad g_i*, x) - d(grad g_y, x)))), no mining.

    The anchor is the candidate itself, normalised, and moves with it.
    """
    anchor, positive, negative = iga_attributions(network, candidate, label, mean, std)
    return torch.log1p(torch.exp(-(cosine_distance(negative, anchor) - cosine_distance(positive, anchor))))


def iga_indices(network, image, label, count, std):
    """0/1 mask (C,H,W) of the `count` ELEMENTS of the largest |grad g_y| at this image, by the normalised image."""
    size = logit_gradient(network, image, label, std, graph=False).abs().reshape(-1)
    mask = torch.zeros_like(size)
    for index in torch.argsort(size, descending=True)[:count]:
        mask[index] = 1
    return mask.reshape(image.shape)


def iga_attack(network, images, labels, mean, std, epsilon, step, steps, start, count, index_network):
    """x_adv: from x + start clipped to [0,1], `steps` of x <- P(x + step * sign(grad L_attr) on K) (Singh et al.).

    K: the top `count` elements of |grad g_y| at the noisy start by `index_network` (the ReLU net). `network` is the
    (Softplus) net of the objective.
    """
    results = []
    for image, label, draw in zip(images, labels, start, strict=True):
        noisy = (image + project(draw, epsilon, "linf")).clamp(0, 1)
        mask = iga_indices(index_network, noisy, label, count, std)

        def objective(point, label=label):
            return iga_objective(network, point, label, mean, std)

        results.append(ascend(objective, image, epsilon, step, steps, draw, mask=mask))
    return torch.stack(results)


# ATEX (Tang et al., 2022)


def atex_map(teacher, images, labels, noise, std):
    """The teacher's SmoothGrad h (B,C,H,W): mean over n of the signed gradient of g_y at x + noise[n] (pixels)."""
    maps = []
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        gradients = [logit_gradient(teacher, image + draw[index], label, std, graph=False) for draw in noise]
        maps.append(torch.stack(gradients).mean(dim=0))
    return torch.stack(maps).detach()


def perpendicular(noise, vector):
    """noise - (<noise,h>/<h,h>) h for one image, over all elements."""
    return noise - (noise * vector).sum() / torch.clamp((vector * vector).sum(), min=TINY) * vector


def unit(vector):
    """v / |v|, with |v| kept above 1e-12."""
    return vector / torch.clamp(l2(vector), min=TINY)


def atex_neighbours(image, vector, along, noise, across, std):
    """x_i = x + along * h/|h| and x_p = x_i + across * h_perp/|h_perp| for one image (Tang et al., in Joo et al.).

    h_perp is the part of `noise` perpendicular to h. The two offsets are lengths in normalised space, multiplied by
    std to be added to pixels.
    """
    scale = unit_std(image, std)
    parallel = image + scale * along * unit(vector)
    return parallel, parallel + scale * across * unit(perpendicular(noise, vector))


def atex_divergence(student, teacher, student_image, teacher_image):
    """KL(s(x_s) || f(x_f)) for one pair. The teacher is a constant."""
    ours = log_softmax(logits_of(student, student_image))
    theirs = log_softmax(logits_of(teacher, teacher_image)).detach()
    return kl(ours, theirs)


def atex(student, teacher, images, maps, along, noise, across, weight, std):
    """Batch mean of KL(s(x)||f(x)) + weight * sum_i sum_p KL(s(x_p)||f(x_i)) (Tang et al., as written by Joo et al.).

    maps (B,C,H,W): the teacher's SmoothGrad. along (I,B): the signed lengths in [-eps,eps]; noise (I,P,B,C,H,W):
    what h_perp is made of; across (I,P,B): its signed lengths.
    """
    losses = []
    for index, image in enumerate(images):
        terms = []
        for i in range(along.shape[0]):
            for p in range(across.shape[1]):
                parallel, moved = atex_neighbours(
                    image, maps[index], along[i, index], noise[i, p, index], across[i, p, index], std
                )
                terms.append(atex_divergence(student, teacher, moved, parallel))
        losses.append(atex_divergence(student, teacher, image, image) + weight * torch.stack(terms).sum())
    return torch.stack(losses).mean()


# Adversarial training (Madry et al., 2018) and TRADES (Zhang et al., 2019)


def adversarial_loss(network, images, labels, adversarial, clean_weight=0.0):
    """(1 - clean_weight) * CE(x_adv) + clean_weight * CE(x): 0 is Madry et al., 0.5 the form in Wang et al."""
    loss = (1 - clean_weight) * cross_entropy(network, adversarial.detach(), labels)
    return loss + clean_weight * cross_entropy(network, images, labels) if clean_weight else loss


def pgd_attack(network, images, labels, epsilon, step, steps, start, norm="linf"):
    """Madry et al., 2018: from x + start; linf x + step * sign(q), l2 x + step * q/|q|; ball, then [0,1]."""
    results = []
    for image, label, draw in zip(images, labels, start, strict=True):

        def objective(point, label=label):
            return ce_one(network, point, label)

        results.append(ascend(objective, image, epsilon, step, steps, draw, norm))
    return torch.stack(results)


def trades_objective(network, image, candidate):
    """KL(p(x) || p(x')) for one image, p(x) a constant: what the inner maximisation raises (Zhang et al., 2019)."""
    clean = log_softmax(logits_of(network, image)).detach()
    return kl(clean, log_softmax(logits_of(network, candidate)))


def trades_attack(network, images, epsilon, step, steps, start):
    """x' by projected ascent of `trades_objective` from x + start (the authors: 0.001 * N(0,I)); labels unused."""
    results = []
    for image, draw in zip(images, start, strict=True):

        def objective(point, image=image):
            return trades_objective(network, image, point)

        results.append(ascend(objective, image, epsilon, step, steps, draw))
    return torch.stack(results)


def trades(network, images, labels, adversarial, beta):
    """mean CE(x) + beta * mean KL(p(x) || p(x')) (Zhang et al., 2019); the gradient flows through both p."""
    terms = []
    for image, end in zip(images, adversarial, strict=True):
        terms.append(kl(log_softmax(logits_of(network, image)), log_softmax(logits_of(network, end.detach()))))
    return cross_entropy(network, images, labels) + beta * torch.stack(terms).mean()


# Norm-regularised adversarial training (Gong et al., 2024)


def groups(shape, block):
    """Index pairs (channel, rows, columns) of the block x block patches of ONE channel; edge patches may be smaller."""
    channels, height, width = shape
    result = []
    for channel in range(channels):
        for top in range(0, height, block):
            for left in range(0, width, block):
                rows = slice(top, min(top + block, height))
                columns = slice(left, min(left + block, width))
                result.append((channel, rows, columns))
    return result


def elastic_cost(perturbation, epsilon, epsilon2):
    """h(delta) of the elastic net: sum of (|delta| - eps)_+^2 / (4 eps2) (Gong et al., 2024)."""
    return (torch.clamp(perturbation.abs() - epsilon, min=0) ** 2).sum() / (4 * epsilon2)


def fast_solution(gradient, norm, epsilon, epsilon2, block):
    """The one-step delta* = argmax <delta, q> - h(delta) of one image's q (Gong et al., 2024).

    l1: eps sign q. l2: eps q / |q|. group: eps q_S / (|q_S| + 1e-12) in each group. elastic: eps sign q + 2 eps2 q.
    """
    if norm == "l1":
        return epsilon * torch.sign(gradient)
    if norm == "l2":
        return epsilon * gradient / l2(gradient)
    if norm == "elastic":
        return epsilon * torch.sign(gradient) + 2 * epsilon2 * gradient
    if norm == "group":
        result = torch.zeros_like(gradient)
        for group in groups(gradient.shape, block):
            result[group] = epsilon * gradient[group] / (l2(gradient[group]) + TINY)
        return result
    raise ValueError(norm)


def norm_at_fast(network, images, labels, norm, epsilon, epsilon2, block, std):
    """x + delta*, delta* by `fast_solution` at x; q, eps and delta in normalised space (the released units)."""
    results = []
    for image, label in zip(images, labels, strict=True):
        delta = fast_solution(ce_gradient(network, image, label, std), norm, epsilon, epsilon2, block)
        results.append(image + unit_std(image, std) * delta)
    return torch.stack(results).detach()


def norm_at_back(delta, norm, epsilon, block):
    """delta in the ball of its norm: elements, the image or each group at most eps long."""
    if norm == "l1":
        return delta.clamp(-epsilon, epsilon)
    moved = delta.clone()
    for group in groups(moved.shape, block) if norm == "group" else [slice(None)]:
        length = float(l2(moved[group]))
        if length > epsilon:
            moved[group] = moved[group] * (epsilon / length)
    return moved


def norm_at_step(network, image, label, delta, norm, epsilon, epsilon2, block, std, long=1.0):
    """One step of the iterative scheme on one image's delta, in normalised space.

    l1: delta + step sign q, clamped to +-eps (step 0.3 eps). elastic: ascend CE - h(delta) along its gradient over
    its l2 length (step 0.3), no projection. l2, group: delta + step q/|q|_2 over the whole image (step 1.0, in the
    text 0.3), then the length of all, or each group's, at most eps. q is the gradient of the image's own CE at x +
    delta.
    """
    scale = unit_std(image, std)
    gradient = ce_gradient(network, image + scale * delta, label, std)
    if norm == "l1":
        return norm_at_back(delta + 0.3 * epsilon * torch.sign(gradient), norm, epsilon, block)
    if norm == "elastic":
        point = leaf(delta)
        (cost,) = torch.autograd.grad(elastic_cost(point, epsilon, epsilon2), point)
        slope = gradient - cost
        return delta + 0.3 * slope / l2(slope)
    return norm_at_back(delta + long * gradient / l2(gradient), norm, epsilon, block)


def norm_at_iterative(network, images, labels, norm, epsilon, epsilon2, block, std, steps, printed=False):
    """x + delta after `steps` of `norm_at_step` from delta = 0, or as printed (B.4) from the one-step delta*."""
    results = []
    for image, label in zip(images, labels, strict=True):
        delta, long = torch.zeros_like(image), 1.0
        if printed:
            delta = fast_solution(ce_gradient(network, image, label, std), norm, epsilon, epsilon2, block)
            long = 0.3
        for _ in range(steps):
            delta = norm_at_step(network, image, label, delta, norm, epsilon, epsilon2, block, std, long).detach()
        results.append(image + unit_std(image, std) * delta)
    return torch.stack(results).detach()


def norm_at(network, images, labels, norm, epsilon, scheme, **options):
    """Mean CE(x + delta*), no clean term, delta* a constant (Gong et al., 2024); options of the scheme's function."""
    craft = {"fast": norm_at_fast, "iterative": norm_at_iterative}[scheme]
    return cross_entropy(network, craft(network, images, labels, norm, epsilon, **options), labels)


# Gaussian noise, harmonisation, MaxEnt, Softplus


def gaussian_noise(network, images, labels, sigma, draws):
    """Mean CE(x + sigma * draw), draw ~ N(0,I) in pixels of [0,1], not clipped."""
    return cross_entropy(network, images + sigma * draws, labels)


def harmonize_images(network, images, labels, attention, epsilon, std):
    """x + (eps max A - 2 eps A) * q/|q|_2, A (B,1,H,W) or (B,H,W) in [0,1] over all channels (Gong et al., 2024).

    q is the CE gradient of the image, its length over all its elements. max A is the image's own. q and the
    perturbation are in normalised space.
    """
    results = []
    for image, label, gaze in zip(images, labels, attention, strict=True):
        gaze = gaze.reshape(1, *image.shape[1:])
        gradient = ce_gradient(network, image, label, std)
        delta = (epsilon * float(gaze.max()) - 2 * epsilon * gaze) * gradient / (l2(gradient) + TINY)
        results.append(image + unit_std(image, std) * delta)
    return torch.stack(results).detach()


def harmonize(network, images, labels, attention, epsilon, std):
    """Mean CE at `harmonize_images`, which are constants; no clean term (Gong et al., 2024)."""
    moved = harmonize_images(network, images, labels, attention, epsilon, std)
    return cross_entropy(network, moved, labels)


def entropy(network, image):
    """H(p) = -sum p log p of one image, natural logarithm."""
    logs = log_softmax(logits_of(network, image))
    return -(logs.exp() * logs).sum()


def maxent(network, images, labels, beta):
    """CE - beta * mean H(p): penalises confidence (Cha et al., 2020)."""
    return cross_entropy(network, images, labels) - beta * torch.stack([entropy(network, x) for x in images]).mean()
