"""What a board says in words, the same in all its files: names of rows and columns, who leads, legend and notes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from bench.boards.board import Board, Row, devices
from bench.boards.cell import format_value, is_cost
from bench.boards.columns import AREA, NORMALISED, SHARE, WORST, Column
from bench.boards.protocol import Protocol
from bench.boards.ranking import CONTROLS
from bench.boards.record import Record
from bench.boards.standing import MORE
from bench.boards.statistics import Estimate, Rank, difference

MOST = 40  # rows of one kind, or lines of it, that a legend spells out


def group_rows(board: Board) -> dict[str, list[Row]]:
    """The rows by group of rivals."""
    groups: dict[str, list[Row]] = {}
    for row in board.rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def choose_label_axes(board: Board) -> list[str]:
    """The axes that tell the rows of a group apart."""
    return [axis for axis in board.naming if axis not in board.within] or list(board.naming)


def label_row(board: Board, row: Row, inside: bool = True) -> str:
    """The name of a row, inside its group or among all rows, with a surrogate that is not its explainer."""
    axes = choose_label_axes(board) if inside and row.group != CONTROLS else board.naming
    name = " · ".join(row.axes[axis] for axis in axes if row.axes.get(axis)) or row.name
    return name if "surrogate" in axes else name + _name_surrogate(board, row)


def name_axis(board: Board, row: Row, axis: str) -> str:
    """What a row has along an axis of its name; beside the explainer, a surrogate that is another one."""
    text = row.axes.get(axis, "-")
    return text + _name_surrogate(board, row) if axis == "explainer" and "surrogate" not in board.naming else text


def _name_surrogate(board: Board, row: Row) -> str:
    surrogate = row.axes.get("surrogate", "")
    shared = surrogate == board.shared.get("surrogate")
    return "" if shared or surrogate in ("", row.axes.get("explainer")) else f" (attacked through {surrogate})"


def name_ranks(board: Board) -> list[str]:
    """The headings of the columns of ranks."""
    score = board.protocol.score if board.score else None
    return [] if score is None else ["rank"] if score.guard is None else ["rank", "unguarded rank"]


def format_ranks(board: Board, row: Row) -> list[str]:
    return [_format_rank(row, row.rank), _format_rank(row, row.unguarded)][: len(name_ranks(board))]


def _format_rank(row: Row, rank: Rank | None) -> str:
    return str(rank) if rank else "control" if row.control else "-"


def name_column(column: Column) -> str:
    """The whole name of a column."""
    return ", ".join(part for part in (column.metric, column.attack, column.ball) if part)


def split_heading(board: Board, column: Column) -> list[str]:
    """The heading of a column in lines: the metric; the attack and the budget where the board has several."""
    several = len({c.attack for c in board.columns} - {"", WORST, SHARE}) > 1 or column.attack == SHARE
    budgets = len({c.ball for c in board.columns if not c.over} - {""}) > 1
    return [p for p in (column.metric, column.attack if several else "", column.ball if budgets else "") if p]


def title_column(board: Board, column: Column, ball: bool = True) -> str:
    """The name of a column at the head of a sentence: what the page calls its metric, its attack and its budget."""
    parts = split_heading(board, column)
    words = [board.protocol.name(text) for text in (column.metric, column.attack) if text in parts]
    title = ", ".join([*words, *([column.ball] if ball and column.ball in parts else [])])
    return title[:1].upper() + title[1:]


def describe_column(board: Board, column: Column) -> str:
    """What a column shows."""
    record = board.described[column.metric]
    text = f"{record.help[:1].upper()}{record.help[1:]}; {record.better} is better."
    if column.attack == SHARE:
        text += " Divided by the row's ceiling, a ratio of means over the same images."
    elif column.attack == WORST:
        text += " For each image, the worst result of any attack."
    elif column.attack:
        text += f" Attack: {column.attack}; budget: {column.ball}."
    if column == board.measured:
        text += " This is the score: an undefined image counts as lost, with the worst value that there is."
    if column == board.ceiling:
        text += (
            " This is the ceiling: nothing is attacked, so only an explainer that draws noise has less than the best."
        )
    if column == board.chance:
        text += " This is the chance level of the score."
    if column.over:
        text += " Area under the curve over all eps"
        text += ", divided by the number of steps." if column.ball.endswith(NORMALISED) else "."
    if any(is_cost(estimate) for row in board.rows if (estimate := row.estimates.get(column))):
        text += " Shown as a ratio to the reference row."
    return text


def describe_metrics(board: Board) -> list[tuple[str, str, str]]:
    """Each metric, which way is better, and what it is."""
    metrics = dict.fromkeys(column.metric for column in board.columns)
    return [(metric, board.described[metric].better, board.described[metric].help) for metric in metrics]


def describe_scale(board: Board) -> str:
    """What the numbers rest on: how much the networks were trained, the images measured, and the seeds of a row."""
    protocol = board.protocol
    seeds = sorted({len({r.axes["seed"] for r in row.records if "seed" in r.axes}) or 1 for row in board.rows})
    parts = [
        protocol.training,
        f"{' or '.join(protocol.choices('samples'))} {' or '.join(protocol.choices('split'))} images",
        f"{' to '.join(map(str, sorted({seeds[0], seeds[-1]})))} seed{'s' if seeds[-1] > 1 else ''} per row"
        if seeds
        else "",
    ]
    return f"Scale: {'; '.join(part for part in parts if part)}."


def describe_sources(protocol: Protocol) -> list[str]:
    """Where to get the data and the files that the board is measured on, a sentence for each."""
    data = [f"{pin.dataset} has the fingerprint #{pin.fingerprint}: {pin.source}." for pin in protocol.data]
    files = [
        f"{file.name} has the sha256 {file.sha256}" + (f": {file.url}" if file.url else "; it has no address.")
        for file in protocol.files
    ]
    return [*data, *files]


def describe_leaders(board: Board) -> list[str]:
    """Who is ahead, a sentence for each group of rivals."""
    groups = {group: [row for row in rows if row.rank] for group, rows in group_rows(board).items()}
    return [_describe_leader(board, group, rows) for group, rows in groups.items() if rows]


def _describe_leader(board: Board, group: str, rows: Sequence[Row]) -> str:
    measured = board.measured
    assert measured is not None
    # Over different images, each row may be beaten by some other: then none is first.
    first = [row for row in rows if row.rank and row.rank.best == 1] or list(rows)
    standing = {row.name: row.standing for row in board.rows if row.standing and row.standing.value.value is not None}
    divided = board.score != measured
    names = [_name_with_source(board, row) for row in first]
    ends = [standing[row.name] for row in (first[0], first[-1])]
    values = _span(end.value for end in ends)
    if divided:
        values += " of its ceiling" if len(first) == 1 else " of their ceilings"
    if len(rows) == 1:
        text = f"{names[0]} is the only ranked row, with {values}"
    elif len(first) == 1:
        text = f"{names[0]} is ahead with {values}"
    elif len(first) == len(rows):
        text = f"no row is clearly ahead of all others, with {values}"
    else:
        text = f"{', '.join(names[:-1])} and {names[-1]} share first place with {values}"
    text = (f"{group}: " if group else "") + f"{text} in {board.protocol.name(measured.metric)}"
    text += f" ({board.protocol.name(measured.attack)})" if measured.attack else ""
    if chance := _span_of(board.share_of(board.chance), first):
        text += f"; chance is {chance}"
    parts = {
        "score": _span(end.score for end in ends) if divided else "",
        "ceiling": _span(end.ceiling for end in ends if end.ceiling),
        "chance": _span_of(board.chance, first),
    }
    details = [f"{name} {span}" for name, span in parts.items() if span]
    details += [f"under {attack}" for attack in dict.fromkeys(end.score.under for end in ends) if attack]
    text += f" [{', '.join(details)}]" if details else ""
    base = board.reference(first[0])
    if any(_has_more_seeds(board, row) for row in (*first, *([base] if base else []))):
        text += f" over {name_ranked_seeds(board)}"
    if base is None or base in first or base.name not in standing:
        return text
    mine, theirs = standing[first[0].name].value, standing[base.name].value
    text += f"; the reference, {label_row(board, base)}, has {format_value(theirs)}"
    there = difference(mine, theirs) if len(first) == 1 else None
    if there and there.ci95:
        # Between the printed numbers: a reader may subtract them.
        apart = round(mine.value or 0.0, 3) - round(theirs.value or 0.0, 3)
        text += ", a difference of {:+.3f} [{:+.2f}, {:+.2f}]".format(apart, *there.ci95)
    return text


def _name_with_source(board: Board, row: Row) -> str:
    source, _ = describe_source(board, row)
    return label_row(board, row) + (f" ({source})" if source else "")


def _span(estimates: Iterable[Estimate]) -> str:
    """The values of the first and the last of some estimates, or the one that both have."""
    return " to ".join(dict.fromkeys(format_value(estimate) for estimate in estimates))


def _span_of(column: Column | None, rows: Sequence[Row]) -> str:
    found = [row.estimates[column] for row in (rows[0], rows[-1]) if column and column in row.estimates]
    return _span(estimate for estimate in found if estimate.value is not None)


def _has_more_seeds(board: Board, row: Row) -> bool:
    whole = row.estimates.get(board.score) if board.score else None
    return bool(whole and row.standing and set(whole.images) != set(row.standing.value.images))


def describe_score(board: Board) -> list[str]:
    """How rows are scored and ranked, a sentence for each thing that a reader must know."""
    protocol, measured = board.protocol.score, board.measured
    if protocol is None or measured is None:
        return []
    lines = []
    if protocol.attack and measured.attack != protocol.attack:
        other = "the worst case of all attacks" if measured.attack == WORST else measured.attack or "no attack"
        lines.append(f"There are no records under {protocol.attack} yet, so the score is that of {other}.")
    elif protocol.attack:
        lines.append(
            f"The score is what {measured.attack} leaves. Where another attack of the protocol leaves surely less, "
            "by 5% or more, the score is that attack's, and the cell names it."
        )
    if board.score != measured:
        lines.append(
            f"Rows rank by the share of their ceiling, which is what {protocol.ceiling} leaves: an explainer that "
            "draws noise is compared with itself under fresh noise."
        )
    elif protocol.ceiling and not board.ceiling:
        lines.append(f"There are no records under {protocol.ceiling} yet, so scores are not divided by their ceiling.")
    if board.ceiling and protocol.noise:
        lines.append(
            f"A score whose interval holds its ceiling and what {protocol.noise} leaves tells noise, not robustness, "
            "and is not ranked."
        )
    if protocol.guard is not None:
        lines.append(
            f"A row that has over {protocol.guard:g} less in {protocol.against} than the reference loses too much, and "
            "has a rank only among all rows, guarded or not."
        )
    if board.chance:
        lines.append(
            f"Chance is {board.chance.metric}: what the maps of other images share. A row is not ranked if its chance "
            f"is surely above that of its reference row by more than {MORE:g}."
        )
    if any(board.reported(row) for row in board.rows):
        lines.append(
            "A row that a submission reports is ahead only by more than a new run may differ by: "
            f"{board.protocol.allowed(measured.metric):g} in {measured.metric}"
            + (", divided by its ceiling." if board.score != measured else ".")
        )
    return [*lines, "An undefined image counts as lost. A row whose score carries a flag is not ranked."]


def tell_shown(board: Board) -> list[str]:
    """How many of the rows are shown at once, and where the others are, if not all are."""
    if len(board.leading) == len(board.rows):
        return []
    return [f"{len(board.leading):,} of {len(board.rows):,} rows are shown here; all are in table.csv and board.json."]


def _join(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = len(names) - MOST
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:MOST])} and {more:,} more"


def _shorten(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MOST
    return list(lines) if more <= 0 else [*lines[:MOST], f"And {more:,} more like these; board.json has all."]


def list_unranked(board: Board) -> list[str]:
    """The rows that are not ranked, with the reasons."""
    about: dict[str, list[str]] = {}
    for row in board.rows:
        reason = row.missing or (row.loses and f"loses too much: {row.loses}")
        if reason and not row.control:
            about.setdefault(reason, []).append(label_row(board, row, inside=False))
    return _shorten([f"Not ranked: {_join(names)} ({reason})." for reason, names in about.items()])


def describe_source(board: Board, row: Row) -> tuple[str, str]:
    """Whether a maintainer has run a row that a submission reports: a word, and what was run and compared; both empty
    for rows of the suite."""
    reported = board.reported(row)
    marks = [board.marks[record.key] for record in reported if record.key in board.marks]
    names = ", ".join(sorted({board.origin[record.key] for record in reported}))
    if not marks:
        return ("self-reported", f"by {names}; no maintainer has run it again") if reported else ("", "")
    runs = dict.fromkeys(f"on {mark.date} with commit {mark.commit[:12]}" for mark in marks)
    compared = dict.fromkeys(mark.compared for mark in marks)
    return (
        "verified" if len(marks) == len(reported) else "verified in part",
        f"by {names}; a maintainer ran {len(marks)} of {len(reported)} records again {', '.join(runs)}, and compared "
        f"{'; '.join(compared)}",
    )


def list_sources(board: Board) -> list[str]:
    """The rows that submissions report, and whether a maintainer has run them."""
    about: dict[tuple[str, str], list[str]] = {}
    for row in board.rows:
        if (source := describe_source(board, row)) != ("", ""):
            about.setdefault(source, []).append(label_row(board, row, inside=False))
    return _shorten([f"{word.capitalize()}: {_join(names)} ({reason})." for (word, reason), names in about.items()])


def name_ranked_seeds(board: Board) -> str:
    return f"seed{'s' if len(board.ranked_seeds) > 1 else ''} {', '.join(board.ranked_seeds)}"


def compare_with_paper(board: Board) -> tuple[list[Column], list[tuple[Row, list[str]]]]:
    """The columns for the figures that the paper has, and these figures beside ours, for the rows of which it has some.

    Where it names no attack, the column is of the protocol's first; where it names no budget, of the score's.
    """
    paper = board.protocol.paper
    if paper is None:
        return [], []
    columns = {
        column: place
        for place in dict.fromkeys(place[1:] for place in paper.figures)
        if (column := _find_column(board, *place))
    }
    rows = []
    for row in board.rows:
        figures = [(paper.find(row.axes, *place), board.cell(row, column).text) for column, place in columns.items()]
        if any(figure for figure, _ in figures):
            rows.append((row, [f"{figure or '-'} / {ours}" for figure, ours in figures]))
    return list(columns), rows


def _find_column(board: Board, metric: str, attack: str, ball: str) -> Column | None:
    balls = (ball,) if ball else ("", board.ball)
    derived = bool(ball) and ball.endswith(AREA)
    fits = (c for c in board.columns if c.metric == metric and c.ball in balls and c.derived == derived)
    return next((column for column in fits if attack in ("", column.attack)), None)


def write_legend(board: Board) -> list[str]:
    """What the reader of the numbers must know, a line for each thing."""
    seeds = sorted(board.seeds, key=lambda text: (int(text) if text.isdigit() else 0, text))
    over = (
        "interval over seeds and images"
        if len(seeds) > 1
        else "interval over images; a single seed says nothing about other training runs"
    )
    lines = [f"In brackets: 95% {over}. Seeds: {', '.join(seeds) or 'none'}."]
    if any(column.attack == WORST for column in board.columns):
        lines.append(f"{WORST}: for each image the worst result of any attack, then the mean over images.")
    if any(column.over for column in board.columns):
        lines.append(
            f"{AREA}: area under the curve over all eps, by the trapezoidal rule with steps of width 1; {NORMALISED}: "
            "divided by the number of steps, so that it lies between the values."
        )
    if any(column.attack == SHARE for column in board.columns):
        lines.append(f"{SHARE}: the mean divided by that of the ceiling, over the same images and seeds.")
    if any(estimate.lost for row in board.rows for estimate in row.estimates.values()):
        lines.append(
            "lost: undefined images, which count with the worst value in the score and in the metrics it needs."
        )
    lines += list_stronger(board)
    lines.append("-: not computed. Costs are ratios to the reference row; seconds and memory only on the same device.")
    return [*lines, *list_sources(board), *write_notes(board.records)]


def list_stronger(board: Board) -> list[str]:
    """The rows whose score is that of a stronger attack, with what both leave."""
    return _shorten(
        [
            f"{label_row(board, row, inside=False)}: the score is under {score.under}, which leaves "
            f"{format_value(score)} where {board.measured.attack if board.measured else ''} leaves "
            f"{format_value(beaten)}."
            for row in board.rows
            if row.standing and (score := row.standing.score) and (beaten := row.standing.beaten)
        ]
    )


def write_notes(records: Collection[Record]) -> list[str]:
    """What the reader of some records must know, a line for each thing, and where they were computed."""
    about: dict[str, list[str]] = {}
    axes = ("defense", "explainer", "attack")
    varied = [a for a in axes if len({r.axes[a] for r in records if a in r.axes}) > 1] or axes
    for record in records:
        texts = [f"* {flag}" for flag in record.flags]
        if record.undefined:
            texts.append(f"* undefined for {record.undefined} of {record.n} images, which the mean leaves out")
        if record.undefined_because:
            texts.append(record.undefined_because)
        case = " ".join(record.axes[axis] for axis in varied if axis in record.axes)
        for text in texts:
            about.setdefault(text, []).append(f"{record.metric} of {case}" if case else record.metric)
    lines = _shorten(
        [
            f"{text}: {', '.join(cases[:3])}{f' and {len(cases) - 3} more' if len(cases) > 3 else ''}"
            for text, cases in about.items()
        ]
    )
    lines += sorted({f"{r.axes['dataset']}: {r.provenance['data']}" for r in records if "data" in r.provenance})
    names = devices(records)
    return [*lines, *([f"Computed on {'; '.join(names)}."] if names else [])]
