"""Randomness per image: a draw is a function of names and numbers, not of what was drawn before.

Each row of a batch has a 64-bit key made from (seed, value name, image index, call number, draw number), and a draw is
the SplitMix64 sequence of that key (Steele, Lea and Flood, OOPSLA 2014). The same image therefore meets the same noise
alone, in any batch, in any chunk, on any device, and noise can be drawn again instead of kept.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bench.errors import BadComponent


def _to_int64(number: int) -> int:
    """The 64 bits of a number as an int64, the only such type that torch computes with."""
    return (number & (2**64 - 1)) - (2**64 if number & 2**63 else 0)


GAMMA = _to_int64(0x9E3779B97F4A7C15)
MIX = (_to_int64(0xBF58476D1CE4E5B9), _to_int64(0x94D049BB133111EB))
BLOCK = 2**17  # words drawn at once on a CPU: 1 MiB


def mix(state: Tensor) -> Tensor:
    """SplitMix64's output function, element by element, in place."""
    state.bitwise_xor_((state >> 30).bitwise_and_(2**34 - 1)).mul_(MIX[0])
    state.bitwise_xor_((state >> 27).bitwise_and_(2**37 - 1)).mul_(MIX[1])
    return state.bitwise_xor_((state >> 31).bitwise_and_(2**33 - 1))


@dataclass
class _Counts:
    draws: int = 0
    calls: int = 0


@dataclass
class _Rows:
    keys: Tensor
    counts: _Counts = field(default_factory=_Counts)
    images: tuple[int, Tensor] | None = None  # the seed, and the image of each row, where they are known


_current: contextvars.ContextVar[_Rows | None] = contextvars.ContextVar("rows", default=None)


def _mix_keys(keys: Tensor, numbers: Tensor | int) -> Tensor:
    return mix((keys + numbers) * GAMMA + GAMMA)


def make_keys(seed: int, name: str, indices: Tensor) -> Tensor:
    """The keys of images of a value, int64, shaped like their indices, (B,)."""
    base = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big")
    return _mix_keys(torch.full_like(indices, _to_int64(base)), indices)


@contextlib.contextmanager
def _enter(rows: _Rows) -> Iterator[None]:
    token = _current.set(rows)
    try:
        yield
    finally:
        _current.reset(token)


@contextlib.contextmanager
def rows(seed: int, name: str, indices: Sequence[int] | Tensor) -> Iterator[None]:
    """Inside, row i of every draw belongs to image `indices[i]` of the value `name`."""
    numbers = torch.as_tensor(indices if isinstance(indices, Tensor) else list(indices), dtype=torch.int64).cpu()
    with _enter(_Rows(make_keys(seed, name, numbers), images=(seed, numbers))):
        yield


@contextlib.contextmanager
def ensured(count: int) -> Iterator[None]:
    """Inside, noise is fresh at every call: in the rows outside, or in `count` rows of its own where there are none."""
    with rows(0, "", range(count)) if _current.get() is None else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def renamed(name: str) -> Iterator[None]:
    """Inside, noise is what the same images meet from the start of another value, as often as it is entered.

    Outside any `rows` nothing changes: there, every draw is the same.
    """
    outer = _current.get()
    if outer is None:
        yield
        return
    if outer.images is None:
        raise BadComponent("noise.renamed is used where rows have no images, inside noise.keyed or noise.repeat")
    with rows(outer.images[0], name, outer.images[1]):
        yield


@contextlib.contextmanager
def keyed(keys: Tensor) -> Iterator[None]:
    """Inside, row i of every draw has the key `keys[i]`, made by `make_keys`, on any device."""
    with _enter(_Rows(keys)):
        yield


@contextlib.contextmanager
def call(number: int | None = None) -> Iterator[int]:
    """One call of a component, with noise of its own. Yields the call's number; passing it again repeats the noise."""
    outer = _current.get()
    if outer is None:
        yield 0
        return
    if number is None:
        number = outer.counts.calls
        outer.counts.calls += 1
    with _enter(_Rows(_mix_keys(outer.keys ^ GAMMA, number), images=outer.images)):
        yield number


@contextlib.contextmanager
def take(index: Tensor) -> Iterator[None]:
    """Inside, the rows are a subset or another order of those outside, as in `images[index]`."""
    outer = _current.get()
    if outer is None:
        count = len(index) if index.dtype == torch.bool else int(index.max()) + 1
        outer = _Rows(make_keys(0, "", torch.arange(count)))
    images = None if outer.images is None else (outer.images[0], outer.images[1][index.cpu()])
    with _enter(_Rows(outer.keys[index.to(outer.keys.device)], outer.counts, images)):
        yield


