"""Threats other than a white box in linf that keeps the prediction, each in a run of a few drawn shapes."""

from __future__ import annotations

ATTACKS = [
    "adv2:flips=2,steps=2",
    "evolution:steps=2,population=3",
    "genetic:steps=2,population=3,parents=2",
    "topk:steps=2",
    "universal:steps=2",
]


def test_each_gives_records_in_every_ball(tiny_run):
    metrics = ["topk_overlap", "joint_success", "attack_queries", "perturbation"]
    outcome = tiny_run(
        attack=ATTACKS, norm=["linf", "l0"], eps=["1", "20"], metric=metrics, samples=["8"], reference=False
    )
    print(outcome)
