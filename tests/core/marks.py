"""Which cases of a slow test every run takes."""

from __future__ import annotations

import pytest


def mostly_slow(cases, *kept):
    """Mark all cases as slow but those kept, by value or, for tuples, by their first value."""
    names = [case[0] if isinstance(case, tuple) else case for case in cases]
    assert set(kept) <= set(names)
    return [
        case if name in kept else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for name, case in zip(names, cases, strict=True)
    ]
