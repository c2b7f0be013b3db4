"""A plugin whose components do what the environment says, in the place that it names; else they are honest."""

from __future__ import annotations

SOURCE = '''
import asyncio, contextlib, os, signal, sys, threading, time
from dataclasses import dataclass
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
import bench
from bench import noise
from bench.activations import softened
from bench.gradients import input_gradient

def strike(place, **names):
    if os.environ.get("FAULT_PLACE") == place:
        exec(os.environ["FAULT_CODE"], {**globals(), **names})

strike("import")

@dataclass(frozen=True)
class Struck(bench.Explainer):
    """The gradient, with a fault."""
    name = "struck"
    differentiable = True
    def attribute(self, network, images, targets):
        strike("attribute", network=network, images=images)
        return input_gradient(network, images, targets)

@dataclass(frozen=True)
class Learned(bench.Explainer):
    """The gradient, with a fault while it learns."""
    name = "struck_learned"
    def prepare(self, network, train_data, fit):
        strike("prepare", network=network, data=train_data, fit=fit)
        return {"scale": torch.ones(1)}
    def attribute(self, network, images, targets, prepared):
        return input_gradient(network, images, targets) * prepared["scale"]

@dataclass(frozen=True)
class StruckAttack(bench.Attack):
    """A step along a sign, with a fault."""
    name = "struck_attack"
    def perturb(self, victim, images, targets, ball):
        strike("perturb", network=victim.network, images=images, victim=victim)
        return ball.project(images + float(ball.eps), images)

@dataclass(frozen=True)
class StruckMetric(bench.Metric):
    """Mean pixel, with a fault."""
    name = "struck_metric"
    def __call__(self, network, test_data, images, clean_maps, train_data, explainer):
        strike("call", network=network, data=test_data, train=train_data, images=images, explainer=explainer)
        return images.flatten(1).mean(1)

@dataclass(frozen=True)
class StruckDefense(bench.Defense):
    """Cross-entropy, with a fault."""
    name = "struck_defense"
    def train(self, fit):
        strike("train", fit=fit, data=fit.data)
        return fit.minimise(fit.fresh(), lambda network, batch: F.cross_entropy(network(batch.images), batch.labels))

class Struck_(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layer = nn.Linear(shape[0] * shape[1] * shape[2], classes)
    def forward(self, images):
        strike("forward", network=self, images=images)
        return F.softplus(self.layer(images.flatten(1)))

@dataclass(frozen=True)
class StruckModel(bench.Model):
    """One layer, with a fault."""
    name = "struck_model"
    smooth = True
    def build(self, shape, classes):
        strike("build")
        return bench.Normalised(Struck_(shape, classes), [0.5] * shape[0], [0.25] * shape[0])

@dataclass(frozen=True)
class Refused(bench.Explainer):
    """The gradient, with a fault as it is asked whether it takes part."""
    name = "struck_refusal"
    def refuse(self, case):
        strike("refuse")
        return None
    def attribute(self, network, images, targets):
        return input_gradient(network, images, targets)

@bench.hookimpl
def bench_components():
    strike("components")
    return [Struck, Learned, StruckAttack, StruckMetric, StruckDefense, StruckModel, Refused]

@bench.hookimpl
def bench_recorded(record):
    strike("recorded", record=record)
'''

# Options that have the component of a place take part, before the honest ones.
OPTIONS = {
    "attribute": {"explainer": ["struck", "gradient"]},
    "prepare": {"explainer": ["struck_learned", "gradient"]},
    "perturb": {"attack": ["struck_attack", "topk:k=5,steps=2"]},
    "call": {"metric": ["struck_metric", "topk_overlap:k=5", "accuracy"]},
    "train": {"defense": ["struck_defense", "ce"]},
    "forward": {"model": ["struck_model", "lenet"]},
    "build": {"model": ["struck_model", "lenet"]},
    "refuse": {"explainer": ["struck_refusal", "gradient"]},
    "recorded": {},
    "import": {},
    "components": {},
}
HONEST = {
    "explainer": ["gradient"],
    "attack": ["topk:k=5,steps=2"],
    "metric": ["topk_overlap:k=5", "accuracy"],
    "defense": ["ce"],
    "model": ["lenet"],
    "samples": ["6"],
}

LAYER = "m = next(m for m in network.modules() if hasattr(m, 'weight'))"

