"""Networks of the zoo as boards see them: the records that were made with each, and whether the index is true. Needs
neither torch nor plugins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

from bench.axes import KINDS, split_ball
from bench.boards.folder import read_records
from bench.boards.protocol import FILE, Protocol
from bench.boards.record import Record
from bench.boards.submissions.identities import list_parts
from bench.errors import BadValue, BenchError, clean
from bench.files import read_file
from bench.keys import Spec
from bench.zoo import AXES, SUFFIX, Network, read_index, read_tensors

WEIGHTS = "weights"  # the folder of a board that holds networks
TOTAL = 40_000_000  # bytes of all networks in the repository


def find_records(network: Network, records: Iterable[Record]) -> list[Record]:
    """The records that were made with the weights of a network, as their specs tell."""
    trained = Spec.parse(network.spec)
    return [record for record in records if _follows(trained, record.spec)]


def _follows(trained: Spec, text: str) -> bool:
    try:
        spec = Spec.parse(text)
    except ValueError:
        return False
    return trained.choices.items() <= spec.choices.items() and trained.versions.items() <= spec.versions.items()


def choose_figures(protocol: Protocol, records: Iterable[Record]) -> list[Record]:
    """Of a network's records, those that its row on a board shows: its usefulness, then its score with each explainer,
    in the protocol's order and with the largest budget first. All records, for a protocol without a score."""
    score, records = protocol.score, list(records)
    if score is None:
        return records
    explainers = protocol.choices("explainer")
    useful = [record for record in records if record.metric == score.against and "attack" not in record.axes]
    scores = [
        record
        for record in records
        if record.metric == score.metric
        and record.axes.get("explainer") in explainers
        and score.attack in ("", record.axes.get("attack"))
        and score.ball in ("", record.axes.get("ball"))
    ]
    return [*useful, *sorted(scores, key=lambda r: (explainers.index(r.axes["explainer"]), -_size(r.axes["ball"])))]


def _size(ball: str) -> Fraction:
    return Fraction(split_ball(ball)[1])


def inspect_index(file: Path, boards: Path) -> tuple[list[str], int]:
    """What is wrong with an index of networks and the files that a folder of boards has of them, one line each; and the
    number of networks."""
    try:
        networks = read_index(file)
    except BenchError as error:
        return [str(error)], 0
    problems = []
    for board in sorted({network.board for network in networks}):
        try:
            records = read_records(boards / board).records if (boards / board / FILE).is_file() else None
        except BenchError as error:
            problems.append(str(error))
            continue
        for network in networks:
            if network.board == board:
                problems += [
                    f"{file}: {network.full_name}: {text}" for text in _inspect(network, boards / board, records)
                ]
    files = sorted(boards.glob(f"*/{WEIGHTS}/*{SUFFIX}"))
    known = {boards / network.board / WEIGHTS / network.file for network in networks}
    problems += [f"{each} is in no entry of {file}; add one, or remove it" for each in files if each not in known]
    total = sum(each.lstat().st_size for each in files)
    if total > TOTAL:
        problems.append(f"{boards} has {total} bytes of networks; at most {TOTAL} are allowed: keep some at an address")
    return [clean(problem, 1000) for problem in problems], len(networks)


def _inspect(network: Network, board: Path, records: list[Record] | None) -> Iterator[str]:
    """What is wrong with an entry. `records` are those of its board, None where there is no board."""
    choices = Spec.parse(network.spec).choices
    for axis in AXES:
        if axis not in KINDS:
            if network.axes[axis] != choices[axis]:
                yield f"{axis} is {network.axes[axis]!r}, but its spec says {choices[axis]!r}; export it again"
            continue
        try:
            list_parts(KINDS[axis], network.axes[axis], choices[axis])
        except BadValue as error:
            yield f"{axis} is {network.axes[axis]!r}, but its spec says {choices[axis]!r} ({error}); export it again"
    file = board / WEIGHTS / network.file
    if file.is_file():
        yield from _inspect_file(network, file)
    elif not network.url:
        yield f"{file} is missing, and there is no url; add the file or an address"
    if records is None:
        yield f"there is no board {board}; name the one that has the network's records"
    elif not any(r.provenance.get("weights") == network.sha256 for r in find_records(network, records)):
        yield f"board {board} has no record that was made with these weights; publish one, or remove the entry"


def _inspect_file(network: Network, file: Path) -> Iterator[str]:
    try:
        raw = read_file(file, TOTAL)
    except OSError as error:
        yield f"{file} cannot be read ({error.strerror}); add it again"
        return
    found = hashlib.sha256(raw).hexdigest()
    if (len(raw), found) != (network.bytes, network.sha256):
        yield (
            f"{file} has {len(raw)} bytes and the sha256 {found}, but the entry says {network.bytes} and "
            f"{network.sha256}; export it again"
        )
    try:
        read_tensors(raw, str(file))
    except BadValue as error:
        yield str(error)
