"""Files that are none, are too large, or hold what no reader should trust: one line, at once."""

from __future__ import annotations

import io
import os
import socket
import subprocess
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import EpsImagePlugin, Image
from submissions import PROTOCOL

import bench
from bench.boards.folder import read_images, read_records
from bench.boards.protocol import read_protocol
from bench.boards.submissions.metadata import read_supersedes
from bench.components.files import checksum
from bench.errors import BadValue, EnvironmentProblem, clean, suggestion, summarise_error
from bench.files import check_file, parse_json, read_file, write_file
from bench.images import FORMATS, Frame, decode, pixels
from bench.publishing.examples import _find_class, load_picture
from bench.shapes import parse_toml, quote


def make_socket(place):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(place))


def make_sparse(place):
    with place.open("wb") as stream:
        stream.truncate(40 * 10**9)


STRANGE = {
    "pipe": (os.mkfifo, "it is a pipe, not a file"),
    "socket": (make_socket, "it is a socket, not a file"),
    "device": (lambda place: place.symlink_to("/dev/zero"), "it is a device, not a file"),
    "folder": (lambda place: place.mkdir(), "it is a folder, not a file"),
    "kernel": (lambda place: place.symlink_to("/proc/kmsg"), "it belongs to the kernel"),
    "loop": (lambda place: place.symlink_to(place), "Too many levels of symbolic links"),
    "sparse": (make_sparse, "it has 40000000000 bytes; at most 20000000000 are read"),
}
strange = pytest.mark.parametrize(("make", "words"), STRANGE.values(), ids=list(STRANGE))


@strange
def test_what_is_no_file_is_not_opened(tmp_path, make, words):
    make(tmp_path / "x")
    for read in (check_file, read_file):
        with pytest.raises(OSError) as raised:
            read(tmp_path / "x")
        assert raised.value.strerror == words


@pytest.mark.parametrize("kind", [kind for kind in STRANGE if kind != "folder"])
def test_the_identity_of_what_is_no_file_says_so(tmp_path, kind):
    make, words = STRANGE[kind]
    make(tmp_path / "x")
    with pytest.raises(EnvironmentProblem) as raised:
        checksum(tmp_path / "x")
    assert str(raised.value) == f"{tmp_path}/x cannot be read ({words}); check the path"


@pytest.mark.parametrize(
    ("place", "words"), [("/", "it is the whole file system"), ("/proc", "it belongs to the kernel")]
)
@pytest.mark.parametrize("read", [checksum, lambda path: bench.component("dataset", f"parquet:path={path}").identity])
def test_a_walk_through_the_whole_machine_does_not_begin(tmp_path, place, words, read):
    (tmp_path / "x").symlink_to(place)
    with pytest.raises(EnvironmentProblem, match=rf"{tmp_path}/x cannot be read \({words}\); check the path"):
        read(tmp_path / "x")


def test_a_link_to_the_kernel_inside_a_folder_is_found(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "more").symlink_to("/proc")
    with pytest.raises(EnvironmentProblem, match=r"set/more cannot be read \(it belongs to the kernel\)"):
        checksum(tmp_path / "set")


@strange
def test_a_picture_that_is_no_file(tmp_path, make, words):
    make(tmp_path / "x.png")
    words = words.replace("20000000000", "1000000000")
    with pytest.raises(EnvironmentProblem) as raised:
        load_picture(tmp_path / "x.png", (3, 8, 8), None)
    assert str(raised.value) == f"picture {tmp_path}/x.png cannot be read ({words}); check the path"


@pytest.mark.parametrize("kind", [kind for kind in STRANGE if kind != "folder"])
def test_an_image_of_a_folder_that_is_no_file(tmp_path, kind):
    make, words = STRANGE[kind]
    place = tmp_path / "set" / "test" / "ant"
    place.mkdir(parents=True)
    make(place / "x.png")
    with pytest.raises(EnvironmentProblem, match=rf"x.png cannot be read \({words}\)"):
        bench.component("dataset", f"folder:path={tmp_path / 'set'}").load("test")


@strange
def test_records_metadata_and_protocols_that_are_no_files(tmp_path, make, words):
    (tmp_path / "records").mkdir()
    make(tmp_path / "board.toml")
    with pytest.raises(EnvironmentProblem, match=r"board.toml cannot be read \((it|Too)"):
        read_protocol(tmp_path)
    make(tmp_path / "records" / "a.toml")
    with pytest.raises(BadValue, match=r"a.toml cannot be read \((it|Too)"):
        read_supersedes(tmp_path / "records" / "a.toml")
    make(tmp_path / "records" / "b.jsonl")
    (tmp_path / "records" / "a.toml").rename(tmp_path / "gone")
    with pytest.raises(EnvironmentProblem) as raised:
        read_records(tmp_path)
    assert str(raised.value) == f"{tmp_path}/records/b.jsonl cannot be read ({words}); publish b again"


