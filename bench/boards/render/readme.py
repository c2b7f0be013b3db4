"""Boards and runs as text: the plain table of a run, and README.md of a board."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from tabulate import tabulate

from bench.boards.board import AREA, CONTROLS, COSTS, NORMALISED, ROW, WORST, Board, Column, Row, devices, format_value
from bench.boards.folder import RECORDS
from bench.boards.protocol import Protocol
from bench.boards.record import Record
from bench.boards.statistics import Difference, Estimate, difference

ALWAYS = ("defense", "attack")


def escaped(text: str) -> str:
    """A text that cannot break a table: one line, no control characters."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)


def shown(record: Record) -> str:
    """Value and interval, rounded."""
    if record.value is None:
        return "undefined"
    value = f"{record.value:.1f} {record.unit}" if record.unit else f"{record.value:.3f}"
    if record.ci95 is not None:
        value += " [{:.2f}, {:.2f}]".format(*record.ci95)
    return value + (" *" if record.flags or record.undefined else "")


def plain_table(rows: Sequence[tuple[Mapping[str, str], Mapping[str, Record]]], metrics: Sequence[str]) -> str:
    """A table of (axes, records by metric): what all rows share stands above it, what needs a word below."""
    axes = list(rows[0][0])
    varying = [a for a in axes if a in ALWAYS or len({row[a] for row, _ in rows}) > 1]
    shared = ", ".join(f"{a} {rows[0][0][a]}" for a in axes if a not in varying)
    body = [
        [*(escaped(row[a]) for a in varying), *(shown(found[m]) if m in found else "-" for m in metrics)]
        for row, found in rows
    ]
    text = tabulate(body, headers=[*varying, *map(escaped, metrics)], tablefmt="simple", disable_numparse=True)
    unique = {record.key: record for _, found in rows for record in found.values()}.values()
    below = ["In brackets: 95% interval over images. -: not computed.", *notes(unique)]
    return "\n".join([escaped(shared), "", text, "", *map(escaped, below)])


def notes(records: Collection[Record]) -> list[str]:
    """What has to be said of some records, a line for each thing, and where they were computed."""
    said: dict[str, list[str]] = {}
    for record in records:
        words = [f"* {flag}" for flag in record.flags]
        if record.undefined:
            words.append(f"* undefined for {record.undefined} of {record.n} images, which the mean leaves out")
        if record.undefined_because:
            words.append(record.undefined_because)
        about = " ".join(record.axes[axis] for axis in ("defense", "explainer", "attack") if axis in record.axes)
        for text in words:
            said.setdefault(text, []).append(f"{record.metric} of {about}")
    lines = [
        f"{text}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for text, names in said.items()
    ]
    lines += sorted({f"{r.axes['dataset']}: {r.provenance['data']}" for r in records if "data" in r.provenance})
    return [*lines, *(f"Computed on {'; '.join(found)}." for found in [devices(records)] if found)]


