"""The training loop."""

from __future__ import annotations

import dataclasses

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import bench
from bench import noise
from bench.engine.augmentation import TRIES, choose_boxes, crop_flip, resized_crop_flip, rotate_flip_blur
from bench.engine.phases import measure
from bench.engine.training import AHEAD, Batches, products_in, seeded
from bench.testing import TinyModel, TinySchedule, tiny_data, tiny_fit


def cross_entropy(network, batch):
    return F.cross_entropy(network(batch.images), batch.labels)


def test_fresh_networks_are_the_same_and_leave_the_rng_alone(tmp_path):
    fit = tiny_fit(tmp_path)
    before = torch.get_rng_state()
    first, second = fit.fresh(), fit.fresh()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert torch.equal(before, torch.get_rng_state())


def test_a_step_is_the_optimisers(tmp_path):
    schedule = TinySchedule(epochs=1, batch=24, optimiser="sgd", rate=0.1, clipping=0)
    fit = tiny_fit(tmp_path, schedule)
    network, data = fit.fresh(), tiny_data()
    F.cross_entropy(network(data.images), data.labels).backward()
    expected = [p.detach() - 0.1 * p.grad for p in network.parameters()]
    trained = fit.minimise(fit.fresh(), cross_entropy)
    assert_close(list(trained.parameters()), expected, rtol=1e-4, atol=1e-6)


def test_every_image_is_seen_once_an_epoch_in_another_order(tmp_path):
    seen = []

    def loss(network, batch):
        seen.append(batch.indices)
        return cross_entropy(network, batch)

    fit = tiny_fit(tmp_path, TinySchedule(epochs=2, batch=10))
    fit.minimise(fit.fresh(), loss)
    epochs = [torch.cat(seen[:3]), torch.cat(seen[3:])]
    assert [len(s) for s in seen] == [10, 10, 4] * 2
    assert all(sorted(e.tolist()) == list(range(24)) for e in epochs)
    assert not torch.equal(*epochs)


def test_a_last_batch_of_one_joins_the_one_before(tmp_path):
    sizes = []

    def loss(network, batch):
        sizes.append(len(batch.images))
        return cross_entropy(network, batch)

    fit = tiny_fit(tmp_path, TinySchedule(epochs=1, batch=23))
    fit.minimise(fit.fresh(), loss)
    assert sizes == [24]


def test_batches_hold_what_the_data_holds(tmp_path):
    def loss(network, batch):
        data = tiny_data()
        assert torch.equal(batch.images, data.images[batch.indices])
        assert torch.equal(batch.labels, data.labels[batch.indices])
        assert torch.equal(batch.object_masks, data.object_masks[batch.indices])
        return cross_entropy(network, batch)

    fit = tiny_fit(tmp_path, TinySchedule(epochs=1, limit=9))
    fit.minimise(fit.fresh(), loss)


def test_a_limit_takes_as_many_of_each_class(tmp_path):
    seen = []

    def loss(network, batch):
        seen.append(batch.labels)
        return cross_entropy(network, batch)

    fit = tiny_fit(tmp_path, TinySchedule(epochs=1, limit=9))
    fit.minimise(fit.fresh(), loss)
    assert torch.cat(seen).bincount().tolist() == [3, 3, 3]


def test_the_rate_falls_at_the_decay_points(tmp_path, monkeypatch):
    rates = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD, "step", lambda self, *a: (rates.append(self.param_groups[0]["lr"]), step(self, *a))[1]
    )
    fit = tiny_fit(tmp_path, TinySchedule(epochs=4, batch=24, optimiser="sgd", rate=0.1, decay=(1, 3)))
    fit.minimise(fit.fresh(), cross_entropy)
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001])


@pytest.mark.parametrize("curve", ["half_cosine", "steps"])
def test_warm_up_and_cosine_are_those_of_torch(curve):
    schedule = TinySchedule(epochs=11, rate=0.1, curve=curve, warmup=3)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    rise = torch.optim.lr_scheduler.LinearLR(optimiser, 1 / 4, total_iters=3)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 8)
    theirs = torch.optim.lr_scheduler.SequentialLR(optimiser, [rise, fall], [3]) if curve == "half_cosine" else rise
    expected = []
    for _ in range(11):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        theirs.step()
    assert [schedule.rate_at(epoch) for epoch in range(11)] == pytest.approx(expected)


