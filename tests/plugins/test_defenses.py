"""Losses of the defenses, and their gradients by the weights, beside slow forms from the papers; in float64."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace

import pytest
import slow_defenses as slow
import torch
import torch.nn.functional as F
from bench_defenses.adversary import unit
from bench_defenses.ssr import find_top_vectors, square_repeatedly
from losses import LABELS, MEAN, STD, STDS, Asked, built, compare, draw_panel, loss_of, panel
from torch import nn
from torch.testing import assert_close

import bench
from bench import noise
from bench.testing import TinySchedule, tiny_fit


@pytest.fixture(params=["softplus", "relu"])
def network(request):
    return built(nn.Softplus(3) if request.param == "softplus" else nn.ReLU())


@pytest.fixture
def smooth():
    return built(nn.Softplus(3))


@pytest.fixture
def batch():
    return panel()


def test_hessian(smooth, batch):
    draws = draw_panel(lambda: noise.normal(batch.images))
    expected = slow.hessian(smooth, batch.images, LABELS, STDS, 0.3, draws[None])
    compare(smooth, loss_of("hessian:weight=0.3", smooth, batch), expected)


def test_hessian_with_batch_norm(batch):
    """Torch's own batch norm has no third derivative; the gradient by weights beside finite differences."""
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Softplus(3), nn.Flatten(), nn.Linear(16, 3))
    network = bench.Normalised(inner, MEAN, STD).double().train()
    twin = copy.deepcopy(network)
    defense = bench.component("defense", "hessian:weight=0.3")

    def loss():
        with noise.rows(0, "step", range(4)):
            return defense.loss(network, batch)

    gradients = torch.autograd.grad(loss(), list(network.parameters()))
    twin(batch.images)
    for name, kept in twin.named_buffers():
        assert_close(dict(network.named_buffers())[name], kept)
    for weight, gradient in zip(network.parameters(), gradients, strict=True):
        direction = torch.randn(weight.shape, dtype=weight.dtype, generator=torch.Generator().manual_seed(0))
        values = []
        for side in (1e-5, -1e-5):
            with torch.no_grad():
                weight.add_(side * direction)
            values.append(loss().detach())
            with torch.no_grad():
                weight.sub_(side * direction)
        assert_close((gradient * direction).sum(), (values[0] - values[1]) / 2e-5, rtol=1e-5, atol=1e-8)


def test_hessian_is_the_squared_norm_on_average(smooth, batch):
    defense, exact = (
        bench.component("defense", "hessian:weight=1"),
        slow.hessian_exact(smooth, batch.images, LABELS, STDS),
    )
    found = []
    for i in range(400):
        with noise.rows(i, "step", range(4)):
            found.append(defense.loss(smooth, batch) - F.cross_entropy(smooth(batch.images), LABELS))
    mean = torch.stack(found).detach()
    assert abs(mean.mean() - exact) < 4 * mean.std() / 20


def test_hessian_refuses_networks_without_curvature(catalog):
    from bench.engine.selection import select

    asked = select(catalog, {"defense": ["hessian"], "model": ["lenet:activation=relu"]}, reference=False)
    why = bench.component("defense", "hessian").refuse(asked.cases[0])
    assert why.startswith("the second derivative of lenet:activation=relu is zero; choose a smooth model")
    assert bench.component("defense", "atex:teacher=(hessian)").refuse(asked.cases[0]) == why


@pytest.mark.parametrize("form", ["norm", "l2", "cosd"])
def test_alignment(network, batch, form):
    draws = draw_panel(lambda: 4 / 255 * noise.uniform(batch.images))
    text = {"norm": "l2_cosd:l2=0.3,cosine=2", "l2": "l2:weight=0.3", "cosd": "cosd:weight=2"}[form]
    weights = {"norm": (0.3, 2), "l2": (0.3, 0), "cosd": (0, 2)}[form]
    expected = slow.l2_cosd(network, batch.images, LABELS, STDS, draws, *weights)
    compare(network, loss_of(text, network, batch), expected)


@pytest.mark.parametrize("text", ["l2_cosd:l2=0.3,cosine=2,power=1", "l2:weight=0.3,power=1"])
def test_alignment_by_the_printed_norm(network, batch, text):
    draws = draw_panel(lambda: 4 / 255 * noise.uniform(batch.images))
    expected = slow.l2_cosd(network, batch.images, LABELS, STDS, draws, 0.3, 2 * ("cosine" in text), power=1)
    compare(network, loss_of(text, network, batch), expected)


