"""Makes texts of strangers safe for each format: they stay what they are, and nothing runs them."""

from __future__ import annotations

import functools
import re


def strip_controls(text: str) -> str:
    """The text in one line, without control characters."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)


ADDRESS = re.compile(r"://|www\.|@", re.IGNORECASE)  # what GitHub makes links of, though nothing marks them


def escape_markdown(text: str) -> str:
    """The text for Markdown, in a table too. Addresses are code, or they would become links."""
    words = re.split(r"([\s|]+)", strip_controls(text))
    return "".join(quote_code(word) if ADDRESS.search(word) else _escape_marks(word) for word in words)


def _escape_marks(text: str) -> str:
    # An underscore inside a word is an underscore.
    return re.sub(r"([\\`*|\[\]<>#&~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", text)


def quote_code(text: str) -> str:
    """The text as a code span of Markdown, which mentions nobody and links to nothing."""
    return "`" + strip_controls(text).replace("`", "'") + "`"


@functools.lru_cache(10_000)
def escape_formula(text: str) -> str:
    """The text for a spreadsheet, which would run what starts as a formula."""
    text = strip_controls(text)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text
