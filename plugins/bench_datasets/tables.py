"""Read Parquet files in the layout of Hugging Face `datasets`, with images as bytes and classes in the features."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import bench
from bench.errors import quote_error
from bench.files import parse_json, read_file
from bench.images import LARGEST
from bench_datasets.names import by_split, describe_left_out, list_files
from bench_datasets.splits import Files, Read

UNPACKED, RATIO = 2**29, 100  # bytes, and times its own bytes, to which a Parquet file may unpack
CELL = 8  # bytes of a row in memory, at the least
SMALLEST = 20  # bytes of a picture: where cells of a file take less, they repeat


def parquet_files(path: Path) -> tuple[dict[str, tuple[Path, ...]], str]:
    """Find Parquet files by split, below a folder or as one file, and a note on those that are left out.

    Names are read by `by_split`. Raises EnvironmentProblem where there are no files.
    """
    if not path.exists():
        raise bench.EnvironmentProblem(f"{path} does not exist; check the path")
    base = path if path.is_dir() else path.parent
    files = list(list_files(path, (".parquet",))) if path.is_dir() else [path]
    if not files:
        raise bench.EnvironmentProblem(f"{path} contains no Parquet files")
    found, left_out = by_split(files, base)
    return found, describe_left_out(left_out, base, "the name has no split")


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of Parquet files, the classes of each column whose feature names them, and the features' types.

    `reads_paths`: whether an image may be the path of a file. Only a set whose identity covers its files allows it.
    """

    rows: Any
    classes: Mapping[str, tuple[str, ...]]
    kinds: Mapping[str, str] = field(default_factory=dict)
    reads_paths: bool = False

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @property
    def columns(self) -> list[str]:
        return list(self.rows.column_names)

    def cells(self, column: str, rows: Sequence[int]) -> list[Any]:
        """The cells of some rows, as Python's own values."""
        values = self.rows.column(column)
        return [values[row].as_py() for row in rows]


def table(files: tuple[Path, ...]) -> Table:
    """Open Parquet files as one table, which stays on disk if `datasets` is installed, else in memory."""
    return _table(files, tuple(bench.checksum(file) for file in files))


@functools.cache
def _table(files: tuple[Path, ...], sums: tuple[str, ...]) -> Table:
    import pyarrow.parquet

    try:
        if not sum([_check_footer(file) for file in files]):
            raise bench.EnvironmentProblem(f"{files[0]} has no rows; check its path")
        parts = [classes_of(pyarrow.parquet.read_schema(file)) for file in files]
        rows = _rows(files, sums)
    except bench.BenchError:
        raise
    except Exception as error:
        check_cache(error)
        cause = quote_error(error.__cause__ or error, 200)
        raise bench.EnvironmentProblem(f"{files[0]} cannot be read as Parquet ({cause})") from error
    for column in rows.column_names:
        one_of({file.name: part.get(column, ()) for file, part in zip(files, parts, strict=True)}, str(files[0].parent))
    return Table(rows, parts[0])


def _check_footer(file: Path) -> int:
    """The rows of a file, by its footer. Raises EnvironmentProblem where it would unpack to far more than it has."""
    import pyarrow.parquet

    footer, size = pyarrow.parquet.read_metadata(file), file.stat().st_size
    unpacked = footer.num_rows * CELL
    for place in range(footer.num_columns):
        parts = [footer.row_group(group).column(place) for group in range(footer.num_row_groups)]
        stored = sum(part.total_uncompressed_size for part in parts)
        column = footer.schema.column(place)
        is_small = sum(part.total_compressed_size for part in parts) < SMALLEST * footer.num_rows
        if is_small and column.physical_type == "BYTE_ARRAY" and not column.max_repetition_level:
            stored = max(stored, _measure_repeated(file, column.path) if stored < UNPACKED else 0)
        unpacked += stored
    if unpacked > max(UNPACKED, RATIO * size):
        raise bench.EnvironmentProblem(
            f"{file} has {size} bytes and {footer.num_rows} rows, and would take {unpacked} bytes; store images as "
            "JPEG or PNG, which shrink no further"
        )
    return int(footer.num_rows)


def _measure_repeated(file: Path, column: str) -> int:
    """The bytes of a column in which cells repeat, from its dictionary, which has each of them once."""
    import pyarrow.compute
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file, read_dictionary=[column]) as opened:
        (cells,) = opened.read(columns=[column], use_threads=False).columns
    for name in column.split(".")[1:]:
        cells = pyarrow.compute.struct_field(cells, name)
    lengths = [pyarrow.compute.binary_length(part.dictionary).take(part.indices) for part in cells.chunks]
    return sum(pyarrow.compute.sum(each).as_py() or 0 for each in lengths)