@pytest.mark.parametrize(("make", "words"), [(os.mkfifo, "it is a pipe"), (lambda p: p.mkdir(), "it is a folder")])
def test_what_is_no_file_is_not_written(tmp_path, make, words):
    make(tmp_path / "x")
    with pytest.raises(EnvironmentProblem, match=rf"x cannot be written \({words}, not a file\); name another file"):
        write_file(tmp_path / "x", b"1")


def test_a_full_disk_is_told():
    with pytest.raises(EnvironmentProblem) as raised:
        write_file(Path("/dev/full"), b"1")
    assert str(raised.value) == (
        "/dev/full cannot be written (No space left on device); free some space, or name another file"
    )


# JSON and TOML.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "brackets are more than 20 deep"),
        ('{"a":' * 100_000, "brackets are more than 20 deep"),
        ("[" * 21 + "]" * 21, "brackets are more than 20 deep"),
        ("9" * 301, "a whole number of 301 digits; at most 300 are read"),
        ("9" * 10_000, "a whole number of 10000 digits"),
        ('{"a": [-' + "9" * 301 + "]}", "a whole number of 302 digits"),
        ("{", "Expecting property name"),
    ],
    ids=range(7),
)
def test_json_that_cannot_be_read_is_a_value_error(text, words):
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_json_is_read():
    assert parse_json("[" * 20 + "7" + "]" * 20)[0][0] != 7
    assert parse_json(b'{"a": [1, 2.5, null, "x", true]}') == {"a": [1, 2.5, None, "x", True]}
    assert parse_json("9" * 300) == 10**300 - 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"Tiny"', "[" * 10_000, "board.toml is not TOML ("),
        ('"Tiny"', "9" * 10_000, "board.toml is not TOML ("),
        ('"Tiny"', "0x" + "f" * 10_000, "board.toml: title is a int too long to print, must be a text"),
        ("title =", "title" + ".a" * 2000 + " =", "board.toml: title is a dict too long to print, must be a text"),
        ("[0]", "[0x" + "f" * 10_000 + "]", "board.toml: axes.seed is a list too long to print, must be a list of"),
        ("Tiny", "x" * 100_000, "bytes; at most 100000 are read)"),
    ],
    ids=range(6),
)
def test_a_protocol_that_is_deep_or_long_is_told_in_a_line(tmp_path, old, new, words):
    assert PROTOCOL.count(old) == 1
    (tmp_path / "board.toml").write_text(PROTOCOL.replace(old, new))
    with pytest.raises(bench.BenchError) as raised:
        read_protocol(tmp_path)
    assert words in str(raised.value) and len(str(raised.value)) < 500


def test_what_is_too_deep_to_print_is_named():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert quote(deep) == "a list too long to print"
    with pytest.raises(BadValue, match="is not TOML"):
        parse_toml("x", b"\xff")


def test_a_record_of_a_board_that_is_deep_is_told(tiny):
    for line in (
        b"[" * 100_000,
        b'{"ci95": ' + b"[" * 100_000,
        b'{"ci95": null, "value": 1' + b"0" * 5000 + b"}",
        b"5",
    ):
        (tiny / "records" / "acme.jsonl").write_bytes(line)
        with pytest.raises(BadValue, match=r"acme.jsonl, line 1: no record of this version; publish it again"):
            read_records(tiny)


# Pictures.


PROGRAM = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n"


@pytest.mark.parametrize("read", ["pixels", "decode", "object_mask", "gaze_map"])
def test_a_program_is_no_picture(monkeypatch, read):
    from bench_datasets.images import gaze_map
    from bench_datasets.masks import object_mask

    frame = Frame(8, 0, "none")
    readers = {
        "pixels": lambda content: pixels(content, frame),
        "decode": decode,
        "object_mask": lambda content: object_mask(content, frame, "auto"),
        "gaze_map": lambda content: gaze_map(content, frame),
    }
    run = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **named: run.append(args))
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **named: run.append(args))
    with pytest.raises(ValueError, match="it is none of BMP, GIF, JPEG, JPEG2000, PNG, PPM, TIFF, WEBP"):
        readers[read](PROGRAM)
    assert not run


@pytest.mark.parametrize("form", ["ICO", "TGA", "PCX", "SGI", "PDF", "DDS"])
def test_other_formats_are_refused_whatever_the_name(tmp_path, form):
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "x.png", form)
    with pytest.raises(EnvironmentProblem, match=r"x.png cannot be decoded \(it is none of BMP, GIF,"):
        load_picture(tmp_path / "x.png", (3, 8, 8), None)


@pytest.mark.parametrize("form", FORMATS)
def test_formats_that_are_named_are_read(form):
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), 255, np.uint8)).save(buffer, form)
    assert pixels(buffer.getvalue(), Frame(8, 0, "none")).min() > 0.99


def test_a_long_strip_does_not_become_a_huge_picture(tmp_path):
    Image.new("L", (1, 60_000)).save(tmp_path / "x.png")
    with pytest.raises(EnvironmentProblem, match=r"1 x 60000 pixels would become 224 x 13440000; crop it first"):
        load_picture(tmp_path / "x.png", (3, 224, 224), None)


