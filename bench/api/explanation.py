"""Explains images in memory, and images of data sets to explain."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from bench.api.memory import MemoryDefense, hold
from bench.api.running import Budget, as_lists, tell
from bench.components import Attack, Dataset, Explainer, use_data_dir
from bench.engine import VOCABULARY, Graph, Memory, Shared, choose_device, installed, open_store, select, tell_work
from bench.errors import BadValue
from bench.publishing import Example, check_cases, draw_panel, make_example

if TYPE_CHECKING:
    from bench.api.running import Several
    from bench.publishing.figures.plot import Plot

SHOWN = 8  # images of a panel
SAMPLES = 128  # images of a data set


class Sample(NamedTuple):
    """Images (N, C, H, W) in [0, 1], their labels (N,) or None, and the names of the classes."""

    images: Tensor
    labels: Tensor | None
    names: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Explanation:
    """Maps of N images by the text of their explainer, each (N, H, W). A notebook shows the panel of the first images.

    Under attack, also the attacked images (N, C, H, W), each explainer's own, and their maps. `flags` say what a reader
    must know about the attack.
    """

    maps: dict[str, Tensor]
    attacked_images: dict[str, Tensor]
    attacked_maps: dict[str, Tensor]
    examples: list[Example]

    def __repr__(self) -> str:
        attacked = ", attacked" if self.attacked_maps else ""
        return f"<maps of {len(self.examples) // len(self.maps)} images by {', '.join(self.maps)}{attacked}>"

    @property
    def flags(self) -> list[str]:
        return list(dict.fromkeys(flag for example in self.examples for flag in example.flags))

    def plot(self) -> Plot:
        """The panel of the first images: each with its map and, under attack, what the attack makes of both."""
        return draw_panel(self.examples[: SHOWN * len(self.maps)])

    def _repr_png_(self) -> bytes:
        return self.plot().as_png()


def explain(
    network: nn.Module,
    images: Tensor,
    explainers: Several[Explainer] | None = None,
    attack: str | Attack | None = None,
    eps: Budget | None = None,
    *,
    norm: str | None = None,
    targets: Tensor | Sequence[int] | int | None = None,
    names: Sequence[str] = (),
    references: Tensor | None = None,
    seed: int | None = None,
    device: str = "auto",
) -> Explanation:
    """Explain what any network predicts for images, and with an attack also for the attacked images.

    images: (N, C, H, W), floats in [0, 1], which the network maps to logits (N, K). targets: the classes to explain,
    one for each image or one for all; by default the predicted ones. names: those of the K classes, for the panel.
    references: as for `bench.evaluate`. Raises BadValue or BadComponent for what cannot be explained.
    """
    catalog, place = installed(), choose_device(device)
    dataset, model = hold(network, images, targets, references, place, "targets")
    shown = dataset.test
    if names:
        if len(names) != len(shown.classes):
            raise BadValue(
                f"names has {len(names)}, but the network has {len(shown.classes)} classes; give one for each class"
            )
        shown = dataclasses.replace(shown, classes=tuple(names))
    options = {
        "dataset": dataset, "model": model, "defense": MemoryDefense(), "samples": len(images),
        "explainer": explainers, "attack": attack, "eps": eps, "norm": norm, "seed": seed,
        "target": None if targets is None else "label",
    }  # fmt: skip
    cases = select(catalog, as_lists(options), reference=False).cases
    if len({case.explainer for case in cases}) < len(cases):
        raise BadValue("one attack, eps, norm and seed can be shown; call bench.explain once for each")
    check_cases(cases, catalog, attack is not None)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        store, memory = open_store(folder, tell), Memory(Shared(catalog.library))
        given = {"test_data": shown}
        graphs = {str(case.explainer): Graph(VOCABULARY, case, store, place, memory, given) for case in cases}
        with tell_work():
            rows = [
                make_example(graph, i, f"image {i}", attack is not None)
                for i in range(len(images))
                for graph in graphs.values()
            ]
        attacked = graphs if attack is not None else {}
        return Explanation(
            {text: graph.get("clean_maps").cpu() for text, graph in graphs.items()},
            {text: graph.get("attacked_images").cpu() for text, graph in attacked.items()},
            {text: graph.get("attacked_maps").cpu() for text, graph in attacked.items()},
            rows,
        )


def data(
    dataset: str | Dataset, split: str = "test", samples: int | None = None, *, data_dir: str | Path | None = None
) -> Sample:
    """Images, labels and class names of a data set, by its text: `images, labels, names = bench.data("cifar10")`.

    samples: how many images, balanced over classes, the same as in a run with as many; 128 by default, or all where
    there are fewer. data_dir: the folder of data sets, else BENCH_DATA_DIR. Raises EnvironmentProblem where there are
    fewer than asked for.
    """
    with use_data_dir(data_dir):
        found = dataset if isinstance(dataset, Dataset) else installed().read("dataset", dataset)
        assert isinstance(found, Dataset)
        whole = found.load(split)
        part = whole.at(whole.choice(min(SAMPLES, len(whole)) if samples is None else samples))
    return Sample(part.images, part.labels, part.classes)