def test_ssr_by_an_envelope_is_the_full_form(network, batch):
    found = loss_of("ssr:beta=0.7,scale=20", network, batch)
    compare(network, found, slow.ssr(network, batch.images, LABELS, 0.7, scale=20))


def test_ssr_finds_the_same_vectors_where_eigh_would_wait():
    """Of random matrices and of those of confident predictions, with eigenvalues of 1e-30; see find_top_vectors."""
    torch.manual_seed(0)
    share = (4 * torch.randn(500, 10, dtype=torch.float64)).softmax(1)
    spread = share.diag_embed() - share[:, :, None] * share[:, None]
    jacobian = torch.randn(500, 10, 40, dtype=torch.float64) * torch.tensor([1.0, 1e-15]).repeat(250).view(-1, 1, 1)
    for root in (jacobian, spread @ jacobian):
        matrices = root @ root.transpose(1, 2)
        cosines = (square_repeatedly(matrices) * find_top_vectors(matrices)).sum(1)
        torch.testing.assert_close(cosines.abs(), torch.ones(500, dtype=torch.float64), rtol=0, atol=1e-8)
    assert square_repeatedly(torch.zeros(1, 10, 10, dtype=torch.float64)).tolist() == [[0.0] * 10]


def test_ssr_of_the_most_probable_classes(network, batch):
    found = loss_of("ssr:classes=2", network, batch)
    compare(network, found, slow.ssr(network, batch.images, LABELS, 0.3, top=2))


def test_ssr_is_finite_for_predictions_that_are_quite_sure(network, batch):
    network.network[3].weight.data.mul_(300)
    loss = loss_of("ssr", network, batch)
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(network.parameters())))


def test_ssr_with_many_classes_asks_for_fewer(network):
    fit = Asked(network)
    fit.data = bench.Data(torch.zeros(2, 3, 4, 4), None, tuple(map(str, range(1000))))
    with pytest.raises(
        bench.BadValue, match="a backward pass for each of 1000 classes; limit them, such as ssr:classes=10"
    ):
        bench.component("defense", "ssr").train(fit)


@pytest.mark.parametrize("form", ["norm", "sum_norm"])
def test_ig_norm(smooth, batch, form):
    """On a smooth network: on one with ReLU a point may lie on either side of a kink."""
    start = draw_panel(lambda: 8 / 255 * noise.uniform(batch.images))
    given = {"points": 6, "approx": 2}
    moved = slow.ig_norm_attack(smooth, batch.images, LABELS, 8 / 255, 2 / 255, 3, start, **given)
    expected = slow.ig_norm(smooth, batch.images, LABELS, moved, 0.4, **given, summed=form == "sum_norm")
    compare(smooth, loss_of(f"ig_norm:form={form},weight=0.4,points=6,every=2,steps=3", smooth, batch), expected)


@pytest.mark.parametrize(
    ("text", "mining", "count", "weight", "eps"),
    [
        ("steps=2,elements=20,weight=0.7", True, 20, 0.7, 8 / 255),
        ("steps=2,elements=20,weight=0.7,mining=false", False, 20, 0.7, 8 / 255),
        ("joo2023,steps=2", False, 48, 1, 1 / 255),
    ],
)
def test_iga(network, batch, text, mining, count, weight, eps):
    relu = isinstance(network.network[1], nn.ReLU)
    source = built(nn.Softplus(50)) if relu else network
    source.load_state_dict(network.state_dict())
    for mine, other in zip(source.parameters(), network.parameters(), strict=True):
        mine.data = other.data
    start = draw_panel(lambda: eps * noise.uniform(batch.images))
    mean = network.mean
    moved = slow.iga_attack(
        source, batch.images, LABELS, mean, STDS, eps, 0.625 * eps, 2, start, count=count, index_network=network
    )
    found = loss_of(f"iga:{text}", network, batch)
    expected = slow.iga(network, batch.images, LABELS, moved, mean, STDS, weight, mining, source)
    assert_close(found, expected, rtol=1e-8, atol=1e-12)
    mine = torch.autograd.grad(found, list(network.parameters()))
    # The slow form has two copies of the weights where ReLU is replaced.
    copies = {id(p): p for p in (*network.parameters(), *source.parameters())}
    parts = dict(zip(copies, torch.autograd.grad(expected, list(copies.values()), allow_unused=True), strict=True))
    for gradient, first, second in zip(mine, network.parameters(), source.parameters(), strict=True):
        total = sum(p for p in {id(first): parts[id(first)], id(second): parts[id(second)]}.values() if p is not None)
        assert_close(gradient, total, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("norm", "eps", "step"), [("linf", 8 / 255, 0.25), ("l2", 0.5, 0.36)])
