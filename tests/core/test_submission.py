"""Submissions: what is checked of them, without running anything of theirs."""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import zlib

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from submissions import META, describe, relined, submit

from bench.boards import record
from bench.boards.board import ROW, read_board, row_name
from bench.boards.folder import read_images, read_records
from bench.boards.render.diff import compare_boards
from bench.boards.render.site import render_board
from bench.boards.submissions import attachments as attached, validate as submissions
from bench.boards.submissions.compare import is_choice
from bench.boards.submissions.metadata import draft, follow_supersedes, read_meta
from bench.boards.submissions.validate import validate
from bench.components import case
from bench.errors import BadValue, EnvironmentProblem, UnknownName
from bench.keys import hash_spec, read_identity
from bench.publishing.verification import draw_sample, read_submission
from bench.shapes import clean, quote


def png(width=8, height=8):
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def picture(folder, raw, name="acme", key="0" * 16):
    place = folder / "examples" / name
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{key}.png").write_bytes(raw)


def one(folder, *words, **options):
    """The only complaint about a board, which names all of some words."""
    (line,) = validate(folder, **options)
    assert all(word in line for word in words), line
    return line


def row_of(folder, name):
    """The name of a row of a submission."""
    record = json.loads((folder / "records" / f"{name}.jsonl").read_text().splitlines()[0])
    return row_name({axis: record["axes"][axis] for axis in ROW if axis in record["axes"]})


def edited(**fields):
    """A change of a line of records: fields are replaced in it."""
    return lambda line: json.dumps({**json.loads(line), **fields}).encode()


def test_what_is_as_published_is_valid(tiny, bench_):
    picture(tiny, png(), key=row_of(tiny, "acme"))
    for name in render_board(read_board(tiny)):
        (tiny / name).write_text("generated")
    assert validate(tiny) == []
    assert bench_("leaderboard", "validate", str(tiny)) == (0, "2 submissions, 4 records valid\n", "")


def test_the_axes_are_those_of_a_case():
    assert case.AXES == record.AXES


def test_validation_needs_neither_torch_nor_plugins(tiny):
    code = (
        "import sys; from bench.cli.commands import main\n"
        "try: main(['leaderboard', 'validate', sys.argv[1]])\n"
        "finally: print('torch' in sys.modules, any(m.startswith('bench_') for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2 submissions, 4 records valid", "False False"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda line: line[:50], "line 1 is not strict JSON"),
        (lambda line: b"", "line 1 is not strict JSON"),
        (lambda line: b"[]", "line 1 is [], must be a table"),
        (lambda line: line.replace(b"{", b'{"n": 3, ', 1), "the key 'n' appears twice"),
        (lambda line: line.replace(b'"n": 3', b'"n": NaN'), "NaN is not a number"),
        (lambda line: line.replace(b'"trained": 1.5', b'"trained": 1e400'), "cost.trained is inf"),
        (edited(cost={"x": 2 * 10**15}), "cost.x is 2000000000000000, must be a number from 0 to 1e+15"),
        (lambda line: line.replace(b'"flags": []', b'"flags": ' + b"[" * 9 + b"]" * 9), "brackets more than 6 deep"),
        (lambda line: line + b"\r", "ends in a carriage return"),
        (lambda line: b"\xef\xbb\xbf" + line, "begins with a byte order mark"),
        (lambda line: b"\xff" + line, "is not UTF-8"),
        (lambda line: line + b" " * 200_000, "bytes; at most 200000 are allowed"),
        (
            lambda line: json.dumps({k: v for k, v in json.loads(line).items() if k != "unit"}).encode(),
            "has no unit; publish it again with this version of the suite",
        ),
        (edited(extra=1), "has the unknown key 'extra'; publish it again with this version of the suite"),
        (edited(help=""), "help is empty; fill it in"),
        (edited(help="x" * 1001), "help has 1001 characters"),
        (edited(help="a\nb"), "help is 'a?b' and contains the hidden character U+000A"),
        (edited(paper="a\x00b"), "paper is 'a?b' and contains the hidden character U+0000"),
        (edited(unit="\u202e"), "unit is '?' and contains the hidden character U+202E"),
        (edited(undefined_because="\ud800"), "contains the hidden character U+D800"),
        (edited(better="best"), "better is 'best', must be higher or lower"),
        (edited(kept=4), "kept is 4, must be a whole number from 0 to 3"),
        (edited(undefined=4), "undefined is 4, must be a whole number from 0 to 3"),
        (edited(undefined=-1), "undefined is -1, must be a whole number from 0 to 100000"),
        (edited(n=True), "n is True, must be a whole number"),
        (edited(ci95=[1, 0]), "ci95 is [1, 0], must have its lower end first"),
        (edited(ci95=[1]), "ci95 is [1], must be a list of two numbers"),
        (edited(range=[1, 1]), "range is [1, 1], must have its lower end first"),
        (edited(range=None), "range is None, must be a list of two numbers"),
        (edited(range=[None, "1"]), "range[1] is '1', must be a number from -1e+15 to 1e+15"),
        (edited(value=1.5), "value is 1.5, must be a number from -1e-06 to 1"),
        (edited(axes={"colour": "red"}), "axes has the unknown key 'colour'; known: attack, ball, dataset"),
        (edited(axes={"dataset": 1}), "axes.dataset is 1, must be a text"),
        (
            edited(axes={"dataset": "folder:path=/home/x"}),
            "axes.dataset is 'folder:path=/home/x', must be without paths",
        ),
        (
            edited(axes={"dataset": "folder:path=a/../b"}),
            "must be without paths of a machine; publish it again, which writes NAME#CHECKSUM",
        ),
        (
            edited(command="bench run --store /tmp"),
            "command is 'bench run --store /tmp', must be without paths of a machine",
        ),
        (edited(command="rm -r *"), "command is 'rm -r *', but metric and axes give another"),
        (edited(levels={"a": "1"}), "levels.a is '1', must be a number"),
        (edited(provenance={"a": {"b": [1]}}), "provenance.a.b is [1], must be a text"),
        (edited(flags=["x", None]), "flags[1] is None, must be a text"),
        (edited(spec="[]"), "spec is '[]', not as the suite writes it"),
        (edited(key="0" * 16), "key is 0000000000000000, but its spec has the key"),
        (edited(value=0.9), "line 1: value is 0.9, but its images give 0."),
        (edited(ci95=[0, 1]), "line 1: ci95 is (0, 1), but its images give ("),
        (edited(n=2), "line 1: n is 2, but its images give 3"),
        (edited(levels={"a": 1}), "line 1: levels is {'a': 1}, but its images give {}"),
    ],
)
def test_a_record_that_is_none_is_told_in_one_line(tiny, change, words):
    relined(tiny, change)
    one(tiny, "acme.jsonl, line 1", words)


