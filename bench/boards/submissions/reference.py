"""What the suite's records of a board say for everybody's: whoever adds rows adds them to these columns.

Needs neither torch nor plugins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from bench.axes import KINDS, OPTIONS
from bench.boards.cell import COSTS
from bench.boards.protocol import Protocol
from bench.boards.record import Record
from bench.boards.statistics import find_impossible
from bench.boards.submissions.attachments import Values
from bench.boards.submissions.flags import TRANSFER, is_raised
from bench.boards.submissions.identities import Components
from bench.boards.submissions.sanitize import AGAIN, Line
from bench.keys import Spec
from bench.shapes import clean, quote

OF_METRIC = ("better", "unit", "help", "range", "grain", "paper")  # fields that a metric decides
OBJECTIVE = {"before", "after", "success"}
DATA = ("dataset", "split", "samples")  # the axes that choose images


class Reference:
    """The suite's records of a board, by what they tell of others."""

    def __init__(self, protocol: Protocol, lines: Iterable[Line], values: Mapping[str, Values]) -> None:
        self.protocol = protocol
        self.metrics: dict[str, Line] = {}
        self.specs: dict[str, Spec] = {}
        self.versions: dict[tuple[str, bool], dict[str, int]] = {}
        self.columns: set[tuple[str, str, str]] = set()
        self.chosen: dict[tuple[str, str], tuple[str, str]] = {}
        self.texts: dict[tuple[str, str], str] = {}
        self.components = Components()
        self.layouts: dict[str, dict[tuple[str, ...], tuple[str, Values]]] = {}
        self.images: dict[tuple[str, ...], list[np.ndarray]] = {}
        self.followed: dict[str, set[bool]] = {}
        self.notes: dict[str, object] = {}
        self.papers: dict[str, list[object]] = {}
        for line in lines:
            self._learn(line, values.get(line.record.key))

    def _learn(self, line: Line, values: Values | None) -> None:
        about, record = line
        axes, spec = record.axes, Spec.parse(record.spec)
        if record.metric not in self.metrics:
            self.components.learn("metric", record.metric, spec.made.partition("/")[2])
        self.metrics.setdefault(record.metric, line)
        self.specs.setdefault(record.metric, spec)
        self.versions.setdefault((record.metric, _follows_itself(record)), spec.versions)
        self.columns.add(_column(record))
        for axis, kind in KINDS.items():
            if axis in axes and (kind, axes[axis]) not in self.chosen:
                self.chosen[kind, axes[axis]] = spec.choices[axis], about
                self.texts.setdefault((kind, spec.choices[axis]), axes[axis])
                self.components.learn(kind, axes[axis], spec.choices[axis])
        if values is not None:
            self.layouts.setdefault(record.metric, {}).setdefault(_layout(record), (about, values))
            self.images.setdefault(_data(record), []).append(values.images)
        if "attack" in axes:
            self.followed.setdefault(axes["attack"], set()).add(bool(record.objective))
        if "data" in record.provenance:
            self.notes.setdefault(axes.get("dataset", ""), record.provenance["data"])
        for name, paper in _papers(record).items():
            if paper not in (known := self.papers.setdefault(name, [])):
                known.append(paper)

    def find_defaults(self) -> Iterator[str]:
        """Texts of the protocol that give a parameter its default, which no record has."""
        parts = [("metrics", {"metric": self.protocol.metrics}), ("axes", self.protocol.axes)]
        for key, choices in [*parts, *((f"row[{place}]", row) for place, row in enumerate(self.protocol.rows))]:
            for option, texts in choices.items():
                for text in texts if OPTIONS[option].kind else ():
                    if default := self.components.find_default(OPTIONS[option].kind, text):
                        about = key if option == "metric" else f"{key}.{option}"
                        yield f"{about} has {quote(text)}, but {clean(default)} is the default; leave it out"

    def find_problem(self, record: Record, values: Values | None) -> str | None:
        """The first thing in which a record is none of this board, or None."""
        return next(self._find_problems(record, values), None)

    def _find_problems(self, record: Record, values: Values | None) -> Iterator[str]:
        first = self.metrics.get(record.metric)
        if first is None:
            yield f"the suite has no {record.metric} on this board, and others add rows alone; leave it out"
            return
        if record.axes.keys() != first.record.axes.keys():
            missing, more = first.record.axes.keys() - record.axes.keys(), record.axes.keys() - first.record.axes.keys()
            what = f"lack {', '.join(sorted(missing))}" if missing else f"have {', '.join(sorted(more))}"
            expected = ", ".join(first.record.axes)
            yield f"axes {what}, but those of {record.metric} are {expected}; {AGAIN}"
            return
        yield from self._check_column(record)
        for part in OF_METRIC:
            own, expected = (quote(getattr(one, part)) for one in (record, first.record))
            if own != expected:
                yield f"{part} is {own}, but {expected} in {first.about}; publish it again"
        yield from self._check_spec(record, first)
        if values is not None:
            yield from self._check_values(record, values)
        yield from self._check_claims(record, first.record)

    def _check_column(self, record: Record) -> Iterator[str]:
        metric, attack, ball = _column(record)
        own = attack not in self.protocol.choices("attack")
        if not any((metric, ball) == (other[0], other[2]) and (own or attack == other[1]) for other in self.columns):
            under = f" under {attack} at {ball}" if attack else ""
            yield f"the suite has no {metric}{under} on this board, and others add rows alone; leave it out"

    def _check_spec(self, record: Record, first: Line) -> Iterator[str]:
        spec, expected = Spec.parse(record.spec), self.specs[record.metric]
        if spec.made != expected.made:
            yield f"spec says {quote(spec.made)}, but {quote(expected.made)} in {first.about}; {AGAIN}"
        versions = self.versions.get((record.metric, _follows_itself(record)))
        known = {name: version for other in self.versions.values() for name, version in other.items()}
        for name in sorted({*spec.versions, *(versions or ())}):
            stated, due = spec.versions.get(name), (known if versions is None else versions).get(name)
            if stated != due:
                yield f"spec has version {stated} of {clean(name)}, but the suite has {due}; {AGAIN}"
        for axis, kind in KINDS.items():
            if axis in record.axes:
                problem = self._compare_choice(kind, record.axes[axis], spec.choices[axis])
                if problem:
                    yield f"spec has the {axis} {quote(spec.choices[axis])}, but {problem}; run it with the suite's"
        for pin in self.protocol.data:
            found = spec.choices.get("dataset", "").partition("#")[2]
            if record.axes.get("dataset") == pin.dataset and found != pin.fingerprint:
                yield f"its images are #{clean(found)}, not #{pin.fingerprint} as the board wants; take {pin.source}"

    def _compare_choice(self, kind: str, text: str, identity: str) -> str:
        if (kind, text) in self.chosen:
            expected, about = self.chosen[kind, text]
            return "" if identity == expected else f"{quote(expected)} in {about}"
        if (kind, identity) in self.texts:
            return f"that is the suite's {quote(self.texts[kind, identity])}"
        return self.components.find_problem(kind, text, identity)

    def _check_values(self, record: Record, values: Values) -> Iterator[str]:
        found = find_impossible(values.values, record.range, record.grain)
        if found is not None:
            grain = "" if record.grain is None else f", in steps of {record.grain:g}"
            low, high = record.range
            span = f"{'-inf' if low is None else f'{low:g}'} to {'inf' if high is None else f'{high:g}'}"
            yield f"an image has the value {found:g}, but {record.metric} goes from {span}{grain}; run it again"
        if record.unit in COSTS and (values.values <= 0).any():
            yield f"its value is not above zero, as a cost in {record.unit} is; run it again"
        layouts = self.layouts.get(record.metric, {})
        about, expected = layouts.get(_layout(record), ("", None))
        if expected is None and record.axes.get("attack") not in self.protocol.choices("attack"):
            mine = _layout(record)
            about, expected = next((there for key, there in layouts.items() if key[:-1] == mine[:-1]), ("", None))
        if expected is None:
            if not any(np.array_equal(values.images, images) for images in self.images.get(_data(record), ())):
                data = ", ".join(f"{axis} {record.axes[axis]}" for axis in DATA if axis in record.axes)
                yield f"measured on other images than those of the suite ({data}); run it on those of the board"
            return
        if not np.array_equal(values.images, expected.images):
            yield f"measured on other images than {about}; run it on those of the board"
        if values.names != expected.names and _layout(record) in layouts:
            yield f"levels are {quote(list(values.names))}, but {quote(list(expected.names))} in {about}; {AGAIN}"
        if (values.kept is None) != (expected.kept is None):
            yield f"kept is {'missing' if values.kept is None else 'given'}, unlike in {about}; {AGAIN}"

    def _check_claims(self, record: Record, first: Record) -> Iterator[str]:
        """What follows from the attack, and what is the suite's to say."""
        if record.undefined_because and record.n:
            yield f"undefined_because is {quote(record.undefined_because)}, but it has values; {AGAIN}"
        if record.cost.keys() != first.cost.keys():
            yield f"cost has {', '.join(map(clean, record.cost))}, must have {', '.join(first.cost)}; {AGAIN}"
        attack, objective = record.axes.get("attack", ""), record.objective
        if bool(objective) not in self.followed.get(attack, {True, False} if attack else {False}):
            yield f"objective is {quote(objective)}, unlike the suite's under {attack or 'no attack'}; {AGAIN}"
        if objective and (objective.keys() != OBJECTIVE or not 0 <= objective["success"] <= 1):
            yield f"objective is {quote(objective)}, must have before, after and a success from 0 to 1; {AGAIN}"
        strange = [flag for flag in record.flags if not (attack and is_raised(flag))]
        if strange:
            yield f"flags has {quote(strange[0])}, which the suite does not raise here; {AGAIN}"
        transfer = [flag for flag in record.flags if flag.startswith(TRANSFER)]
        due = bool(objective) and "explainer" in record.axes and not _follows_itself(record)
        if transfer != [TRANSFER + record.axes.get("surrogate", "")] * due:
            yield f"flags are {quote(list(record.flags))}, but {'a' if due else 'no'} surrogate was followed; {AGAIN}"
        yield from self._check_provenance(record)

    def _check_provenance(self, record: Record) -> Iterator[str]:
        note, own = record.provenance.get("data"), self.notes.get(record.axes.get("dataset", ""))
        if note is not None and note != own:
            yield f"provenance.data is {quote(note)}, but the suite says {quote(own or 'nothing')} of the set; {AGAIN}"
        used = {f"{kind} {record.axes[axis].partition(':')[0]}" for axis, kind in KINDS.items() if axis in record.axes}
        for name, paper in _papers(record).items():
            if name not in used:
                yield f"provenance.papers has {quote(name)}, which is none of its components; {AGAIN}"
            # A citation may have been corrected since the suite's first records.
            if paper not in self.papers.get(name, [paper]):
                yield f"provenance.papers.{clean(name)} is {quote(paper)}, but the suite has another; {AGAIN}"
        weights = record.provenance.get("weights", "0" * 64)
        if not (isinstance(weights, str) and re.fullmatch(r"[0-9a-f]{64}", weights)):
            yield f"provenance.weights is {quote(weights)}, must be a SHA-256; {AGAIN}"


def _follows_itself(record: Record) -> bool:
    return "surrogate" in record.axes and record.axes["surrogate"] == record.axes.get("explainer")


def _column(record: Record) -> tuple[str, str, str]:
    return record.metric, record.axes.get("attack", ""), record.axes.get("ball", "")


def _data(record: Record) -> tuple[str, ...]:
    return tuple(record.axes.get(axis, "") for axis in DATA)


def _layout(record: Record) -> tuple[str, ...]:
    """The axes on which the images, the levels and their names depend."""
    return (*_data(record), record.axes.get("model", ""), record.axes.get("attack", ""))


def _papers(record: Record) -> dict[str, object]:
    papers = record.provenance.get("papers", {})
    return papers if isinstance(papers, dict) else {"": papers}
