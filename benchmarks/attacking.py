"""What explaining and attacking cost beside the passes that they cannot do without; two threads.

python benchmarks/attacking.py

Forward passes of LeNet with softplus on 64 images: a step of `topk` on `gradient`, plain double backward, a gradient;
and, with ReLU, a step, which adds a gradient and a forward of the network itself.
Beside a bare chunked loop, on ResNet-20: `smoothgrad` of 50 samples, and captum's NoiseTunnel. Time and peak memory of
an attack through `smoothgrad` of 16 and of 64 samples, each in a process of its own.
Through every explainer that can be differentiated, on LeNet: the map and a step of `topk`, in forwards, and the step in
maps. The floor is 3 maps where the map is gradients: the map with its graph, and a backward of twice that. All steps of
`standard` in forwards.
"""

from __future__ import annotations

import functools
import resource
import statistics
import subprocess
import sys
import time
import warnings
from fractions import Fraction

import torch
from interleaved import interleaved, report
from tabulate import tabulate

import bench
from bench.components.base import parameters
from bench.engine.catalog import installed

STEPS, SAMPLES = 50, 50
BALL = bench.Ball("linf", Fraction(8, 255))
SMALL = bench.Ball("linf", Fraction(1, 1020))  # in which `standard` is done with no image early


def built(
    model: str, count: int, device: str | torch.device = "cpu"
) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    network = bench.component("model", model).build((3, 32, 32), 10).eval().requires_grad_(False).to(device)
    return network, torch.rand(count, 3, 32, 32).to(device), torch.arange(count).to(device) % 10


def attack(
    network: torch.nn.Module,
    explainer: str,
    text: str,
    images: torch.Tensor,
    targets: torch.Tensor,
    ball: bench.Ball = BALL,
) -> None:
    victim = bench.Victim(network, bench.component("explainer", explainer))
    bench.component("attack", text).perturb(victim, images, targets, ball)


def passes(model: str, count: int = 64, steps: int = STEPS, device: str | torch.device = "cpu") -> dict[str, object]:
    network, images, targets = built(model, count, device)

    def forward() -> None:
        with torch.no_grad():
            for _ in range(steps):
                network(images)

    def gradient() -> None:
        with torch.no_grad():
            for _ in range(steps):
                bench.gradients.input_gradient(network, images, targets)

    def twice() -> None:
        for _ in range(steps):
            leaf = images.clone().requires_grad_()
            logits = network(leaf).gather(1, targets[:, None]).sum()
            (found,) = torch.autograd.grad(logits, leaf, create_graph=True)
            torch.autograd.grad(found.abs().sum(), leaf)

    return {
        "forward": forward,
        "gradient": gradient,
        "double backward": twice,
        "topk": lambda: attack(network, "gradient", f"topk:steps={steps}", images, targets),
    }


def averages() -> dict[str, object]:
    import captum.attr

    network, images, targets = built("resnet20", 16)
    size = max(1, bench.gradients.CHUNK["cpu"] // images.numel())
    theirs = captum.attr.NoiseTunnel(captum.attr.Saliency(network))

    def bare() -> None:
        found = torch.zeros_like(images)
        for start in range(0, SAMPLES, size):
            count = min(size, SAMPLES - start)
            copies = images.repeat_interleave(count, 0)
            leaf = (copies + 0.1 * torch.randn_like(copies)).requires_grad_()
            logits = network(leaf).gather(1, targets.repeat_interleave(count)[:, None]).sum()
            (gradient,) = torch.autograd.grad(logits, leaf)
            found += gradient.view(len(images), count, *images.shape[1:]).sum(1)

    def ours() -> None:
        with torch.no_grad():
            bench.component("explainer", f"smoothgrad:samples={SAMPLES}").attribute(network, images, targets)

    def captums() -> None:
        with warnings.catch_warnings(action="ignore"):
            theirs.attribute(
                images.clone().requires_grad_(),
                target=targets,
                abs=False,
                nt_samples=SAMPLES,
                nt_samples_batch_size=size,
                stdevs=0.1,
            )

    return {"bare loop": bare, "smoothgrad": ours, "captum": captums}


def steps(steps: int = 4, count: int = 16) -> str:
    """A table of what a step of an attack through each explainer costs, and `standard` in its own line."""
    network, images, _ = built("lenet", count)
    with torch.no_grad():
        targets = network(images).argmax(1)  # what an attack has to keep

    def forward() -> None:
        with torch.no_grad():
            for _ in range(50):
                network(images)

    rows = []
    for name, cls in sorted(installed().of("explainer").items()):
        few = [f"{parameter}=4" for parameter in ("samples", "steps", "average") if parameter in parameters(cls)]
        text = f"{name}:{','.join(few)}" if few else name
        explainer = bench.component("explainer", text)
        if not explainer.differentiable or explainer.needs or cls.prepare is not bench.Explainer.prepare:
            continue
        times = interleaved(
            {
                "forward": forward,
                "map": functools.partial(explain, network, explainer, images, targets),
                "one": functools.partial(attack, network, text, "topk:steps=1", images, targets),
                "more": functools.partial(attack, network, text, f"topk:steps={steps + 1}", images, targets),
            },
            rounds=2,
        )
        forwards, maps, one, more = (statistics.median(seconds) for seconds in times.values())
        step = (more - one) / steps
        rows.append([text, f"{maps / forwards * 50:.1f}", f"{step / forwards * 50:.1f}", f"{step / maps:.1f}"])
    whole = {
        text: functools.partial(attack, network, "gradient", text, images, targets, SMALL)
        for text in ("standard:size=quick", "standard")
    }
    times = interleaved({"forward": forward, **whole}, rounds=1)
    for text in whole:
        ratio = times[text][0] / times["forward"][0] * 50
        rows.append([f"gradient, all steps of {text}", "", f"{ratio:.0f}", ""])
    return tabulate(rows, ["explainer", "map in forwards", "step in forwards", "step in maps"], disable_numparse=True)


def explain(
    network: torch.nn.Module, explainer: bench.Explainer, images: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    with torch.no_grad():
        return explainer.attribute(network, images, targets)


def through(samples: int) -> None:
    """Print seconds and MiB of peak memory beyond what was there before."""
    network, images, targets = built("resnet20", 8)
    attack(network, "smoothgrad:samples=2", "topk:steps=1", images, targets)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    attack(network, f"smoothgrad:samples={samples}", "topk:steps=3", images, targets)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{samples} samples: {time.perf_counter() - start:.1f} s, {before / 1024:.0f} to {peak / 1024:.0f} MiB")


if __name__ == "__main__":
    torch.set_num_threads(2)
    if len(sys.argv) > 1:
        through(int(sys.argv[1]))
    else:
        for model in ("lenet", "lenet:activation=relu"):
            print(report(interleaved(passes(model)), "forward"))
        print(report(interleaved(averages()), "bare loop"))
        print(steps())
        for samples in (16, 64):
            subprocess.run([sys.executable, __file__, str(samples)], check=True)