def respecced(**parts):
    """A change of a line of records whose spec is another, with the key and command that go with it."""

    def change(line):
        found = json.loads(line)
        made, versions, chosen = json.loads(found["spec"])
        found["spec"] = json.dumps([parts.get("made", made), versions, {**chosen, **parts.get("chosen", {})}])
        return json.dumps({**found, "key": hash_spec(found["spec"])}).encode()

    return change


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"made": "record@3/metric/other@1()"}, "metric is 'topk_overlap', but spec says 'metric/other@1()'"),
        ({"chosen": {"defense": "defense/other@1()"}}, "axis defense is 'l2', but spec says 'defense/other@1()'"),
        ({"chosen": {"defense": "explainer/l2@1()"}}, "axis defense is 'l2', but spec says 'explainer/l2@1()'"),
        ({"chosen": {"seed": "1"}}, "axis seed is '0', but spec says '1'"),
        ({"chosen": {"target": "label"}}, "axis target"),
        ({"made": "record@1/metric/topk_overlap@1()"}, "is record@1, but the suite now makes record@3; run it again"),
    ],
)
def test_a_spec_is_about_the_metric_and_the_axes(tiny, parts, words):
    relined(tiny, respecced(**parts))
    one(tiny, "acme.jsonl, line 1", words)


def test_a_set_that_is_read_from_files_ends_in_their_checksum(tiny):
    relined(tiny, respecced(chosen={"dataset": "dataset/shapes@1(size=32)#63f129a1fbafaf18"}))
    # All else is as it was: only the key is another, which the values beside it do not know.
    assert not any("axis dataset" in line for line in validate(tiny))
    relined(tiny, respecced(chosen={"dataset": "dataset/shapes@1(size=32)#../x"}))
    assert validate(tiny)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"both": {"dataset": "easy"}}, "axis dataset is 'easy', but the board has shapes"),
        ({"both": {"schedule": "longer"}}, "axis schedule is 'longer', but the board has quick or long"),
        ({"axes": {"seed": "3"}}, "axis seed is '3', but the board has 0"),
        ({"axes": {"samples": "2"}}, "axis samples is '2', but the board has 3"),
    ],
)
def test_a_record_stands_beside_the_others_of_its_board(tiny, change, words):
    submit(tiny, **change)
    lines = validate(tiny)
    assert lines and all(words in line for line in lines)


