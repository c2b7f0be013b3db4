"""The zoo: trained networks that anyone can have. Reads their index, names and files. Needs no torch.

The index of the suite is `zoo.toml` beside this file. A folder that BENCH_ZOO_DIR names may hold one of its own.
"""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.downloads import Download
from bench.errors import BadValue, EnvironmentProblem, UnknownName, clean, quote_error, suggestion
from bench.files import read_file
from bench.keys import Spec, hash_spec
from bench.shapes import Misfit, Shape, check, list_of, number, parse_toml, quote, table, text

if TYPE_CHECKING:
    import numpy as np

INDEX = "zoo.toml"
VARIABLE = "BENCH_ZOO_DIR"
BELOW = "zoo/"  # where the files lie below the data folder
SUFFIX = ".safetensors"
SIZE = 5_000_000  # bytes of an index
LARGEST = 2 * 10**9  # bytes of a network
MADE = "trained"  # the stored value that an entry stands for
AXES = ("dataset", "model", "schedule", "defense", "seed")  # that it depends on
SHORTEST = 6  # digits of a key in a name
_CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Network:
    """An entry of the index.

    `key`, `spec` and `cost` (a table for each phase of the training) are those of the stored weights, `axes` the texts
    of what they were trained with. `shape` is that of an image. `sha256` and `bytes` belong to the file, `licence` is
    an SPDX identifier, and `command` trains the network again.
    """

    board: str
    key: str
    spec: str
    axes: dict[str, str]
    shape: list[int]
    classes: int
    cost: list[dict[str, Any]]
    sha256: str
    bytes: int
    licence: str
    url: str
    command: str

    @property
    def file(self) -> str:
        return self.key + SUFFIX

    @property
    def defended(self) -> str:
        """The name without seed: BOARD/DEFENSE."""
        return f"{self.board}/{self.axes['defense']}"

    @property
    def name(self) -> str:
        """BOARD/DEFENSE/SEED, which several networks may have."""
        return f"{self.defended}/{self.axes['seed']}"

    @property
    def full_name(self) -> str:
        """BOARD/DEFENSE/KEY, which no other network has."""
        return f"{self.defended}/{self.key}"


def _text(limit: int, form: str = "", words: str = "", empty: bool = False) -> Shape:
    return text(limit, empty=empty, form=re.compile(form) if form else None, words=words)


def _image(value: Any) -> list[int]:
    sides: list[int] = list_of(number(1, 10_000, whole=True), 3)(value)
    if len(sides) != 3:
        raise Misfit(f"is {quote(value)}, must be [channels, height, width]")
    return sides


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Misfit(f"is {quote(value)}, must be true or false")
    return value


_COUNT = number(0, whole=True)
_PHASE = table(
    {
        "name": text(200),
        "seconds": number(low=0),
        "peak_bytes": _COUNT,
        "forwards": _COUNT,
        "backwards": _COUNT,
        "shared": _flag,
    },
    optional=["peak_bytes", "shared"],
)
_ENTRY = table(
    {
        "board": _text(64, r"[a-z0-9][a-z0-9_.-]*", "the name of a board, in lower case"),
        "key": _text(16, "[0-9a-f]{16}", "a key of 16 digits"),
        "spec": text(50_000),
        "axes": table(
            {
                **dict.fromkeys(AXES, _text(2000, "[ -~]+", "in ASCII")),
                "seed": _text(9, r"0|[1-9]\d*", "a whole number, as a text"),
            }
        ),
        "shape": _image,
        "classes": number(2, 10**6, whole=True),
        "cost": list_of(_PHASE),
        "sha256": _text(64, "[0-9a-f]{64}", "a sha256 of 64 digits"),
        "bytes": number(1, LARGEST, whole=True),
        "licence": _text(60, "[A-Za-z0-9][A-Za-z0-9.+-]*", "an SPDX identifier, such as CC0-1.0"),
        "url": _text(1000, r"https?://[!-~]+|", "empty or begin with https://", empty=True),
        "command": text(20_000),
    }
)
_INDEX = table({"network": list_of(_ENTRY, 10_000)}, optional=["network"])