def test_replays_divide_warm_up_and_decay():
    schedule = TinySchedule(epochs=8, rate=1.0, warmup=4, decay=(6,))
    assert [schedule.rate_at(epoch, replays=2) for epoch in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, 0.1])


def test_a_warm_up_as_long_as_the_training_is_refused():
    with pytest.raises(bench.BadValue, match="warmup is 2, must be less than epochs, 2"):
        TinySchedule(epochs=2, warmup=2)


def test_no_epochs_give_the_file_back_bit_for_bit(tiny_run, store, tmp_path):
    network = bench.component("model", "lenet").build((3, 32, 32), 10)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "net.safetensors")
    options = {"metric": ["accuracy", "train_time"], "model": ["lenet"], "defense": ["ce"]}
    outcome = tiny_run(schedule=[f"quick:epochs=0,limit=16,init={tmp_path / 'net.safetensors'}"], **options)
    assert not outcome.failures
    for folder in store.list_folders("trained"):
        placed = safetensors.torch.load_file(folder / "value.safetensors")
        assert all(torch.equal(placed[name], tensor) for name, tensor in network.state_dict().items())


def test_a_training_starts_from_the_file(tmp_path):
    torch.manual_seed(9)
    given = TinyModel().build((3, 12, 12), 3)
    safetensors.torch.save_file(given.state_dict(), tmp_path / "net.safetensors")
    schedule = TinySchedule(
        epochs=1, batch=24, optimiser="sgd", rate=0.1, clipping=0, init=tmp_path / "net.safetensors"
    )
    data = tiny_data()
    F.cross_entropy(given(data.images), data.labels).backward()
    expected = [p.detach() - 0.1 * p.grad for p in given.parameters()]
    fit = tiny_fit(tmp_path, schedule)
    assert_close(list(fit.minimise(fit.fresh(), cross_entropy).parameters()), expected, rtol=1e-4, atol=1e-6)


def test_the_file_is_known_by_its_content_and_not_by_its_path(tmp_path):
    names = [tmp_path / name for name in ("a.pt", "b.pt", "c.pt")]
    for name, content in zip(names, (b"1", b"1", b"2"), strict=True):
        name.write_bytes(content)
    one, same, other = (TinySchedule(init=name) for name in names)
    assert one.identity == same.identity != other.identity and str(tmp_path) not in one.identity
    assert "init" not in TinySchedule().identity
    assert one.published == "tiny:init=a.pt#" + one.identity.rpartition("init=#")[2].rstrip(")")


def test_a_last_layer_of_other_classes_stays_fresh_and_another_layer_is_named(tmp_path):
    file = tmp_path / "net.safetensors"
    schedule = TinySchedule(init=file)
    other = TinyModel().build((3, 12, 12), 7)
    safetensors.torch.save_file(other.state_dict(), file)
    plain, placed = tiny_fit(tmp_path).fresh().state_dict(), tiny_fit(tmp_path, schedule).fresh().state_dict()
    for name, tensor in placed.items():
        assert torch.equal(tensor, (plain if name.startswith("network.6.") else other.state_dict())[name])
    safetensors.torch.save_file(TinyModel().build((3, 16, 16), 7).state_dict(), file)
    with pytest.raises(
        bench.BadValue, match=r"network\.6\.weight is \(7, 512\), must be \(3, 288\) for this model and number of"
    ):
        tiny_fit(tmp_path, schedule).fresh()


def test_a_folder_is_no_file_of_weights(tmp_path):
    with pytest.raises(bench.BadValue, match=f"init is {tmp_path}, a folder; name a file in it"):
        TinySchedule(init=tmp_path)