def test_a_citation_that_the_suite_corrected_stands_beside_the_old_one(tiny):
    def cite(paper):
        return edited(provenance={"papers": {"model lenet": paper}})

    for number, paper in enumerate(("The old one", "The corrected one")):
        relined(tiny, cite(paper), "suite", number)
        relined(tiny, cite(paper), "acme", number)
    assert validate(tiny) == []
    relined(tiny, cite("Mine"))
    one(tiny, "provenance.papers.model lenet is 'Mine', but the suite has another")


def test_a_departing_row_is_of_the_board(tiny):
    submit(tiny, both={"schedule": "long"})
    assert validate(tiny) == []
    text = (tiny / "board.toml").read_text()
    (tiny / "board.toml").write_text(text.replace('"8/255", "1/2"', '"1/2"'))
    lines = validate(tiny)
    assert len(lines) == 2
    assert all("axis ball is 'linf:8/255', but the board has linf:1/2" in line for line in lines)
    (tiny / "board.toml").write_text(text.replace('"accuracy", "topk', '"topk'))
    assert all("metric is 'accuracy', but the board has topk_overlap" in line for line in validate(tiny))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"8/255", "1/2"', '"16/510"', "axes.eps has '16/510'; write 8/255"),
        ('"8/255", "1/2"', '"0.5"', "axes.eps has '0.5'; write 1/2"),
        ('"8/255", "1/2"', '"-1/2"', "axes.eps has '-1/2'; write a fraction such as 8/255"),
        ('"8/255", "1/2"', '"1e-3"', "axes.eps has '1e-3'; write a fraction such as 8/255"),
        ('"8/255", "1/2"', '"255/8"', "eps 255/8 is impossible in linf: budgets are in pixel units of [0, 1]"),
        ('["linf"]', '["l1"]', "axes.norm is 'l1', must be linf or l2 or l0 or rotation or translation or colour"),
        (
            '["linf"]',
            '["l0"]',
            "eps 8/255 is impossible in l0: it is a number of pixels; write a whole number such as 20",
        ),
        ('["test"]', '["tset"]', "axes.split is 'tset', must be test or validation or train"),
        ('["predicted"]', '"guess"', "axes.target is 'guess', must be predicted, label, class:second or a class such"),
        ("samples = [3]", "samples = [0]", "axes.samples has '0', must be a whole number from 1"),
        ("samples = [3]", "samples = [100001]", "axes.samples has '100001', must be a whole number from 1 to 100000"),
        ("[axes]", "example = [0, 3]\n[axes]", "example is [0, 3], must be places among 3 samples, from 0"),
        ("samples = [3]", 'samples = ["03"]', "axes.samples has '03', must be a whole number from 1"),
        ("seed = [0]", "seed = [-1]", "axes.seed has '-1', must be a whole number from 0"),
        (
            "seed = [0]",
            "seed = [0x" + "f" * 5000 + "]",
            "axes.seed is a list too long to print, must be a list of texts",
        ),
        ('["topk"]', '["topk:"]', "axes.attack has 'topk:' ('topk:' is not of the form NAME or NAME:PARAMETER=VALUE"),
        ('["topk"]', '["topk:k = 5"]', "axes.attack has 'topk:k = 5'"),
        ('["topk"]', '["topk:k=05"]', "axes.attack has 'topk:k=05' ('k=05' is not written as the suite writes it)"),
        ('["topk"]', '["topk:ghorbani2019"]', "axes.attack has 'topk:ghorbani2019'"),
        ('["topk"]', '["Topk"]', "axes.attack has 'Topk'"),
        ('"accuracy", "topk_overlap"', '"accuracy:"', "metrics has 'accuracy:'"),
        ('defense = "slow"', 'defense = "slow:"', "row[0].defense has 'slow:'"),
        (
            "[[row]]",
            "[tolerance]\naccurracy = 0.1\n[[row]]",
            "tolerance has 'accurracy', which is none of its metrics; did",
        ),
        (
            "[[row]]",
            '[tolerance]\n"topk_overlap:k=5" = 0.1\n[[row]]',
            "tolerance has 'topk_overlap:k=5', which is none of",
        ),
    ],
)
def test_a_protocol_that_no_record_can_follow_is_told(tiny, old, new, words):
    text = (tiny / "board.toml").read_text()
    assert old in text
    (tiny / "board.toml").write_text(text.replace(old, new))
    one(tiny, "board.toml", words)