@pytest.mark.parametrize("clean", [0, 0.5])
def test_adversarial(network, batch, norm, eps, step, clean):
    ball = bench.Ball(norm, Fraction(8, 255) if norm == "linf" else Fraction(1, 2))
    start = draw_panel(lambda: ball.sample(batch.images)) - batch.images
    moved = slow.pgd_attack(network, batch.images, LABELS, eps, step * eps, 3, start, norm)
    text = f"adversarial:norm={norm},eps={ball.eps},step={step},steps=3,clean={clean}"
    compare(network, loss_of(text, network, batch), slow.adversarial_loss(network, batch.images, LABELS, moved, clean))


def test_trades(network, batch):
    start = draw_panel(lambda: 0.001 * noise.normal(batch.images))
    moved = slow.trades_attack(network, batch.images, 8 / 255, 2 / 255, 3, start)
    compare(
        network,
        loss_of("trades:weight=3,steps=3", network, batch),
        slow.trades(network, batch.images, LABELS, moved, 3),
    )


NORMS = {"l1": "norm=l1,eps=0.1", "l2": "norm=l2,eps=0.4", "group": "norm=group,eps=0.1,block=3"}
NORMS["elastic"] = "norm=elastic,eps=0.02,eps2=0.07"
RADII = {"l1": 0.1, "l2": 0.4, "group": 0.1, "elastic": 0.02}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scheme", ["fast", "iterative", "iterative,printed=true"])
def test_norm_at(network, batch, norm, scheme):
    given = {"epsilon2": 0.07, "block": 3, "std": STDS}
    name, _, printed = scheme.partition(",")
    if name == "iterative":
        given |= {"steps": 3, "printed": bool(printed)}
    found = loss_of(f"norm_at:{NORMS[norm]},scheme={scheme},steps=3", network, batch)
    compare(network, found, slow.norm_at(network, batch.images, LABELS, norm, RADII[norm], name, **given))


def test_one_step_of_vanilla_l2_is_the_gradient_with_the_length_eps(network, batch):
    found = bench.component("defense", "norm_at:norm=l2,eps=0.5").change(network, batch.images, LABELS)
    for i in range(4):
        q = slow.ce_gradient(network, batch.images[i], LABELS[i], STDS)
        assert_close(found[i], 0.5 * q / q.square().sum().sqrt(), rtol=0, atol=1e-15)


def test_norm_at_with_momentum(network, batch):
    inside = 0.2 + 0.6 * batch.images  # where nothing is clipped to [0, 1]
    batch = bench.Batch(inside, *(getattr(batch, n) for n in ("labels", "object_masks", "gaze", "indices")))
    found = loss_of("norm_at:scheme=momentum,eps=0.1", network, batch)
    change = torch.zeros_like(inside)
    for i in range(4):
        total = torch.zeros_like(inside[i])
        for _ in range(10):
            q = slow.ce_gradient(network, inside[i] + STDS * change[i], LABELS[i], STDS)
            total = total + q / q.abs().sum()
            change[i] = (change[i] + 0.01 * total.sign()).clamp(-0.1, 0.1)
    compare(network, found, slow.cross_entropy(network, inside + STDS * change, LABELS))


@pytest.mark.parametrize("norm", NORMS)
def test_norm_at_for_free_takes_its_change_from_the_same_backward_pass(network, batch, norm):
    fit, eps = Asked(network), RADII[norm]
    fit.batch = 6
    fit.state = {}
    bench.component("defense", f"norm_at:{NORMS[norm]},scheme=free,replays=3").train(fit)
    assert fit.options["replays"] == 3
    fit.state["change"] = torch.zeros(6, 3, 4, 4, dtype=torch.float64)
    change = torch.zeros_like(batch.images)
    for _ in range(3):
        leaf = batch.images.clone().requires_grad_()
        loss = fit.loss(network, bench.Batch(leaf, LABELS, None, None, batch.indices))
        expected = slow.cross_entropy(network, batch.images + STDS * change, LABELS)
        compare(network, loss, expected)
        (gradient,) = torch.autograd.grad(fit.loss(network, bench.Batch(leaf, LABELS, None, None, batch.indices)), leaf)
        fit.options["after"](batch, gradient)
        for i in range(4):
            if norm == "elastic":
                given = network, batch.images[i], LABELS[i], change[i], norm, eps, 0.07, 3, STDS
                change[i] = slow.norm_at_step(*given).detach()
            else:
                q = slow.ce_gradient(network, batch.images[i] + STDS * change[i], LABELS[i], STDS)
                change[i] = slow.norm_at_back(change[i] + slow.fast_solution(q, norm, eps, 0.07, 3), norm, eps, 3)
        assert_close(fit.state["change"][:4], change)