def test_clipping_bounds_the_gradient(tmp_path):
    start = [p.detach().clone() for p in tiny_fit(tmp_path / "a").fresh().parameters()]
    schedule = TinySchedule(epochs=1, batch=24, optimiser="sgd", rate=1.0, clipping=0.01)
    fit = tiny_fit(tmp_path / "b", schedule)
    trained = fit.minimise(fit.fresh(), lambda n, b: 100 * cross_entropy(n, b))
    step = torch.cat([(a.detach() - b).flatten() for a, b in zip(trained.parameters(), start, strict=True)])
    assert float(step.norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd", "nesterov"])
def test_a_training_that_goes_on_ends_with_the_same_weights(tmp_path, optimiser):
    """State that a phase keeps, noise, augmentation, torch's own draws and the optimiser's moments included."""
    schedule = TinySchedule(epochs=4, optimiser=optimiser, augmentation="crop_flip", weight_decay=0.01)

    def train(folder, stop=None):
        fit = tiny_fit(folder, schedule)
        fit.state["seen"] = torch.zeros(1)
        steps = [0]

        def loss(network, batch):
            steps[0] += 1
            if steps[0] == stop:
                raise KeyboardInterrupt
            fit.state["seen"] += len(batch.images)
            moved = batch.images + 0.1 * noise.normal(batch.images) + 0.1 * torch.randn_like(batch.images)
            return F.cross_entropy(network(moved), batch.labels) * (1 + fit.state["seen"] / 100).mean()

        trained = fit.minimise(fit.fresh(), loss)
        return trained.state_dict(), fit.state["seen"], fit.log[0]

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", stop=11)  # in the third epoch of four
    resumed = train(tmp_path / "cut")
    assert all(torch.equal(whole[0][n], resumed[0][n]) for n in whole[0])
    assert torch.equal(whole[1], resumed[1])
    assert (whole[2].forwards, whole[2].backwards) == (resumed[2].forwards, resumed[2].backwards) == (16, 16)


def test_two_phases_keep_their_own_checkpoints(tmp_path):
    fit = tiny_fit(tmp_path)
    first = fit.minimise(fit.fresh(), cross_entropy, name="teacher")
    fit.minimise(first, cross_entropy, name="student")
    assert [phase.name for phase in fit.log] == ["teacher", "student"]
    assert {p.name for p in (tmp_path / "partial" / "tiny").iterdir()} == {"teacher", "student"}


def test_a_loss_that_is_not_finite_names_step_and_epoch(tmp_path):
    steps = []

    def loss(network, batch):
        steps.append(1)
        return cross_entropy(network, batch) * (float("nan") if len(steps) == 6 else 1)

    fit = tiny_fit(tmp_path)
    with pytest.raises(
        bench.Diverged, match=r"the loss is nan at step 2 of epoch 2 \(train\); lower the schedule's rate"
    ):
        fit.minimise(fit.fresh(), loss)
    assert not (tmp_path / "partial" / "tiny").exists()


def test_a_last_batch_that_was_joined_is_looked_at_too(tmp_path):
    fit = tiny_fit(tmp_path, TinySchedule(epochs=1, batch=23))
    with pytest.raises(bench.Diverged, match="the loss is nan at step 1 of epoch 1"):
        fit.minimise(fit.fresh(), lambda n, b: cross_entropy(n, b) * float("nan"))


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    fit = tiny_fit(tmp_path, TinySchedule(epochs=1, batch=24, clipping=0))
    zero = torch.zeros(())  # its square root has a loss of 0 and an infinite slope
    with pytest.raises(bench.Diverged, match="a weight is not finite after epoch 1 "):
        fit.minimise(fit.fresh(), lambda n, b: (n(b.images).sum() * zero).sqrt())
    assert not (tmp_path / "partial" / "tiny").exists()


def test_two_phases_of_one_name_are_refused(tmp_path):
    fit = tiny_fit(tmp_path)
    network = fit.minimise(fit.fresh(), cross_entropy)
    with pytest.raises(bench.BadComponent, match="two phases of one training are called 'train'; name each one: fit"):
        fit.minimise(network, cross_entropy)


def test_a_limit_above_the_training_images_is_named(tmp_path):
    fit = tiny_fit(tmp_path, TinySchedule(limit=25))
    with pytest.raises(
        bench.EnvironmentProblem, match="the schedule's limit is 25, but there are 24 training images; lower it"
    ):
        fit.minimise(fit.fresh(), cross_entropy)


def test_crop_and_flip_move_masks_with_their_images():
    images = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8) + 1
    with noise.rows(0, "x", [3, 8]):
        moved, mask = crop_flip([images, images[:, :1] * 2])
    assert torch.equal(mask, moved[:, :1] * 2)
    with noise.rows(0, "x", [8]):
        assert torch.equal(crop_flip([images[1:]])[0], moved[1:])