def rewritten(folder, change, name="acme", **options):
    file = folder / "records" / f"{name}.values.parquet"
    pyarrow.parquet.write_table(change(pyarrow.parquet.read_table(file)), file, **options)


def column(name, change):
    def changed(table):
        values = [change(i, v) for i, v in enumerate(table[name].to_pylist())]
        place = table.column_names.index(name)
        return table.set_column(place, name, pyarrow.array(values, table[name].type))

    return changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(["kept"]), "must be key string, image int64, level string, value double, kept bool"),
        (lambda t: t.append_column("x", t["key"]), "has the columns 'key string"),
        (lambda t: t.set_column(3, "value", t["value"].cast("float")), "value float"),
        (lambda t: t.slice(0, 2), ", but its images give "),
        (lambda t: pyarrow.concat_tables([t, t]), "name an image twice"),
        (column("key", lambda i, v: v if i < 3 else "f" * 16), "which is not a record"),
        (column("key", lambda i, v: "f" * 17), "a text has 17 characters"),
        (column("image", lambda i, v: 3), "name an image twice"),
        (column("image", lambda i, v: v - 9), "name an image twice, or one below -1"),
        (column("image", lambda i, v: None), "a row has no image"),
        (column("level", lambda i, v: "a" if i == 1 else v), "are not ordered by image, each with the same levels"),
        (column("value", lambda i, v: np.inf), "a value is not finite, or above 1e+15; write null"),
        (column("value", lambda i, v: np.nan), "a value is not finite, or above 1e+15; write null"),
        (column("kept", lambda i, v: True if i == 0 else v), "say only of some images whether they are kept"),
    ],
)
def test_values_that_are_none_are_told(tiny, change, words):
    rewritten(tiny, change)
    lines = validate(tiny)
    assert any(words in line for line in lines) and all("acme" in line for line in lines), lines


def test_values_without_a_record_and_a_record_without_values(tiny):
    relined(tiny, lambda line: b"", number=1)
    file = tiny / "records" / "acme.jsonl"
    file.write_bytes(file.read_bytes().rstrip(b"\n") + b"\n")
    one(tiny, "acme.values.parquet has values of", "which is not a record")
    submit(tiny)
    keys = [json.loads(line)["key"] for line in file.read_text().splitlines()]
    rewritten(tiny, lambda t: t.filter(pyarrow.compute.equal(t["key"], keys[0])))
    one(tiny, f"acme.jsonl, line 2: key {keys[1]} has neither values in ")
    whole = {"value": None, "value_kept": None, "n": 0, "kept": None, "undefined": 0, "ci95": None}
    relined(tiny, edited(**whole, undefined_because="it has no masks"), number=1)
    assert validate(tiny) == []


def test_a_small_file_that_is_large_in_memory_is_not_read(tiny, monkeypatch):
    size, file = 3_000_000, tiny / "records" / "acme.values.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"kept": pyarrow.nulls(size, pyarrow.bool_())}), file)
    assert file.stat().st_size < 10_000
    read = pyarrow.parquet.ParquetFile.read
    monkeypatch.setattr(
        pyarrow.parquet.ParquetFile, "read", lambda self, **how: read(self, **how) if _few(self) else 1 / 0
    )
    one(tiny, f"acme.values.parquet has {size} rows; at most 2000000 are allowed")


def _few(file):
    return file.metadata.num_rows < 100


def test_much_text_in_a_dictionary_is_not_read(tiny, monkeypatch):
    monkeypatch.setattr(attached, "UNCOMPRESSED", 2_000_000)
    rewritten(tiny, column("key", lambda i, v: "x" * 1_000_000 + str(i)), compression="zstd")
    one(tiny, "bytes when uncompressed; at most 2000000 are allowed")
    submit(tiny)
    rewritten(tiny, column("level", lambda i, v: "x" * 1000), compression="zstd")
    one(tiny, "a text is longer than 200 characters")


