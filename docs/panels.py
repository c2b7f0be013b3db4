"""Draws the picture of the README and of the site: `python docs/panels.py` writes docs/panel-shapes.png.

Two networks explain one image before and after the attack that boards rank by. All maps have one scale, the importance
of a pixel beside that of the most important one of the network's clean map. Trains both networks into the store that
BENCH_STORE names, or the default one, which takes a quarter of an hour.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from bench.engine import VOCABULARY, Graph, Memory, choose_device, installed, open_store, select
from bench.maps import least_overlap, top_pixels

PICTURE = Path(__file__).with_name("panel-shapes.png")
ROWS = {"ce": "plain training\n(ce)", "trades": "a defense\n(trades)"}
SHOWN = 4  # which of the 40 test images
COUNT = 20


def compute(defense: str) -> Graph:
    """The values of a case."""
    options = {"defense": [defense], "schedule": ["quick:epochs=5"], "attack": ["standard"], "samples": ["40"]}
    (case,) = select(installed(), options, reference=False).cases
    return Graph(VOCABULARY, case, open_store(None, print), choose_device("cpu"), Memory())


def say(logits: Tensor, classes: tuple[str, ...]) -> str:
    """The class that a network predicts, and its probability."""
    probability, label = logits.softmax(0).max(0)
    return f"{classes[int(label)]}, {float(probability):.0%}"


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 4, figsize=(10, 5), dpi=110, layout="constrained")
    for (defense, name), (image, map_, attacked, map_after) in zip(ROWS.items(), axes, strict=True):
        graph = compute(defense)
        classes = graph.get("test_data").classes
        clean, moved = (graph.get(f"{side}_maps")[[SHOWN]] for side in ("clean", "attacked"))
        kept = int(least_overlap(clean, moved, COUNT))
        scale: dict[str, Any] = {"cmap": "inferno", "vmin": 0, "vmax": float(clean.max())}
        for axis, pixels, logits in (
            (image, "images", "clean_logits"),
            (attacked, "attacked_images", "attacked_logits"),
        ):
            axis.imshow(graph.get(pixels)[SHOWN].permute(1, 2, 0).numpy())
            axis.set_xlabel(say(graph.get(logits)[SHOWN], classes))
        for axis, values in ((map_, clean), (map_after, moved)):
            shown = axis.imshow(values[0].numpy(), **scale)
            rows, columns = top_pixels(clean, COUNT)[0].nonzero().T
            axis.scatter(columns, rows, s=20, facecolors="none", edgecolors="white", linewidths=0.6)
        map_.set_xlabel(f"circles: the top {COUNT} pixels")
        map_after.set_xlabel(f"{kept} of {COUNT} are still on top", fontweight="bold")
        image.set_ylabel(name, fontsize=12)
    for axis, title in zip(axes[0], ("image", "map", "image, attacked", "map, same circles"), strict=True):
        axis.set_title(title, fontsize=12)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    key = figure.colorbar(shown, ax=axes, shrink=0.6, ticks=[0, scale["vmax"]])
    key.ax.set_yticklabels(["none", "most"])
    key.ax.set_title("importance\nof a pixel", fontsize=10)
    figure.savefig(PICTURE, metadata={"Software": None})


if __name__ == "__main__":
    main()
