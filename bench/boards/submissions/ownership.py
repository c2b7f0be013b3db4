"""Whose a submission is, and who may correct it. Needs neither torch nor plugins."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from bench.boards.submissions.metadata import Meta
from bench.shapes import quote


def find_corrections(metas: Mapping[str, Meta], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """(submission, problem) for each that supersedes one that is not there, or not its own. `names` are all."""
    for name, meta in metas.items():
        for other in meta.supersedes:
            owner = metas[other].owner if other in metas else ""
            if other == "suite":
                yield name, "'suite', which only the suite corrects; open a dispute instead"
            elif other not in names:
                yield name, f"{quote(other)}, but the board has no such submission"
            elif other in metas and (not owner or owner.lower() != meta.owner.lower()):
                whose = f"belongs to {quote(owner)}" if owner else "names no owner"
                yield name, f"{quote(other)}, which {whose}, but owner is {quote(meta.owner)}; open a dispute instead"


def find_stranger(name: str, meta: Meta, author: str) -> str:
    """Why a new submission is not of the login `author`, "" if it is."""
    if name == "suite":
        return "'suite' is the name of the suite's own records; publish under another --name"
    if meta.owner.lower() != author.lower():
        return f"owner is {quote(meta.owner)}, but the change is by {quote(author)}; name its author as owner"
    return ""