@contextlib.contextmanager
def repeat(draws: int | range, rows: int | None = None) -> Iterator[None]:
    """Inside, each row appears once for every draw number, as in `images.repeat_interleave(len(draws), 0)`.

    The same draw numbers give the same noise: a loop passes fresh numbers for fresh copies, or those of its chunk.
    `rows` is the number of images, needed only outside any `noise.rows`.
    """
    numbers = range(draws) if isinstance(draws, int) else draws
    outer = _current.get()
    if outer is None:
        if rows is None:
            raise BadComponent("noise.repeat is used outside noise.rows; pass the number of images as rows=")
        outer = _Rows(make_keys(0, "", torch.arange(rows)))
    copies = torch.arange(numbers.start, numbers.stop, numbers.step, device=outer.keys.device).repeat(len(outer.keys))
    with _enter(_Rows(_mix_keys(outer.keys.repeat_interleave(len(numbers)), copies))):
        yield


def _draw(like: Tensor, shape: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Draw float32 numbers for each row of `like`; `shape` turns two uniforms on [0, 1) into two numbers.

    One 64-bit word gives both uniforms, of 24 bits each. Blocks of rows that stay in the cache are five times faster
    than all rows at once.
    """
    current = _current.get() or _Rows(make_keys(0, "", torch.arange(len(like))))
    if len(current.keys) != len(like):
        raise BadComponent(
            f"noise is drawn for {len(like)} rows where there are {len(current.keys)}; change the rows with "
            "noise.take(index) or noise.repeat(draws)"
        )
    keys = _mix_keys(current.keys, current.counts.draws + 1).to(like.device, non_blocking=True)
    current.counts.draws += 1
    size = math.prod(like.shape[1:])
    half = (size + 1) // 2
    steps = torch.arange(1, half + 1, device=like.device).mul_(GAMMA)
    drawn = torch.empty(len(like), 2 * half, device=like.device)
    block = len(like) if like.is_cuda else max(1, BLOCK // half)
    for start in range(0, len(like), block):
        words = mix(steps + keys[start : start + block, None])
        low = (words & (2**24 - 1)).float().mul_(2.0**-24)
        high = words.bitwise_right_shift_(40).bitwise_and_(2**24 - 1).float().mul_(2.0**-24)
        drawn[start : start + block, :half], drawn[start : start + block, half:] = shape(low, high)
    return drawn[:, :size].reshape(like.shape).to(like.dtype)


def uniform(like: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Uniform noise on [low, high), shaped like `like`, whose first axis is the rows."""
    return _draw(like, lambda a, b: (a.mul_(high - low).add_(low), b.mul_(high - low).add_(low)))


def normal(like: Tensor) -> Tensor:
    """Standard normal noise (Box and Muller, 1958), shaped like `like`, whose first axis is the rows."""

    def box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        radius = first.neg_().add_(1.0).log_().mul_(-2.0).sqrt_()
        angle = second.mul_(2 * math.pi)
        return radius * angle.cos(), radius * angle.sin()

    return _draw(like, box_muller)


def signs(like: Tensor) -> Tensor:
    """+1 or -1 with equal chance, shaped like `like`, whose first axis is the rows."""
    return torch.where(uniform(like) < 0, -1.0, 1.0).to(like.dtype)


def ball(like: Tensor) -> Tensor:
    """Noise uniform in the unit l2 ball of each row, shaped like `like`, whose first axis is the rows.

    A point on a sphere, without two of its coordinates, is uniform in the ball (Voelker et al., 2017).
    """
    flat = like.flatten(1)
    drawn = normal(torch.cat([flat, flat[:, :1], flat[:, :1]], 1))
    return (drawn[:, :-2] / drawn.norm(dim=1, keepdim=True)).view_as(like)


def seeds(like: Tensor) -> list[int]:
    """A seed below 2^31 for each row of `like`, for `generators`."""
    return uniform(like.new_empty(len(like), 1), 0, 2**31).long()[:, 0].tolist()


@contextlib.contextmanager
def generators(seed: int) -> Iterator[None]:
    """Inside, the global generators of Python, numpy and torch start from a seed below 2^32; outside, they go on as if
    nothing had happened. For libraries that draw from these."""
    pythons, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(pythons)
            np.random.set_state(numpys)