# Texts of others.


class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a\nb\x1b[31m\u202e c"), "ValueError: a b?[31m? c"),
        (KeyError("x" * 1000), "KeyError: '" + "x" * 299 + "..."),
        (Silent(), "Silent"),
    ],
    ids=["controls", "long", "no text"],
)
def test_an_error_of_others_is_one_short_line(error, text):
    assert summarise_error(error) == text


def test_our_errors_hide_nothing():
    assert str(bench.BadValue("path a\x1b]0;title\x07b\nc\u2066d")) == "path a?]0;title?b c?d"
    assert clean("x" * 200) == "x" * 120 + "..." and clean("x" * 200, None) == "x" * 200


def test_a_suggestion_lists_a_few_names():
    names = [f"network{number:04}" for number in range(1300)]
    text = suggestion("zzz", names)
    assert text.startswith("; known: network0000, network0001, ") and text.endswith(" and more, 1300 in all")
    assert len(text) < 450 and text.split(", ")[-2].startswith("network")
    assert suggestion("zzz", ["b", "a"]) == "; known: a, b" and suggestion("zzz", []) == "; known: none"


@pytest.mark.parametrize("label", ["²", "", "٣", "9" * 5000, "-1", "1.0", "0x1", "a\x1bb" * 100, "3"])
def test_a_class_that_does_not_exist(label):
    with pytest.raises(BadValue, match=r"no class called .*; there are 3, 0 to 2 \(a, b\?, c\)") as raised:
        _find_class(label, ["a", "b\x1b", "c"])
    assert len(str(raised.value)) < 700


@pytest.mark.parametrize(("label", "number"), [("a", 0), ("0", 2), ("2", 2), ("01", 1), ("²", 3)])
def test_a_class_by_name_before_its_number(label, number):
    assert _find_class(label, ["a", "b", "0", "²"]) == number


# Parquet files that would take far more than they have.


def write_parquet(file, cells, **options):
    column = pyarrow.array([{"bytes": cell, "path": None} for cell in cells])
    table = pyarrow.table({"image": column, "label": pyarrow.array([0] * len(cells), pyarrow.int64())})
    pyarrow.parquet.write_table(table, file, compression="zstd", **options)


@pytest.mark.parametrize("dictionary", [False, True], ids=["that shrink", "that repeat"])
def test_a_small_file_of_large_cells_is_refused(tmp_path, monkeypatch, dictionary):
    monkeypatch.setattr("bench_datasets.tables.UNPACKED", 10**6)
    write_parquet(tmp_path / "test.parquet", [bytes(100_000)] * 200, use_dictionary=dictionary)
    assert (tmp_path / "test.parquet").stat().st_size < 28_000
    with pytest.raises(
        EnvironmentProblem, match=r"test.parquet has \d+ bytes and 200 rows, and would take 200\d{5} bytes"
    ):
        bench.component("dataset", f"parquet:path={tmp_path / 'test.parquet'},classes=1").load("test")


def test_a_small_file_of_many_rows_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("bench_datasets.tables.UNPACKED", 10**6)
    write_parquet(tmp_path / "test.parquet", [None] * 1_000_000)
    with pytest.raises(
        EnvironmentProblem, match=r"1000000 rows, and would take 8\d{6} bytes; store images as JPEG or PNG"
    ):
        bench.component("dataset", f"parquet:path={tmp_path / 'test.parquet'},classes=1").load("test")


def test_a_set_whose_images_repeat_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("bench_datasets.tables.UNPACKED", 10**6)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "PNG")
    write_parquet(tmp_path / "test.parquet", [buffer.getvalue()] * 5000)
    assert len(bench.component("dataset", f"parquet:path={tmp_path / 'test.parquet'},classes=1").load("test")) == 5000


def test_values_of_a_long_key_that_repeats_take_its_memory_once(tiny):
    import tracemalloc

    file = tiny / "records" / "acme.values.parquet"
    table = pyarrow.table(
        {
            "key": pyarrow.array(["k" * 10_000] * 20_000),
            "image": np.arange(20_000),
            "level": pyarrow.array([""] * 20_000),
            "value": np.zeros(20_000),
            "kept": np.ones(20_000, bool),
        }
    )
    pyarrow.parquet.write_table(table, file, compression="zstd")
    del table
    tracemalloc.start()
    read_images(tiny, {})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert file.stat().st_size < 300_000 and peak < 5 * 10**7


def test_values_of_too_many_rows_are_not_read(tiny):
    table = pyarrow.table({name: pyarrow.nulls(3_000_000) for name in ("key", "image", "level", "value", "kept")})
    pyarrow.parquet.write_table(table, tiny / "records" / "acme.values.parquet")
    with pytest.raises(BadValue, match=r"acme.values.parquet has 3000000 rows; at most 2000000 are allowed"):
        read_images(tiny, {})
