"""The flags that the suite raises on a record, as forms that their texts have. Needs neither torch nor plugins."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = r"(?:-?\d{1,40}(?:\.\d{1,6})?|-?inf|nan)%?"


def _form(*texts: str) -> re.Pattern[str]:
    """The form of some texts, in which N is a number and WORDS are names of checks."""
    words = r"(?:doubled|larger|wide)(?:, (?:doubled|larger|wide)){0,2}"
    forms = (re.escape(text).replace("N", _NUMBER).replace("WORDS", words) for text in texts)
    return re.compile("|".join(forms))


# Of the images that an attack returned: the same for all maps, and for none.
OF_IMAGES = _form(
    "nothing moved",
    "attack fails: it returns N of the images as they were",
    "gradient check failed: it could not be computed",
    "gradient check failed: off by N",
)
# Of the maps of clean images: the same under every attack.
OF_MAPS = _form(
    "the map hardly depends on the image: maps of different images share N of their top N pixels",
    "the map hardly depends on the image: maps of one class share N of their top N pixels",
    "the map does not depend on the class explained: maps of two classes share N of their top N pixels",
    "no map: it is zero on N of the clean images",
    "few pixels: the top N weigh as much as N equal ones",
)
# Of the maps under an attack.
OF_ATTACK = _form(
    "attack too short: twice its steps leave N instead of N of the top N pixels on N images",
    "attack stuck: half the budget leaves N instead of N of the top N pixels on N images",
    "attack beaten: a blind search leaves N instead of N of the top N pixels on N images",
    "attack blocked: with a wide budget it leaves N of the top N pixels on N images, chance is N",
    "attack unstable: it fails in the checks WORDS",
    "gradient masked: it is zero on N of N images",
    "gradient misleading: along it the objective falls on N of N images, by N of the prediction",
    "gradient misleading: along it the objective falls on N of N images, by a huge multiple of the prediction",
    "gradient misleading: along it the objective falls on N of N images, and no fall is predicted",
    "gradient misleading: along it the change of the objective is not a number",
    "map lost: it is zero on N of N attacked images",
)
TRANSFER = "transfer: the attack followed "


def select(flags: Iterable[str], form: re.Pattern[str]) -> tuple[str, ...]:
    """The flags of a form."""
    return tuple(flag for flag in flags if form.fullmatch(flag))


def is_raised(flag: str) -> bool:
    """Whether the suite raises such a flag."""
    return flag.startswith(TRANSFER) or any(form.fullmatch(flag) for form in (OF_IMAGES, OF_MAPS, OF_ATTACK))