NETWORK = {  # faults that need a network
    "a weight": "next(network.parameters()).data.add_(1)",
    "a weight under no_grad": "with torch.no_grad(): next(network.parameters()).mul_(2)",
    "a weight through numpy": "next(network.parameters()).detach().numpy()[:] = 0",
    "another weight": f"{LAYER}; m.weight = nn.Parameter(m.weight * 2)",
    "weights loaded": "network.load_state_dict({n: t * 2 for n, t in network.state_dict().items()})",
    "a buffer": "[b.add_(1) for b in network.buffers()]",
    "a new buffer": "network.register_buffer('more', torch.ones(1))",
    "forward": "old = network.forward; network.forward = lambda images: -old(images)",
    "a layer": "setattr(network, next(n for n, _ in network.named_children()), nn.Flatten())",
    "a class": f"{LAYER}; m.__class__ = type('Other', (type(m),), {{'forward': lambda s, x: x * 0}})",
    "a hook": "network.register_forward_hook(lambda m, i, o: -o)",
    "a hook before": "network.register_forward_pre_hook(lambda m, i: (i[0] * 0,))",
    "a hook backward": "network.register_full_backward_hook(lambda m, i, o: tuple(g * 0 for g in i))",
    "a hook of a layer": "list(network.modules())[-1].register_forward_hook(lambda m, i, o: o * 0)",
    "train mode": "network.train()",
    "attributes of a layer": f"{LAYER}; m.stride, m.bias = (2, 2), None",
    "a parametrisation": (
        f"import torch.nn.utils.parametrize as P; {LAYER}; P.register_parametrization(m, 'weight', nn.ReLU())"
    ),
    "pruning": f"import torch.nn.utils.prune as P; {LAYER}; P.random_unstructured(m, 'weight', 0.5)",
    "double precision": "network.double()",
}
SETTINGS = {
    "default dtype": "torch.set_default_dtype(torch.float64)",
    "default device": "torch.set_default_device('meta')",
    "a device entered": "torch.device('meta').__enter__()",
    "autocast": "torch.set_autocast_enabled('cpu', True)",
    "autocast entered": "torch.autocast('cpu', torch.bfloat16).__enter__()",
    "autocast dtype": "torch.set_autocast_dtype('cpu', torch.float16)",
    "mkldnn": "torch.backends.mkldnn.set_flags(False)",
    "grad mode off": "torch.set_grad_enabled(False) if torch.is_grad_enabled() else torch.set_grad_enabled(True)",
    "no_grad entered": "torch.no_grad().__enter__()",
    "inference mode": "c = torch.inference_mode(); c.__enter__(); sys.kept = c",
    "a hook of all modules": "nn.modules.module.register_module_forward_hook(lambda m, i, o: o * 2)",
    "hooks of saved tensors": "torch.autograd.graph.saved_tensors_hooks(lambda t: t * 0, lambda t: t).__enter__()",
    "threads": "torch.set_num_threads(3)",
    "denormals": "torch.set_flush_denormal(True)",
    "anomalies": "torch.autograd.set_detect_anomaly(True)",
    "determinism": "torch.use_deterministic_algorithms(True, warn_only=True)",
    "a mode": (
        "from torch.overrides import TorchFunctionMode\n"
        "class Twice(TorchFunctionMode):\n"
        "    def __torch_function__(self, f, t, a=(), k=None):\n"
        "        out = f(*a, **(k or {}))\n"
        "        return out * 2 if f is F.softplus else out\n"
        "Twice().__enter__()"
    ),
    "noise": "noise.rows(5, 'mine', range(6)).__enter__()",
    "softened": "softened(1.0).__enter__()",
    "errors of numpy": "np.seterr(all='raise')",
    "the folder": "os.chdir('/')",
    "the data folder": "os.environ['BENCH_DATA_DIR'] = '/'",
    "seeds": "torch.manual_seed(0); np.random.seed(0)",
    "exit": "sys.exit(0)",
    "generator": "raise GeneratorExit",
    "cancelled": "raise asyncio.CancelledError",
    "own base": "class Mine(BaseException): pass\nraise Mine('over')",
    "stdout": "sys.stdout.write('hello'); sys.__stdout__.write('hello')",
}
DATA = {  # faults that need data
    "images": "data.images[:] = 0",
    "images through numpy": "data.images.numpy()[:] = 0.5",
    "labels": "data.labels[:] = 0",
    "labels shuffled": "data.labels.copy_(data.labels.flip(0))",
    "images by .data": "data.images.data.mul_(0.5)",
}
LIBRARY = {  # what cannot be put back
    "softplus": "F.softplus = lambda *a, **k: a[0]",
    "argmax": "torch.argmax = lambda *a, **k: a[0]",
    "argmax of tensors": "torch.Tensor.argmax = lambda *a, **k: torch.zeros(len(a[0]), dtype=torch.int64)",
    "conv2d": "old = F.conv2d; F.conv2d = lambda *a, **k: old(*a, **k) * 2",
    "forward of a class": "nn.Conv2d.forward = lambda self, x: x",
    "call of modules": "nn.Module.__call__ = lambda self, *a: a[0]",
    "a call before an inherited one": "nn.Linear.__call__ = lambda self, x: x",
    "noise": "noise.uniform = lambda like, *a: torch.zeros_like(like)",
    "maps": "import bench.maps; bench.maps.reduce = lambda a: a.abs().sum(1)",
    "another explainer": (
        "import bench_explainers.gradient as g; g.Gradient.attribute = lambda self, n, i, t, normalisation=None: i"
    ),
    "a flag of another explainer": "import bench_explainers.gradient as g; g.Gradient.differentiable = False",
    "a constant": "import bench.gradients; bench.gradients.CHUNK = {'cpu': 1}",
    "code": "noise.mix.__code__ = (lambda state: state).__code__",
    "defaults": "noise.uniform.__defaults__ = (0.0, 9.0)",
    "a builtin": "import builtins; builtins.sorted = lambda *a, **k: list(a[0])",
}
