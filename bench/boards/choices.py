"""What a board's file may choose along each option of `bench run`: the forms of choices, as records write them."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from bench.axes import NORMS, OPTIONS, TARGET, TARGETS
from bench.errors import BadValue
from bench.keys import read_canonical
from bench.shapes import LARGEST, Misfit, Shape, clean, one_of, quote, text

CHOSEN = [name for name in OPTIONS if name != "metric"]
_EPS = re.compile(r"\d{1,9}(/[1-9]\d{0,8}|\.\d{1,9})?", re.ASCII)
IMAGES = 100_000  # of one record


def reduce_eps(eps: str) -> str:
    # As a record writes it: 2/4 is 1/2. Not every text that Fraction reads: 1e999999999 is a whole number to it.
    return str(Fraction(eps)) if _EPS.fullmatch(eps) else eps


def choices_of(choice: Shape) -> Shape:
    """One choice or a list of them, each a text or a whole number."""

    def shape(value: Any) -> list[str]:
        choices = value if isinstance(value, list) else [value]
        if not choices or not all(type(c) is str or (type(c) is int and abs(c) <= LARGEST) for c in choices):
            raise Misfit(f"is {quote(value)}, must be a list of texts or whole numbers")
        return [choice(str(each)) for each in choices]

    return shape


def component(value: str) -> str:
    try:
        read_canonical(value)
    except BadValue as error:
        raise Misfit(f"has {quote(value)} ({clean(str(error))}); write it as records do, such as topk:k=5") from None
    return value


def _eps(value: str) -> str:
    if not _EPS.fullmatch(value) or reduce_eps(value) != value:
        way_out = reduce_eps(value) if _EPS.fullmatch(value) else "a fraction such as 8/255"
        raise Misfit(f"has {quote(value)}; write {way_out}")
    return value


def _count(least: int, most: int) -> Shape:
    def shape(value: str) -> str:
        if not re.fullmatch(r"0|[1-9]\d{0,8}", value, re.ASCII) or not least <= int(value) <= most:
            raise Misfit(f"has {quote(value)}, must be a whole number from {least} to {most}")
        return value

    return shape


def one_choice(choice: Shape) -> Shape:
    return lambda value: choices_of(choice)([value])[0]


CHOICE: dict[str, Shape] = {
    **{name: component for name, option in OPTIONS.items() if option.kind},
    "split": one_of("test", "validation", "train"),
    "target": text(20, form=TARGET, words=TARGETS),
    "norm": one_of(*NORMS),
    "eps": _eps,
    "seed": _count(0, 10**9),
    "samples": _count(1, IMAGES),
}
