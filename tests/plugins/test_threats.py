"""Threats other than a white box in linf that keeps the prediction, in runs on a few drawn shapes."""

from __future__ import annotations

QUERIES = {"evolution:steps=2,population=3": 8, "genetic:steps=2,population=3,parents=2": 7}
FEW = {"samples": ["4"], "reference": False}


def test_each_attack_gives_a_record(tiny_run):
    found = tiny_run(attack=[*QUERIES, "universal:steps=2"], metric=["attack_queries"], **FEW).records.values()
    assert {r.axes["attack"]: r.value for r in found} == {**QUERIES, "universal:steps=2": None}

    # The networks of the store serve again.
    (hidden,) = tiny_run(attack=["adv2:flips=2,steps=2"], metric=["joint_success"], **FEW).records.values()
    assert 0 <= hidden.value <= 1 and hidden.objective["after"] <= hidden.objective["before"]
    assert not any("attack" in flag or "gradient" in flag for flag in hidden.flags)  # it is not to move maps

    sparse = {"attack": ["topk:steps=2"], "norm": ["l0"], "eps": ["20"], "metric": ["topk_overlap"]}
    (record,) = tiny_run(**sparse, **FEW).records.values()
    assert record.axes["ball"] == "l0:20" and 0 <= record.value < 1
    assert not any("gradient check" in flag for flag in record.flags)