def test_an_encoding_that_makes_much_of_little_is_not_read(tiny):
    options = {"use_dictionary": False, "column_encoding": {"key": "DELTA_BYTE_ARRAY"}}
    rewritten(tiny, lambda t: t, **options)
    one(tiny, "acme.values.parquet is encoded by DELTA_BYTE_ARRAY")


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def jpeg():
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (jpeg(), "is not a PNG (it begins with ffd8ff"),
        (b"GIF89a" + bytes(20), "is not a PNG"),
        (
            png()[:8] + chunk(b"IHDR", b"\x00\x01\x00\x00" * 2 + b"\x08\x02\x00\x00\x00") + png()[33:],
            "Image size (4294967296 pixels) exceeds limit",
        ),
        (png(4001, 1), "is a PNG of 4001 x 1 pixels; at most 4000 x 4000 are allowed"),
        (png()[:-20], "cannot be decoded (Truncated File Read)"),
        (png()[:40] + b"x" + png()[41:], "cannot be decoded (broken PNG file (bad header checksum"),
        (png() + b"PK\x03\x04", "has 4 bytes after the picture"),
        (png()[:33] + chunk(b"acTL", bytes(8)) + png()[33:], "has the part 'acTL'"),
        (png()[:-12] + chunk(b"IEND", b"<script>") + png()[-12:], "has 20 bytes after the picture"),
        (png()[:33] + chunk(b"tEXt", b"a\x00<script>") + png()[33:], "has the part 'tEXt'; save its pixels alone"),
        (png()[:33] + chunk(b"sPLT", b"a\x00<script>") + png()[33:], "has the part 'sPLT'"),
        (png()[:-12] + chunk(b"eXIf", b"MM\x00*") + png()[-12:], "has the part 'eXIf'"),
        (png()[:-12] + chunk(b"IDAT", b"PK\x03\x04" * 900) + png()[-12:], "bytes, but its pixels need only "),
        (png()[:33] + chunk(b"IDAT", b"none") + png()[-12:], "cannot be decoded"),
        (png()[:33] + png()[-12:], "cannot be decoded"),
    ],
)
def test_a_picture_that_is_none_is_told(tiny, raw, words):
    picture(tiny, raw)
    one(tiny, f"examples/acme/{'0' * 16}.png", words)


def test_only_files_of_a_board_are_taken(tiny):
    (tiny / "records" / "evil.py").write_text("print()")
    one(
        tiny, "records/evil.py is not a file of a board; submissions have records/NAME.jsonl, .values.parquet and .toml"
    )
    (tiny / "records" / "evil.py").unlink()
    (tiny / "hidden").mkdir()
    one(tiny, "hidden is a folder that no board has")
    (tiny / "hidden").rmdir()
    (tiny / "README.md").symlink_to("/etc/passwd")
    one(tiny, "README.md is a link; replace it by the file itself")
    (tiny / "README.md").unlink()
    os.mkfifo(tiny / "table.csv")
    one(tiny, "table.csv is not a file of a board")
    (tiny / "table.csv").unlink()
    with (tiny / "records" / "acme.jsonl").open("ab") as stream:
        stream.truncate(30_000_000)
    one(tiny, "acme.jsonl has 30000000 bytes; at most 20000000 are allowed")
    (tiny / "records" / "acme.jsonl").write_bytes(b"")
    one(tiny, "acme.jsonl is empty")
    (tiny / "records" / "acme.jsonl").unlink()
    one(tiny, "records/acme.jsonl is missing from submission acme; bench leaderboard publish writes all three")


def test_a_broken_file_stops_the_check_of_no_other(tiny):
    (tiny / "records" / "acme.jsonl").write_bytes(b"x\n")
    describe(tiny, "suite", year="x")
    (tiny / "records" / "b.toml").write_text("x")
    lines = validate(tiny)
    assert len(lines) == 4
    for words in ("acme.jsonl, line 1", "suite.toml: year is 'x'", "records/b.jsonl is missing", "b.toml is not TOML"):
        assert sum(words in line for line in lines) == 1
    assert len(validate(tiny, names=["suite"])) == 1
    with pytest.raises(UnknownName, match="no submission called 'nobody'"):
        validate(tiny, names=["nobody"])


