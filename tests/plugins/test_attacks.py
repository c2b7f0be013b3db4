"""Attacks beside slow loops from the papers, one image at a time, in float64."""

from __future__ import annotations

import warnings
from fractions import Fraction

import pytest
import torch
from torch.testing import assert_close

import bench
from bench import noise
from bench.testing import tiny_images, tiny_network

BALLS = [bench.Ball("linf", Fraction(8, 255)), bench.Ball("l2", Fraction(1, 2))]
IMAGES, TARGETS = tiny_images(6)


@pytest.fixture(params=[True, False], ids=["softplus", "relu"])
def network(request):
    return tiny_network(request.param)


def victim(network, explainer="gradient"):
    return bench.Victim(network, bench.component("explainer", explainer))


def perturbed(text, network, ball, explainer="gradient"):
    with noise.rows(1, "attack", range(len(IMAGES))):
        return bench.component("attack", text).perturb(victim(network, explainer), IMAGES, TARGETS, ball)


def softplus(network):
    """The same weights with softplus(20) for ReLU, built anew."""
    layers = [torch.nn.Softplus(20) if isinstance(m, torch.nn.ReLU) else m for m in network.network]
    return bench.Normalised(torch.nn.Sequential(*layers), [0.5] * 3, [0.25] * 3).double().eval()


def steepest(ball, length=0.1):
    eps = float(ball.eps)

    def step(moved, gradient):
        unit = gradient.sign() if ball.norm == "linf" else gradient / gradient.norm()
        return moved - length * eps * unit

    return step


def projected(moved, image, ball):
    change, eps = moved - image, float(ball.eps)
    change = change.clamp(-eps, eps) if ball.norm == "linf" else change * min(1.0, eps / float(change.norm()))
    return (image + change).clamp(0, 1)


def slow(network, image, target, score_of, steps, start, ball, step=None, keep=True, beta=20):
    """Ghorbani et al., Alg. 1: steps on the surrogate, the best iterate on the network itself."""
    surrogate = softplus(network) if beta else network
    step = step or steepest(ball)

    def attribution(of, leaf, graph=False):
        logits = of(leaf[None])[0]
        (found,) = torch.autograd.grad(logits[target], leaf, create_graph=graph)
        return found, logits

    clean, logits = attribution(network, image.clone().requires_grad_())
    score, prediction = score_of(clean.detach(), logits.detach()), logits.argmax()
    best, least = image, score(clean, logits)
    moved = start
    for _ in range(steps):
        leaf = moved.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(score(*attribution(surrogate, leaf, graph=True)), leaf)
        moved = projected(step(moved, gradient), image, ball)
        found, logits = attribution(network, moved.clone().requires_grad_())
        if (logits.argmax() == prediction or not keep) and score(found, logits) < least:
            best, least = moved, score(found, logits)
    return best


def normal(attribution):
    summed = attribution.abs().sum(0)
    return summed / summed.sum()


def of_map(score_of):
    """A score of the map alone as one of attribution and logits."""

    def both(clean, logits):
        score = score_of(normal(clean))
        return lambda moved, logits: score(normal(moved))

    return both


def top_share(clean):
    chosen = clean.flatten().argsort(descending=True)[:5]
    return lambda maps: maps.flatten()[chosen].sum()


def minus_distance(clean):
    grid = torch.arange(12, dtype=torch.float64)

    def center(maps):
        return torch.stack([(maps.sum(1) * grid).sum(), (maps.sum(0) * grid).sum()])

    return lambda maps: -(center(maps) - center(clean)).square().sum()


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_topk_is_the_papers_algorithm(network, ball):
    found = perturbed("topk:k=5,steps=8", network, ball)
    for i in range(6):
        expected = slow(network, IMAGES[i], TARGETS[i], of_map(top_share), 8, IMAGES[i], ball)
        assert_close(found[i], expected, rtol=1e-7, atol=1e-9)
    assert not torch.equal(found, IMAGES)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_mass_center_is_the_papers_algorithm(network, ball):
    found = perturbed("mass_center:steps=8", network, ball)
    with noise.rows(1, "attack", range(6)):
        starts = IMAGES + 0.1 * (ball.sample(IMAGES) - IMAGES)
    for i in range(6):
        expected = slow(network, IMAGES[i], TARGETS[i], of_map(minus_distance), 8, starts[i], ball)
        assert_close(found[i], expected, rtol=1e-7, atol=1e-9)


