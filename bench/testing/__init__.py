"""The room of a plugin's author: contracts to test components with, tiny networks and data, and a scaffold.

The contracts run over everything installed, from `bench check`, or from three lines of a plugin's own tests:

@pytest.mark.parametrize("check", bench.testing.checks("explainer", "corner"), ids=str)
def test_contract(check):
    check()
"""

from bench.testing.checks import Check, checks, select_checks
from bench.testing.contracts import ContractBroken
from bench.testing.fixtures import (
    TinyModel,
    TinySchedule,
    on_device,
    tiny_data,
    tiny_evidence,
    tiny_fit,
    tiny_images,
    tiny_network,
)
from bench.testing.scaffold import scaffold

named = select_checks  # its name in version 0.1

__all__ = [
    "Check",
    "ContractBroken",
    "TinyModel",
    "TinySchedule",
    "checks",
    "named",
    "on_device",
    "scaffold",
    "select_checks",
    "tiny_data",
    "tiny_evidence",
    "tiny_fit",
    "tiny_images",
    "tiny_network",
]
