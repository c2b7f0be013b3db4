"""`bench.evaluate` and `bench.explain`: any network on images in memory, and what they refuse."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import bench
from bench.axes import OPTIONS

SHAPE, NAMES = (3, 8, 8), ("ant", "bee", "cat", "dog")


def make_linear():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()
    return bench.Normalised(network, [0.5], [0.25]).eval()


def make_curved():
    return bench.testing.tiny_network(smooth=True, dtype=torch.float32, shape=SHAPE)


def make_images(count=6):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def evaluate(network=None, images=None, labels=None, **options):
    options = {"attacks": "uniform_noise", "metrics": ["kept_rate"], "device": "cpu", **options}
    return bench.evaluate(network or make_linear(), make_images() if images is None else images, labels, **options)


@pytest.fixture(scope="module")
def results():
    network, images = make_linear(), make_images()
    labels = network(images).argmax(1)
    labels[0] = (labels[0] + 1) % 4
    options = {
        "explainers": ["gradient", "smoothgrad:samples=2"],
        "eps": ["0", "8/255"],
        "metrics": ["accuracy", "topk_overlap"],
    }
    return bench.evaluate(network, images, labels, attacks="uniform_noise", device="cpu", **options)


def test_the_gradient_of_a_linear_network_does_not_move(results):
    moved = [r for r in results if r.axes.get("explainer") == "gradient" and r.axes["ball"] == "linf:8/255"]
    assert {r.metric: round(r.value, 9) for r in moved} == {"topk_overlap": 1}


def test_accuracy_counts_the_labels(results):
    (accuracy,) = (record for record in results if record.metric == "accuracy")
    assert accuracy.value == pytest.approx(5 / 6) and accuracy.n == 6
    assert results.values[accuracy.key].values[:, 0].tolist() == [0, 1, 1, 1, 1, 1]


def test_a_record_of_what_is_in_memory_has_no_command(results):
    assert {record.command for record in results} == {""} and not results.troubles
    assert all(record.axes["model"].startswith("memory:content=") for record in results)


def test_the_frame_has_a_row_for_each_record(results):
    frame = results.to_frame()
    assert len(frame) == len(results) and frame["key"].is_unique
    by_key = frame.set_index("key")
    for record in results:
        row = by_key.loc[record.key]
        assert (row["metric"], row["value"], row["low"]) == (record.metric, record.value, record.ci95[0])
    assert frame.loc[frame["metric"] == "accuracy", "attack"].isna().all()


def test_results_are_a_list_and_a_table(results):
    assert isinstance(results, list) and results[0] in results and list(results) == results
    text, page = repr(results), results._repr_html_()
    assert "topk_overlap" in text and page.count("<tr>") == 5 and "smoothgrad:samples=2" in page
    assert "model memory:content=" in page and "Computed on CPU" in page


@pytest.mark.parametrize("kind", [None, "budgets", "tradeoff", "histograms", "transfers"])
def test_results_are_drawn(results, kind):
    metric = None if kind == "tradeoff" else "topk_overlap"
    picture = results.plot(kind, metric=metric)
    assert picture.axes and picture._repr_png_().startswith(b"\x89PNG")


def test_a_plot_that_there_is_not_is_told_in_a_line(results):
    with pytest.raises(bench.UnknownName, match="no figure of scores called 'histogram'; did you mean 'histograms'"):
        results.plot("histogram")
    with pytest.raises(bench.UnknownName, match="no record of metric 'acuracy'; did you mean 'accuracy'"):
        results.plot("budgets", metric="acuracy")
    with pytest.raises(bench.BadValue, match="figure levels: no metric here has levels"):
        results.plot("levels")


def test_no_image_meets_the_noise_of_another():
    options = {"explainers": "smoothgrad:samples=2", "attacks": "uniform_noise", "metrics": "spearman"}
    few, many = (evaluate(make_curved(), make_images()[:n], **options) for n in (3, 6))
    assert few.values[few[0].key].values.tolist() == many.values[many[0].key].values[:3].tolist()


def test_a_given_store_is_used_again(tmp_path):
    first, again = (evaluate(store=tmp_path) for _ in range(2))
    assert first == again
    other = make_linear()
    with torch.no_grad():
        other.network[1].bias[0] += 1
    (record,), (changed,) = first, evaluate(other, store=tmp_path)
    assert record.key != changed.key


def test_the_network_and_the_images_stay_as_they_were():
    network, images = make_linear(), make_images()
    before, state = images.clone(), copy.deepcopy(network.state_dict())
    evaluate(network, images)
    assert torch.equal(images, before) and all(torch.equal(network.state_dict()[n], t) for n, t in state.items())
    assert all(weight.requires_grad and weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_network_of_another_precision_is_measured(dtype):
    (record,) = evaluate(make_linear().to(dtype))
    assert record.value == 1


def test_a_network_wrapped_in_its_normalisation_keeps_its_mode():
    inner = bench.testing.tiny_network(smooth=False, dtype=torch.float32, shape=SHAPE).eval()
    evaluate(bench.Normalised(inner, [0.5] * 3, [0.2] * 3))  # warnings are errors
    assert bench.Normalised(inner.train(), [0.5] * 3, [0.2] * 3).training


def test_what_needs_labels_is_refused_without_them():
    results = evaluate(metrics=["accuracy", "kept_rate"])
    assert [record.metric for record in results] == ["kept_rate"]
    (trouble,) = results.troubles
    assert trouble == (
        "refused: accuracy: metric accuracy: the images in memory have no labels; give labels, or other metrics"
    )
    assert "have no labels" in repr(results) and "have no labels" in results._repr_html_()


def test_results_without_records_are_still_shown():
    results = evaluate(metrics="accuracy")
    assert not results and repr(results).startswith("no records\nrefused: accuracy: ") and results.to_frame().empty
    assert "have no labels" in results._repr_html_()
    with pytest.raises(bench.BadValue, match="there are no records to draw; see `troubles`"):
        results.plot()


@pytest.mark.parametrize("smooth", [True, False])
def test_a_second_derivative_is_asked_for_where_there_is_one(smooth):
    network = bench.testing.tiny_network(smooth=smooth, dtype=torch.float32, shape=SHAPE)
    results = evaluate(network, metrics=["hessian_norm:draws=1", "kept_rate"])
    assert [record.metric for record in results] == ["hessian_norm:draws=1", "kept_rate"][not smooth :]
    assert smooth or "the second derivative of memory:content=" in results.troubles[0]


def test_references_are_what_an_attack_aims_at():
    options = {"attacks": "target_map:target=reference,steps=2,optimiser=sign"}
    (record,) = evaluate(make_curved(), references=make_images(9)[6:], **options)
    assert record.objective["before"] >= record.objective["after"]
    with pytest.raises(bench.CellFailed, match="needs training images, and there are none"):
        evaluate(make_curved(), **options)


def test_a_failure_keeps_the_finished_records():
    with pytest.raises(bench.CellFailed, match="has 4 classes; choose from class:0") as caught:
        evaluate(target=["predicted", "class:7"])
    assert isinstance(caught.value.records, bench.Results) and len(caught.value.records.to_frame()) == 1


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (lambda i: i * 255, r"images range from .* pass images in \[0, 1\] \(divide bytes by 255\)"),
        (lambda i: (i - 0.5) / 0.25, "leave normalisation to the network, as bench.Normalised does"),
        (lambda i: (i * 255).to(torch.uint8), r"images are in uint8; give floats in .* images.float\(\) / 255"),
        (lambda i: i[0], r"images have the shape \(3, 8, 8\), must be \(N, C, H, W\); for a single image, give images"),
        (lambda i: i[:0], r"images have the shape \(0, 3, 8, 8\), must be \(N, C, H, W\)$"),
        (lambda i: i.permute(0, 2, 3, 1), r"with channels last; give images.permute\(0, 3, 1, 2\)"),
        (lambda i: i.numpy(), r"images are of type ndarray; give a tensor .*, torch.from_numpy\(images\)"),
        (list, r"images are of type list; give a tensor \(N, C, H, W\) of .*, torch.stack\(images\)"),
        (lambda i: i.index_fill(0, torch.tensor(2), torch.nan), "image 2 of images contains NaN or infinity"),
    ],
)
def test_images_that_cannot_be_measured_are_told_in_a_line(images, text):
    with pytest.raises(bench.BadValue, match=text) as caught:
        evaluate(images=images(make_images()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0, 1], "labels are a list of 2, but there are 6 images"),
        (["cat"] * 6, "labels are a list of str, but there are 6 images"),
        (torch.zeros(6), r"labels are a tensor \(6,\) in float32, .* \(labels.long\(\)\)$"),
        (torch.zeros(6, 10), r"labels are a tensor \(6, 10\) in .* \(one-hot rows: labels.argmax\(1\)\)$"),
        ([0, 1, 2, 3, 4, 0], "labels range from 0 to 4, but the network has 4 classes; number them from 0 to 3"),
        (torch.zeros(5), r"labels are a tensor \(5,\) in float32, but there are 6 images; give a tensor \(6,\) in"),
    ],
)
def test_labels_that_do_not_fit_are_told_in_a_line(labels, text):
    with pytest.raises(bench.BadValue, match=text):
        evaluate(labels=labels)


class Sealed(nn.Module):
    def __deepcopy__(self, memo):
        raise RuntimeError("sealed")


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (lambda: torch.jit.script(make_linear().network), "the network is scripted"),
        (lambda: make_linear().to("meta"), r"the network lies on meta; load its weights, .* network.to\('cpu'\)"),
        (lambda: nn.Sequential(make_linear(), nn.Linear(4, 4, device="meta")), "the network lies on cpu and meta"),
        (lambda: torch.sigmoid, "the network is a builtin_function_or_method; pass a torch.nn.Module"),
        (lambda: nn.Conv2d(3, 2, 1), r"the network gives \(6, 2, 8, 8\) for 6 images; logits are \(6, classes\)"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 1)),
            r"the network gives one logit; .* torch.cat\(\[-logit",
        ),
        (lambda: nn.Sequential(make_linear(), nn.Threshold(9, torch.nan)), "logits of image 0 contain NaN or infinity"),
        (lambda: nn.Conv2d(1, 2, 1), r"the network fails on images \(6, 3, 8, 8\): Given groups=1"),
        (Sealed, r"the network cannot be copied \(sealed\)"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_networks_that_cannot_be_measured_are_told_in_a_line(network, text):
    with pytest.raises(bench.BadComponent, match=text) as caught:
        evaluate(network())
    assert "\n" not in str(caught.value)


def test_references_of_another_size_are_told_in_a_line():
    with pytest.raises(
        bench.BadValue, match=r"references are \(2, 3, 4, 4\), but images are \(6, 3, 8, 8\); give both"
    ):
        evaluate(references=torch.rand(2, 3, 4, 4))
    with pytest.raises(bench.BadValue, match="references are of type list; give a tensor"):
        evaluate(references=[1])


def test_a_network_in_training_mode_is_measured_in_eval_mode_and_told():
    network = nn.Sequential(make_linear(), nn.Dropout(0.9))
    with pytest.warns(UserWarning, match="the network is in training mode; a copy in eval mode is measured"):
        (record,) = evaluate(network.train())
    assert network.training and record.value == evaluate(network.eval())[0].value == 1


def test_a_network_that_gives_probabilities_is_told():
    with pytest.warns(UserWarning, match="the network gives probabilities, and the maps explain these; leave its last"):
        evaluate(nn.Sequential(make_linear(), nn.Softmax(1)).eval())


def test_one_reason_is_told_once():
    with pytest.raises(bench.CellFailed) as caught:
        evaluate(attacks=["uniform_noise", "sign_noise"], target="class:7")
    assert str(caught.value).count("the network has 4 classes") == 1 and " and 1 more: " in str(caught.value)


def test_a_network_that_does_not_normalise_is_told():
    network = make_linear().network
    with pytest.warns(UserWarning, match=r"layer gets the images as they are; .* pass bench.Normalised\(network,"):
        evaluate(network)
    evaluate(bench.Normalised(network, [0.0], [1.0]).eval())  # says that it needs none


def test_run_has_a_keyword_for_each_option():
    assert set(OPTIONS) <= set(inspect.signature(bench.run).parameters)


def test_the_maps_of_a_linear_network_are_its_weights():
    network, images = make_linear(), make_images(3)
    found = bench.explain(network, images, targets=[0, 3, 3], device="cpu")
    rows = network.network[1].weight.detach()[[0, 3, 3]].view(3, *SHAPE).abs().sum(1)
    assert_close(found.maps["gradient"], rows / rows.sum((1, 2), keepdim=True))
    assert not found.attacked_maps and not found.flags and found._repr_png_().startswith(b"\x89PNG")


def test_the_predicted_class_is_explained():
    network, images = make_linear(), make_images(3)
    named = bench.explain(network, images, names=NAMES, device="cpu")
    predicted = network(images).argmax(1).tolist()
    assert [example.explained for example in named.examples] == [NAMES[each] for each in predicted]
    by_class = bench.explain(network, images, targets=predicted, device="cpu")
    assert torch.equal(named.maps["gradient"], by_class.maps["gradient"])


def test_each_explainer_has_its_attacked_images_in_the_ball():
    network, images = make_curved(), make_images(2)
    attack = bench.component("attack", "topk:k=5,steps=2")
    found = bench.explain(network, images, ["gradient", "input_x_gradient"], attack, "4/255", device="cpu")
    assert list(found.maps) == list(found.attacked_maps) == ["gradient", "input_x_gradient"]
    for text, attacked in found.attacked_images.items():
        assert 0 < (attacked - images).abs().max() <= 4 / 255 + 1e-6
        explainer = bench.component("explainer", text)
        assert_close(found.attacked_maps[text], explainer.maps(network, attacked, network(images).argmax(1)))
    assert len(found.examples) == 4 and len(found.plot().axes) == 20
    assert repr(found) == "<maps of 2 images by gradient, input_x_gradient, attacked>"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"names": ["ant"]}, "names has 1, but the network has 4 classes; give one for each class"),
        ({"targets": 4}, "targets range from 4 to 4, but the network has 4 classes; number them from 0 to 3"),
        ({"targets": [0]}, "targets are a list of 1, but there are 6 images"),
        ({"attack": ["pgd", "topk"]}, "one attack, eps, norm and seed can be shown; call bench.explain once for each"),
    ],
)
def test_what_cannot_be_explained_is_told_in_a_line(options, text):
    with pytest.raises(bench.BadValue, match=text):
        bench.explain(make_linear(), make_images(), device="cpu", **options)


def test_data_are_the_images_of_a_run():
    images, labels, names = bench.data("shapes", samples=10)
    data = bench.component("dataset", "shapes").load("test")
    rows = data.choice(10)
    assert torch.equal(images, data.images[rows]) and torch.equal(labels, data.labels[rows]) and names == data.classes
    assert sorted(labels.tolist()) == list(range(10)) and len(bench.data("shapes").images) == 128
    with pytest.raises(bench.EnvironmentProblem, match="samples requested, but the split has"):
        bench.data("shapes", samples=10**6)
