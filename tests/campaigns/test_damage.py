"""Damage at random places of a finished store: it is said, set aside, and the numbers stay."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from trials import find_broken, list_values

from bench.engine import catalog as catalogs
from bench.engine.cells import list_cells
from bench.engine.runner import choose_device, run_cells
from bench.engine.selection import select
from bench.engine.store import Store

DAMAGES = 100
OPTIONS = {
    "defense": ["l2"],
    "metric": ["sparsity", "accuracy", "kept_rate"],
    "schedule": ["quick:epochs=1,batch=8,limit=16"],
    "attack": ["topk:k=5,steps=1"],
    "samples": ["4"],
}


def _change(change):
    """Damage to a random file of a value that a run reads."""

    def damage(lot, folder, others):
        names = (
            ["record.json", "values.parquet"]
            if folder.parent.name == "record"
            else ["spec.json", "cost.json", "value.safetensors"]
        )
        change(lot, folder / lot.choice([*names, "checksums.json"]))

    return damage


def _flip(lot, file):
    content = bytearray(file.read_bytes())
    content[lot.randrange(len(content))] ^= 1 << lot.randrange(8)
    file.write_bytes(content)


def _replace(make):
    """Something else in the place of a file or a folder."""

    def change(lot, place):
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        make(place)

    return change


def _swap(lot, folder, others):
    other = lot.choice(others)
    between = folder.with_name("between")
    folder.rename(between)
    other.rename(folder)
    between.rename(other)


def _move_over(lot, folder, others):
    shutil.rmtree(folder)
    lot.choice(others).rename(folder)


def _copy_over(lot, folder, others):
    shutil.rmtree(folder)
    shutil.copytree(lot.choice(others), folder)


def _link_over(lot, folder, others):
    shutil.rmtree(folder)
    folder.symlink_to(lot.choice(others))


OBSTACLES = (
    lambda place: place.write_text("a file"),
    os.mkfifo,
    lambda place: place.symlink_to(place),
    lambda place: place.symlink_to("nowhere"),
    lambda place: place.symlink_to("/dev/zero"),
)
KINDS = [
    *[_change(_flip)] * 4,
    _change(lambda lot, file: os.truncate(file, lot.randrange(file.stat().st_size))),
    _change(lambda lot, file: file.write_bytes(file.read_bytes() + b"\0")),
    _change(lambda lot, file: file.unlink()),
    _change(lambda lot, file: file.write_bytes(b"[" * 100_000)),
    _change(lambda lot, file: file.write_bytes(b"1" * 10_000)),
    *(_change(_replace(make)) for make in (*OBSTACLES, Path.mkdir)),
    *(lambda lot, folder, others, make=make: _replace(make)(lot, folder) for make in OBSTACLES),
    *(lambda lot, folder, others, make=make: _replace(make)(lot, folder.parent) for make in OBSTACLES),
    *[_swap] * 4,
    *[_move_over] * 2,
    *[_copy_over] * 2,
    *[_link_over] * 2,
]


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_damage_is_found_and_the_numbers_stay(tmp_path):
    lot = random.Random(0)
    catalog = catalogs.load()
    selection = select(catalog, OPTIONS)
    cells = list_cells(catalog, selection.cases, selection.metrics)

    def run(root):
        """What a run in a store measures, and what it tells."""
        lines = []
        outcome = run_cells(cells, catalog, Store(root, lines.append), choose_device("cpu"))
        assert not outcome.failures, (root, outcome.failures, lines)
        return {key: (r.value, r.ci95, r.kept, r.n) for key, r in outcome.records.items()}, lines

    undisturbed, _ = run(tmp_path / "first")
    whole = list_values(tmp_path / "first")
    for trial in range(DAMAGES):
        store = Path(shutil.copytree(tmp_path / "first", tmp_path / f"store{trial}"))
        kind = KINDS[trial % len(KINDS)]
        name, key = lot.choice(sorted(whole))
        # Half of the swaps are with a value of another name, but for records, of which a run reads no other values.
        is_same = name == "record" or bool(trial % 2)
        others = [(n, k) for n, k in sorted(whole) if (n, k) != (name, key) and (n == name) == is_same]
        kind(lot, store / name / key, [store / n / k for n, k in others])
        if name != "record":  # so that the run reads the values
            shutil.rmtree(store / "record")
        about = f"trial {trial}: {name}/{key}, kind {trial % len(KINDS)}"
        scores, lines = run(store)
        assert scores == undisturbed, about
        assert lines and all("moved to" in line for line in lines), (about, lines)
        assert (store / "damaged").is_dir() and not find_broken(store), about
        after = list_values(store)
        for at, files in whole.items():
            assert after[at].get("value.safetensors") == files.get("value.safetensors"), (about, at)
        shutil.rmtree(store)
    print(f"{DAMAGES} damages")
