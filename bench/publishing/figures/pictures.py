"""Figures of pictures: maps, images rebuilt in the order of a map, and images under a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.components import Ball, Case
from bench.engine import Graph, gather
from bench.errors import BadValue
from bench.maps import top_pixels
from bench.networks import normalisation
from bench.publishing.examples import overlap
from bench.publishing.figures.canvas import Drawing, make_panels, name_rows, plain

NEEDS = ("clean_attributions", "attacked_attributions")  # must be stored, and what they are made from
SHARES = (0.05, 0.2, 0.4, 0.6)  # of the pixels, as in figure 2b of Joo et al. (AAAI 2023)
SIDE = 1.7  # inches, of a picture


@dataclass(frozen=True)
class Pictures:
    """The graphs of some cases, and the place of the image to draw among those that were measured.

    `over`: the axis along which a component has the parameters `varied`.
    """

    graphs: list[Graph]
    image: int
    over: str
    varied: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """One image in one case."""

    graph: Graph
    image: int

    def get(self, name: str) -> Tensor:
        """The image's row of a value, on the CPU."""
        values = self.graph.get(name)
        if self.image >= len(values):
            raise BadValue(f"--image {self.image}: there are {len(values)} images, 0 to {len(values) - 1}")
        row: Tensor = values[self.image].cpu()
        return row

    def rate(self, picture: Tensor) -> float:
        """The probability of the explained class in a picture (C, H, W)."""
        with torch.no_grad():
            logits = self.graph.get("network")(picture[None].to(self.graph.device))
        return float(logits.softmax(1)[0, int(self.get("targets"))])

    def cover(self, picture: Tensor, mask: Tensor) -> Tensor:
        """A picture (C, H, W) that shows the mean colour where a mask (C or 1, H, W) is zero."""
        mean = normalisation(self.graph.get("network"), picture[None])[0].cpu()
        return mean + mask * (picture - mean)

    def numbers(self, **shown: Any) -> dict[str, Any]:
        """A row of the data."""
        return {**_texts(self.graph.case), "image": self.image, **shown}


def draw_maps(pictures: Pictures) -> Drawing:
    """An image's map and that of the attacked image, side by side: in a grid of the one or two parameters that --vary
    names, or one below the other."""
    if len(pictures.varied) > 2:
        raise BadValue("figure maps: a grid has two sides; give --vary at most twice")
    places = _find_places(pictures)
    lines, columns = (list(dict.fromkeys(place[side] for place in places)) for side in (0, 1))
    if len(set(places)) < len(places):
        raise BadValue("figure maps: the cases differ by more than --vary says; give every other option one value")
    figure, axes = make_panels(len(lines), len(columns) + 1, 2 * SIDE, SIDE + 0.4)
    for axis in axes.flat:
        axis.axis("off")
    rows: list[dict[str, Any]] = []
    for graph, (line, column) in zip(pictures.graphs, places, strict=True):
        view, axis = View(graph, pictures.image), axes[lines.index(line), columns.index(column) + 1]
        if not rows:
            _show(axes[0, 0], view.get("images"), f"image, {view.rate(view.get('images')):.2f}")
        same = overlap(*(part[pictures.image].cpu() for part in gather(graph, NEEDS).values()))
        note = "" if same is None else f"overlap {same:.0%}"
        _show_maps(axis, [view.get("clean_maps"), view.get("attacked_maps")], note)
        axis.set_title(plain("\n".join(part for part in (line, column) if part)), fontsize=8)
        rows.append(view.numbers(overlap=same))
    return Drawing(figure, rows)


def _find_places(pictures: Pictures) -> list[tuple[str, str]]:
    """The line and the column of each case, by name. A component without the parameters, such as the reference row's,
    has a column of its own in the first line."""
    if not pictures.varied:
        return [(name, "") for name in _name(pictures.graphs)]
    components = [getattr(graph.case, pictures.over) for graph in pictures.graphs]
    given = [
        [f"{name} {getattr(each, name)}" for name in pictures.varied if hasattr(each, name)] for each in components
    ]
    first = next((parts[1] for parts in given if len(parts) > 1), "")
    return [
        ((parts[1] if len(parts) > 1 else ""), parts[0]) if parts else (first, str(component))
        for component, parts in zip(components, given, strict=True)
    ]