@functools.lru_cache(8)
def parse_index(raw: bytes, about: str) -> tuple[Network, ...]:
    """The networks of an index. Raises BadValue, in one line, for the first thing that is wrong."""
    networks = tuple(Network(**entry) for entry in check(about, _INDEX, parse_toml(about, raw)).get("network", ()))
    seen: set[str] = set()
    for place, network in enumerate(networks):
        where = f"{about}: network[{place}]"
        if network.full_name in seen:
            raise BadValue(f"{where} has the name {quote(network.full_name)} of another entry; remove one of them")
        seen.add(network.full_name)
        if hash_spec(network.spec) != network.key:
            raise BadValue(
                f"{where}: key is {network.key}, but its spec has the key {hash_spec(network.spec)}; export it again"
            )
        try:
            spec = Spec.parse(network.spec)
        except ValueError:
            raise BadValue(
                f"{where}: spec is {quote(network.spec)}, not as the suite writes it; export it again"
            ) from None
        if spec.made != MADE or set(spec.choices) != set(AXES):
            raise BadValue(f"{where}: spec is about {quote(spec.made, 60)}, not about trained weights; export it again")
    return networks


def read_index(file: Path) -> tuple[Network, ...]:
    """The networks of an index in a file."""
    try:
        raw = read_file(file, SIZE)
    except OSError as error:
        raise EnvironmentProblem(f"{file} cannot be read ({error.strerror}); check the path") from None
    return parse_index(raw, str(file))


def list_networks() -> tuple[Network, ...]:
    """The networks of the suite's index, and of the folder that BENCH_ZOO_DIR names, which come first."""
    own = [folder / INDEX for folder in _own_folder() if (folder / INDEX).exists()]
    first = read_index(own[0]) if own else ()
    known = {network.full_name for network in first}
    suite = parse_index(resources.files("bench").joinpath(INDEX).read_bytes(), INDEX)
    return (*first, *(network for network in suite if network.full_name not in known))


def _own_folder() -> list[Path]:
    """The folder that BENCH_ZOO_DIR names, if any."""
    folders = [Path(named)] if (named := os.environ.get(VARIABLE)) else []
    for folder in folders:
        if not folder.is_dir():
            raise EnvironmentProblem(f"folder {folder} does not exist; check {VARIABLE}")
    return folders


def find_network(name: str) -> Network:
    """The network of a name: BOARD/DEFENSE, which means the lowest seed, BOARD/DEFENSE/SEED, or BOARD/DEFENSE/KEY with
    at least six digits of the key. Raises UnknownName, or BadValue where several networks have the name."""
    networks = list_networks()
    found = [network for network in networks if network.defended == name]
    lowest = min((int(network.axes["seed"]) for network in found), default=0)
    found = [network for network in found if int(network.axes["seed"]) == lowest]
    found = found or [network for network in networks if network.name == name]
    found = found or [network for network in networks if _begins_key(name, network)]
    if not found:
        near = suggestion(name, {name for network in networks for name in (network.defended, network.name)})
        raise UnknownName(f"no network called {clean(name)!r} in the zoo{near}")
    if len(found) > 1:
        names = " or ".join(network.full_name for network in found)
        raise BadValue(f"{len(found)} networks of the zoo are called {clean(name)!r}; write {names}")
    return found[0]


def _begins_key(name: str, network: Network) -> bool:
    defended, _, digits = name.rpartition("/")
    return defended == network.defended and len(digits) >= SHORTEST and network.key.startswith(digits)


def read_weights(network: Network, data: Path | None) -> bytes:
    """The file of a network, checked: from a folder at hand, the cache, or its address. `data` is the data folder.

    Raises EnvironmentProblem where it is nowhere, or another file is in its place.
    """
    checkout = _CHECKOUT / "leaderboards" / network.board / "weights"
    folders = [*_own_folder(), *([data / BELOW] if data else []), *([checkout] if checkout.is_dir() else [])]
    return Download(network.file, network.sha256, network.bytes, network.url, BELOW).fetch(folders).read_bytes()


def read_tensors(raw: bytes, about: str) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file. Raises BadValue where it is none, or where anything else is in it."""
    import numpy as np
    from safetensors.numpy import load

    try:
        tensors: dict[str, np.ndarray] = load(raw)
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    except Exception as error:  # safetensors has errors of its own, and KeyError for numbers that numpy does not know
        raise BadValue(
            f"{about} is not a safetensors file of plain numbers ({quote_error(error)}); other formats are refused, "
            "since they can run code"
        ) from None
    if "__metadata__" in header:
        raise BadValue(f"{about} contains metadata besides its tensors; write it by bench store export")
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise BadValue(f"{about}: {clean(name)} contains NaN or infinity; export other weights")
    return tensors


def write_entry(network: Network) -> str:
    """An entry as text, for the end of an index."""
    lines = ["[[network]]"]
    for name, value in vars(network).items():
        lines.append(f"{name} = {_write(value)}")
    return "\n".join([*lines, ""])


def _write(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_write(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_write, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