def test_crops_and_flips_are_all_there_and_are_plain_shifts():
    image = torch.arange(36.0).view(1, 1, 6, 6) + 1
    with noise.rows(0, "x", range(4000)):
        moved = crop_flip([image.expand(4000, 1, 6, 6)])[0]
    padded = F.pad(image, (4,) * 4)[0]
    expected = {
        tuple(crop.flatten().tolist())
        for top in range(9)
        for left in range(9)
        for crop in (padded[:, top : top + 6, left : left + 6], padded[:, top : top + 6, left : left + 6].flip(2))
    }
    found = {tuple(row.flatten().tolist()) for row in moved}
    assert found == expected


def test_seeded_restores_the_rng():
    before = torch.get_rng_state()
    with seeded(0, "a"):
        first = torch.rand(3)
    with seeded(0, "a"):
        again = torch.rand(3)
    with seeded(0, "b"):
        other = torch.rand(3)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_cost_adds_up_over_an_interruption():
    network, log = torch.nn.Linear(1, 1), []
    with measure(log, "a", network) as passes, passes:
        network(torch.zeros(1, 1)).sum().backward()
    with measure(log, "a", network, log[0]) as passes, passes:
        network(torch.zeros(1, 1))
    assert (log[1].forwards, log[1].backwards) == (2, 1)
    assert log[1].seconds > log[0].seconds and log[1].peak_bytes is None
    assert dataclasses.asdict(log[0])["name"] == "a"


def test_rotations_flips_and_blurs_are_those_of_torchvision():
    import torchvision.transforms.v2.functional as T

    images = torch.rand(6, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    with noise.rows(0, "x", range(6)):
        moved, masks = rotate_flip_blur([images, images[:, :1]])
    with noise.rows(0, "x", range(6)):
        turn, side, width = noise.uniform(torch.empty(6, 3), 0, 1).unbind(1)
    for i in range(6):
        flipped = images[i] if side[i] < 0.5 else images[i].flip(2)
        degrees = float(2 * turn[i] - 1) * 30
        # Flipped first, a rotation goes the other way round.
        found = [T.rotate(flipped, sign * degrees, T.InterpolationMode.BILINEAR) for sign in (1, -1)]
        expected = min(found, key=lambda f: float((f[:1] - masks[i]).abs().mean()))
        assert_close(masks[i], expected[:1], atol=2e-5, rtol=0)
        assert_close(moved[i], T.gaussian_blur(expected, [5, 5], [float(0.1 + 1.9 * width[i])] * 2), atol=2e-5, rtol=0)


def test_resized_crops_are_those_of_torchvision():
    import torchvision.transforms.v2.functional as T

    images = torch.rand(8, 3, 14, 9, generator=torch.Generator().manual_seed(0))
    with noise.rows(0, "x", range(8)):
        moved, bools = resized_crop_flip([images, images[:, :1] > 0.5])
    with noise.rows(0, "x", range(8)):
        drawn = noise.uniform(torch.empty(8, 3 + 2 * TRIES), 0, 1)
    for i, box in enumerate(choose_boxes(drawn[:, 1:], 14, 9).int().tolist()):
        expected = T.resized_crop(images[i], *box, [14, 9], antialias=False)
        expected = expected if drawn[i, 0] < 0.5 else expected.flip(2)
        assert_close(moved[i], expected, atol=2e-5, rtol=0)
    assert bools.dtype == torch.bool


def test_boxes_fit_and_have_the_areas_and_aspects_of_inception():
    from torchvision.transforms import RandomResizedCrop

    drawn = torch.rand(4000, 2 + 2 * TRIES, generator=torch.Generator().manual_seed(0))
    boxes = choose_boxes(drawn, 100, 60)
    top, left, high, wide = boxes.unbind(1)
    assert ((top >= 0) & (top + high <= 100) & (left >= 0) & (left + wide <= 60)).all()
    torch.manual_seed(0)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(torch.empty(3, 100, 60), (0.08, 1), (3 / 4, 4 / 3)) for _ in range(2000)]
    )
    assert_close(boxes.mean(0), theirs.float().mean(0), atol=1.5, rtol=0)
    assert_close(boxes.std(0), theirs.float().std(0), atol=1.5, rtol=0)