def near(goal, weight):
    """Joo et al.: half the squared distance of the maps over their maxima, and of the logits."""

    def score_of(clean, logits):
        def score(moved, now):
            shown = moved.abs().sum(0)
            distance = 0.5 * (shown / shown.max() - goal).square().sum()
            return distance + weight * sum((a - b) ** 2 for a, b in zip(now, logits, strict=True)) / len(logits)

        return score

    return score_of


def adam(rate):
    """Kingma and Ba, Alg. 1."""
    first, second, count = 0.0, 0.0, 0

    def step(moved, gradient):
        nonlocal first, second, count
        count += 1
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        return moved - rate * (first / (1 - 0.9**count)) / ((second / (1 - 0.999**count)).sqrt() + 1e-8)

    return step


def test_target_map_is_joo_et_als_with_the_best_iterate(network):
    ball = BALLS[0]
    found = perturbed("target_map:joo2023,steps=8,width=0.2", network, ball)
    goal = torch.zeros(12, 12, dtype=torch.float64)
    goal[:2] = goal[-2:] = goal[:, :2] = goal[:, -2:] = 1
    for i in range(6):
        step = adam(0.04 * float(ball.eps))
        expected = slow(network, IMAGES[i], TARGETS[i], near(goal, 0.5), 8, IMAGES[i], ball, step)
        assert_close(found[i], expected, rtol=1e-7, atol=1e-9)
    assert not torch.equal(found, IMAGES)


def manipulated(goal, total):
    """The supplement of Wang et al., C1: 1e11 times the mean squared distance of maps with a sum, 1e6 of the logits."""

    def score_of(clean, logits):
        def score(moved, now):
            shown = moved.abs().sum(0)
            maps = (total * (shown / shown.sum() - goal / goal.sum())).square()
            return 1e11 * maps.sum() / 144 + 1e6 * sum((a - b) ** 2 for a, b in zip(now, logits, strict=True)) / 3

        return score

    return score_of


MANIPULATE = "match=1e11,preserve=1e6,scale"


