"""Every installed component keeps the contracts of its kind."""

import pytest

import bench

# Ensembles beside that of `standard:quick`, which take as long: in every run, that they lower their goal.
GOALS = tuple(f"attack-standard:quick,against={goal}-" for goal in ("center_shift", "cosine", "spearman,noise=known"))


def mark(check):
    is_slow = str(check).startswith(GOALS) and check.contract.__name__ != "lowers_its_objective"
    return pytest.param(check, marks=pytest.mark.slow) if is_slow else check


@pytest.mark.parametrize("check", [mark(check) for check in bench.testing.checks()], ids=str)
def test_contract(check):
    check()