def test_replays_divide_the_epochs_and_repeat_the_batches(tmp_path):
    fit = tiny_fit(str(tmp_path), TinySchedule(epochs=5, batch=10, augmentation="crop_flip"))
    seen, told = [], []

    def loss(network, batch):
        seen.append(batch.images.detach().clone())
        return F.cross_entropy(network(batch.images), batch.labels)

    fit.minimise(fit.fresh(), loss, replays=2, after=lambda batch, gradient: told.append(gradient))
    assert len(seen) == len(told) == 3 * 3 * 2
    assert all(torch.equal(a, b) for a, b in zip(seen[::2], seen[1::2], strict=True))
    assert all(g.shape == i.shape and g.any() for g, i in zip(told, seen, strict=True))


def test_gaussian_noise_harmonize_and_maxent(network, batch):
    draws = draw_panel(lambda: noise.normal(batch.images))
    compare(
        network,
        loss_of("gaussian_noise:sigma=0.2", network, batch),
        slow.gaussian_noise(network, batch.images, LABELS, 0.2, draws),
    )
    compare(network, loss_of("maxent:weight=0.4", network, batch), slow.maxent(network, batch.images, LABELS, 0.4))
    for name, attention in (("gaze", batch.gaze), ("object_masks", batch.object_masks)):
        expected = slow.harmonize(network, batch.images, LABELS, attention, 0.5, STDS)
        compare(network, loss_of(f"harmonize:attention={name}", network, batch), expected)


def test_harmonize_needs_its_attention(catalog):
    from bench.engine.selection import select

    case = select(catalog, {"defense": ["harmonize"]}, reference=False).cases[0]
    assert bench.component("defense", "harmonize").refuse(case) == "dataset shapes has no gaze; choose another data set"
    assert bench.component("defense", "harmonize:attention=object_masks").refuse(case) is None


def test_atex(network, batch):
    teacher = built(nn.Softplus(3), seed=4).requires_grad_(False)
    defense = bench.component("defense", "atex:along=2,across=2,weight=1.5,eps=0.8,samples=3,noise=0.2")
    with noise.rows(0, "maps", range(4)):
        maps = defense.smooth(teacher, batch.images, LABELS)
    flat = batch.images.flatten(1)
    width = 0.2 * (flat.amax(1) - flat.amin(1)).view(-1, 1, 1, 1)
    copies = []
    for draw in range(3):
        with noise.rows(0, "maps", range(4)), noise.repeat(range(draw, draw + 1)):
            copies.append(width * noise.normal(batch.images))
    assert_close(maps, slow.atex_map(teacher, batch.images, LABELS, torch.stack(copies), STDS))

    def draws():
        along, across, drawn = [], [], []
        for _ in range(2):
            along.append(0.8 * noise.uniform(batch.images[:, :1, :1, :1]).flatten())
            for _ in range(2):
                drawn.append(noise.uniform(batch.images))
                across.append(0.8 * noise.uniform(batch.images[:, :1, :1, :1]).flatten())
        return torch.stack(along), torch.stack(drawn).unflatten(0, (2, 2)), torch.stack(across).unflatten(0, (2, 2))

    along, noises, across = draw_panel(draws)
    with noise.rows(0, "step", range(4)):
        found = defense.loss(network, teacher, batch.images, unit(maps), teacher(batch.images))
    compare(network, found, slow.atex(network, teacher, batch.images, maps, along, noises, across, 1.5, STDS))


@pytest.mark.parametrize("start", ["teacher", "fresh"])
def test_the_student_begins_with_the_teachers_weights_or_fresh_ones(tmp_path, start):
    fit = tiny_fit(str(tmp_path))
    begun = []

    def minimise(network, loss, **options):
        begun.append(network)
        return network

    fit.minimise = minimise
    bench.component("defense", f"atex:samples=1,start={start}").train(fit)
    expected = fit.fresh() if start == "fresh" else fit.trained_by(bench.component("defense", "ce"))
    assert all(torch.equal(t, expected.state_dict()[name]) for name, t in begun[0].state_dict().items())


def test_atex_counts_all_of_its_steps(tmp_path):
    fit = tiny_fit(str(tmp_path), TinySchedule(limit=12))
    bench.component("defense", "atex:samples=2,teacher=(l2)").train(fit)
    assert [phase.name for phase in fit.log] == ["l2/train", "maps", "train"]
    assert [phase.forwards for phase in fit.log][1:] == [4, 3 * 2 * 2]  # two of the student and one of the teacher