def test_many_complaints_about_a_file_are_cut(tiny):
    (tiny / "records" / "acme.jsonl").write_bytes(b"x\n" * 30)
    lines = validate(tiny)
    assert len(lines) == 11 and lines[-1].endswith("acme.jsonl: 20 more problems like these")


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"title": None, "year": None}, "acme.toml has no title, year; add what is missing"),
        ({"titel": "x"}, "acme.toml has the unknown key 'titel'; did you mean 'title'?"),
        ({"authors": [], "selection": "", "selected_on": ""}, "authors, selection, selected_on are empty; fill in"),
        ({"licence": " "}, "licence is empty"),
        ({"authors": ["x", 1]}, "authors[1] is 1, must be a text"),
        ({"authors": "x"}, "authors is 'x', must be a list"),
        ({"year": "2026"}, "year is '2026', must be a whole number from 1900 to 2200"),
        ({"year": 20260}, "year is 20260, must be a whole number from 1900 to 2200"),
        ({"title": 3}, "title is 3, must be a text"),
        ({"title": "x" * 201}, "title has 201 characters"),
        ({"paper": "javascript:alert(1)"}, "paper is 'javascript:alert(1)', must be empty or begin with https://"),
        ({"code": "https://user@example.org"}, "code is 'https://user@example.org', must be"),
        ({"paper": "https://example.org/a b"}, "paper is 'https://example.org/a b', must be"),
        ({"selected_on": "all"}, "selected_on is 'all', must be validation or test or train or none"),
        ({"supersedes": ["../x"]}, "supersedes[0] is '../x', must be the name of another submission"),
        ({"supersedes": ["nobody"]}, "supersedes has 'nobody', but the board has no such submission"),
        (
            {"supersedes": ["acme"]},
            "submission 'acme' supersedes itself, directly or through others; remove one of them",
        ),
        ({"supersedes": "suite"}, "supersedes is 'suite', must be a list"),
        ({"supersedes": ["suite"]}, "supersedes has 'suite', which only the suite corrects; open a dispute instead"),
    ],
)
def test_metadata_that_are_wrong_are_told(tiny, meta, words):
    describe(tiny, **meta)
    one(tiny, words)


def test_metadata_are_there(tiny):
    (tiny / "records" / "suite.toml").unlink()
    one(tiny, "records/suite.toml is missing from submission suite")


def test_metadata_read_back(tiny):
    assert dataclasses.asdict(read_meta(tiny / "records" / "acme.toml")) == {**META, "supersedes": [], "published": ""}
    describe(tiny, paper="doi:10.1016/S0140-6736(05)17866-0")
    assert read_meta(tiny / "records" / "acme.toml").paper.startswith("doi:")


def test_a_first_publication_says_what_to_fill_in(tiny):
    file = tiny / "records" / "acme.toml"
    file.write_text(draft("my_own-run", 'CPU, "2" threads', datetime.date(2026, 1, 31)))
    one(tiny, "acme.toml: authors, licence, selection, selected_on are empty; fill in what is true")
    assert read_board(tiny).rows
    text = file.read_text().replace("authors = []", 'authors = ["A"]')
    for empty in ("licence", "selection"):
        text = text.replace(f'{empty} = ""', f'{empty} = "x"')
    file.write_text(text.replace('selected_on = ""', 'selected_on = "none"'))
    assert validate(tiny) == [] and read_meta(file).title == "my own run"
    assert (read_meta(file).year, read_meta(file).published) == (2026, "2026-01-31")


def test_of_other_submissions_no_values_are_read_unless_they_are_checked(tiny, made_board, monkeypatch):
    read = []
    monkeypatch.setattr(submissions, "read_values", lambda file: read.append(file.name) or attached.read_values(file))

    def values_read(**options):
        read.clear()
        assert validate(tiny, **options) == []
        return [name.removesuffix(".values.parquet") for name in read]

    for name in ("newer", "newest"):
        submit(tiny, name, both={"defense": name})
    assert values_read() == ["suite", "acme", "newer", "newest"]
    assert values_read(names=["newer"]) == ["suite", "newer"]
    assert values_read(base=made_board) == ["suite", "newer", "newest"]
    assert values_read(base=shutil.copytree(tiny, tiny.parent / "same")) == ["suite"]
    changed = shutil.copytree(tiny, tiny.parent / "changed")
    (changed / "board.toml").write_text(f"{(tiny / 'board.toml').read_text()}# Another one.\n")
    read.clear()
    one(tiny, "board.toml has changed", base=changed)
    assert len(read) == 4  # under another protocol, values may be wrong


def test_what_is_published_stays(tiny, made_board):
    assert validate(tiny, base=made_board) == []
    submit(tiny, "newer", both={"defense": "mine"})
    picture(tiny, png(), "newer", row_of(tiny, "newer"))
    assert validate(tiny, base=made_board) == []
    picture(tiny, png(), "newer")
    one(tiny, f"examples/newer/{'0' * 16}.png shows no row of the submission", base=made_board)
    shutil.rmtree(tiny / "examples")
    describe(tiny, "acme", title="Another")
    one(
        tiny,
        "records/acme.toml has changed since it was published; results stay: publish a correction",
        base=made_board,
    )
    for file in (tiny / "records").glob("acme.*"):
        file.unlink()
    lines = validate(tiny, base=made_board)
    assert len(lines) == 3 and all("was published and is gone" in line for line in lines)


