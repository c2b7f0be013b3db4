"""Draws curves, points and histograms as inline SVG: no script, no style, the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bench.boards.record import Range

COLOURS = 8
WIDTH, HEIGHT = 360, 250
LEFT, TOP, BOTTOM = 54, 12, 40  # margins for the axes
LETTER, LINE = 6.3, 12.0  # what a letter and a line of text take at most
LONGEST = 44  # letters of a name beside a curve


@dataclass(frozen=True)
class Series:
    """A named line of (x, y), or a single point with a size in [0, 1] and the ends of its intervals along x and y.
    `colour` is a number; None is grey. A point that is `named` has its name beside it also where others beat it."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int | None
    size: float = 0.0
    bars: tuple[tuple[float, float] | None, tuple[float, float] | None] = (None, None)
    named: bool = False

    @property
    def style(self) -> str:
        if self.colour is None:
            return "grey"
        return f"c{self.colour % COLOURS}" + (" dashed" if self.colour >= COLOURS else "")


@dataclass(frozen=True)
class Scale:
    """Maps values to positions in the picture."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def choose_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers that enclose a range."""
    if not high - low > 1e-9 * max(1.0, abs(low), abs(high)):
        low, high = low - 0.05 * max(1.0, abs(low)), high + 0.05 * max(1.0, abs(high))
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * times for times in (1, 2, 2.5, 5, 10) if unit * times >= rough * 0.999)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [round(place * step, 12) for place in range(first, last + 1)]


def draw_curves(series: Sequence[Series], x: str, y: str, marks: Sequence[tuple[float, str]] = ()) -> Markup:
    """Lines with their names at their ends. `marks` are the ticks of x, by default round numbers."""
    xs, ys = ([point[axis] for line in series for point in line.points] for axis in (0, 1))
    right = 16 + LETTER * min(LONGEST, max(len(line.name) for line in series))
    width = LEFT + 190 + right
    height = max(HEIGHT, TOP + BOTTOM + round(LINE * len(series)))
    frame = _Frame(list(marks) or _label_ticks(xs), choose_ticks(min(ys), max(ys)), width, height, right)
    ends = spread_labels([frame.y(line.points[-1][1]) for line in series], height - BOTTOM)
    parts = [frame.axes(x, y)]
    for line, end in zip(series, ends, strict=True):
        points = " ".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in line.points)
        parts.append(
            Markup('<polyline class="curve {}" points="{}"><title>{}</title></polyline>').format(
                line.style, points, line.name
            )
        )
        at = frame.x(line.points[-1][0]), frame.y(line.points[-1][1])
        parts.append(_draw_name(line, *at, width - right + 8, end))
    return _svg(f"{y} over {x}", parts, width, height)


def draw_points(
    series: Sequence[Series],
    x: str,
    y: str,
    best: tuple[bool, bool],
    bounds: tuple[Range, Range] = ((None, None), (None, None)),
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Markup:
    """Points with their intervals, a line through those that no other beats in both, and the names of these. `best`
    says whether more is better along x and y, and `bounds` within what both are. The few that lie so far out along x
    that the others would fill less than half of the picture are arrows at its edge, with their values."""
    front = find_front(series, best)
    far = find_far(series, best)
    across = _pad([_ends(one, 0) for one in series if one not in far], bounds[0])
    up = _pad([_ends(one, 1) for one in series], bounds[1])
    frame = _Frame(_label_ticks(across), choose_ticks(*up), *size)
    parts = [frame.axes(x, y)]
    if len(front) > 1:
        line = " ".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in (one.points[0] for one in front))
        parts.append(Markup('<polyline class="front" points="{}"/>').format(line))
    edge, away = (frame.x.start, -7) if best[0] else (frame.x.end, 7)
    places = [
        (edge - away if one in far else frame.x(one.points[0][0]), frame.y(one.points[0][1]), 3.5 + 5 * one.size)
        for one in series
    ]
    for one, (a, b, radius) in zip(series, places, strict=True):
        if one in far:
            arrow = f"M{edge:.1f} {b:.1f}l{-away} -5v10z"
            text = f"{one.name}: {one.points[0][0]:g} in {x}, outside the picture"
            parts.append(Markup('<path class="dot {}" d="{}"><title>{}</title></path>').format(one.style, arrow, text))
            continue
        (left, right), (bottom, top) = (_ends(one, axis) for axis in (0, 1))
        bars = f"M{frame.x(left):.1f} {b:.1f}H{frame.x(right):.1f}M{a:.1f} {frame.y(bottom):.1f}V{frame.y(top):.1f}"
        parts.append(
            Markup(
                '<path class="spread {0}" d="{1}"/><circle class="dot {0}" cx="{2}" cy="{3}" r="{4}"><title>{5}</title>'
                "</circle>"
            ).format(one.style, bars, f"{a:.1f}", f"{b:.1f}", f"{radius:.1f}", one.name)
        )
    taken = [(a - r, b - r, a + r, b + r) for a, b, r in places]
    for one, (a, b, radius) in zip(series, places, strict=True):
        if one in far:
            name = f"{one.name} {one.points[0][0]:g}"
            parts.append(_place_name(name, a, b, 4, taken, frame))
        elif one in front or one.named:
            parts.append(_place_name(one.name, a, b, radius, taken, frame))
    return _svg(f"{y} against {x}", parts, *size)


