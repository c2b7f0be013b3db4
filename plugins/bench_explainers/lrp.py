"""Layer-wise relevance propagation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import bench
from bench.activations import INSIDE, KINKED, Call
from bench_explainers.attention import APART
from bench_explainers.relevance import Flow, Rule
from bench_explainers.rules import bilinear, box, epsilon, pass_on, share_mean, softmax, split_product, split_sum, zplus

SMOOTH = ("softplus", "silu", "gelu", "elu", "celu", "selu", "mish", "tanh", "hardswish", "sigmoid")
ACTIVATIONS = frozenset({*KINKED, *INSIDE, *SMOOTH})
# Functions that move or select numbers: their gradient carries relevance to the right place.
MOVES = frozenset(
    {
        "adaptive_max_pool2d", "cat", "chunk", "clamp", "clip", "clone", "concat", "contiguous", "dropout",
        "dropout2d", "expand", "feature_dropout", "flatten", "flip", "getitem", "index_select", "max_pool2d",
        "narrow", "pad", "permute", "repeat_interleave", "reshape", "roll", "select", "split", "squeeze", "stack",
        "swapaxes", "to", "transpose", "unbind", "unflatten", "unsqueeze", "view",
    }
)  # fmt: skip
MEANS = frozenset({"adaptive_avg_pool2d", "avg_pool2d", "mean", "sum"})
ARITHMETIC = frozenset({"add", "radd", "sub", "rsub", "mul", "rmul", "div", "truediv", "true_divide"})
MATRIX_PRODUCTS = frozenset({"matmul", "rmatmul", "bmm", "mm"})
NORMS = frozenset({"layer_norm", "rms_norm", "group_norm", "instance_norm", "normalize"})
IN_PLACE = frozenset({"add_", "sub_", "mul_", "div_"})


@dataclass(frozen=True)
class LRP(bench.Explainer):
    """Propagate relevance from the target's logit to the pixels, layer by layer (Bach et al., PLOS ONE 2015; Montavon
    et al., Pattern Recognition 2017). The logit has a relevance of one, and each layer splits it in proportion to what
    each input adds. Convolutions and linear layers follow z+ with the signs of the inputs (alpha 1, beta 0). A layer
    that sees the image follows z^B, with black and white as bounds. Activations pass on what they get, max-pooling
    passes it to the winner, means split it in proportion.

    Batch norm is folded into the convolution before it, as zennit's canonizers do. A sum of two branches is split in
    proportion to their positive parts, so relevance is conserved where all z+ are positive and involve no bias.
    bias=drop is the rule as Joo et al. print it, where a bias takes no relevance; their code and zennit keep it.
    "signed" splits a sum as zennit's Norm does, o / (o + s), which has poles on softplus networks. dense=epsilon uses
    the epsilon rule in linear layers, as zennit's composites do. "released" is what RobustAGA (Joo et al., 2023) does
    on CIFAR-10's ResNet: z+ at the image too, and batch norm skipped.

    Attention and gates follow AttnLRP (Achtibat et al., ICML 2024). A product of matrices gives each factor half, in
    proportion to the summands (Prop. 3.3), and a product of numbers half to each (Prop. 3.2). The softmax follows its
    Taylor expansion, R_i = x_i (R_i - s_i sum_j R_j) (Prop. 3.1), whose bias keeps a part of the relevance. Norms of
    layers pass on what they get (Prop. 3.4); the authors' code splits their subtraction of the mean by the epsilon
    rule. A network with one of these has its sums of branches and its means split in proportion to absolute values:
    mostly no ReLU follows there, and a sum of negative numbers has no positive part. "dense=epsilon,residual=signed"
    is closest to the paper's language models. Its vision transformers have gamma rules, which this component lacks.
    The cost is one forward pass and one backward pass, in which each layer is computed once or twice again.
    """

    name = "lrp"
    differentiable = True
    selective = True
    paper = bench.Paper(
        "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation",
        "Sebastian Bach and Alexander Binder and Grégoire Montavon and Frederick Klauschen and Klaus-Robert Müller "
        "and Wojciech Samek",
        "PLOS ONE",
        2015,
        "https://doi.org/10.1371/journal.pone.0130140",
    )
    presets: ClassVar[dict[str, str]] = {"released": "first=zplus,batch_norm=pass"}
    examples = ("", "residual=signed,dense=epsilon", "released", "bias=drop")
    first: Literal["box", "zplus"] = bench.param("box", "rule of a layer that sees the image: z^B, or z+ as elsewhere")
    dense: Literal["zplus", "epsilon"] = bench.param("zplus", "rule of linear layers after the first")
    residual: Literal["positive", "signed"] = bench.param(
        "positive", "parts in proportion to which a sum of branches is split"
    )
    batch_norm: Literal["fold", "pass"] = bench.param(
        "fold", "whether to fold it into the convolution before it, or to skip it"
    )

    bias: Literal["keep", "drop"] = bench.param(
        "keep", "whether z+ has the positive part of the bias in its denominator", added=True
    )

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return Layers(self).relevance(network, images, targets)


@dataclass
class Known:
    """What is known about a tensor that depends on the images.

    `bounds`: those of its numbers, where only constants come between it and the images. `layer`: the layer that made
    it, as a name, a function of (input, weight, bias), and these three.
    """

    tensor: Tensor
    bounds: tuple[Tensor, Tensor] | None = None
    layer: tuple[str, Callable[..., Tensor], Tensor, Tensor, Tensor | None] | None = None


class Layers(Flow):
    """Give its rule to every function that a network calls on tensors that depend on the images."""

    names = ACTIVATIONS

    def __init__(self, method: LRP, of_softmax: Callable[[int], Rule] = softmax, of_sum: Rule | None = None) -> None:
        super().__init__()
        self.method = method
        self.known: dict[int, Known] = {}
        self.signed: set[str] = set()  # functions that networks call in which no ReLU follows a sum
        self.of_softmax, self.of_sum = of_softmax, of_sum or split_sum(method.residual, self.signed)

    def begin(self, images: Tensor) -> Tensor:
        self.known[id(images)] = Known(images, (torch.zeros_like(images), torch.ones_like(images)))
        return images

    def end(self, logits: Tensor) -> Tensor:
        if isinstance(logits, Tensor) and id(logits) not in self.known:
            raise no_rule("an autograd.Function of its own, or writing into a part of a tensor")
        return logits

    def replaces(self, call: Call) -> bool:
        # Before the first layer, a clamp cuts pixels to their range.
        known = self.known.get(id(call.given))
        return super().replaces(call) and (known is None or known.bounds is None)

    def replace(self, name: str, given: Tensor, options: dict[str, Any], plain: Callable[[Tensor], Tensor]) -> Tensor:
        return self.route(pass_on, plain(given), given)

    def finish(self, output: Tensor) -> Tensor:
        return self._note(output)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        # Without a graph, nothing is propagated: constants, and the inside of an autograd.Function.
        if not torch.is_grad_enabled() or not any(id(t) in self.known for t in tensors((args, named or {}))):
            return func(*args, **(named or {}))
        return super().__torch_function__(func, types, args, named)

    def call(self, func: Any, args: Any, named: Any) -> Any:
        name = getattr(func, "__name__", "").strip("_")
        if name in ("conv2d", "linear"):
            return self._layer(name, func, args, named)
        if name == "batch_norm":
            return self._batch_norm(func, args, named)
        if name in ARITHMETIC:
            return self._arithmetic(name, func, args, named)
        if name in MEANS:
            return self._mean(func, args, named)
        if name in APART:
            with self:
                return APART[name](*args, **named)
        if name in MATRIX_PRODUCTS:
            return self._matrix_product(name, func, args, named)
        if name in NORMS or name == "softmax":
            self.signed.add(name)
            given = args[0] if args else named["input"]
            rule = pass_on if name in NORMS else self.of_softmax(args[1] if len(args) > 1 else named["dim"])
            return self._note(self.route(rule, func(*args, **named), given))
        result = func(*args, **named)
        outputs = [t for t in tensors(result) if t.is_floating_point() and t.requires_grad]
        if outputs and name not in MOVES:
            raise no_rule(name)
        known = [self.known[id(t)] for t in tensors((args, named)) if id(t) in self.known]
        for output in outputs:
            if id(output) not in self.known:  # dropout may return its input
                self._note(output)
        if len(outputs) == 1 and all(k.bounds for k in known):
            self._note(outputs[0], bounds=self._ends(func, args, named))
        return result

    def _ends(self, func: Any, args: Any, named: Any) -> tuple[Tensor, Tensor]:
        """Return the bounds of a function's value. It is monotone in each number that depends on the images."""

        def value(end: int) -> Tensor:
            def at(tensor: Tensor) -> Tensor:
                known = self.known.get(id(tensor))
                return tensor if known is None or known.bounds is None else known.bounds[end]

            return func(*replace_tensors(args, at), **replace_tensors(named, at))

        ends = value(0), value(1)
        return torch.minimum(*ends), torch.maximum(*ends)

    def _note(self, tensor: Tensor, **facts: Any) -> Tensor:
        self.known[id(tensor)] = Known(tensor, **facts)
        return tensor

    def _layer(self, name: str, func: Any, args: Any, named: Any) -> Tensor:
        options = dict(zip(("input", "weight", "bias"), args, strict=False)) | named
        given, weight, bias = options["input"], options["weight"], options.get("bias")
        if id(weight) in self.known:
            raise no_rule(f"{name} with weights that depend on the image")
        more = {key: value for key, value in named.items() if key not in ("input", "weight", "bias")}

        def function(given: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return func(given, weight, bias, *args[3:], **more)

        output = func(*args, **named)
        return self._apply_rule(name, function, given, weight, bias, output)

    def _apply_rule(
        self,
        name: str,
        function: Callable[..., Tensor],
        given: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        output: Tensor,
    ) -> Tensor:
        bounds = self.known[id(given)].bounds
        if bounds and self.method.first == "box":
            rule = box(function, weight, bias, bounds)
        elif name == "linear" and self.method.dense == "epsilon":
            rule = epsilon(function, weight, bias)
        else:
            rule = zplus(function, weight, bias if self.method.bias == "keep" else None)
        return self._note(self.route(rule, output, given), layer=(name, function, given, weight, bias))

    def _batch_norm(self, func: Any, args: Any, named: Any) -> Tensor:
        moments, affine = ("running_mean", "running_var"), ("weight", "bias")
        # torch and torch.nn.functional take them in different orders.
        middle = affine + moments if func is torch.batch_norm else moments + affine
        order = ("input", *middle, "training", "momentum", "eps")
        options = dict(zip(order, args, strict=False)) | named
        given, output = options["input"], func(*args, **named)
        known = self.known[id(given)]
        if self.method.batch_norm == "pass" or known.layer is None:
            bounds = self._ends(func, args, named) if known.bounds and not options.get("training") else None
            return self._note(self.route(pass_on, output, given), bounds=bounds)
        if options.get("training"):
            raise no_rule("batch_norm with the statistics of the batch")
        name, function, before, weight, bias = known.layer
        scale = (options["running_var"] + options.get("eps", 1e-5)).rsqrt()
        scale = scale if options.get("weight") is None else scale * options["weight"]
        shift = -options["running_mean"] if bias is None else bias - options["running_mean"]
        shift = shift * scale if options.get("bias") is None else shift * scale + options["bias"]
        folded = weight * scale.view(-1, *(1 for _ in weight.shape[1:]))
        return self._apply_rule(name, function, before, folded, shift, output)

    def _arithmetic(self, name: str, func: Any, args: Any, named: Any) -> Tensor:
        overwritten = args[0] if func.__name__ in IN_PLACE else None
        if overwritten is not None:  # on copies, because the rule needs the earlier values
            args = (overwritten.clone(), *args[1:])
            if id(overwritten) in self.known:
                self.known[id(args[0])] = dataclasses.replace(self.known[id(overwritten)], tensor=args[0])

        def value(first: Any, *rest: Any) -> Tensor:
            return func(first if overwritten is None else first.clone(), *rest, **named)

        operands = [a for a in args if isinstance(a, Tensor) and id(a) in self.known]
        bounds = None
        rule: Rule = pass_on
        if len(operands) == 1:  # combined with a constant, as in a normalisation
            limits = self.known[id(operands[0])].bounds
            if limits:
                ends = [value(*(limit if a is operands[0] else a for a in args)) for limit in limits]
                bounds = torch.minimum(*ends), torch.maximum(*ends)
        elif len(operands) == 2 and name in ("add", "radd") and named.get("alpha", 1) == 1:
            rule = self.of_sum
        elif len(operands) == 2 and name in ("mul", "rmul"):
            self.signed.add(name)
            rule = split_product
        else:
            raise no_rule(f"{name} of two parts")
        output = self.route(rule, value(*args), *operands)
        return self._note(output if overwritten is None else overwritten.copy_(output), bounds=bounds)

    def _mean(self, func: Any, args: Any, named: Any) -> Tensor:
        given = args[0] if args else named["input"]
        rest = {key: value for key, value in named.items() if key != "input"}
        rule = share_mean(lambda x: func(x, *args[1:], **rest), self.signed)
        return self._note(self.route(rule, func(*args, **named), given))

    def _matrix_product(self, name: str, func: Any, args: Any, named: Any) -> Tensor:
        factors: list[Tensor] = [*args, *named.values()]
        first, second = factors
        output = func(first, second)
        if id(first) not in self.known:
            return self._apply_rule("linear", lambda x, weight, bias: func(weight, x), second, first, None, output)
        if id(second) not in self.known:
            return self._apply_rule("linear", lambda x, weight, bias: func(x, weight), first, second, None, output)
        self.signed.add(name)
        return self._note(self.route(bilinear(func), output, first, second))


def no_rule(what: str) -> bench.BadComponent:
    return bench.BadComponent(f"lrp has no rule for {what}, which the network calls; use another explainer")


def tensors(result: Any) -> Iterator[Tensor]:
    """Yield all tensors among the arguments or the results of a function."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, tuple | list):
        for part in result:
            yield from tensors(part)
    elif isinstance(result, dict):
        yield from tensors(tuple(result.values()))


def replace_tensors(given: Any, by: Callable[[Tensor], Tensor]) -> Any:
    """Replace the tensors among the arguments of a function."""
    if isinstance(given, Tensor):
        return by(given)
    if isinstance(given, tuple | list):
        parts = [replace_tensors(part, by) for part in given]
        return parts if isinstance(given, list) else tuple(parts)
    if isinstance(given, dict):
        return {name: replace_tensors(part, by) for name, part in given.items()}
    return given
