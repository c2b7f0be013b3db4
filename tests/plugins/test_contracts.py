"""Every installed component keeps the contracts of its kind."""

import pytest

import bench


@pytest.mark.parametrize("check", bench.testing.checks(), ids=str)
def test_contract(check):
    check()
