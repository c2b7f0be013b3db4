"""Every installed component keeps the contracts of its kind."""

import pytest

import bench

CHECKS = bench.testing.checks()
FIRST = {check.component.partition(":")[0]: check.text for check in reversed(CHECKS)}
# What other examples of a component than its first hardly break alone.
ALIKE = {
    "resumes_where_it_stopped",
    "stays_in_the_ball",
    "attacks_networks_of_strangers",
    "explains_networks_of_strangers",
}
# Ensembles beside that of `standard:quick`, which take as long: in every run, that they lower their goal.
GOALS = tuple(f"attack-standard:quick,against={goal}-" for goal in ("center_shift", "cosine", "spearman,noise=known"))


def is_slow(check):
    contract = check.contract.__name__
    if str(check).startswith(GOALS):
        return contract != "lowers_its_objective"
    return contract in ALIKE and check.text != FIRST[check.component.partition(":")[0]]


@pytest.mark.parametrize(
    "check", [pytest.param(check, id=str(check), marks=[pytest.mark.slow] * is_slow(check)) for check in CHECKS]
)
def test_contract(check):
    check()
