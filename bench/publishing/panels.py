"""One's own pictures explained, attacked and drawn: `bench explain`, and a board's examples."""

from __future__ import annotations

import dataclasses
import io
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.components.case import Case
from bench.components.kinds import Victim
from bench.engine.catalog import Catalog
from bench.engine.evidence import VOCABULARY, chunked, references
from bench.engine.graph import Graph, Memory
from bench.engine.runner import published_text
from bench.engine.store import Store
from bench.errors import BadValue, EnvironmentProblem
from bench.images import UNREADABLE, Frame, pixels

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
EVIDENCE = (
    "images", "targets", "clean_logits", "clean_attributions", "attacked_images", "attacked_logits",
    "attacked_attributions",
)  # fmt: skip
SHARE = 0.05  # of the pixels, whose overlap is told
SHOWN = ("defense", "explainer", "attack", "ball", "model", "schedule", "seed")


@dataclass(frozen=True)
class Example:
    """A picture under one case: (3, H, W) images, attributions (C or 1, H, W), predictions as (class, probability).
    `attacked` and what follows from it are None without an attack; `overlap` is that of the largest 5% of pixels."""

    name: str
    case: Case
    explained: str
    image: Tensor
    predicted: tuple[str, float]
    attribution: Tensor
    attacked: Tensor | None = None
    attacked_predicted: tuple[str, float] | None = None
    attacked_attribution: Tensor | None = None
    overlap: float | None = None

    def row(self) -> dict[str, Any]:
        """What it says in numbers."""
        found: dict[str, Any] = {
            "image": self.name,
            **{axis: str(getattr(self.case, axis)) for axis in ("model", "defense", "explainer", "seed")},
            "explained": self.explained,
            "predicted": self.predicted[0],
            "probability": round(self.predicted[1], 4),
        }
        if self.attacked is not None and self.attacked_predicted is not None:
            found |= {
                "attack": str(self.case.attack),
                "ball": str(self.case.ball),
                "attacked_predicted": self.attacked_predicted[0],
                "attacked_probability": round(self.attacked_predicted[1], 4),
                "overlap": None if self.overlap is None else round(self.overlap, 4),
            }
        return found


def picture_files(paths: Iterable[str]) -> list[Path]:
    """The pictures among some paths, those in folders too. Raises EnvironmentProblem where there is none."""
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise EnvironmentProblem(f"folder {path} holds no pictures ({', '.join(sorted(SUFFIXES))})")
            found += inside
        else:
            found.append(path)
    return found


def loaded(file: Path, shape: tuple[int, int, int], resize: int) -> Tensor:
    """A picture of any size as (C, H, W) in [0, 1]: its middle, or all of it where the shape is not square; of an
    animation the first frame."""
    channels, height, width = shape
    try:
        content = file.read_bytes()
    except OSError as error:
        raise EnvironmentProblem(f"picture {file} cannot be read ({error.strerror}); check the path") from None
    frame = Frame(height, max(resize, height) if resize else 0, "center")
    try:
        with warnings.catch_warnings(action="ignore"):  # of large pictures, which are welcome here
            if height == width:
                image = pixels(content, frame)
            else:
                whole = pixels(content, Frame(0, 0, "none"))[None]
                image = torch.nn.functional.interpolate(
                    whole, (height, width), mode="bilinear", antialias=True, align_corners=False
                )[0]
    except UNREADABLE as error:
        raise EnvironmentProblem(
            f"picture {file} cannot be decoded ({' '.join(str(error).split())[:120]}); give a JPEG, a PNG or the like"
        ) from None
    return image if channels == 3 else image.mean(0, keepdim=True).expand(channels, -1, -1)