def _rows(files: tuple[Path, ...], sums: tuple[str, ...]) -> Any:
    """The rows as an Arrow table: mapped from the cache of `datasets`, where it is installed, or read into memory."""
    import pyarrow.parquet

    try:
        import datasets
    except ModuleNotFoundError:
        return pyarrow.concat_tables([pyarrow.parquet.ParquetFile(file).read() for file in files])
    with quiet():
        # The library caches by path and time of change; this name tells different contents apart.
        content = hashlib.sha256("".join(sums).encode()).hexdigest()[:16]
        paths = [str(file.resolve()) for file in files]
        return datasets.load_dataset("parquet", content, data_files={"rows": paths}, split="rows").data.table


def check_cache(error: Exception) -> None:
    """Raise EnvironmentProblem where an error of `datasets` comes from its cache, which it cannot write."""
    cause = error.__cause__ or error
    # Errors about the contents of files are also an OSError, but without a number.
    if isinstance(cause, OSError) and cause.errno:
        import datasets

        place = datasets.config.HF_DATASETS_CACHE
        raise bench.EnvironmentProblem(
            f"the library datasets cannot write its cache {place} ({cause.strerror}); name a folder for it with HF_HOME"
        ) from error


def classes_of(schema: Any) -> dict[str, tuple[str, ...]]:
    """Read the classes of columns from an Arrow schema, where `datasets` keeps its features as JSON."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    features = (parse_json(text).get("info") or {}).get("features") or {}
    return {
        column: tuple(feature["names"])
        for column, feature in features.items()
        if isinstance(feature, dict) and feature.get("names")
    }


def one_of(names: Mapping[str, tuple[str, ...]], about: str) -> tuple[str, ...]:
    """Return the classes that all parts of a set share.

    Raises EnvironmentProblem where they differ, because labels would mean different things.
    """
    (first, classes), *others = names.items()
    for part, theirs in others:
        if theirs != classes:
            raise bench.EnvironmentProblem(
                f"{about}: the classes of {part} are {', '.join(theirs)[:100]}, those of {first} "
                f"{', '.join(classes)[:100]}; store all parts with the same class names in the same order"
            )
    return classes


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars of `datasets` inside a `with`."""
    import datasets

    before = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            datasets.enable_progress_bars()


@functools.cache
def rows_of(
    source: Table, about: str, image: str, label: str, mask: str, classes: int
) -> tuple[Files, tuple[str, ...]]:
    """Read a split's files and its classes from the columns of a table.

    `about` names it in messages. `label` and `mask` may be "", for none.
    """
    for role, name in (("image", image), ("label", label), ("mask", mask)):
        if name and name not in source.columns:
            none = "" if role == "image" else f', or {role}="" for a set without one'
            raise bench.EnvironmentProblem(
                f"{about} has no column {name!r} (it has {', '.join(source.columns)}); name it with {role}=...{none}"
            )
    labels, names = None, tuple(map(str, range(classes)))
    if label:
        names = source.classes.get(label) or names
        labels = _labels(source, about, label, names)
    files = Files(
        len(source),
        labels,
        _contents(source, about, image),
        _contents(source, about, mask) if mask else None,
        lambda row: f"image {row} of {about}",
    )
    return files, names


def _labels(source: Table, about: str, label: str, names: tuple[str, ...]) -> torch.Tensor:
    import pyarrow.types

    column = source.rows.column(label)
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise bench.EnvironmentProblem(f"{about}: the {label!r} of row {row} is missing; remove such rows")
    if not names or (len(source) and not pyarrow.types.is_integer(column.type)):
        raise bench.EnvironmentProblem(
            f"{about}: column {label!r} has no class names; store it as a datasets.ClassLabel, or as whole numbers and "
            "say how many there are with classes=..."
        )
    labels = torch.tensor(column.to_pylist(), dtype=torch.int64)
    wrong = ((labels < 0) | (labels >= len(names))).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise bench.EnvironmentProblem(
            f"{about}: the {label!r} of row {row} is {int(labels[row])}, outside its {len(names)} classes"
        )
    return labels


def _contents(source: Table, about: str, column: str) -> Read:
    """Make a function that reads the images of some rows, which are structs with a field `bytes`, or bytes alone.

    An image that is absent reads as no bytes, which no decoder accepts. So does a path alone, unless the source
    `reads_paths`: its file could change without changing the set's identity.
    """
    import pyarrow.types

    kind = source.rows.column(column).type
    is_struct = pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not (is_struct or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
        raise bench.EnvironmentProblem(f"{about}: column {column!r} contains {kind}, not images")

    def read(rows: Sequence[int]) -> list[bytes]:
        cells = source.cells(column, rows)
        return [_content(cell or {}, source.reads_paths) if is_struct else cell or b"" for cell in cells]

    return read


def _content(cell: Mapping[str, Any], reads_path: bool) -> bytes:
    if reads_path and cell.get("bytes") is None and cell.get("path"):
        return read_file(Path(cell["path"]), LARGEST)
    return cell.get("bytes") or b""