@pytest.mark.parametrize(
    ("text", "score_of"),
    [
        ("target=reference,optimiser=sign,step=0.1,steps=6,preserve=2", lambda goal: near(goal / goal.max(), 2)),
        ("wang2020,steps=6,step=0.1", lambda goal: manipulated(goal, 144)),
        (f"target=reference,optimiser=sign,step=0.1,steps=6,{MANIPULATE}=one", lambda goal: manipulated(goal, 1)),
    ],
)
@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_target_map_aims_at_the_map_of_another_class(network, ball, text, score_of):
    references = torch.rand(4, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    attack = bench.component("attack", f"target_map:{text}")
    seen = bench.Victim(network, bench.component("explainer", "gradient"), references)
    found = attack.perturb(seen, IMAGES, TARGETS, ball)
    classes = network(references).argmax(1)
    for i in range(6):
        place = next((j for j in range(4) if classes[j] != TARGETS[i]), 0)
        leaf = references[place].clone().requires_grad_()
        network(leaf[None])[0, classes[place]].backward()
        goal = leaf.grad.abs().sum(0)
        expected = slow(network, IMAGES[i], TARGETS[i], score_of(goal), 6, IMAGES[i], ball)
        assert_close(found[i], expected, rtol=1e-7, atol=1e-9)
    if "wang2020" in text:  # other than on the scale where maps sum to one
        assert all(not torch.equal(*pair) for pair in zip(found, IMAGES, strict=True))
    with pytest.raises(bench.BadValue, match="target_map:target=reference needs training images, and there are none"):
        attack.perturb(victim(network), IMAGES, TARGETS, ball)


def test_target_map_aims_at_a_picture(network, tmp_path):
    from PIL import Image

    file = tmp_path / "target.png"
    pixels = torch.randint(0, 256, (12, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    Image.fromarray(pixels.numpy()).save(file)
    text = f'target_map:target=file,optimiser=sign,step=0.1,steps=5,path="{file}"'
    goal = pixels.double().mean(2)
    found = perturbed(text, network, BALLS[0])
    for i in range(6):
        given = near(goal / goal.max(), 0.5), 5, IMAGES[i], BALLS[0]
        assert_close(found[i], slow(network, IMAGES[i], TARGETS[i], *given), rtol=1e-5, atol=1e-7)
    Image.new("RGB", (12, 12)).save(file)
    with pytest.raises(bench.BadValue, match=r"target_map: the picture .*target.png is black, and no map can look"):
        perturbed(text, network, BALLS[0])
    with pytest.raises(bench.BadValue, match="target=file needs a picture; give path=FILE"):
        bench.component("attack", "target_map:target=file")
    with pytest.raises(bench.BadValue, match="path is for target=file, and target is frame; take one of them"):
        bench.component("attack", f'target_map:path="{file}"')


@pytest.mark.parametrize(("ball", "of"), [(BALLS[0], "nonzero"), (BALLS[1], "nonzero"), (BALLS[1], "all")])
def test_topk_l2_is_the_protocol_of_gong_et_al(network, ball, of):
    def share_of_elements(clean, logits):
        sizes = clean.abs().flatten()
        chosen = sizes.argsort(descending=True)[: int(0.4 * (432 if of == "all" else int((sizes > 0).sum())))]
        return lambda moved, logits: moved.abs().flatten()[chosen].sum() / moved.abs().sum()

    def step(moved, gradient):
        return moved - 0.02 * float(ball.eps) * gradient.sign()

    found = perturbed(f"topk_l2:steps=6,step=0.02,of={of}", network, ball)
    for i in range(6):
        expected = slow(network, IMAGES[i], TARGETS[i], share_of_elements, 6, IMAGES[i], ball, step)
        assert_close(found[i], expected, rtol=1e-7, atol=1e-9)
    assert not torch.equal(found, IMAGES)


def test_a_share_of_all_elements_counts_zeros_and_a_share_of_the_others_does_not():
    from bench.maps import top_elements

    sizes = torch.tensor([0.0, 5, 0, -4, 3, 0, 0, 2, 0, 0]).view(1, 1, 2, 5)
    assert top_elements(sizes, 0.5).flatten().nonzero()[:, 0].tolist() == [1, 3]
    assert top_elements(sizes, 0.3, of_all=True).flatten().nonzero()[:, 0].tolist() == [1, 3, 4]
    assert bench.component("attack", "topk_l2:gong2024").of == "all"


@pytest.mark.parametrize("text", ["steps=5", "lim2021,steps=5"])
@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_pgd_is_madry_et_als_on_the_network_itself(network, ball, text):
    found = perturbed(f"pgd:{text}", network, ball)
    step = steepest(ball, 0.5 if text == "steps=5" else 0.01 * 0.225 / float(ball.eps))
    with noise.rows(1, "attack", range(6)):
        starts = ball.sample(IMAGES)
    for i in range(6):

        def minus_loss(clean, logits):
            label = int(logits.argmax())
            return lambda moved, now: now[label] - now.logsumexp(0)

        given = network, IMAGES[i], TARGETS[i], minus_loss, 5, starts[i], ball, step
        expected = slow(*given, keep=False, beta=None)
        assert_close(found[i], expected, rtol=1e-7, atol=1e-9)
    with torch.no_grad():
        losses = [torch.nn.functional.cross_entropy(network(x), network(IMAGES).argmax(1)) for x in (found, IMAGES)]
    assert losses[0] > losses[1]


def test_transfer_attacks_the_network_of_the_other_defense(network):
    other, asked = tiny_network(True, seed=9), []

    def trained_by(defense):
        asked.append(str(defense))
        return other

    attack = bench.component("attack", "transfer:source=(l2_cosd:cosine=0.3),attack=(topk:k=5,steps=4)")
    explainer = bench.component("explainer", "gradient")
    found = attack.perturb(bench.Victim(network, explainer, None, trained_by), IMAGES, TARGETS, BALLS[0])
    assert_close(found, perturbed("topk:k=5,steps=4", other, BALLS[0]))
    assert asked == ["l2_cosd:cosine=0.3"]
    with pytest.raises(bench.BadValue, match="transfer needs the network of another defense; from Python give"):
        attack.perturb(victim(network), IMAGES, TARGETS, BALLS[0])


ALL = ["topk:k=5,steps=3,restarts=2", "mass_center:steps=3", "target_map:steps=3", "topk_l2:steps=3", "pgd:steps=3"]


@pytest.mark.parametrize("attack", [*ALL, "uniform_noise", "random_search:queries=4,like=(topk:k=5)"])
@pytest.mark.parametrize("explainer", ["gradient", "smoothgrad:samples=3"])
def test_an_image_is_attacked_the_same_alone_and_in_any_chunk(network, attack, explainer):
    component, seen = bench.component("attack", attack), victim(network, explainer)

    def run(images, targets):
        return component.perturb(seen, images, targets, BALLS[0])

    indices = torch.arange(6)
    whole = bench.chunked(run, IMAGES, TARGETS, seed=1, name="attack", indices=indices)
    for rows in ([4, 5], [3]):
        part = bench.chunked(run, IMAGES[rows], TARGETS[rows], seed=1, name="attack", indices=indices[rows])
        assert_close(part, whole[rows], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("explainer", ["gradient", "smoothgrad:samples=2", "moreau_grad:steps=2,average=1,samples=2"])
@pytest.mark.parametrize("attack", ["topk:k=5,steps=3", "mass_center:steps=3", "topk_l2:steps=3"])
def test_maps_that_are_the_same_everywhere_move_no_image(attack, explainer):
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(432, 3)).double().requires_grad_(False)
    with pytest.warns(UserWarning, match="is zero on every image: the network is linear"):
        assert_close(perturbed(attack, linear, BALLS[0], explainer), IMAGES)


class OneLogit(torch.nn.Module):
    def forward(self, images):
        return images.mean((1, 2, 3))[:, None]


class NoLogits(torch.nn.Module):
    def forward(self, images):
        return images.mean((2, 3), keepdim=True)


def scripted():
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.script(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(432, 3)).double())


@pytest.mark.parametrize("attack", [*ALL, "uniform_noise:candidates=2"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (OneLogit, "the network has one class, so an attack cannot change its prediction; use another"),
        (NoLogits, r"the network gives \(6, 3, 1, 1\) for 6 images; logits are \(6, classes\)"),
        (scripted, "the network is scripted, and its activations cannot be replaced"),
        (lambda: torch.compile(tiny_network(True)), "the network is compiled, and its activations cannot be"),
        (lambda: torch.nn.Sequential(scripted()), "layer 0 is scripted"),
    ],
)
def test_a_network_that_cannot_be_attacked_says_so(attack, make, message):
    with pytest.raises(bench.BadComponent, match=message):
        bench.component("attack", attack).perturb(victim(make()), IMAGES, torch.zeros_like(TARGETS), BALLS[0])


def test_images_and_parameters_that_cannot_be_attacked_say_so(network):
    bad = IMAGES.clone()
    bad[2, 0, 3, 3] = float("nan")
    with pytest.raises(bench.BadValue, match="image 2 of 6 contains NaN or infinity"):
        bench.component("attack", "topk:k=5").perturb(victim(network), bad, TARGETS, BALLS[0])
    with pytest.raises(bench.BadValue, match="topk: k is 145, but the maps have 144 pixels"):
        perturbed("topk:k=145", network, BALLS[0])
    with pytest.raises(bench.BadValue, match="steps"):
        bench.component("attack", "topk:steps=0")
    with pytest.raises(bench.BadValue, match="targets run from 0 to 7, but the network has 3 classes"):
        bench.component("attack", "topk:k=5").perturb(victim(network), IMAGES, TARGETS + 5 * (TARGETS == 2), BALLS[0])


def test_the_centre_of_mass_by_hand():
    from bench_attacks.objectives import center

    maps = torch.zeros(2, 3, 4, dtype=torch.float64)
    maps[0, 2, 3] = 1
    maps[1, 0, 0] = maps[1, 2, 1] = 0.5
    assert_close(center(maps), torch.tensor([[2.0, 3.0], [1.0, 0.5]], dtype=torch.float64))


STARTED = ["topk:k=5,steps=4", "mass_center:steps=4", "topk_l2:steps=3", "target_map:steps=3", "pgd:steps=1"]


@pytest.mark.parametrize("attack", [*STARTED, "random_search:queries=9,like=(topk:k=5)"])
def test_more_starts_are_never_worse(network, attack):
    ball = BALLS[0]
    one, three = (perturbed(f"{attack},restarts={n}", network, ball) for n in (1, 3))
    with torch.no_grad():
        aimed = bench.component("attack", attack)
        objective = getattr(aimed, "like", aimed).make_objective(victim(network), IMAGES, TARGETS)
        assert (objective(three) <= objective(one) + 1e-12).all()
        assert (objective(three) < objective(one)).any()


@pytest.mark.parametrize("kind", ["uniform_noise", "sign_noise", "sign_noise:path=walk"])
@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_the_best_candidate_is_taken(network, kind, ball):
    joined = f"{kind}{',' if ':' in kind else ':'}candidates=5,like=(topk:k=5)"
    found = perturbed(joined, network, ball)
    objective = bench.component("attack", "topk:k=5").make_objective(victim(network), IMAGES, TARGETS)
    draws, moved = [IMAGES], IMAGES
    with noise.rows(1, "attack", range(6)):
        for _ in range(5):
            if kind == "uniform_noise":
                moved = ball.sample(IMAGES)
            else:
                start, length = (moved, 0.1) if "walk" in kind else (IMAGES, 1.0)
                signs = noise.signs(IMAGES)
                unit = signs if ball.norm == "linf" else signs / signs[0].numel() ** 0.5
                moved = ball.project(start + length * float(ball.eps) * unit, IMAGES)
            draws.append(moved)
    with torch.no_grad():
        clean = network(IMAGES).argmax(1)
        scores = torch.stack([objective(d).masked_fill(network(d).argmax(1) != clean, 9.0) for d in draws])
    expected = torch.stack(draws)[scores.argmin(0), torch.arange(6)]
    assert_close(found, expected)
    assert not torch.equal(found, IMAGES)


def test_one_draw_is_taken_as_it_comes(network):
    with noise.rows(1, "attack", range(6)):
        expected = BALLS[0].project(IMAGES + 8 / 255 * noise.signs(IMAGES), IMAGES)
    assert_close(perturbed("sign_noise", network, BALLS[0]), expected)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_random_search_keeps_what_is_better_and_asks_for_no_gradient(network, ball):
    few, many = (perturbed(f"random_search:queries={n},like=(topk:k=5)", network, ball) for n in (5, 60))
    objective = bench.component("attack", "topk:k=5").make_objective(victim(network), IMAGES, TARGETS)
    with torch.no_grad():
        before, some, more = objective(IMAGES), objective(few), objective(many)
        assert (some <= before).all() and (more < before).float().mean() > 0.6 and more.mean() < some.mean()
        assert torch.equal(network(many).argmax(1), network(IMAGES).argmax(1))
    controlled = perturbed("random_search:queries=5,like=(topk:k=5)", network, ball, "random_map")
    assert controlled.shape == IMAGES.shape


def test_squares_lie_inside_and_move(network):
    from bench_attacks.random_search import squares

    with noise.rows(0, "x", range(500)):
        found = squares(torch.zeros(500, 3, 6, 9), 3)[:, 0]
    assert (found.sum((1, 2)) == 9).all() and found.any(0).all()


def test_white_box_beats_as_many_candidates_of_noise(network):
    ball, steps = BALLS[0], 20
    objective = bench.component("attack", "topk:k=5").make_objective(victim(network), IMAGES, TARGETS)
    with torch.no_grad():
        white = objective(perturbed(f"topk:k=5,steps={steps}", network, ball))
        for control in ("uniform_noise", "sign_noise"):
            assert (white < objective(perturbed(f"{control}:candidates={steps},like=(topk:k=5)", network, ball))).all()


def test_adaptive_steps_leave_less_than_random_colours_in_a_sparse_ball(network):
    ball = bench.Ball("l0", Fraction(5))
    objective = bench.component("attack", "topk:k=5").make_objective(victim(network), IMAGES, TARGETS)
    texts = ("topk:k=5,optimiser=adaptive", "topk:k=5", "uniform_noise:candidates=50,like=(topk:k=5)")
    with torch.no_grad():
        adaptive, *others = (float(objective(perturbed(text, network, ball)).mean()) for text in texts)
    assert adaptive < min(others)


def test_an_attack_without_an_objective_cannot_choose(network):
    with pytest.raises(
        bench.BadValue, match=r"attack sign_noise has no objective to choose by; name another with like="
    ):
        perturbed("uniform_noise:candidates=2,like=(sign_noise)", network, BALLS[0])