def explained(
    files: Sequence[Path], cases: Sequence[Case], attack: bool, label: str | None, store: Store, device: torch.device
) -> list[Example]:
    """Every picture under every case, pictures first: predicted, explained for the predicted class or a given one, and
    attacked if that is asked. Networks come from the store, or are trained.

    Raises BadValue for a class that there is not.
    """
    memory, found = Memory(), []
    graphs = [Graph(VOCABULARY, case, store, device, memory) for case in cases]
    stacks, chosen = [], []
    for graph in graphs:  # before any network is trained
        data, resize = graph.get("train_data"), getattr(graph.case.dataset, "resize", 0)
        stacks.append(torch.stack([loaded(file, data.shape, resize) for file in files]).to(device))
        chosen.append(None if label is None else _class(label, data.classes))
    for graph, images, target in zip(graphs, stacks, chosen, strict=True):
        case, data, network = graph.case, graph.get("train_data"), graph.get("network")
        with torch.no_grad():
            logits = _in_parts(case, "explain/logits", network, images)
            targets = logits.argmax(1) if target is None else torch.full_like(logits.argmax(1), target)
            attacked = after = None
            before = _attributions(graph, images, targets)
            if attack:
                victim = Victim(
                    network,
                    case.surrogate,
                    references(data, images),
                    lambda defense, graph=graph: graph.beside(defense).get("network"),
                    graph.get("prepared_surrogate"),
                )

                def perturbed(images: Tensor, targets: Tensor, case: Case = case, victim: Victim = victim) -> Tensor:
                    raw = case.attack.perturb(victim, images.clone(), targets.clone(), case.ball)
                    return case.ball.project(raw.detach(), images)

                attacked = _in_parts(case, "explain/attack", perturbed, images, targets)
                moved = _in_parts(case, "explain/logits", network, attacked)
                after = _attributions(graph, attacked, targets)
        for i, file in enumerate(files):
            example = Example(
                file.name,
                case,
                data.classes[int(targets[i])],
                images[i].cpu(),
                _prediction(logits[i], data.classes),
                before[i].cpu(),
            )
            if attacked is not None:
                example = dataclasses.replace(
                    example,
                    attacked=attacked[i].cpu(),
                    attacked_predicted=_prediction(moved[i], data.classes),
                    attacked_attribution=after[i].cpu(),
                    overlap=overlap(before[i].cpu(), after[i].cpu()),
                )
            found.append((i, example))
    return [example for _, example in sorted(found, key=lambda pair: pair[0])]


def example(graph: Graph, place: int) -> Example:
    """An image of a case's own test set, from values of its graph."""
    case, data = graph.case, graph.get("test_data")
    found = {name: graph.get(name)[place].cpu() for name in EVIDENCE}
    return Example(
        f"{case.dataset} {int(data.indices[place])}",
        case,
        data.classes[int(found["targets"])],
        found["images"],
        _prediction(found["clean_logits"], data.classes),
        found["clean_attributions"],
        found["attacked_images"],
        _prediction(found["attacked_logits"], data.classes),
        found["attacked_attributions"],
        overlap(found["clean_attributions"], found["attacked_attributions"]),
    )