def test_a_submission_touches_neither_the_protocol_nor_what_is_generated(tiny, made_board, bench_, monkeypatch):
    (tiny / "board.toml").write_text((tiny / "board.toml").read_text() + "\n")
    words = "board.toml has changed, but a submission only adds records and examples; restore it"
    one(tiny, words, base=made_board)
    code, out, err = bench_("leaderboard", "validate", str(tiny), "--base", str(made_board))
    assert (code, out) == (1, "") and words in err and err.count("\n") == 1
    code, _, err = bench_("leaderboard", "validate", str(tiny), "--base", str(made_board.parent))
    assert code == 1 and words in err
    (tiny / "board.toml").write_bytes((made_board / "board.toml").read_bytes())
    (tiny / "README.md").write_text("mine")
    one(tiny, "README.md has changed", base=made_board)
    monkeypatch.chdir(tiny.parent)
    (tiny.parent / "leaderboards").mkdir()
    code, out, err = bench_("leaderboard", "validate", "--base", str(made_board.parent))
    assert (code, out) == (1, "") and "board leaderboards/tiny was removed; restore it" in err


def test_a_board_that_became_a_link_is_told(tiny, made_board):
    (tiny.parent / "other").symlink_to(tiny)
    assert validate(tiny.parent / "other") == []
    one(tiny.parent / "other", "other is a link; replace it by the folder itself", base=made_board)


def test_folders_that_cannot_be_read(tmp_path, bench_, monkeypatch, tiny):
    code, out, err = bench_("leaderboard", "validate", str(tmp_path / "none"))
    assert (code, out) == (3, "") and "none cannot be read; name a folder that has a board.toml" in err
    code, _, err = bench_("leaderboard", "validate", str(tiny / "records"))
    assert code == 3 and "board.toml cannot be read (No such file or directory); name a folder that has one" in err
    code, _, err = bench_("leaderboard", "validate", str(tiny), "--base", str(tmp_path / "none"))
    assert code == 3 and "base" in err and "does not exist; name the folder of a board" in err
    monkeypatch.chdir(tmp_path)
    code, _, err = bench_("leaderboard", "validate")
    assert code == 2 and "no board in the folder leaderboards" in err
    with pytest.raises(EnvironmentProblem, match="cannot be read"):
        validate(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "is not TOML"),
        ("x = " + "[" * 5000, "is not TOML"),
        ("[axes]", "has no metrics, reference, fallback; add what is missing"),
        ("tilte = 1", "has the unknown key 'tilte'; did you mean 'title' or 'file'?"),
    ],
)
def test_a_protocol_that_is_none_is_told(tiny, text, words):
    (tiny / "board.toml").write_text(text)
    one(tiny, "board.toml", words)


def test_of_one_key_there_is_one_record(tiny):
    file = tiny / "records" / "acme.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[0] + lines[1])
    one(tiny, "acme.jsonl, line 2: key", "acme.jsonl, line 1 too; remove one of them")


def test_of_one_cell_there_is_one_record_unless_it_is_superseded(tiny):
    submit(tiny, "again", values=((0.0, 0.5, 0.75), (0.5, 1.0, 0.75)))
    lines = validate(tiny)
    assert len(lines) == 2 and all("/records/acme.jsonl, line" in line for line in lines)
    assert all("remove it, or name that submission in supersedes" in line for line in lines)
    describe(tiny, "again", supersedes=["acme"])
    assert validate(tiny) == []


def values_of(folder, metric="accuracy"):
    records, origin = read_records(folder)
    images = read_images(folder, origin)
    return {r.axes["defense"]: (r.value, images[r.key][0][0]) for r in records if r.metric == metric}


def test_the_superseding_submissions_record_counts(tiny):
    before = values_of(tiny)
    submit(tiny, "zz", values=((0.0, 0.0, 0.75), (0.5, 1.0, 0.75)))
    assert values_of(tiny) == before  # of one key the first counts, where none supersedes
    describe(tiny, "zz", supersedes=["acme"])
    assert values_of(tiny) == {**before, "l2": (0.25, 0.0)}
    submit(tiny, "a", values=((1.0, 1.0, 1.0), (0.5, 1.0, 0.75)), meta={"supersedes": ["zz"]})
    assert values_of(tiny) == {**before, "l2": (1.0, 1.0)}
    (tiny / "records" / "zz.toml").unlink()
    assert values_of(tiny)["l2"] == (1.0, 1.0)


