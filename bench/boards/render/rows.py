"""What a board's page shows of a row: plain data, which the template draws for the first rows, and the page's script
for the others."""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from bench.boards.board import Board, Row, devices
from bench.boards.cell import Cell
from bench.boards.columns import Column
from bench.boards.record import Record
from bench.boards.render import wording
from bench.boards.render.plots import count_bins
from bench.files import parse_json

SHORT = 12  # letters of a text that is not worth a place of its own among the shared ones


def describe_row(board: Board, row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    """A row, as lists and texts that JSON can hold."""
    source, reason = wording.describe_source(board, row)
    papers = _list_papers(board, row)
    named = [paper for paper in papers if paper["axis"] in wording.choose_label_axes(board)]
    marks = [board.marks[record.key] for record in board.reported(row) if record.key in board.marks]
    word = " ".join([source, max((mark.date for mark in marks), default="")]).strip()
    return {
        "name": row.name,
        "label": wording.label_row(board, row),
        "search": " ".join([*(row.axes.get(axis, "") for axis in board.naming), source]).lower(),
        "control": row.control,
        "papers": list({paper["bibtex"]: paper for paper in named}.values()),
        "badge": [word, f"{source} {reason}"] if source else [],
        "ranks": list(_list_ranks(board, row)),
        "cells": [_describe_cell(board.cell(row, column)) for column in columns],
        "details": [
            [term, tag, texts]
            for term, tag, texts in _list_details(board, row, papers, f"{source} {reason}".strip())
            if texts
        ],
    }


def _list_ranks(board: Board, row: Row) -> Iterator[tuple[str, float | None, str]]:
    """Text, number and reason of each rank."""
    if not board.score:
        return
    if row.rank:
        yield str(row.rank), row.rank.best + row.rank.last / 1e6, ""
    else:
        word = "control" if row.control else "not ranked" if row.missing else "loses too much" if row.loses else ""
        yield word, None, row.missing or row.loses
    if board.protocol.score and board.protocol.score.guard is not None:
        yield str(row.unguarded or ""), row.unguarded.best if row.unguarded else None, ""


def _describe_cell(cell: Cell) -> list[Any]:
    """Text, number, what stands below, difference from the reference row, -1, 0 or 1 for worse or better, and flags."""
    there, estimate = cell.difference, cell.estimate
    mark = cell.mark.removeprefix("*").strip()
    return [
        cell.text + (f" {mark}" if mark else ""),
        None if cell.value is None else round(cell.value, 6),
        " ".join(part for part in (cell.interval, cell.seeds) if part),
        f"{there.value:+.3f}" if there else "",
        {True: 1, False: -1, None: 0}[there.better] if there else 0,
        "; ".join(_list_flags(estimate.records)) if estimate else "",
    ]


def _list_flags(records: Sequence[Record]) -> list[str]:
    """What speaks against some records."""
    gone = sum(record.undefined for record in records)
    lost = [f"undefined for {gone} of {sum(record.n for record in records)} images"] if gone else []
    return [*sorted({flag for record in records for flag in record.flags}), *lost]


def _list_details(
    board: Board, row: Row, papers: Sequence[Mapping[str, str]], source: str
) -> Iterator[tuple[str, str, list[str]]]:
    """What the page tells of a row below the tables: a term, the tag that encloses each text, and the texts."""
    score = row.estimates.get(board.score) if board.score else None
    records = row.records
    axes = {axis: row.axes[axis] for axis in board.naming if row.axes.get(axis)}
    words = "".join(f" --{axis} {shlex.quote(text)}" for axis, text in axes.items())
    yield "Command", "pre", [f"bench run --board leaderboards/{board.name}{words} --no-reference"]
    commands = "\n".join(dict.fromkeys(record.command for record in score.records)) if score else ""
    yield "Score, in full", "pre", [commands] if commands else []
    yield "Parameters", "code", sorted({text for record in records for text in _list_identities(record.spec)})
    yield "Papers", "", [f"{paper['axis']}: {paper['title']} ({paper['about']})" for paper in papers]
    yield "Weights (SHA-256)", "code", _list_weights(row)
    yield "Seeds", "", [", ".join(sorted({r.axes["seed"] for r in records if "seed" in r.axes}))]
    names = sorted({board.origin.get(record.key, "") for record in records})
    yield "Submission", "", [", ".join(_title(board, name) for name in names)]
    yield "Run again", "", [source] if source else []
    yield "Computed on", "", ["; ".join(devices(records))]
    yield "Notes", "", list(_list_notes(board, row))


def _title(board: Board, name: str) -> str:
    meta = board.submissions.get(name)
    return f"{name}: {meta.title}, {', '.join(meta.authors)} ({meta.year})" if meta else name


def _list_notes(board: Board, row: Row) -> Iterator[str]:
    """The flags of the records that speak about a row, with the columns that they are about."""
    about: dict[str, list[str]] = {}
    for record in board.evidence(row):
        where = ", ".join(board.protocol.name(text) for text in (record.metric, record.axes.get("attack", "")) if text)
        for flag in _list_flags([record]):
            about.setdefault(flag, []).append(where)
    for flag, places in sorted(about.items()):
        yield f"{'; '.join(dict.fromkeys(places))}: {flag}"


def _list_identities(spec: str) -> list[str]:
    """The identities of components in the spec of a key."""
    try:
        return [text for text in parse_json(spec)[2].values() if isinstance(text, str) and "/" in text and "@" in text]
    except (ValueError, TypeError, LookupError, AttributeError):
        return []


def _list_weights(row: Row) -> list[str]:
    """The checksums of a row's networks, alone or by name."""
    texts: set[str] = set()
    for content in (record.provenance.get("weights") for record in row.records):
        if isinstance(content, Mapping):
            texts.update(f"{name}: {text}" for name, text in content.items() if isinstance(text, str))
        elif isinstance(content, str) and content:
            texts.add(content)
    return sorted(texts)


def list_citations(board: Board) -> dict[str, dict[str, str]]:
    """The papers of a board, once each: what `_list_papers` tells of each, by BibTeX."""
    return {paper["bibtex"]: paper for row in board.leading for paper in _list_papers(board, row)}


def _list_papers(board: Board, row: Row) -> list[dict[str, str]]:
    """The papers of a row's components: what of the row is from it, title, venue and year, address and BibTeX."""
    found: dict[str, str] = {}
    for record in row.records:
        papers = record.provenance.get("papers")
        if isinstance(papers, Mapping):
            found.update((name, text) for name, text in papers.items() if isinstance(text, str))
    return [{"axis": name.partition(" ")[0], **_read_paper(name, text)} for name, text in sorted(found.items())]


@functools.lru_cache(1000)
def _read_paper(name: str, text: str) -> dict[str, str]:
    fields = dict(re.findall(r"^\s*(title|booktitle|journal|year|url)\s*=\s*\{(.*)\},?\s*$", text, re.MULTILINE))
    about = " ".join(filter(None, (fields.get("booktitle") or fields.get("journal"), fields.get("year"))))
    return {
        "title": fields.get("title") or name,
        "about": about,
        "url": make_link(fields.get("url", "")),
        "bibtex": text,
    }


def make_link(url: str) -> str:
    """The address that a link leads to, "" for one that may not be followed."""
    scheme, _, rest = url.partition(":")
    return {"https": url, "http": url, "doi": f"https://doi.org/{quote(rest, safe='/')}"}.get(scheme, "")


def write_rows(board: Board, columns: Sequence[Column], groups: Sequence[str]) -> str:
    """rows.js: the rows that the page does not begin with, for its script. A text that several have stands there once,
    and they have its place."""
    leading = {row.name for row in board.leading}
    places = {group: place for place, group in enumerate(groups)}
    rows = []
    every: list[list[float]] = []
    for place, row in enumerate(board.rows):
        every.append(_list_values(board, row))
        if row.name not in leading:
            rows.append((place, row, every[-1]))
    low, high = (end((value for values in every for value in values), default=0.0) for end in (min, max))
    found = []
    for place, row, values in rows:
        shown = describe_row(board, row, columns)
        shown["papers"] = [[paper["title"], paper["about"], paper["url"]] for paper in shown["papers"]]
        bins = count_bins(values, low, high) if high > low else []
        found.append({**shown, "group": places[row.group], "place": place, "bins": bins})
    count = Counter(text for row in found for text in _list_texts(row))
    shared = {text: place for place, text in enumerate(t for t, n in count.items() if n > 1 and len(t) > SHORT)}
    lines = ",\n".join(json.dumps(_share_texts(row, shared), separators=(",", ":")) for row in found)
    return f'"use strict";\nshowRows({json.dumps(list(shared))}, [{low:g}, {high:g}], [\n{lines}\n]);\n'


def _list_values(board: Board, row: Row) -> list[float]:
    estimate = board.cell(row, board.measured).estimate if board.measured else None
    images = estimate.images.values() if estimate else ()
    return [value for values in images for value in values if value is not None]


def _list_texts(row: Mapping[str, Any]) -> Iterator[str]:
    for _, _, texts in row["details"]:
        yield from texts
    for paper in row["papers"]:
        yield from paper


def _share_texts(row: dict[str, Any], shared: Mapping[str, int]) -> dict[str, Any]:
    return {
        **row,
        "details": [[term, tag, [shared.get(text, text) for text in texts]] for term, tag, texts in row["details"]],
        "papers": [[shared.get(text, text) for text in paper] for paper in row["papers"]],
    }
