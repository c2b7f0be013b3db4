"""The contracts of the seven kinds, run over everything installed, by `bench check`, and by a plugin's author as three
lines of pytest:

@pytest.mark.parametrize("check", bench.testing.checks("explainer", "corner"), ids=str)
def test_contract(check):
    check()
"""

from bench.testing.checks import Check, checks, named
from bench.testing.contracts import ContractBroken
from bench.testing.fixtures import (
    TinyModel,
    TinySchedule,
    tiny_data,
    tiny_evidence,
    tiny_fit,
    tiny_images,
    tiny_network,
)

__all__ = [
    "Check",
    "ContractBroken",
    "TinyModel",
    "TinySchedule",
    "checks",
    "named",
    "tiny_data",
    "tiny_evidence",
    "tiny_fit",
    "tiny_images",
    "tiny_network",
]
