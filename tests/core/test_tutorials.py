"""The tutorials, run: what they tell a reader to type works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from test_docs import commands, printed
from torch import nn

import bench
from bench.testing import checks

ROOT = Path(__file__).parents[2]
TINY = ("--schedule", "quick:epochs=1,limit=32", "--device", "cpu")


def read(page):
    return (ROOT / page).read_text()


def blocks(page):
    return re.findall(r"```python\n(.*?)```", read(page), re.DOTALL)


@pytest.mark.slow
def test_your_network_and_your_data(capsys):
    known: dict = {}
    for block in blocks("docs/tutorials/own-network.md"):
        exec(block, known)
    assert list(known["seen"].maps) == ["gradient", "lrp"] and known["results"].troubles == []
    out = capsys.readouterr().out
    assert "attack too short: twice its steps leave" in out  # as the text below the frame says
    for line in re.findall(
        r"^\d+ +.*steps=5  0\.\d+|^\d+ +.*noise  0\.\d+", read("docs/tutorials/own-network.md"), re.MULTILINE
    ):
        explainer, attack, value = line.split()[1:]
        (found,) = re.findall(rf"^\d+ +{explainer} +{attack} +(0\.\d+)", out, re.MULTILINE)
        assert float(found) == pytest.approx(float(value), abs=0.06)  # processors round differently


@pytest.mark.slow
def test_the_example_of_the_readme():
    (block,) = blocks("README.md")
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Softplus(), nn.Linear(4, 3))
    network = bench.Normalised(inner, [0.5], [0.25]).eval()
    known = {"network": network, "images": torch.rand(3, 3, 8, 8), "labels": torch.arange(3)}
    exec(block.replace("samples=16", "samples=2").replace('"topk"', '"topk:steps=2"'), known)
    assert set(known["frame"].metric) == {"accuracy", "kept_rate", "topk_overlap"}


@pytest.mark.slow
def test_explain_and_attack_a_picture(tmp_path, monkeypatch, bench_):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30), (90, 60, 200)).save("dog.jpg")
    lines = [words for words in commands(read("docs/tutorials/explain.md")) if words[0] == "explain"]
    lines = [words for words in lines if "--model" not in words]  # that one is downloaded
    assert len(lines) == 3
    for words in lines:
        out = words[words.index("--out") + 1] if "--out" in words else "panel.png"
        words = [word if word != "topk" else "topk:steps=2" for word in words]
        code, printed_, _ = bench_(*words, *TINY)
        assert code == 0 and Path(out).read_bytes().startswith(b"\x89PNG")
        for field in ("predicted", "attacked_predicted", "overlap") if "--json" in words else ():
            assert f'"{field}"' in printed_


@pytest.mark.parametrize("penalised", [False, True], ids=["template", "penalty"])
def test_write_a_defense(install, bench_, tmp_path, penalised):
    text = read("docs/tutorials/defense.md")
    source = printed(text, "bench_calm.py", "python")
    if penalised:
        _, loss, parameter, refuse = blocks("docs/tutorials/defense.md")
        source = re.sub(r"    smoothing: .*\n", lambda _: f"    {parameter}", source)
        inner = re.search(r"        def loss.*?\n\n", source, re.DOTALL)[0]
        source = source.replace(inner, "".join(f"        {line}\n" for line in loss.splitlines()) + "\n")
        source = source.replace(
            "    def train(", "".join(f"    {line}\n" for line in refuse.splitlines()) + "\n    def train("
        )
        source = source.replace("import bench\n", "import bench\nfrom bench.gradients import logits_and_gradient\n")
    else:
        bench_("new", "defense", "calm", "--into", str(tmp_path))
        written = (tmp_path / "bench-calm" / "bench_calm.py").read_text().splitlines()
        assert set(source.splitlines()) <= set(written), "the page shows what bench new writes"
    install("bench-calm", {"bench_calm": source})
    code, out, _ = bench_(
        "run", "--defense", "calm", "--attack", "topk:steps=2", "--samples", "10", "--metric", "accuracy", *TINY
    )
    assert code == 0 and re.search(r"^ce +.*\n(.*\n)?calm ", out, re.MULTILINE)
    if penalised:
        code, out, _ = bench_("plan", "--defense", "calm", "--model", "lenet:activation=relu", "--no-reference")
        assert "the penalty vanishes on lenet:activation=relu; choose a smooth model" in out


@pytest.mark.slow
def test_the_contracts_of_the_defense(install):
    install("bench-calm", {"bench_calm": printed(read("docs/tutorials/defense.md"), "bench_calm.py", "python")})
    from bench.engine import load

    assert [check.failure() for check in checks("defense", "calm", load())] == [""] * len(
        checks("defense", "calm", load())
    )


def test_the_gradient_of_another_score():
    (block,) = [block for block in blocks("docs/tutorials/explainer.md") if "logsumexp" in block]
    known: dict = {}
    exec(block, known)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    images, targets = torch.rand(2, 3, 2, 2, dtype=torch.float64), torch.tensor([2, 0])
    with torch.no_grad():
        got = known["attribute"](None, network, images, targets)
        # The derivative of log softmax: the target's weights less the mean of all, by probability.
        weights = network[1].weight
        expected = weights[targets] - network(images).softmax(1) @ weights
    torch.testing.assert_close(got.flatten(1), expected)
    assert not got.requires_grad
    images.requires_grad_()
    assert known["attribute"](None, network, images, targets).requires_grad