def readme(board: Board) -> str:
    """README.md: the summary, then attack by attack, and the differences to the reference row."""
    rest = [c for c in board.columns if c not in board.summary and not c.derived]
    over = [c for c in board.columns if c.over and (c.attack == WORST or board.sole(c))]
    differing = [c for c in board.summary if not _costs(board, c)]
    parts = [
        f"# {markdown(board.protocol.title or board.name)}",
        markdown(board.protocol.about),
        "\n".join(f"- {markdown(text)}" for text in leads(board)),
        _ranked(board),
        _markdown(board, [_line(board, row, board.summary) for row in board.rows], board.summary)
        if board.rows
        else "No records yet.",
        _legend(board),
        "## By attack and budget" if rest else "",
        _markdown(board, [_line(board, row, rest, short=True) for row in board.rows], rest) if rest else "",
        "## Over all budgets" if over else "",
        _markdown(board, [_line(board, row, over, short=True) for row in board.rows], over) if over else "",
        _differences(board, differing),
        _papers(board),
        "## Columns",
        "\n".join(
            f"- **{markdown(metric)}** ({markdown(better)} is better): {markdown(text)}"
            for metric, better, text in meanings(board)
        ),
        "## Protocol",
        f"The same for all rows: {', '.join(f'{axis} `{code(text)}`' for axis, text in common(board).items())}.",
        f"```sh\nbench run --board leaderboards/{board.name}                  # everything; goes on where it stopped\n"
        f"bench run --board leaderboards/{board.name} --defense MINE   # or --explainer MINE: a row of your own\n"
        f"bench leaderboard verify leaderboards/{board.name}           # run it again and compare\n```",
        _allowance(board.protocol),
        f"Generated from `{RECORDS}/` by `bench leaderboard build`; every record holds the command that gives it.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def common(board: Board) -> dict[str, str]:
    """What all rows share."""
    texts = {axis: {row.axes.get(axis, "") for row in board.rows} for axis in ROW}
    texts |= {"attack": {c.attack for c in board.columns if c.attack not in ("", WORST)}}
    texts |= {"ball": {c.ball for c in board.columns if c.ball and not c.over}}
    found = {axis: next(iter(one)) for axis, one in texts.items() if len(one) == 1 and axis not in board.naming}
    return {axis: text for axis, text in sorted(found.items()) if text}


def meanings(board: Board) -> list[tuple[str, str, str]]:
    """Each metric, which way is better, and what it is."""
    metrics = dict.fromkeys(column.metric for column in board.columns)
    return [(metric, board.described[metric].better, board.described[metric].help) for metric in metrics]


def _ranked(board: Board) -> str:
    if board.score is None:
        return ""
    return (
        f"Ranked by **{markdown(named(board.score))}**"
        + (f", rows of one {markdown(' and '.join(board.within))} among themselves" if board.within else "")
        + f", over {_ranked_seeds(board)}, which the protocol asks of every row. Rows share ranks where the 95% "
        "interval of their paired difference, image by image, contains zero; controls, and rows without that score, "
        "have none."
    )


def leads(board: Board) -> list[str]:
    """Who is ahead, a sentence for each group of rivals."""
    groups: dict[str, list[Row]] = {}
    for row in board.rows:
        if row.rank:
            groups.setdefault(row.group, []).append(row)
    return [_lead(board, group, rows) for group, rows in groups.items()]


def _lead(board: Board, group: str, rows: Sequence[Row]) -> str:
    column = board.score
    assert column is not None
    # On unlike images each may be beaten by some other: then none is first.
    first = [row for row in rows if row.rank and row.rank.best == 1] or list(rows)
    standing = {row.name: row.standing for row in board.rows if row.standing and row.standing.value is not None}
    of = column.metric + (f" ({column.attack})" if column.attack else "")
    names = [label(board, row) for row in first]
    about = f"{group}: " if group else ""
    values = [format_value(standing[row.name]) for row in first]
    span = values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
    if len(first) == 1:
        text = f"{about}{names[0]} is ahead, {of} {values[0]}"
    elif len(first) == len(rows):
        text = f"{about}no row can be told from all others, {of} {span}"
    else:
        text = f"{about}{', '.join(names[:-1])} and {names[-1]} share the first place, {of} {span}"
    base = board.reference(first[0])
    if any(row.standing is not row.estimates.get(column) for row in (*first, *([base] if base else []))):
        text += f" over {_ranked_seeds(board)}"
    if base is None or base in first or base.name not in standing:
        return text
    mine, theirs = standing[first[0].name], standing[base.name]
    text += f"; the reference {label(board, base)} has {format_value(theirs)}"
    there = difference(mine, theirs) if len(first) == 1 else None
    if there and there.ci95:
        pair = [round(mean, 3) for mean in there.means]
        if pair != [round(estimate.value or 0.0, 3) for estimate in (mine, theirs)]:
            text += "; on the images that both have, {:.3f} and {:.3f}".format(*pair)
        # Of the printed numbers: a reader may subtract them.
        text += ", a difference of {:+.3f} [{:+.2f}, {:+.2f}]".format(pair[0] - pair[1], *there.ci95)
    return text


def _ranked_seeds(board: Board) -> str:
    return f"seed{'s' if len(board.ranked_seeds) > 1 else ''} {', '.join(board.ranked_seeds)}"


def naming(board: Board) -> list[str]:
    """The axes that tell the rows of a group apart."""
    return [axis for axis in board.naming if axis not in board.within] or list(board.naming)


def label(board: Board, row: Row, inside: bool = True) -> str:
    """What a row is called inside its group, or on its own."""
    axes = naming(board) if inside and row.group != CONTROLS else board.naming
    return " · ".join(row.axes[axis] for axis in axes if row.axes.get(axis)) or row.name


def named(column: Column) -> str:
    """A column in words."""
    return column.metric + "".join(f", {part}" for part in (column.attack, column.ball) if part)


def _markdown(board: Board, body: Sequence[Sequence[str]], columns: Sequence[Column]) -> str:
    place = ["rank"] if board.score and len(body[0]) > len(board.naming) + len(columns) else []
    headers = [*place, *board.naming, *(_header(board, column) for column in columns)]
    return tabulate(body, headers=headers, tablefmt="github", disable_numparse=True)


def _line(board: Board, row: Row, columns: Sequence[Column], short: bool = False) -> list[str]:
    place = [rank(row)] if board.score and not short else []
    cells = [cell(board, row, column, markdown) for column in columns]
    return [*place, *(markdown(row.axes.get(axis, "-")) for axis in board.naming), *cells]


def rank(row: Row) -> str:
    return str(row.rank) if row.rank else "control" if row.control else "-"


def _header(board: Board, column: Column) -> str:
    return "<br>".join(map(markdown, heading(board, column)))


def heading(board: Board, column: Column) -> list[str]:
    """The metric of a column; the attack and the budget where the board has several."""
    several = len({c.attack for c in board.columns} - {"", WORST}) > 1
    budgets = len({c.ball for c in board.columns if not c.over} - {""}) > 1
    return [p for p in (column.metric, column.attack if several else "", column.ball if budgets else "") if p]


def cell(board: Board, row: Row, column: Column, safe: Callable[[str], str] = escaped) -> str:
    """What stands where a row and a column meet, its words made safe for where it is shown."""
    found = row.estimates.get(column)
    if found is None:
        return "-"
    if found.value is None:
        return "undefined"
    if found.records[0].unit in COSTS:
        times = board.cost_ratio(row, column)
        return "-" if times is None else f"{times:.2f} x"
    text = safe(format_value(found))
    if found.ci95:
        text += " [{:.2f}, {:.2f}]".format(*found.ci95)
    seeds = {r.axes["seed"] for r in found.records if "seed" in r.axes}
    if seeds and seeds != board.seeds:
        text += f" ({len(seeds)} of {len(board.seeds)} seeds)"
    return text + (safe(" *") if found.starred else "")


def _costs(board: Board, column: Column) -> bool:
    return any(row.estimates[column].records[0].unit in COSTS for row in board.rows if column in row.estimates)


def legend(board: Board) -> list[str]:
    """What has to be said of the numbers, a line for each thing."""
    seeds = sorted(board.seeds, key=_number)
    over = (
        "interval over seeds and images"
        if len(seeds) > 1
        else "interval over images; one seed, which says nothing of another training"
    )
    lines = [f"In brackets: 95% {over}. Seeds: {', '.join(seeds) or 'none'}."]
    if any(column.attack == WORST for column in board.columns):
        lines.append(f"{WORST}: of each image the worst that any of the attacks does, then the mean.")
    if any(column.over for column in board.columns):
        lines.append(
            f"{AREA}: area under the values of all eps, by trapezoids of unit width; {NORMALISED}: over their number, "
            "between the values."
        )
    lines.append("-: not computed. Costs are ratios to the reference row, where both were measured on one device.")
    return [*lines, *notes(board.records)]


def _legend(board: Board) -> str:
    return "\n".join(f"- {markdown(line)}" for line in legend(board))


def _differences(board: Board, columns: Sequence[Column]) -> str:
    """The differences of rows to the reference row, image by image."""
    body = []
    for row in board.rows:
        base = board.reference(row)
        if base is None or base is row:
            continue
        found = [_difference(board.differences.get((row.name, column))) for column in columns]
        body.append([*(markdown(row.axes.get(axis, "-")) for axis in board.naming), *found])
    if not body:
        return ""
    return "\n\n".join(
        [
            "## Beside the reference row",
            _markdown(board, body, columns),
            "Mean of the differences to the reference row, image by image, over the seeds and images where both have a "
            "value; in brackets its 95% interval. ▲: better, ▼: worse, where the interval does not contain zero.",
        ]
    )


def _difference(found: Difference | None) -> str:
    if found is None:
        return "-"
    around = " [{:+.2f}, {:+.2f}]".format(*found.ci95) if found.ci95 else ""
    return f"{found.value:+.3f}{around}" + {True: " ▲", False: " ▼", None: ""}[found.better]


def printed(board: Board) -> list[tuple[Row, list[tuple[float, Estimate | None]]]]:
    """The rows of which a paper printed figures; for each of the paper's metrics its figure and what is ours."""
    if board.protocol.paper is None:
        return []
    found = []
    for row in board.rows:
        pairs = [
            (figure, row.estimates.get(column))
            for metric, column in paper_columns(board).items()
            if (figure := board.protocol.paper.figure(row.axes, metric)) is not None
        ]
        if pairs and len(pairs) == len(paper_columns(board)):
            found.append((row, pairs))
    return found


def paper_columns(board: Board) -> dict[str, Column]:
    """The columns of the metrics that the paper has, in its order: of several attacks the first of the protocol, of
    several budgets the score's."""
    metrics = dict.fromkeys(metric for _, metric in board.protocol.paper.figures) if board.protocol.paper else {}
    fits = [c for c in board.columns if not c.derived and c.ball in ("", board.ball)]
    found = {metric: next((c for c in fits if c.metric == metric), None) for metric in metrics}
    return {metric: column for metric, column in found.items() if column}


def _papers(board: Board) -> str:
    rows = printed(board)
    if not rows or board.protocol.paper is None:
        return ""
    headers = [*board.naming, *(f"{_header(board, c)}<br>paper / here" for c in paper_columns(board).values())]
    body = [
        [
            *(markdown(row.axes.get(axis, "-")) for axis in board.naming),
            *(
                f"{figure:.3f} / {markdown(format_value(ours)) if ours and ours.value is not None else '-'}"
                for figure, ours in pairs
            ),
        ]
        for row, pairs in rows
    ]
    return "\n\n".join(
        [
            "## What the paper printed",
            tabulate(body, headers=headers, tablefmt="github", disable_numparse=True),
            f"{markdown(board.protocol.paper.source)}: {markdown(board.protocol.paper.url)}",
        ]
    )


def _allowance(protocol: Protocol) -> str:
    if not protocol.tolerance:
        return ""
    allowed = ", ".join(f"`{code(metric)}` by {value:g}" for metric, value in protocol.tolerance.items())
    return f"A run again may be off in {allowed}, in other metrics by nothing; costs are not compared."


def _number(text: str) -> tuple[int, str]:
    return (int(text) if text.isdigit() else 0, text)


def markdown(text: str) -> str:
    """A text that stays what it is in Markdown, in a table too."""
    # An underscore inside a word is one.
    return re.sub(r"([\\`*|\[\]<>#&~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", escaped(text))


def code(text: str) -> str:
    """A text for a Markdown code span."""
    return escaped(text).replace("`", "'")