def test_no_box_that_fits_is_the_whole_picture():
    drawn = torch.full((1, 2 + 2 * TRIES), 0.999)  # the widest box of nearly the whole area
    assert choose_boxes(drawn, 50, 10).tolist() == [[0, 0, 50, 10]]


def test_a_mask_of_bools_keeps_its_place_and_size():
    mask = torch.zeros(8, 1, 16, 24, dtype=torch.bool)
    mask[:, :, 4:12, 3:11] = True
    with noise.rows(0, "x", range(8)):
        _, bools, floats = rotate_flip_blur([mask.float().expand(-1, 3, -1, -1), mask, mask.float()])
    assert bools.dtype == torch.bool and torch.equal(bools, floats > 0.5)


def test_images_without_labels_are_refused(tmp_path):
    fit = tiny_fit(tmp_path)
    fit.data = dataclasses.replace(fit.data, labels=None)
    with pytest.raises(
        bench.EnvironmentProblem, match="the training images have no labels; use others, or trained weights"
    ):
        fit.minimise(fit.fresh(), cross_entropy)


def test_augmentation_can_be_left_out(tmp_path):
    seen = []

    def loss(network, batch):
        seen.append(torch.equal(batch.images, tiny_data().images[batch.indices]))
        return cross_entropy(network, batch)

    for augment in (True, False):
        fit = tiny_fit(tmp_path / str(augment), TinySchedule(epochs=1, batch=24, augmentation="rotate_flip_blur"))
        fit.minimise(fit.fresh(), loss, augment=augment)
    assert seen == [False, True]


def test_precision_is_what_the_schedule_says_and_is_put_back(tmp_path):
    before = torch.backends.cudnn.allow_tf32
    found = {}

    def loss(network, batch):
        logits = network(batch.images)
        found[precision] = logits.dtype, torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        return F.cross_entropy(logits.float(), batch.labels)

    for precision in ("float32", "tf32", "bfloat16"):
        fit = tiny_fit(tmp_path / precision, TinySchedule(epochs=1, precision=precision))
        fit.minimise(fit.fresh(), loss)
    assert found == {
        "float32": (torch.float32, False, False),
        "tf32": (torch.float32, True, True),
        "bfloat16": (torch.bfloat16, False, False),
    }
    assert torch.backends.cudnn.allow_tf32 == before
    with products_in("tf32"):
        assert torch.backends.cudnn.allow_tf32 and torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.deterministic


