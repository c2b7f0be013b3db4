"""Exports networks: a safetensors file with a card, and an entry for an index."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.boards import Protocol, Record, make_command, write_whole
from bench.boards.networks import choose_figures, find_records
from bench.boards.submissions.sanitize import NO_PATH
from bench.components import Case
from bench.engine import COST, SPEC, TENSORS, VOCABULARY, Catalog, Store, build_network, published_text
from bench.errors import BadValue, EnvironmentProblem
from bench.files import parse_json, read_file
from bench.keys import Spec, write_text
from bench.publishing.card import write_card
from bench.zoo import AXES, MADE, SIZE, SUFFIX, Network, parse_index, read_tensors, write_entry

CARD = ".md"


def find_texts(store: Store, key: str) -> dict[str, str]:
    """The texts of what stored weights were trained with, by axis. Raises BadValue where the store has no such key."""
    files = store.read(MADE, key, (SPEC,)) if re.fullmatch("[0-9a-f]{16}", key) else None
    if files is None:
        raise BadValue(f"store {store.root} has no network with the key {key!r}; give the options of its run instead")
    choices = Spec.parse(files[SPEC].decode()).choices
    return {axis: text if axis == "seed" else write_text(text) for axis, text in choices.items()}


def read_stored(
    cases: Sequence[Case], store: Store, metric: str, board: str = "", licence: str = "", url: str = ""
) -> tuple[Network, bytes]:
    """The entry and the file of the network that some cases share. `metric` stands in the command that trains it again,
    and `url` is the address of the folder that will hold the file.

    Raises BadValue where the cases have several networks, and EnvironmentProblem where the store lacks theirs.
    """
    by_key = {VOCABULARY.spec(MADE, (MADE,), case).key: case for case in cases}
    if len(by_key) != 1:
        names = ", ".join(f"{case.defense} with seed {case.seed}" for case in by_key.values())
        raise BadValue(f"these options select {len(by_key)} networks ({names}); select one, by --defense and --seed")
    ((key, case),) = by_key.items()
    files = store.read(MADE, key, (TENSORS, COST))
    if files is None:
        raise EnvironmentProblem(
            f"store {store.root} has no network {key} of {case.defense} with seed {case.seed}; bench run with the same "
            "options trains it"
        )
    axes = {axis: published_text(getattr(case, axis)) for axis in AXES}
    phases = [{n: v for n, v in phase.items() if v is not None} for phase in parse_json(files[COST])]
    data = case.dataset.load("test")
    raw = files[TENSORS]
    entry = Network(
        board=board,
        key=key,
        spec=str(VOCABULARY.spec(MADE, (MADE,), case)),
        axes=axes,
        shape=list(data.shape),
        classes=len(data.classes),
        cost=phases,
        sha256=hashlib.sha256(raw).hexdigest(),
        bytes=len(raw),
        licence=licence,
        url=f"{url.rstrip('/')}/{key}{SUFFIX}" if url else "",
        command=make_command(metric, axes),
    )
    return entry, raw


def export_network(
    entry: Network, raw: bytes, records: Iterable[Record], protocol: Protocol | None, catalog: Catalog, out: Path
) -> list[Path]:
    """Write the file of a network and its card into a folder. Returns both.

    The card has the figures of the network's row on the board of a protocol, or else all, but for records that name
    paths of this machine.
    """
    read_tensors(raw, entry.file)
    made = [r for r in find_records(entry, records) if all(NO_PATH.fullmatch(text) for text in r.axes.values())]
    made.sort(key=lambda record: (len(record.axes), record.metric, *record.axes.values()))
    shown = choose_figures(protocol, made) if protocol else made
    card = write_card(entry, build_network(entry, raw, catalog), shown)
    files = [out / entry.file, out / f"{entry.key}{CARD}"]
    try:
        for file, content in zip(files, (raw, card.encode()), strict=True):
            write_whole(file, content)
    except OSError as error:
        raise EnvironmentProblem(
            f"{out} cannot be written ({error.strerror}); name another folder with --out"
        ) from None
    return files


def add_entry(entry: Network, index: Path) -> None:
    """Add an entry to an index, which is created where it is missing. Raises BadValue where the index has it already,
    or may not have it."""
    text = read_file(index, SIZE).decode() if index.exists() else ""
    added = f"{text.rstrip()}\n\n{write_entry(entry)}".lstrip().encode()
    parse_index(added, str(index))
    write_whole(index, added)
