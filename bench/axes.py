"""The axes of a case and the options that choose along them: names, order and help, declared once.

Needs no torch: boards read records by these names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

COMPONENT = "NAME[:...]"


@dataclass(frozen=True)
class Option:
    """An option of `bench run`, and a key of a board's `[axes]`.

    `kind`: the kind of component that it names, "" for a plain value. `is_list`: whether one text may hold several
    values with commas between.
    """

    name: str
    metavar: str
    help: str
    kind: str = ""
    is_list: bool = False


@dataclass(frozen=True)
class Norm:
    """What the eps of a ball may be: its largest value, and whether it is a whole number.

    `words`: what it is and what to write, where it is not in pixel units of [0, 1].
    """

    largest: int
    words: str = ""
    whole: bool = False

    def allows(self, eps: Fraction | float) -> bool:
        return 0 <= eps <= self.largest and (not self.whole or eps == int(eps))


# No two images are as far apart in l2 as a million, whatever their size, and none has as many pixels. The last three
# are transformations, and not norms.
NORMS = {
    "linf": Norm(1),
    "l2": Norm(10**6),
    "l0": Norm(10**6, "it is a number of pixels; write a whole number such as 20", whole=True),
    "rotation": Norm(180, "it is in degrees, at most 180; write a whole number such as 30", whole=True),
    "translation": Norm(10**6, "it is a number of pixels; write a whole number such as 3", whole=True),
    "colour": Norm(1, "it is a share of all hues and of the saturation, at most 1; write a fraction such as 1/10"),
}


def _component(name: str, help: str, kind: str = "") -> Option:
    return Option(name, COMPONENT, help, kind or name)


# By axis, in the order in which records and commands name them. A ball is written as two options.
_AXES: dict[str, tuple[Option, ...]] = {
    "dataset": (_component("dataset", "Images to train and test on."),),
    "split": (Option("split", "SPLIT", "test, validation or train.", is_list=True),),
    "model": (_component("model", "Architecture."),),
    "schedule": (_component("schedule", "How long and how to train."),),
    "defense": (_component("defense", "Way of training; the reference row joins."),),
    "seed": (Option("seed", "N,...", "Seeds of training and noise.", is_list=True),),
    "explainer": (_component("explainer", "Method that makes the maps."),),
    "surrogate": (
        _component(
            "surrogate", "Explainer that the attack differentiates. [default: the explainer itself]", "explainer"
        ),
    ),
    "attack": (_component("attack", "Method that changes the images."),),
    "ball": (
        Option("eps", "EPS,...", "Budget in pixel units of [0, 1], such as 2/255,4/255.", is_list=True),
        Option(
            "norm",
            "linf|l2|l0|rotation|translation|colour",
            "Norm of the budget, or a transformation. In l0 and translation, eps is a number of pixels, in rotation "
            "one of degrees, in colour a share.",
            is_list=True,
        ),
    ),
    "target": (
        Option("target", "TARGET", "Class to explain: predicted, label, class:second or class:N.", is_list=True),
    ),
    "samples": (Option("samples", "N", "Number of test images, balanced over classes.", is_list=True),),
}
AXES = tuple(_AXES)
METRIC = _component("metric", "Score to compute.")
OPTIONS = {option.name: option for option in (*(o for options in _AXES.values() for o in options), METRIC)}
# By axis, the kind of component along it.
KINDS = {axis: options[0].kind for axis, options in _AXES.items() if options[0].kind}


# The class to explain: its form, and in words. class:second is the most probable one besides the predicted.
TARGET = re.compile(r"predicted|label|class:(second|0|[1-9]\d{0,5})", re.ASCII)
TARGETS = "predicted, label, class:second or a class such as class:3"


def split_ball(text: str) -> tuple[str, str]:
    """Norm and eps of a ball's text: "linf:8/255" -> ("linf", "8/255")."""
    norm, _, eps = text.partition(":")
    return norm, eps


def option_texts(axis: str, text: str) -> dict[str, str]:
    """The options that choose a value along an axis, with their texts."""
    if axis == "ball":
        norm, eps = split_ball(text)
        return {"eps": eps, "norm": norm}
    return {axis: text}
