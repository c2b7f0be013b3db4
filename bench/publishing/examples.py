"""Examples: single pictures explained and attacked, for `bench explain` and for boards."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.boards import quick_protocol
from bench.components import Case, Data, Defense
from bench.engine import VOCABULARY, Catalog, Graph, Memory, Shared, Store, find_flags, find_refusal, gather, seeded
from bench.errors import BadValue, EnvironmentProblem, clean
from bench.images import Frame, read_picture
from bench.maps import least_overlap, reduce

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
CLEAN = ("images", "targets", "clean_logits", "clean_attributions")
ATTACKED = ("attacked_images", "attacked_logits", "attacked_attributions")
SHARE = 0.05  # of the pixels, whose overlap is reported


@dataclass(frozen=True)
class Example:
    """A picture under one case.

    Images are (3, H, W), attributions (C or 1, H, W), predictions (class, probability). `attacked` and what follows
    from it are None without an attack. `overlap` is that of the largest 5% of pixels. `flags` are those of a record
    under the same attack.
    """

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
    flags: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """The example in numbers."""
        row: dict[str, Any] = {
            "image": self.name,
            **{axis: str(getattr(self.case, axis)) for axis in ("model", "defense", "explainer", "seed")},
            "explained": self.explained,
            "predicted": self.predicted[0],
            "probability": round(self.predicted[1], 4),
        }
        if self.attacked is not None and self.attacked_predicted is not None:
            row |= {
                "attack": str(self.case.attack),
                "ball": str(self.case.ball),
                "attacked_predicted": self.attacked_predicted[0],
                "attacked_probability": round(self.attacked_predicted[1], 4),
                "overlap": None if self.overlap is None else round(self.overlap, 4),
            }
        return row


def list_pictures(paths: Iterable[str]) -> list[Path]:
    """The picture files among some paths and in folders among them. Raises EnvironmentProblem for an empty folder."""
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise EnvironmentProblem(f"folder {path} holds no pictures ({', '.join(sorted(SUFFIXES))})")
            files += inside
        else:
            files.append(path)
    return files


def load_picture(file: Path, shape: tuple[int, int, int], frame: Frame | None) -> Tensor:
    """Load a picture of any size as (C, H, W) in [0, 1], from the first frame of an animation.

    Frames it as a data set with a rule does. Without one, crops the middle where the shape is square, and scales the
    whole picture where it is not.
    """
    channels, height, width = shape
    if frame is not None and frame.size:
        image = read_picture(file, frame)
    elif height == width:
        image = read_picture(file, Frame(height, 0, "center"))
    else:
        whole = read_picture(file, Frame(0, 0, "none"))[None]
        image = torch.nn.functional.interpolate(
            whole, (height, width), mode="bilinear", antialias=True, align_corners=False
        )[0]
    return image if channels == 3 else image.mean(0, keepdim=True).expand(channels, -1, -1)


def use_own_weights(cases: Iterable[Case], catalog: Catalog) -> list[Case]:
    """Cases with the networks of their models' own trained weights, where they name any."""
    weights = catalog.read("defense", quick_protocol().fallback["trained"])
    assert isinstance(weights, Defense)
    return [dataclasses.replace(case, defense=weights) if case.model.classes else case for case in cases]


def _do_without_data(case: Case, attack: bool, device: torch.device) -> dict[str, Any]:
    """The network of the model's own weights, and empty data of its classes and size; nothing where it must train.

    Raises BadValue where something else in the case learns from data.
    """
    classes, frame = case.model.classes, case.model.frame
    if not classes or not frame or case.defense.trains:
        return {}
    learn = [each for each in (case.explainer, case.surrogate) if each.prepares]
    for each in [*learn, *([case.attack] if attack and case.attack.sources(case.defense) else [])]:
        raise BadValue(f"{each.kind} {each} learns from training images first; give a --dataset")
    shape = (3, frame.size, frame.size)
    with seeded(0, "weights"):
        network = case.model.build(shape, len(classes))
        case.model.load_weights(network, shape)
    data = Data(torch.empty(0, *shape), torch.empty(0, dtype=torch.int64), classes)
    return {"train_data": data, "network": network.eval().requires_grad_(False).to(device)}


