"""What metrics cost beside other libraries and bare loops: LeNet on 64 CIFAR-sized images, two threads.

python benchmarks/measuring.py

Quantus flips elements and takes one direction at a time; its run is twice PixelFlipping, of 24 steps against 21 levels.
"""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import torch
from interleaved import interleaved, report
from scipy import stats
from skimage.metrics import structural_similarity

import bench
from bench import noise
from bench.gradients import input_gradient

IMAGES, MAPS, DRAWS = 64, 256, 10


def curves() -> dict[str, object]:
    with warnings.catch_warnings(action="ignore"):
        import quantus
    data = bench.component("dataset", "shapes").load("test").at(torch.arange(IMAGES))
    torch.manual_seed(0)
    network = bench.component("model", "lenet").build(data.shape, 10).eval().requires_grad_(False)
    given = {"network": network, "images": data.images, "targets": data.labels}
    attributions = input_gradient(network, data.images, data.labels).detach()
    metrics = [bench.component("metric", name) for name in ("insertion", "deletion")]
    quiet = {"abs": False, "normalise": False, "display_progressbar": False, "disable_warnings": True}
    flipping = quantus.PixelFlipping(features_in_step=128, perturb_baseline=0.0, **quiet)  # must divide 1024

    def ours() -> None:
        for metric in metrics:
            metric(**given, clean_attributions=attributions)

    def bare() -> None:
        mean, _ = bench.normalisation(network)
        with torch.no_grad():
            for away in (False, True):
                for part in range(0, IMAGES, 32):
                    rows = slice(part, part + 32)
                    order = attributions[rows].abs().sum(1).flatten(1).argsort(dim=1, descending=True, stable=True)
                    rank = order.argsort(dim=1).view(-1, 1, 32, 32)
                    for level in range(21):
                        shown = torch.where((rank < 1024 * level // 20) ^ away, data.images[rows], mean)
                        network(shown).softmax(1).gather(1, data.labels[rows][:, None])

    def theirs() -> None:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            for sign in (1, -1):
                flipping(
                    network,
                    data.images.numpy(),
                    data.labels.numpy(),
                    sign * attributions.numpy(),
                    softmax=True,
                    device="cpu",
                    batch_size=IMAGES,
                )

    return {"bare loop": bare, "insertion + deletion": ours, "Quantus, twice": theirs}


def similarities(name: str, count: int = MAPS, device: str | torch.device = "cpu") -> dict[str, object]:
    both = torch.rand(2, count, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    metric = bench.component("metric", name)
    (a, b), (first, second) = both.numpy(), both.to(device)

    def theirs() -> None:
        for x, y in zip(a, b, strict=True):
            if name == "spearman":
                stats.spearmanr(x.ravel(), y.ravel())
            else:
                structural_similarity(
                    x,
                    y,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                    data_range=np.ptp(np.stack([x, y])),
                )

    return {"their loop": theirs, name: lambda: metric(clean_maps=first, attacked_maps=second)}


def rps() -> dict[str, object]:
    data = bench.component("dataset", "shapes").load("test").at(torch.arange(IMAGES))
    torch.manual_seed(0)
    network = bench.component("model", "lenet").build(data.shape, 10).eval().requires_grad_(False)
    explainer, metric = bench.component("explainer", "gradient"), bench.component("metric", f"rps:draws={DRAWS}")

    def explain(network: torch.nn.Module, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        def maps(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return explainer.maps(network, images, targets)

        return bench.chunked(maps, images, targets, seed=0, name="explain", indices=data.indices)

    def gradients(count: int) -> None:
        for _ in range(count):
            for part in range(0, IMAGES, 64):
                input_gradient(network, data.images[part : part + 64], data.labels[part : part + 64])

    def whole() -> None:
        with torch.no_grad():
            clean = explain(network, data.images, data.labels)
            metric(
                network=network,
                explain=explain,
                images=data.images,
                targets=data.labels,
                clean_maps=clean,
                seed=0,
                test_data=data,
            )

    def bare() -> None:
        with torch.no_grad(), noise.rows(0, "bare", data.indices):
            gradients(1 + DRAWS)

    return {f"{1 + DRAWS} gradients": bare, "map and rps": whole}


if __name__ == "__main__":
    torch.set_num_threads(2)
    for work in (curves(), similarities("spearman"), similarities("ssim"), rps()):
        print(report(interleaved(work), next(iter(work))), end="\n\n")