def draw_reconstructions(pictures: Pictures) -> Drawing:
    """The map of the attacked image, and the clean image with only the largest pixels of it: a row for each case. Below
    stands the probability of the class."""
    for graph in pictures.graphs:
        if graph.case.ball.moves_pixels:
            raise BadValue(
                f"figure reconstructions: in {graph.case.ball}, the attacked map is not one of the clean image; draw "
                "maps, or use another --norm"
            )
    figure, axes = make_panels(len(pictures.graphs), 1 + len(SHARES), SIDE, SIDE + 0.4)
    rows = []
    for line, graph, name in zip(axes, pictures.graphs, _name(pictures.graphs), strict=True):
        view = View(graph, pictures.image)
        order = view.get("attacked_maps")
        _show_maps(line[0], [order], "")
        line[0].set_title(plain(name), fontsize=8)
        for axis, share in zip(line[1:], SHARES, strict=True):
            kept = top_pixels(order[None], int(share * order.numel()))
            picture = view.cover(view.get("images"), kept.to(order))
            rows.append(view.numbers(share=share, probability=view.rate(picture)))
            _show(axis, picture, f"{share:.0%}: {rows[-1]['probability']:.2f}")
    return Drawing(figure, rows)


def draw_masked(pictures: Pictures) -> Drawing:
    """Attacked images over the budgets, and below them what each explainer's mask leaves of them. Below each stands the
    probability of the class."""
    names = _name(pictures.graphs, "ball")
    views: dict[str, dict[Ball, View]] = {}
    for name, graph in zip(names, pictures.graphs, strict=True):
        views.setdefault(name, {})[graph.case.ball] = View(graph, pictures.image)
    balls = sorted({ball for row in views.values() for ball in row}, key=lambda ball: (ball.norm, ball.eps))
    lines: list[tuple[str, dict[Ball, Tensor], dict[Ball, View]]] = []
    images: dict[Ball, Tensor] = {}
    for name, row in views.items():
        own = {ball: view.get("attacked_images") for ball, view in row.items()}
        # An attack that follows no map leaves the same images for all explainers: they are drawn once.
        if any(ball not in images or not torch.equal(image, images[ball]) for ball, image in own.items()):
            lines.append((f"image of {name}" if images else "image", own, row))
        images |= own
        masked = {ball: view.cover(own[ball], view.get("attacked_masks")) for ball, view in row.items()}
        lines.append((name, masked, row))
    figure, axes = make_panels(len(lines), len(balls), SIDE, SIDE + 0.4)
    rows = []
    for line, (name, shown, row) in zip(axes, lines, strict=True):
        for axis, ball in zip(line, balls, strict=True):
            axis.axis("off")
            if ball in shown:
                rate = row[ball].rate(shown[ball])
                rows.append(row[ball].numbers(shown=name, probability=rate))
                _show(axis, shown[ball], f"{rate:.2f}")
        line[0].set_ylabel(plain(name), fontsize=8)
    for axis, ball in zip(axes[0], balls, strict=True):
        axis.set_title(str(ball), fontsize=8)
    return Drawing(figure, rows)


def _texts(case: Case) -> dict[str, str]:
    return {axis: str(choice) for axis, choice in case.axes.items()}


def _name(graphs: Sequence[Graph], *apart: str) -> list[str]:
    """What sets each case apart from the others, but for its surrogate, which follows from its explainer."""
    rows = [_texts(graph.case) for graph in graphs]
    kept = [{a: text for a, text in row.items() if a not in ("surrogate", *apart)} for row in rows]
    return name_rows(kept, ("explainer",))


def _show(axis: Any, picture: Tensor, note: str) -> None:
    """Draw a picture (C, H, W) with a note below."""
    shown = picture.clamp(0, 1)
    axis.imshow((shown.expand(3, -1, -1) if len(shown) == 1 else shown).permute(1, 2, 0).numpy())
    _frame(axis, note)


def _show_maps(axis: Any, maps: Sequence[Tensor], note: str) -> None:
    """Draw maps (H, W) side by side on one scale, with a note below."""
    gap = np.full((len(maps[0]), max(1, maps[0].shape[1] // 16)), np.nan)
    parts = [part for each in maps for part in (gap, each.float().numpy())]
    values = np.concatenate(parts[1:], 1)
    axis.imshow(values, cmap="inferno", vmin=0, vmax=float(np.nanquantile(values, 0.995)) or 1.0)
    _frame(axis, note)


def _frame(axis: Any, note: str) -> None:
    axis.axis("on")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_xlabel(plain(note), fontsize=8)