def find_front(series: Sequence[Series], best: tuple[bool, bool]) -> list[Series]:
    """The points that no other beats in both, in the order of x; those without a colour count for nothing."""
    front: list[Series] = []
    above = -math.inf
    signs = [1 if more else -1 for more in best]
    able = [one for one in series if one.colour is not None]
    # From the best along x down: each of the front is better along y than all before it, or equal in both.
    able.sort(key=lambda s: (-signs[0] * s.points[0][0], -signs[1] * s.points[0][1]))
    for one in able:
        height = signs[1] * one.points[0][1]
        if height > above or (front and one.points[0] == front[-1].points[0]):
            front.append(one)
            above = height
    return sorted(front, key=lambda s: s.points[0])


Box = tuple[float, float, float, float]  # left, top, right, bottom


def find_far(series: Sequence[Series], best: tuple[bool, bool]) -> list[Series]:
    """The fewest points, at most a fifth of all, at the worse end of x, without which it is less than half as long;
    none of those that no other beats, and none that is named."""

    def span(those: Sequence[Series]) -> float:
        xs = [end for one in those for end in _ends(one, 0)]
        return max(xs) - min(xs)

    front = find_front(series, best)
    able = [one for one in series if one not in front and not one.named]
    able.sort(key=lambda one: one.points[0][0], reverse=not best[0])
    for count in range(1, len(series) // 5 + 1):
        far = able[:count]
        if span([one for one in series if one not in far]) < span(series) / 2:
            return far
    return []


def _place_name(name: str, x: float, y: float, radius: float, taken: list[Box], frame: _Frame) -> Markup:
    """A name beside its point where nothing else is; none where there is no such place."""
    width, gap = LETTER * len(name), radius + 3
    for down in (0, -LINE, LINE, -2 * LINE, 2 * LINE, -3 * LINE, 3 * LINE):
        for anchor, left in (("start", x + gap), ("end", x - gap - width), ("middle", x - width / 2)):
            if anchor == "middle" and not down:
                continue
            box = (left, y + down - 0.75 * LINE, left + width, y + down + 0.3 * LINE)
            inside = box[0] >= frame.x.start + 2 and box[2] <= frame.width - 2 and 0 <= box[1] <= frame.y.start - LINE
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                at = {"start": x + gap, "end": x - gap, "middle": x}[anchor]
                return Markup('<text class="name" x="{}" y="{}" text-anchor="{}">{}</text>').format(
                    f"{at:.1f}", f"{y + down:.1f}", anchor, name
                )
    return Markup("")


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def count_bins(values: Sequence[float], low: float, high: float, bins: int = 20) -> list[int]:
    """How many values are in each of some bins of one width between two bounds."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int((value - low) / (high - low) * bins)))] += 1
    return counts


def draw_histogram(values: Sequence[float], low: float, high: float) -> Markup:
    """How many images have which value, between two bounds, with a line at the mean."""
    across = _label_ticks((low, high))
    low, high = across[0][0], across[-1][0]
    counts = count_bins(values, low, high)
    frame = _Frame(across, choose_ticks(0, max(counts)), WIDTH, 150)
    width = (frame.x.end - frame.x.start) / len(counts)
    floor = frame.y(0)
    bars = "".join(
        f"M{frame.x.start + place * width + 0.5:.1f} {floor:.1f}V{frame.y(count):.1f}h{width - 1:.1f}V{floor:.1f}"
        for place, count in enumerate(counts)
        if count
    )
    at = f"{frame.x(math.fsum(values) / len(values)):.1f}"
    drawn = Markup('<path class="bar" d="{}"/><path class="middle" d="M{} {}V{}"/>').format(
        bars, at, TOP, f"{floor:.1f}"
    )
    label = f"histogram of {len(values)} values, at most {max(counts)} images in a bin"
    return _svg(label, [frame.axes("value", "images"), drawn], WIDTH, 150)


def spread_labels(heights: Sequence[float], floor: float = HEIGHT - BOTTOM, gap: float = 11.5) -> list[float]:
    """Heights for names: near the given ones, at least a gap apart, and inside the picture."""
    order = sorted(range(len(heights)), key=lambda i: (heights[i], i))
    spread = list(heights)
    before = -math.inf
    for i in order:
        before = spread[i] = max(spread[i], before + gap)
    after = floor + 0.0
    for i in reversed(order):
        after = spread[i] = min(spread[i], after)
        after -= gap
    return spread


def _label_ticks(values: Sequence[float]) -> list[tuple[float, str]]:
    return [(at, f"{at:g}") for at in choose_ticks(min(values), max(values))]


def _ends(series: Series, axis: int) -> tuple[float, float]:
    """What a point takes along an axis, with its interval."""
    at, bar = series.points[0][axis], series.bars[axis]
    return (min(at, bar[0]), max(at, bar[1])) if bar else (at, at)


def _pad(ends: Sequence[tuple[float, float]], bounds: Range) -> tuple[float, float]:
    """The range of some intervals, with room for the size of points at its ends, and inside bounds."""
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    room = 0.06 * (high - low)
    low, high = low - room, high + room
    return (low if bounds[0] is None else max(low, bounds[0]), high if bounds[1] is None else min(high, bounds[1]))


def _draw_name(series: Series, x: float, y: float, margin: float, height: float) -> Markup:
    """A name at the right margin, with a thin line to its point."""
    text = series.name if len(series.name) <= LONGEST else f"{series.name[: LONGEST - 1]}…"
    return Markup('<path class="grid" d="M{} {}L{} {}"/><text x="{}" y="{}">{}<title>{}</title></text>').format(
        f"{x + 3:.1f}", f"{y:.1f}", f"{margin - 2:.1f}", f"{height:.1f}", f"{margin:.1f}", f"{height + 3.5:.1f}", text,
        series.name,
    )  # fmt: skip


def _svg(label: str, parts: Sequence[Markup], width: float, height: float) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        f"{width:g}", f"{height:g}", label, Markup("").join(parts)
    )


class _Frame:
    """Two axes with ticks, of which those are labelled for which there is room."""

    def __init__(
        self, across: Sequence[tuple[float, str]], up: Sequence[float], width: float, height: float, right: float = 20
    ) -> None:
        self.across, self.up, self.width = across, up, width
        self.x = Scale(across[0][0], across[-1][0], LEFT, width - right)
        self.y = Scale(up[0], up[-1], height - BOTTOM, TOP)

    def axes(self, x: str, y: str) -> Markup:
        left, low, high = self.x.start, self.y.start, self.y.end
        parts = [
            Markup('<path class="axis" d="M{} {}V{}H{}"/>').format(left, f"{high:g}", f"{low:g}", f"{self.x.end:g}")
        ]
        last = -math.inf
        for at, text in self.across:
            place, half = self.x(at), LETTER * (len(text) + 1) / 2
            if place - half >= last:
                last = place + half
                parts.append(
                    Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
                        f"{place:.1f}", f"{low + 17:g}", text
                    )
                )
        for at in self.up:
            height = self.y(at)
            parts.append(
                Markup('<path class="grid" d="M{} {}H{}"/><text x="{}" y="{}" text-anchor="end">{}</text>').format(
                    left, f"{height:.1f}", f"{self.x.end:g}", left - 4, f"{height + 3.5:.1f}", f"{at:g}"
                )
            )
        middle = (self.x.start + self.x.end) / 2
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(f"{middle:.1f}", f"{low + 32:g}", x)
        )
        parts.append(
            Markup('<text transform="translate(11 {}) rotate(-90)" text-anchor="middle">{}</text>').format(
                f"{(low + high) / 2:.1f}", y
            )
        )
        return Markup("").join(parts)