def explain_pictures(
    files: Sequence[Path],
    cases: Sequence[Case],
    attack: bool,
    label: str | None,
    store: Store,
    device: torch.device,
    shared: Shared | None = None,
    has_data: bool = True,
) -> list[Example]:
    """Explain every picture under every case, and attack it if `attack`; the rows of a picture stand together.

    The explained class is the predicted one, or `label`. Networks come from the store, or are trained. `shared` guards
    what components share. Unless it `has_data`, networks of models' own weights do without the data set. Raises
    BadValue for an unknown class.
    """
    memory = Memory(shared)
    graphs = []
    for case in cases:  # all pictures are read before any network is trained
        given = {} if has_data else _do_without_data(case, attack, device)
        data = Graph(VOCABULARY, case, store, device, memory, given).get("train_data")
        frame = case.model.frame if given else case.dataset.frame
        pictures = torch.stack([load_picture(file, data.shape, frame) for file in files])
        given["test_data"] = Data(pictures, None, data.classes, indices=torch.arange(len(files)))
        if label is not None:
            given["targets"] = torch.full((len(files),), _find_class(label, data.classes), device=device)
        graphs.append(Graph(VOCABULARY, case, store, device, memory, given))
    rows = [[make_example(graph, i, file.name, attack) for i, file in enumerate(files)] for graph in graphs]
    return [row[i] for i in range(len(files)) for row in rows]


def make_example(graph: Graph, place: int, name: str = "", attack: bool = True) -> Example:
    """The example of one row of a graph's test data."""
    case, data = graph.case, graph.get("test_data")
    values = {value: graph.get(value)[place].cpu() for value in (*CLEAN, *(ATTACKED if attack else ()))}
    clean = (
        name or f"{case.dataset} {int(data.rows[place])}",
        case,
        data.classes[int(values["targets"])],
        values["images"],
        _predict(values["clean_logits"], data.classes),
        values["clean_attributions"],
    )
    if not attack:
        return Example(*clean)
    both = gather(graph, ("clean_attributions", "attacked_attributions"))
    return Example(
        *clean,
        values["attacked_images"],
        _predict(values["attacked_logits"], data.classes),
        values["attacked_attributions"],
        overlap(*(part[place].cpu() for part in both.values())),
        tuple(find_flags(graph, frozenset({"explainer", "attack"}))),
    )


def check_cases(cases: Sequence[Case], catalog: Catalog, attack: bool) -> None:
    """Raise BadValue where a case refuses to be explained, or attacked if `attack`."""
    for case in cases:
        why = find_refusal(catalog, case, (*CLEAN, *(ATTACKED if attack else ())))
        if why:
            raise BadValue(why)


def _find_class(label: str, classes: Sequence[str]) -> int:
    if label in classes:
        return classes.index(label)
    if re.fullmatch("[0-9]{1,9}", label) and int(label) < len(classes):
        return int(label)
    some = clean(", ".join(classes[:12]) + (", ..." if len(classes) > 12 else ""), 300)
    raise BadValue(f"no class called {clean(label)!r}; there are {len(classes)}, 0 to {len(classes) - 1} ({some})")


def _predict(logits: Tensor, classes: Sequence[str]) -> tuple[str, float]:
    best = int(logits.argmax())
    return classes[best], float(logits.softmax(0)[best])


def overlap(first: Tensor, second: Tensor) -> float | None:
    """Share of the largest 5% of pixels of one attribution that are among those of another, (C or 1, H, W) each.

    None where one attribution is zero.
    """
    maps = [reduce(attribution[None]) for attribution in (first, second)]
    count = max(1, round(SHARE * maps[0].numel()))
    if not all(each.any() for each in maps):
        return None
    return float(least_overlap(maps[0], maps[1], count)) / count