def _in_parts(case: Case, name: str, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """A function of pictures, in chunks that fit the device."""
    return chunked(function, *tensors, seed=case.seed, name=name, indices=torch.arange(len(tensors[0])))


def _attributions(graph: Graph, images: Tensor, targets: Tensor) -> Tensor:
    network, prepared, explainer = graph.get("network"), graph.get("prepared"), graph.case.explainer

    def attributed(images: Tensor, targets: Tensor) -> Tensor:
        return explainer.attributions(network, images.clone(), targets.clone(), prepared)

    return _in_parts(graph.case, "explain", attributed, images, targets)


def _class(label: str, classes: Sequence[str]) -> int:
    if label in classes:
        return classes.index(label)
    if label.isdigit() and int(label) < len(classes):
        return int(label)
    some = ", ".join(classes[:12]) + (", ..." if len(classes) > 12 else "")
    raise BadValue(f"class {label!r}: there are {len(classes)}, 0 to {len(classes) - 1} ({some})")


def _prediction(logits: Tensor, classes: Sequence[str]) -> tuple[str, float]:
    best = int(logits.argmax())
    return classes[best], float(logits.softmax(0)[best])


def overlap(first: Tensor, second: Tensor) -> float | None:
    """Share of the largest 5% of pixels of one attribution that are among those of another, (C or 1, H, W) each; None
    where one is zero."""
    sizes = [values.abs().sum(0).flatten() for values in (first, second)]
    count = max(1, round(SHARE * sizes[0].numel()))
    if not all(size.any() for size in sizes):
        return None
    tops = [set(size.argsort(descending=True, stable=True)[:count].tolist()) for size in sizes]
    return len(tops[0] & tops[1]) / count


def drawn(examples: Sequence[Example]) -> bytes:
    """A PNG: a row for each example; the picture and its map, and, attacked, the attacked one, the difference times a
    whole number, and its map in the same colours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    attacked = any(example.attacked is not None for example in examples)
    columns = 5 if attacked else 2
    figure, axes = pyplot.subplots(
        len(examples), columns, figsize=(2.3 * columns, 2.75 * len(examples) + 0.3), squeeze=False, dpi=100,
        layout="constrained",
    )  # fmt: skip
    varying = [
        a for a in SHOWN if len({str(getattr(e.case, a)) for e in examples}) > 1 or a in ("defense", "explainer")
    ]
    for example, row in zip(examples, axes, strict=True):
        for place in row:
            place.set_xticks([])
            place.set_yticks([])
            place.spines[:].set_color("0.8")
        row[0].set_ylabel(_wrapped([published_text(getattr(example.case, axis)) for axis in varying]), fontsize=9)
        cells: list[tuple[np.ndarray, str, str, dict[str, Any]]] = [
            (_picture(example.image), "image", _said(example.predicted), {})
        ]
        scale = _scale(example)
        if example.attacked is not None and example.attacked_attribution is not None:
            change = example.attacked - example.image
            times = max(1, math.floor(0.5 / max(float(change.abs().max()), 1e-6)))
            same = "" if example.overlap is None else f"overlap {example.overlap:.0%}"
            cells += [
                (_picture(example.attacked), "attacked", _said(example.attacked_predicted), {}),
                (_picture(0.5 + times * change), f"difference x {times}", str(example.case.ball), {}),
            ]
            cells.append((_flat(example.attribution), "map", f"of {example.explained}"[:26], scale))
            cells.append((_flat(example.attacked_attribution), "map after the attack", same, scale))
        else:
            cells.append((_flat(example.attribution), "map", f"of {example.explained}"[:26], scale))
        for place, (values, title, under, options) in zip(row, cells, strict=False):
            place.imshow(values, interpolation="nearest", **options)
            place.set_title(title, fontsize=10)
            place.set_xlabel(under, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    pyplot.close(figure)
    return buffer.getvalue()


def _wrapped(texts: Sequence[str], width: int = 24) -> str:
    return "\n".join(text if len(text) <= width else f"{text[: width - 1]}…" for text in texts)


def _said(prediction: tuple[str, float] | None) -> str:
    return "" if prediction is None else f"{prediction[0][:20]} {prediction[1]:.0%}"


def _picture(image: Tensor) -> np.ndarray:
    shown = image.clamp(0, 1)
    return (shown.expand(3, -1, -1) if len(shown) == 1 else shown).permute(1, 2, 0).numpy()


def _flat(attribution: Tensor) -> np.ndarray:
    return attribution.float().sum(0).numpy()


def _scale(example: Example) -> dict[str, Any]:
    """One for the maps before and after: diverging about zero where there are signs, else from zero up."""
    values = [_flat(a) for a in (example.attribution, example.attacked_attribution) if a is not None]
    together = np.concatenate([v.ravel() for v in values])
    high = float(np.quantile(np.abs(together), 0.995)) or float(np.abs(together).max()) or 1.0
    signed = bool((together < 0).any())
    return {"cmap": "RdBu_r", "vmin": -high, "vmax": high} if signed else {"cmap": "inferno", "vmin": 0, "vmax": high}


def checked(case: Case, catalog: Catalog, attack: bool) -> None:
    """Raise BadValue where a component of a case refuses it."""
    for axis, component in case.components.items():
        why = component.refuse(case) if attack or axis not in ("attack", "surrogate") else None
        if why:
            raise BadValue(f"{component.kind} {component.name}: {why}")
    why = catalog.hooks.hook.bench_refuse(case=case, used=case.components)
    if why:
        raise BadValue(why)
