"""The card of a network: what it is, what was measured of it, and how to load it in plain torch."""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from bench.boards import Record
from bench.zoo import Network

FIGURES = ("metric", "explainer", "attack", "budget", "value", "95% interval", "images")


def write_card(entry: Network, network: nn.Module, records: Sequence[Record]) -> str:
    """The card of a network as Markdown. `records` are what was measured of it."""
    channels, height, width = entry.shape
    commits = sorted({str(record.provenance.get("commit")) for record in records if record.provenance.get("commit")})
    shared = ", beside others on one device" if any(phase.get("shared") for phase in entry.cost) else ""
    rows = [
        *((axis, f"`{text}`") for axis, text in entry.axes.items()),
        ("key", f"`{entry.key}`"),
        ("file", f"`{entry.file}`, {entry.bytes} bytes, sha256 `{entry.sha256}`"),
        ("licence", entry.licence or "none was given: ask whoever trained it"),
        ("training", f"{sum(phase['seconds'] for phase in entry.cost):.0f} s{shared}"),
        ("commit", ", ".join(commits) or "not known"),
    ]
    code = write_code(network, entry.file)
    plain = f"In plain torch:\n\n```python\n{code}```\n" if code else "Plain torch has no short form of this network.\n"
    return f"""\
# {_escape(entry.name.removeprefix("/"))}

A network that maps images in [0, 1], (B, {channels}, {height}, {width}), to logits, (B, {entry.classes}).
It normalises inside.

{_table(("", ""), rows)}

## Results

{_table(FIGURES, map(_figures, records)) if records else "There were no records of it."}

## Recipe

```sh
{entry.command}
```

The weights are the value of this spec, and the key is the beginning of its sha256:

```
{entry.spec}
```

## Loading it

{plain}
With the suite, `bench.load_model(NAME)` loads it where an index has it (`bench zoo list`).
"""


def _figures(record: Record) -> tuple[str, ...]:
    value = "undefined" if record.value is None else f"{record.value:.3f}"
    interval = "" if record.ci95 is None else "[{:.3f}, {:.3f}]".format(*record.ci95)
    axes = (_escape(record.axes.get(axis, "")) for axis in ("explainer", "attack", "ball"))
    return (_escape(record.metric), *axes, f"{value}{record.unit and ' '}{record.unit}", interval, str(record.n))


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)


class _Tracer(fx.Tracer):
    """Keeps softplus as a layer: the suite's is torch's, computed faster."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Softplus) or super().is_leaf_module(module, name)


def write_code(network: nn.Module, file: str) -> str | None:
    """Python code that needs torch and safetensors alone, and loads a network's weights from a file. None for a network
    that fx cannot trace, or that uses more than torch."""
    try:
        graph = _Tracer().trace(network)
    except Exception:  # of any kind: control flow, functions of other libraries, shapes as numbers
        return None
    for node in graph.nodes:
        node.type = None
    traced = graph.python_code("self")
    names = {node.id for node in ast.walk(ast.parse(traced.src)) if isinstance(node, ast.Name)}
    layers = {node.target: network.get_submodule(node.target) for node in graph.nodes if node.op == "call_module"}
    tensors = {n: tensor for n, tensor in network.state_dict().items() if n.rpartition(".")[0] not in layers}
    if (
        names & set(traced.globals) - {"torch", *dir(builtins)}
        or any(node.target not in tensors for node in graph.nodes if node.op == "get_attr")
        or any(any(layer.children()) for layer in layers.values())
    ):
        return None
    parts = [
        (name, f"nn.{layers[name]}" if name in layers else "nn.Module()")
        for name, _ in network.named_modules()
        if name in layers or any(inner.startswith(f"{name}.") for inner in (*layers, *tensors))
    ]
    listed = "".join(f"    {name!r}: {made},\n" for name, made in parts)
    sizes = "".join(f"    {name!r}: {tuple(tensor.shape)},\n" for name, tensor in tensors.items())
    forward = textwrap.indent(re.sub(r";  (\w+ = )+None", "", traced.src).strip(), "    ")
    return f"""\
import torch
from safetensors.torch import load_file
from torch import nn

LAYERS = {{
{listed}}}
TENSORS = {{
{sizes}}}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        for name, layer in LAYERS.items():
            parent, _, own = name.rpartition(".")
            self.get_submodule(parent).add_module(own, layer)
        for name, shape in TENSORS.items():
            parent, _, own = name.rpartition(".")
            self.get_submodule(parent).register_buffer(own, torch.empty(shape))

{forward}


network = Network()
network.load_state_dict(load_file({file!r}))
network.eval()
"""