def test_evaluating_puts_back_what_was_there():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout()).train()
    network[1].eval()
    with bench.Fit.evaluating(network):
        assert not any(m.training for m in network.modules())
        network(torch.rand(2, 3, 4, 4))
    assert [m.training for m in network.modules()] == [True, True, False]
    assert int(network[0].num_batches_tracked) == 0


def test_bad_parameters_say_so():
    said = {
        "norm_at:norm=l2,scheme=momentum": "momentum works with norm=l1 only; use fast, iterative or free with norm=l2",
        "norm_at:printed=true": "printed=true is a form of scheme=iterative; leave it out with scheme=fast",
        "ig_norm:points=7,every=2": "points is 7, which every=2 does not divide; give a multiple of it",
        "adversarial:eps=8": "eps is 8, must be at most 1 in linf",
        "trades:eps=8": "eps is 8, must be at most 1 in linf",
        "atex:teacher=(topk)": "no defense called 'topk'",
    }
    for text, message in said.items():
        with pytest.raises(bench.BenchError, match=message):
            bench.component("defense", text)
    with pytest.raises(bench.BadValue, match="block is 14, images are 12 x 12; give a smaller block"):
        bench.component("defense", "norm_at:norm=group").train(Asked(None))


@dataclass(frozen=True)
class Small(bench.Model):
    """Two convolutions without pooling, which can become linear altogether."""

    name = "small"

    def build(self, shape, classes):
        convolutions = nn.Conv2d(3, 8, 5, 2, 2), nn.Softplus(3), nn.Conv2d(8, 16, 5, 2, 2), nn.Softplus(3)
        return bench.Normalised(nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(256, classes)), MEAN, STD)


class Attending(nn.Module):
    """One head over patches of tiny images."""

    def __init__(self):
        super().__init__()
        self.embed, self.heads, self.last = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, images):
        query, key, value = self.heads(self.embed(images).flatten(2).transpose(1, 2)).chunk(3, dim=2)
        return self.last(F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0].mean(1))


@dataclass(frozen=True)
class Attention(bench.Model):
    name = "attention"

    def build(self, shape, classes):
        return bench.Normalised(Attending(), MEAN, STD)


@pytest.mark.parametrize(
    "text",
    ["l2_cosd", "hessian", "iga:steps=1,elements=50", "ssr", "ig_norm:points=2,every=1,steps=1", "jacobian", "cure"],
)
def test_gradients_of_gradients_go_through_attention(tmp_path, text):
    """Whose fused form has no double backward."""
    fit = tiny_fit(str(tmp_path), TinySchedule(epochs=1))
    fit.model = Attention()
    before = fit.fresh().state_dict()
    after = bench.component("defense", text).train(fit).state_dict()
    assert all(weight.isfinite().all() for weight in after.values())
    assert not torch.equal(after["network.heads.weight"], before["network.heads.weight"])


@pytest.mark.slow
def test_a_large_cosd_alone_collapses_to_one_map(tmp_path):
    """Joo et al. see it on CIFAR-10 after 200 epochs with weights of 10 and 100; a few steps want more of both.
    The maps of one class hardly move under noise, and hardly depend on the image either: a perfect rps, and useless."""
    data = bench.component("dataset", "shapes").load("train")
    data = data.at(data.choice(256))
    data = bench.Data(F.avg_pool2d(data.images, 2), data.labels, data.classes)
    images, first = data.images[:64], torch.zeros(64, dtype=torch.int64)

    def trained(weight):
        schedule = bench.component("schedule", "quick:epochs=60,batch=32,rate=0.003,decay=(60)")
        fit = tiny_fit(str(tmp_path / str(weight)), schedule)
        fit.data, fit.model = data, Small()
        network = bench.component("defense", f"cosd:weight={weight},eps=1").train(fit).eval().requires_grad_(False)
        maps = bench.component("explainer", "gradient").maps
        with torch.no_grad(), noise.rows(0, "x", range(64)):
            clean = maps(network, images, first)
            noisy = maps(network, images + 16 / 255 * noise.uniform(images), first)

        rows = SimpleNamespace(rows=torch.arange(64))
        exposed = bench.component("metric", "data_dependence")(clean_maps=clean, targets=first, test_data=rows)
        steady = bench.component("metric", "cosine")(clean_maps=clean, attacked_maps=noisy)
        return float(steady.mean()), float(exposed.mean())

    (steady, own), (collapsed, same) = trained(0.0), trained(1000.0)
    assert collapsed > 0.9999 > steady and same > 0.99 > own + 0.1, (steady, own, collapsed, same)
