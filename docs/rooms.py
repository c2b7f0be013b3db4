"""Draws the rooms of `bench/` and the imports between them: `python docs/rooms.py` writes docs/rooms.svg.

Each room stands on a step of its own, and imports run along its row to the right and then down. A number counts the
imports of one module by another. An import that climbs back up breaks a layer: it is drawn in red below the steps.
`--check` writes nothing and exits with 1 where the picture is out of date. Needs grimp, which import-linter brings.
"""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PICTURE = Path(__file__).with_name("rooms.svg")
PLUGINS, DOOR, GROUND = "plugins", "bench", "ground floor"
ROOMS = (PLUGINS, DOOR, "cli", "testing", "api", "publishing", "engine", "components", "boards", GROUND)

LEFT, TOP, STEP, ROW, WIDTH, HEIGHT, MARGIN = 252, 20, 76, 54, 112, 34, 16
STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de }
  .room { fill: #0969da } .name { fill: #ffffff; font-weight: 600; font-size: 13px }
  .part { fill: #57606a; font-size: 11px } .line { stroke: #8c959f; fill: none; stroke-width: 1.3 }
  .tip { fill: #8c959f } .pill { fill: #ffffff; stroke: #8c959f } .count { fill: #24292f; font-size: 11px }
  .up .line, .up .pill { stroke: #cf222e } .up .tip, .up .count { fill: #cf222e }
  .lazy .line { stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #30363d } .room { fill: #1f6feb } .part { fill: #9198a1 }
    .line { stroke: #6e7681 } .tip { fill: #6e7681 } .pill { fill: #0d1117; stroke: #6e7681 } .count { fill: #e6edf3 }
    .up .line, .up .pill { stroke: #f85149 } .up .tip, .up .count { fill: #f85149 }
  }
"""


def room_of(module: str) -> str:
    """The room that a module belongs to."""
    package, _, rest = module.partition(".")
    if package != "bench":
        return PLUGINS
    first = rest.partition(".")[0]
    return first if first in ROOMS else GROUND if first else DOOR


def read_imports() -> tuple[Counter[tuple[str, str]], dict[str, list[str]]]:
    """How often one room imports another, and the parts of each room.

    The public names are loaded on first use, so for that one module its imports for type checkers count.
    """
    packages = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py"))
    sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]
    plain, typed = (
        grimp.build_graph("bench", *packages, exclude_type_checking_imports=plain, cache_dir=None)
        for plain in (True, False)
    )
    counts: Counter[tuple[str, str]] = Counter()
    for module in plain.modules:
        graph = typed if module == DOOR else plain
        for target in graph.find_modules_directly_imported_by(module):
            counts[room_of(module), room_of(target)] += 1
    parts: dict[str, list[str]] = {
        PLUGINS: [package.removeprefix("bench_") for package in packages],
        DOOR: ["the public names, loaded on first use"],
    }
    for room in ROOMS[2:]:
        folder = ROOT / "bench" if room == GROUND else ROOT / "bench" / room
        files = [path.stem for path in sorted(folder.glob("*.py")) if not path.stem.startswith("__")]
        inner = [f"{path.parent.name}/" for path in sorted(folder.glob("*/__init__.py")) if room != GROUND]
        parts[room] = files + inner
    return counts, parts


def arrow(source: int, target: int, count: int) -> tuple[str, str]:
    """An arrow and its number: along the row of the source, then down to the target, or, in red, up to it."""
    x, y = LEFT + target * STEP + WIDTH // 2, TOP + source * ROW + HEIGHT // 2
    start, climbs = LEFT + source * STEP, target < source
    side = start if climbs else start + WIDTH
    end, tip = TOP + target * ROW + (HEIGHT if climbs else 0), 7 if climbs else -7
    kind = "up" if climbs else "lazy" if ROOMS[source] == DOOR else "down"
    return (
        f'<g class="{kind}"><path class="line" d="M{side} {y}H{x}V{end + tip}"/>'
        f'<path class="tip" d="M{x} {end}l-4 {tip}h8z"/></g>',
        f'<g class="{kind}"><rect class="pill" x="{x - 14}" y="{y - 9}" width="28" height="18" rx="9"/>'
        f'<text class="count" x="{x}" y="{y + 4}" text-anchor="middle">{count}</text></g>',
    )


def draw(counts: Counter[tuple[str, str]], parts: dict[str, list[str]]) -> str:
    """The picture as SVG."""
    width, height = LEFT + STEP * (len(ROOMS) - 1) + WIDTH + MARGIN, TOP * 2 + ROW * (len(ROOMS) - 1) + HEIGHT
    shapes = [f'<rect class="card" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>']
    pairs = sorted((ROOMS.index(a), ROOMS.index(b)) for a, b in counts if a != b)
    arrows = [arrow(a, b, counts[ROOMS[a], ROOMS[b]]) for a, b in pairs]
    # Numbers come after all lines, so that no line crosses one.
    shapes += [line for line, _ in arrows] + [number for _, number in arrows]
    for index, room in enumerate(ROOMS):
        x, y = LEFT + index * STEP, TOP + index * ROW
        shapes.append(f'<rect class="room" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>')
        shapes.append(f'<text class="name" x="{x + WIDTH // 2}" y="{y + 22}" text-anchor="middle">{room}</text>')
        end = min([x, *(LEFT + b * STEP + WIDTH // 2 - 14 for a, b in pairs if b < a == index)]) - 10
        words = textwrap.wrap(", ".join(parts[room]), (end - MARGIN) // 6)
        for line, text in enumerate(words):
            place = y + HEIGHT // 2 + 4 + round((line - (len(words) - 1) / 2) * 14)
            shapes.append(f'<text class="part" x="{end}" y="{place}" text-anchor="end">{text}</text>')
    title = "The rooms of bench and the number of imports between them"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{title}" font-family="system-ui, sans-serif">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n" + "\n".join(shapes) + "\n</svg>\n"
    )


def main() -> int:
    picture = draw(*read_imports())
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(picture, encoding="utf-8")
    elif not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != picture:
        print("docs/rooms.svg does not show the imports as they are; run python docs/rooms.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
