"""Draws curves, points and histograms as inline SVG: no script, no style, the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

COLOURS = 8
WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 136, 12, 40  # margins: for the axes, and on the right for names


@dataclass(frozen=True)
class Series:
    """A named line of (x, y), or a single point with a size in [0, 1]. `colour` is a number; None is grey."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int | None
    size: float = 0.0

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
    frame = _Frame(list(marks) or _label_ticks(xs), choose_ticks(min(ys), max(ys)))
    ends = spread_labels([frame.y(line.points[-1][1]) for line in series])
    parts = [frame.axes(x, y)]
    for line, end in zip(series, ends, strict=True):
        points = " ".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in line.points)
        parts.append(
            Markup('<polyline class="curve {}" points="{}"><title>{}</title></polyline>').format(
                line.style, points, line.name
            )
        )
        parts.append(_draw_name(line, frame.x(line.points[-1][0]), frame.y(line.points[-1][1]), end))
    return _svg(f"{y} over {x}", parts)


def draw_points(series: Sequence[Series], x: str, y: str, best: tuple[bool, bool]) -> Markup:
    """Points with their names, and a line through those that no other beats in both. `best` says whether more is better
    along x and y."""
    across, up = (_pad([s.points[0][axis] for s in series]) for axis in (0, 1))
    frame = _Frame(_label_ticks(across), choose_ticks(*up))
    parts = [frame.axes(x, y)]
    front = sorted(s.points[0] for s in series if s.colour is not None and not _is_beaten(s, series, best))
    if len(front) > 1:
        line = " ".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in front)
        parts.append(Markup('<polyline class="front" points="{}"/>').format(line))
    ends = spread_labels([frame.y(s.points[0][1]) for s in series])
    for one, end in zip(series, ends, strict=True):
        a, b = frame.x(one.points[0][0]), frame.y(one.points[0][1])
        parts.append(
            Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
                one.style, f"{a:.1f}", f"{b:.1f}", f"{3.5 + 8 * one.size:.1f}", one.name
            )
        )
        parts.append(_draw_name(one, a, b, end))
    return _svg(f"{y} against {x}", parts)


def draw_histogram(values: Sequence[float], low: float, high: float, bins: int = 20) -> Markup:
    """How many images have which value, between two bounds, with a line at the mean."""
    across = _label_ticks((low, high))
    low, high = across[0][0], across[-1][0]
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int((value - low) / (high - low) * bins)))] += 1
    frame = _Frame(across, choose_ticks(0, max(counts)), right=12, height=150)
    parts = [frame.axes("value", "images")]
    width = (frame.x(high) - frame.x(low)) / bins
    for place, count in enumerate(counts):
        top = frame.y(count)
        parts.append(
            Markup('<rect class="bar" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
                f"{frame.x(low) + place * width + 0.5:.1f}", f"{top:.1f}", f"{width - 1:.1f}",
                f"{frame.y(0) - top:.1f}", f"{count} images",
            )
        )  # fmt: skip
    at = f"{frame.x(math.fsum(values) / len(values)):.1f}"
    parts.append(Markup('<path class="middle" d="M{0} {1}V{2}"/>').format(at, TOP, f"{frame.y(0):.1f}"))
    return _svg("histogram of values over images", parts, 150)


def spread_labels(heights: Sequence[float], gap: float = 11.5) -> list[float]:
    """Heights for names: near the given ones, at least a gap apart, and inside the picture."""
    order = sorted(range(len(heights)), key=lambda i: (heights[i], i))
    spread = list(heights)
    before = -math.inf
    for i in order:
        before = spread[i] = max(spread[i], before + gap)
    after = HEIGHT - BOTTOM + 0.0
    for i in reversed(order):
        after = spread[i] = min(spread[i], after)
        after -= gap
    return spread


def _label_ticks(values: Sequence[float]) -> list[tuple[float, str]]:
    return [(at, f"{at:g}") for at in choose_ticks(min(values), max(values))]


def _pad(values: Sequence[float]) -> tuple[float, float]:
    """The range of some values, with room for the size of points at its ends."""
    low, high = min(values), max(values)
    room = 0.08 * (high - low)
    return low - room, high + room


def _is_beaten(mine: Series, others: Sequence[Series], best: tuple[bool, bool]) -> bool:
    signs = [1 if more else -1 for more in best]
    own = [sign * at for sign, at in zip(signs, mine.points[0], strict=True)]
    for other in others:
        theirs = [sign * at for sign, at in zip(signs, other.points[0], strict=True)]
        if other.colour is not None and theirs != own and all(t >= o for t, o in zip(theirs, own, strict=True)):
            return True
    return False


def _draw_name(series: Series, x: float, y: float, height: float) -> Markup:
    """A name at the right margin, with a thin line to its point."""
    margin = WIDTH - RIGHT + 8
    text = series.name if len(series.name) <= 21 else f"{series.name[:20]}…"
    return Markup('<path class="grid" d="M{} {}L{} {}"/><text x="{}" y="{}">{}<title>{}</title></text>').format(
        f"{x + 3:.1f}", f"{y:.1f}", margin - 2, f"{height:.1f}", margin, f"{height + 3.5:.1f}", text, series.name
    )


def _svg(label: str, parts: Sequence[Markup], height: int = HEIGHT) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, label, Markup("").join(parts)
    )


class _Frame:
    """Two axes with ticks."""

    def __init__(
        self, across: Sequence[tuple[float, str]], up: Sequence[float], right: int = RIGHT, height: int = HEIGHT
    ) -> None:
        self.across, self.up = across, up
        self.x = Scale(across[0][0], across[-1][0], LEFT, WIDTH - right)
        self.y = Scale(up[0], up[-1], height - BOTTOM, TOP)

    def axes(self, x: str, y: str) -> Markup:
        left, low, high = self.x.start, self.y.start, self.y.end
        parts = [Markup('<path class="axis" d="M{0} {1}V{2}H{3}"/>').format(left, high, low, self.x.end)]
        for at, text in self.across:
            place = f"{self.x(at):.1f}"
            parts.append(Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(place, low + 14, text))
        for at in self.up:
            height = self.y(at)
            parts.append(
                Markup('<path class="grid" d="M{} {}H{}"/><text x="{}" y="{}" text-anchor="end">{}</text>').format(
                    left, f"{height:.1f}", self.x.end, left - 4, f"{height + 3.5:.1f}", f"{at:g}"
                )
            )
        middle = (self.x.start + self.x.end) / 2
        parts.append(Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(f"{middle:.1f}", low + 30, x))
        parts.append(
            Markup('<text transform="translate(11 {}) rotate(-90)" text-anchor="middle">{}</text>').format(
                f"{(low + high) / 2:.1f}", y
            )
        )
        return Markup("").join(parts)