def test_momentum_and_nesterov_are_the_optimisers(tmp_path):
    for optimiser, nesterov in (("sgd", False), ("nesterov", True)):
        schedule = TinySchedule(epochs=3, batch=24, optimiser=optimiser, rate=0.1, momentum=0.5, clipping=0)
        fit = tiny_fit(tmp_path / optimiser, schedule)
        trained = fit.minimise(fit.fresh(), cross_entropy)
        network = fit.fresh()
        theirs = torch.optim.SGD(network.parameters(), 0.1, momentum=0.5, nesterov=nesterov)
        for _ in range(3):
            theirs.zero_grad()
            F.cross_entropy(network(tiny_data().images), tiny_data().labels).backward()
            theirs.step()
        assert_close(list(trained.parameters()), list(network.parameters()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd", "nesterov"])
def test_weight_decay_beside_a_slow_loop(tmp_path, optimiser):
    """It joins the gradient, but in adamw it shrinks the weights and no moment (Loshchilov and Hutter, ICLR 2019)."""
    rate, decay, momentum = 0.05, 0.3, 0.5
    schedule = TinySchedule(
        epochs=2, batch=24, optimiser=optimiser, rate=rate, weight_decay=decay, momentum=momentum, clipping=0
    )
    fit = tiny_fit(tmp_path, schedule)
    trained, network, data = fit.minimise(fit.fresh(), cross_entropy), fit.fresh(), tiny_data()
    first, second = ([torch.zeros_like(p) for p in network.parameters()] for _ in range(2))
    for step in (1, 2):
        F.cross_entropy(network(data.images), data.labels).backward()
        for i, p in enumerate(network.parameters()):
            slope = p.grad if optimiser == "adamw" else p.grad + decay * p.detach()
            if optimiser in ("sgd", "nesterov"):
                first[i] = momentum * first[i] + slope
                change = slope + momentum * first[i] if optimiser == "nesterov" else first[i]
            else:
                first[i] = momentum * first[i] + (1 - momentum) * slope
                second[i] = 0.999 * second[i] + 0.001 * slope**2
                change = first[i] / (1 - momentum**step) / ((second[i] / (1 - 0.999**step)).sqrt() + 1e-8)
            p.data -= rate * (change + decay * p.data if optimiser == "adamw" else change)
            p.grad = None
    assert_close(list(trained.parameters()), list(network.parameters()), rtol=1e-4, atol=1e-5)


def test_a_teacher_is_an_ordinary_value_and_its_cost_is_counted(store, tiny_run):
    outcome = tiny_run(
        defense=["atex:samples=2", "ce"],
        metric=["train_passes", "train_passes:phase=train", "train_time", "train_memory", "train_time:phase=maps"],
    )
    assert not outcome.failures
    found = {(r.axes["defense"], r.metric): r for r in outcome.records.values()}
    steps = 2  # of 32 images
    assert found["ce", "train_passes"].value == 2 * steps
    # Two forwards of the student, one of the teacher, and one run of the autograd engine.
    own = found["atex:samples=2", "train_passes:phase=train"].value
    assert own == 4 * steps
    assert found["atex:samples=2", "train_passes"].value > own + found["ce", "train_passes"].value
    assert found["atex:samples=2", "train_time"].value > found["ce", "train_time"].value
    assert found["ce", "train_memory"].undefined_because == "memory is measured on a GPU only"
    assert found["ce", "train_time:phase=maps"].undefined_because == "no phase maps: this training has train"
    assert len(list(store.list_folders("trained"))) == 2


class Counted:
    """Images that count how often they are read."""

    def __init__(self, images):
        self.images, self.shape, self.reads = images, images.shape, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        self.reads += 1
        return self.images[rows]


def test_batches_of_a_large_set_are_read_ahead_and_not_without_bound():
    images, labels = torch.rand(40, 3, 4, 4), torch.arange(40)
    data = bench.Data(counted := Counted(images), labels, tuple(map(str, range(40))))
    batches = Batches(data, torch.arange(40), torch.device("cpu"), "none", resident=0)
    counted.reads = 0
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0)).split(4)
    seen = []
    for number, (rows, columns) in enumerate(batches.read_ahead(order), 1):
        assert counted.reads <= number + AHEAD
        batch = batches.at(rows, columns)
        assert torch.equal(batch.images, images[rows]) and torch.equal(batch.labels, rows)
        seen.append(rows)
    assert torch.equal(torch.cat(seen), torch.cat(order)) and counted.reads == len(order)


def test_an_error_of_a_set_that_is_read_ahead_ends_the_training_with_it():
    class Broken(Counted):
        def __getitem__(self, rows):
            if 7 in rows.tolist():
                raise bench.EnvironmentProblem("image 7 cannot be decoded")
            return super().__getitem__(rows)

    data = bench.Data(Broken(torch.rand(8, 3, 4, 4)), torch.arange(8), ("a", "b"))
    batches = Batches(data, torch.arange(8), torch.device("cpu"), "none", resident=0)
    with pytest.raises(bench.EnvironmentProblem, match="image 7 cannot be decoded"):
        list(batches.read_ahead(torch.arange(8).split(2)))
