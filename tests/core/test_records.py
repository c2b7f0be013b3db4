"""Every component that is installed gives a record, at the smallest scale."""

from __future__ import annotations

import pytest

import bench
from bench.engine.store import Store

FIRST = {}
for check in bench.testing.checks():
    FIRST.setdefault(check.kind, {}).setdefault(check.text.partition(":")[0], check.text)

# What needs a network, a ball or masks of its own.
TRANSFORMER = {"model": ["timm:arch=test_vit"]}
ROTATION = {"norm": ["rotation"], "eps": ["30"]}
SETTING = {
    "attention_rollout": TRANSFORMER,
    "transformer_attribution": TRANSFORMER,
    "bcos": {"model": ["bcos:layout=lenet"]},
    "harmonize": {"defense": ["harmonize:attention=object_masks"]},
    "grid_search": ROTATION,
    "parameter_descent": ROTATION,
    "worst_of_k": ROTATION,
    "trigger": {"eps": ["1"]},
}
METRIC = {"defense": "accuracy", "explainer": "topk_overlap", "attack": "topk_overlap"}
SMALL = {"schedule": ["quick:epochs=1,batch=32,limit=32"], "samples": ["2"], "attack": ["sign_noise"]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A store in which the plain network is trained once."""
    return Store(tmp_path_factory.mktemp("shared"), lambda warning: None)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param(kind, text, id=f"{kind}-{name}")
        for kind in ("defense", "explainer", "attack")
        for name, text in FIRST[kind].items()
    ],
)
def test_every_component_gives_a_record(tiny_run, shared, kind, text):
    options = {**SMALL, kind: [text], **SETTING.get(text.partition(":")[0], {})}
    outcome = tiny_run(reference=False, into=shared, metric=[METRIC[kind]], **options)
    assert not outcome.failures
    (record,) = outcome.records.values()
    assert record.n == 2 and (record.value is None) == (record.undefined == 2)
