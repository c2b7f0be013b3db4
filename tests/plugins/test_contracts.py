"""Every installed component keeps the contracts of its kind."""

import pytest

import bench

# Ensembles that differ from others in their goal alone: in every run, that they lower it.
GOALS = ("attack-standard:quick,against=center_shift-", "attack-standard:quick,against=cosine-")


def mark(check):
    is_slow = str(check).startswith(GOALS) and check.contract.__name__ != "lowers_its_objective"
    return pytest.param(check, marks=pytest.mark.slow) if is_slow else check


@pytest.mark.parametrize("check", [mark(check) for check in bench.testing.checks()], ids=str)
def test_contract(check):
    check()
