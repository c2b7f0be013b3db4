"""Draw ten classes of objects with exact masks: the data set that needs no download."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import bench
from bench import noise

HEADS = ("circle", "rectangle")
TAILS = ("bar", "fork", "tee", "ball", "wedge")
SIZES = {"train": 4096, "validation": 512, "test": 1024}
BLOCK = 2**17  # pixels drawn at once, so that they stay in the cache


@dataclass(frozen=True)
class Shapes(bench.Dataset):
    """Draw one object on a dark, blurred or noisy background. Its class is the shape of its head and the kind of its
    tail.

    Re-designed after the synthetic set of Gong, Dou and Farnia (2024), whose generator is not published. Image i has
    the class c = i mod 10 (head c // 5: an ellipse or a rectangle; tail c % 5). Position, scale, proportions, rotation
    and colour of the object, and kind and content of the background, are drawn independently of the class. Image i
    depends on (split, i) alone, and shows the same scene at every size, except for the grain of the noise.
    `object_masks` are the pixels whose colour the object changes.

    Pixels are computed from additions, products, quotients and square roots only, which are rounded the same
    everywhere. Angles are drawn as points of the unit circle, without sines.
    """

    name = "shapes"
    paper = bench.papers.GONG2024
    provides = frozenset({"labels", "object_masks"})
    examples = ("", "size=24")
    size: int = bench.param(32, "height and width, in pixels", low=16, high=2048)

    def load(self, split: str) -> bench.Data:
        count = SIZES[split]
        return bench.Data(
            images=Drawings(split, count, self.size),
            labels=torch.arange(count) % 10,
            classes=tuple(f"{head} {tail}" for head in HEADS for tail in TAILS),
            object_masks=Drawings(split, count, self.size, masks=True),
            note="re-designed after Gong et al. (2024)",
        )


class Drawings:
    """Images (n, 3, size, size) in [0, 1], or masks (n, size, size) of zeros and ones, drawn on access."""

    def __init__(self, split: str, count: int, size: int, masks: bool = False, empty: bool = False) -> None:
        self.split, self.count, self.size, self.masks, self.empty = split, count, size, masks, empty
        self.shape = (count, size, size) if masks else (count, 3, size, size)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Tensor) -> Tensor:
        parts = rows.split(max(1, BLOCK // self.size**2))
        return torch.cat([self._block(part) for part in parts])

    def _block(self, rows: Tensor) -> Tensor:
        with noise.rows(0, f"shapes/{self.split}", rows):
            scene = noise.uniform(torch.empty(len(rows), 32), 0, 1).double()
            alpha = torch.zeros(()) if self.empty else coverage(scene, rows % 10, self.size)
            if self.masks:
                return (alpha > 0).float()
            ground = background(scene, len(rows), self.size)
        paint = 0.55 + 0.45 * scene[:, 8:11, None, None]
        mixed = ground if self.empty else ground + (paint - ground) * alpha[:, None]
        return (mixed * 255).round().clamp(0, 255).float() / 255


def coverage(scene: Tensor, labels: Tensor, size: int) -> Tensor:
    """Compute how much of each pixel the object covers, from signed distances to its outline: (n, size, size)."""
    x, y = (scene[:, i, None, None] for i in (0, 1))
    turn = scene[:, 2:4] * 2 - 1
    length = (turn[:, 0] ** 2 + turn[:, 1] ** 2).sqrt().clamp(min=1e-6)
    cos, sin = (turn / length[:, None]).T[:, :, None, None]
    scale = 0.24 + 0.06 * scene[:, 4, None, None]  # radius of the head; the tail is about as long again
    slim = 0.8 + 0.2 * scene[:, 5, None, None]
    reach = 0.5 * scale
    grid = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    # Places the middle of the object where head and tail mostly stay inside the picture.
    across, down = grid[None, None, :] - (0.42 + 0.16 * x), grid[None, :, None] - (0.42 + 0.16 * y)
    u, v = (across * cos + down * sin) / scale + reach / scale, (down * cos - across * sin) / scale
    head, tail = labels // 5, labels % 5
    circle = ((u**2 + (v / slim) ** 2).sqrt() - 0.8) * slim
    rectangle = torch.maximum((u.abs() - 0.74), (v.abs() - 0.74 * slim))
    body = torch.where(head[:, None, None] == 0, circle, rectangle)

    def box(left: float, right: float, half: float) -> Tensor:
        return torch.maximum(torch.maximum(left - u, u - right), v.abs() - half)

    stem = box(0.6, 1.95, 0.13)
    slope = (u - 0.7) * 0.62
    fork = torch.maximum(torch.maximum(0.6 - u, u - 1.85), (v.abs() - slope).abs() * 0.85 - 0.15)
    tee = torch.minimum(stem, box(1.65, 1.95, 0.75))
    ball = torch.minimum(stem, ((u - 1.72) ** 2 + v**2).sqrt() - 0.42)
    wedge = torch.maximum(torch.maximum(0.6 - u, u - 1.75), (v.abs() - (u - 0.75).clamp(min=0) * 0.75) * 0.8)
    tails = torch.stack([stem, fork, tee, ball, wedge])
    distance = torch.minimum(body, tails.gather(0, tail[None, :, None, None].expand(1, -1, size, size))[0])
    return (0.5 - distance * scale * size).clamp(0, 1)


def background(scene: Tensor, count: int, size: int) -> Tensor:
    """Draw backgrounds (n, 3, size, size): a dark tone, a blurred field of colours, or grain on a tone."""
    kind = (scene[:, 11] * 3).long()[:, None, None, None]
    tone = scene[:, 12:15, None, None]
    corners = noise.uniform(torch.empty(count, 3, 5, 5), 0, 0.5).double()
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 4
    cell, rest = place.long(), place - place.long()
    rows = corners[:, :, cell] * (1 - rest[:, None]) + corners[:, :, cell + 1] * rest[:, None]
    blurred = rows[..., cell] * (1 - rest) + rows[..., cell + 1] * rest
    grain = tone * 0.2 + noise.uniform(torch.empty(count, 3, size, size), 0, 0.3).double()
    return torch.where(kind == 0, tone * 0.12, torch.where(kind == 1, blurred, grain))