def test_of_another_version_too_the_superseding_record_counts(tiny):
    submit(tiny, "zz", values=((0.0, 0.0, 0.75), (0.5, 1.0, 0.75)))
    for number in (0, 1):
        relined(tiny, respecced_version, "zz", number)
    with pytest.raises(BadValue, match="two records of"):
        read_board(tiny)
    describe(tiny, "zz", supersedes=["acme"])
    records = read_records(tiny).records
    assert len(records) == 4 and read_board(tiny).rows
    assert {r.value for r in records if r.metric == "accuracy"} == {0.5, 0.25}


def respecced_version(line):
    found = json.loads(line)
    spec = found["spec"].replace('"network": 1', '"network": 2')
    return json.dumps({**found, "spec": spec, "key": hash_spec(spec)}).encode()


def test_superseding_goes_in_no_circle():
    assert follow_supersedes({"a": ["b"], "b": ["c"]}) == {"a": {"b", "c"}, "b": {"c"}}
    with pytest.raises(BadValue, match="submission 'a' supersedes itself, directly or through others"):
        follow_supersedes({"a": ["b"], "b": ["a"]})


def test_all_rows_are_measured_on_the_same_images(tiny):
    rewritten(tiny, column("image", lambda i, v: v + 1))
    lines = validate(tiny)
    assert len(lines) == 2 and all(
        "measured on other images than" in line and f"suite.jsonl, line {number}; run it on" in line
        for number, line in enumerate(lines, 1)
    )


def test_whatever_is_printed_is_one_short_line_of_what_can_be_seen():
    assert clean("a\nb\x00\u202e\u2028\ud800c") == "a?b????c" and clean("x" * 500) == "x" * 120 + "..."
    assert quote("a\nb") == "'a?b'" and quote([1, "a"]) == "[1, 'a']" and "too long" in quote(16**9000)


def test_a_sample_is_drawn_by_lot_from_all_keys(tiny):
    runs = [*read_submission(tiny, "suite"), *read_submission(tiny, "acme")]
    drawn = [draw_sample("tiny", runs, 2, text) for text in ("a", "a", *"bcdefgh")]
    keys = [tuple(run.record.key for run in each) for each in drawn]
    assert keys[0] == keys[1] and len(set(keys)) > 1
    assert draw_sample("tiny", random.Random(0).sample(runs, 4), 2, "a") == drawn[0]
    assert len(draw_sample("tiny", runs, 99, "a")) == 4


def test_a_metric_has_one_direction_and_one_unit(tiny):
    relined(tiny, edited(better="lower"))
    one(tiny, "acme.jsonl, line 1: better is 'lower', but 'higher' in ", "suite.jsonl, line 1; publish it again")
    submit(tiny)
    relined(tiny, edited(unit="@somebody"))
    one(tiny, "acme.jsonl, line 1: unit is '@somebody', but '' in ", "suite.jsonl, line 1; publish it again")


def test_in_a_comment_all_texts_of_others_are_code(tiny, made_board):
    text = (tiny / "board.toml").read_text().replace('title = "Tiny"', 'title = "@who https://evil.example"')
    (tiny / "board.toml").write_text(text + '[score]\nmetric = "topk_overlap"\n')
    for name in ("suite", "acme"):
        relined(tiny, edited(unit="@who | x"), name)
    before = read_board(made_board)
    found = compare_boards({"tiny": before, "@gone": before}, {"tiny": read_board(tiny)})
    assert "@who" in found and "@gone" in found
    rest = re.sub("`[^`\n]*`", "", found)
    assert "@" not in rest and "http" not in rest


SET = "parquet:path=pictures#d787868530bd3c2f,size=224"


@pytest.mark.parametrize(
    ("text", "choice", "fits"),
    [
        ("shapes", "shapes", True),
        (SET, "parquet:path=pictures,size=224", True),
        (SET, "parquet:path=some/pictures,size=224", True),
        (SET, "parquet:path=others,size=224", False),
        (SET, "parquet:path=pictures,size=64", False),
        ("a:b=(c:path=x.pt#ab)", "a:b=(c:path=w/x.pt)", True),
        ("linf:4/255", "linf:2/255", False),
    ],
)
def test_a_file_of_the_board_has_its_checksum_in_records(text, choice, fits):
    assert is_choice(text, choice) is fits


def test_a_data_set_is_known_by_more_than_a_checksum():
    """The fingerprint of `parquet` names its splits."""
    found = read_identity("dataset/parquet@2(path=#d787868530bd3c2f,size=224)#test+train")
    assert found.parameters == {"path": "#d787868530bd3c2f", "size": "224"}
