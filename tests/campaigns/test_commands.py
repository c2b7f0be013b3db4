"""Wrong commands: each ends with 1, 2 or 3 and one line that names what is wrong."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from bench.cli.commands import main

COMMANDS = 300
LONG = "9" * 5000
ODD = [
    "",
    " ",
    "x",
    "\x1b[31m",
    "\u202eb",
    "²",
    "1/0",
    "nan",
    "-inf",
    LONG,
    "a" * 20_000,
    "((",
    ")(",
    '"',
    "..",
    "\udcff",
]
NUMBERS = {
    "eps": ["", "x", "-1", "8", "1e999", "nan", "inf", LONG, "²", "1/0", "1e-9999", "\x1b[1m", "1,x"],
    "samples": ["", "x", "0", "-5", "1.5", "nan", "²", LONG, "1,,2"],
    "seed": ["", "x", "1.5", "nan", "²", LONG, "0,x", "1e3"],
    "norm": ["", "l3", "LINF", "\x1b", "linf "],
    "split": ["", "dev", "TEST", "train,x"],
    "target": ["", "both", "\u202elabel"],
}
COMPONENTS = {
    "defense": ("l2_cosd", "cosine"),
    "attack": ("topk", "k"),
    "explainer": ("smoothgrad", "samples"),
    "model": ("lenet", "beta"),
    "schedule": ("quick", "epochs"),
    "dataset": ("parquet", "size"),
    "surrogate": ("smoothgrad", "noise"),
    "metric": ("topk_overlap", "k"),
}
NAMES = ["frob", "nope:", ":", "ce\x1b[31m", "../ce", "a" * 10_000, "(" * 5000, "\u202ece", "all2", "\udcff"]
TEXTS = """{0}: {0}:= {0}:{1} {0}:{1}= {0}:{1}=x {0}:{1}=-1 {0}:{1}=nan {0}:{1}=1e999 {0}:{1}=((( {0}:{1}=" {0}:x=1
{0}:{1}=1,{1}=2 {0}:{1}="\\ud800" {0}:{1}=LONG {0}:{1}=² {0}:{1}={2}""".replace("LONG", LONG).split()
DEEP = "({0}:{1}=" * 2000


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder with files that are none and boards that are none; returns its odd paths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    Path("zero").symlink_to("/dev/zero")
    Path("text").write_text("text")
    Path("empty").touch()
    Path("folder").mkdir()
    with Path("sparse").open("wb") as stream:
        stream.truncate(40 * 10**9)
    for number, content in enumerate(
        (b"", b"\xff\0", b"a = " + b"[" * 9000, b"metrics = 1", b"title = 0x" + b"f" * 9000)
    ):
        Path(f"board{number}").mkdir()
        Path(f"board{number}", "board.toml").write_bytes(content)
    Path("piped").mkdir()
    os.mkfifo("piped/board.toml")
    for link in ("pipe", "zero", "sparse", "loop", "text", "empty"):
        shutil.copy(link, f"{link}.png", follow_symlinks=False) if link in ("text", "empty") else Path(
            f"{link}.png"
        ).symlink_to(link)
    return ["pipe", "loop", "dangling", "zero", "text", "empty", "folder", "sparse", "/", "nowhere", "", "/proc/kmsg"]


def generate(lot, places):
    """Commands, each of which is wrong in one way."""
    no_boards = ["", "nowhere", "pipe", "loop", "text", "folder", "piped", *(f"board{n}" for n in range(5))]
    pictures = [
        "",
        "nowhere.png",
        "folder",
        "/",
        *(f"{name}.png" for name in ("pipe", "zero", "sparse", "loop", "text", "empty")),
    ]
    odd = [
        *(
            [c, f"--{option}={value}"]
            for c in ("run", "plan")
            for option, values in NUMBERS.items()
            for value in values
        ),
        *(
            [c, f"--{kind}={name}"]
            for c in ("run", "plan", "explain text.png")
            for kind in COMPONENTS
            for name in NAMES
        ),
        *(
            ["run", f"--{kind}={text.format(*own, DEEP.format(*own))}"]
            for kind, own in COMPONENTS.items()
            for text in TEXTS
        ),
        *(["run", f"--dataset={kind}:path={place}"] for kind in ("parquet", "folder") for place in places),
        *(["run", "--no-reference", f"--defense=weights:path={place}"] for place in places),
        *(
            ["run", "--samples=10", f"--store={place}"]
            for place in ("", "pipe", "loop", "dangling", "zero", "text", "text/x")
        ),
        *(
            [c, f"--data-dir={place}"]
            for c in ("run", "plan", "check")
            for place in ("", "pipe", "loop", "text", "nowhere")
        ),
        *(["run", f"--board={place}"] for place in no_boards),
        *(["leaderboard", c, place] for c in ("build", "verify", "publish") for place in no_boards),
        *(["leaderboard", "diff", place, "folder"] for place in no_boards),
        *(
            ["leaderboard", "validate", "folder", f"--base={place}"]
            for place in ("", "pipe", "loop", "text", "nowhere")
        ),
        *(["explain", place] for place in pictures),
        *(["explain", "good.png", f"--class={label}"] for label in [*ODD, "10", "-1"]),
        *(
            ["explain", "good.png", f"--out={place}"]
            for place in ("", "folder", "pipe", "nowhere/x.png", "text/x.png", "/")
        ),
        *([c, *words] for c in ("show", "check") for words in ([name] for name in [*ODD[2:], *NAMES])),
        *(["list", kind] for kind in [*ODD, "explainers"]),
        *(
            ["new", kind, name]
            for kind, name in itertools.product(("metric", "frob"), ("", "A", "1", "a b", "é", "x" * 99, "../x"))
        ),
        *(["new", "metric", "fine", f"--into={place}"] for place in ("", "pipe", "loop", "text", "/proc")),
        *([c, "--frob"] for c in ("run", "plan", "list", "show", "check", "explain", "store")),
        *([word] for word in (*ODD[2:], "runn", "--frob", "-x")),
        *(["store", c, f"--store={place}"] for c in ("ls", "prune") for place in ("",)),
        *(["store", word] for word in ("frob", "", "l")),
        *(["leaderboard", word] for word in ("frob", "", "buld")),
        *([c, "--device=" + value] for c in ("run", "plan") for value in ODD),
        *([c, "--without=" + value] for c in ("run", "list") for value in ODD),
    ]
    lot.shuffle(odd)
    return [[*words[0].split(" ", 1), *words[1:]] if words[0].startswith("explain ") else words for words in odd]


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_a_wrong_command_ends_with_one_line(places, capfd):
    from PIL import Image

    Image.new("RGB", (40, 30)).save("good.png")
    commands = generate(random.Random(0), places)
    assert len(commands) >= COMMANDS
    codes = Counter()
    wrong = []
    for words in commands:
        try:
            main(words)
        except SystemExit as done:
            code = done.code
        except BaseException as error:
            code = repr(error)[:500]
        out, err = capfd.readouterr()
        codes[code] += 1
        is_one_line = err.startswith("bench: ") and err.count("\n") == 1 and len(err) < 2100 and err[:-1].isprintable()
        if code not in (1, 2, 3) or out or not is_one_line:
            wrong.append(([word[:80] for word in words], code, out[:200], err[-2000:]))
    assert not wrong, "\n".join(map(str, wrong))
    with capfd.disabled():
        print(f"{len(commands)} wrong commands, by exit code: {dict(codes)}")
