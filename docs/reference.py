"""The reference pages of the site, made from the installed components and commands: a hook of MkDocs.

What a component costs is counted, and what it refuses is tried, both while the site is built. `make_pages` needs no
MkDocs.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import click
import torch

# What refuses what is tried with every data set, and none is to be downloaded for that.
os.environ["HF_HUB_OFFLINE"] = "1"

import bench
from bench import gradients, noise
from bench.cli.commands import main
from bench.components import KINDS, Component, parameters, write
from bench.engine import VOCABULARY, Catalog, dependencies, find_refusal, load, select
from bench.testing import fixtures

REPOSITORY = "https://github.com/robust-explanation-bench/robust-explanation-bench/blob/main"
TITLES = {
    "dataset": ("Data sets", "Images to train and test on."),
    "model": ("Models", "Architectures, built fresh for the shape and the classes of a data set."),
    "schedule": ("Schedules", "How long and how networks are trained."),
    "defense": (
        "Defenses",
        "Ways of training. **Cost** is what an epoch takes beside one of `ce`, in forward and backward passes of "
        "batches, counted on a tiny network. What comes before the first epoch, such as a teacher, is left out.",
    ),
    "explainer": (
        "Explainers",
        "Methods that attribute a logit to pixels. **Cost** is what the map of one image takes, in forward and "
        "backward passes of the network, counted on a tiny network for images of 12 x 12 pixels.",
    ),
    "attack": (
        "Attacks",
        "Methods that change images within a budget. **Cost** is what one image takes, in forward and backward passes "
        "of the network, counted on a tiny network whose map is the gradient. Maps that take more passes multiply it.",
    ),
    "metric": ("Metrics", "Scores. A metric is made from the [evidence](evidence.md) that its parameters name."),
}
PROBE = "topk_overlap"  # a metric that reaches every axis, with which other kinds are tried


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those of the site."""
    from mkdocs.structure.files import File

    for path, text in make_pages(load()).items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links that leave the folder docs/ to where their targets are on the web."""
    return resolve_links(markdown, page.file.src_uri, config["site_url"])


def resolve_links(markdown: str, page: str, site: str) -> str:
    """Turn links of a page that leave docs/ into addresses: of boards on the site, of other files in the repository."""

    def resolve(match: re.Match[str]) -> str:
        path, hash_, anchor = match[1].partition("#")
        target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), path))
        if target.startswith("docs/") or ":" in path or not path:
            return match[0]
        if target.startswith("leaderboards") and (target.endswith("/README.md") or target == "leaderboards"):
            return f"]({site}{target.removesuffix('README.md')}{hash_}{anchor})"
        return f"]({REPOSITORY}/{target}{hash_}{anchor})"

    return re.sub(r"\]\(([^)\s]+)\)", resolve, markdown)


def make_pages(catalog: Catalog) -> dict[str, str]:
    """The generated pages, by path below docs/."""
    choices = {kind: [c for cls in catalog.of(kind).values() if (c := default_of(cls)) is not None] for kind in KINDS}
    choices["model"].append(bench.component("model", "lenet:activation=relu"))
    refusals = find_refusals(catalog, choices)
    pages = {f"reference/{kind}s.md": describe_kind(catalog, kind, refusals) for kind in KINDS}
    return {**pages, "reference/evidence.md": describe_evidence(), "reference/commands.md": describe_commands()}


def describe_kind(catalog: Catalog, kind: str, refusals: dict[tuple[str, str], list[str]]) -> str:
    """A page with every component of a kind."""
    title, about = TITLES[kind]
    parts = [f"# {title}", about]
    for name, cls in catalog.of(kind).items():
        parts += [f"## `{name}`", *describe(cls, refusals.get((kind, name), []))]
    return "\n\n".join(parts) + "\n"


def describe(cls: type[Component], refusals: list[str]) -> Iterator[str]:
    """The parts of a component's section."""
    yield inspect.getdoc(cls) or ""
    facts = [*list_facts(cls), *(f"**Refused** {refusal}" for refusal in refusals)]
    if facts:
        yield "\n".join(f"- {fact}" for fact in facts)
    rows = [
        (f"`{p.name}`", "required" if p.required else code(write(p.default)), p.accepts, p.help)
        for p in parameters(cls).values()
    ]
    if rows:
        yield tabulate(("parameter", "default", "takes", "meaning"), rows)
    if cls.presets:
        yield tabulate(
            ("preset", "stands for"),
            [(f"`{cls.name}:{name}`", code(f"{cls.name}:{text}")) for name, text in cls.presets.items()],
        )
    if cls.paper:
        title = f"[{cls.paper.title}]({cls.paper.url})" if cls.paper.url else cls.paper.title
        yield f"{cls.paper.authors.replace(' and ', ', ')}: {title}. {cls.paper.venue}, {cls.paper.year}."
        body = "\n".join(f"    {line}" for line in f"```bibtex\n{cls.paper.bibtex}\n```".splitlines())
        yield f'??? quote "BibTeX"\n\n{body}'


def list_facts(cls: type[Component]) -> Iterator[str]:
    """What a component's class says of itself, and what it costs."""
    if issubclass(cls, bench.Metric):
        by_class = "higher" if cls.better is bench.Metric.better else cls.better
        better = by_class.capitalize() if isinstance(by_class, str) else "Higher or lower, by its parameters,"
        yield f"{better} is better: {cls.help}."
        yield "Made from " + ", ".join(f"`{name}`" for name in dependencies(cls.__call__)) + "."
    component = default_of(cls)
    if component is None:
        return
    if isinstance(component, bench.Explainer):
        yield "An attack follows its gradient." if component.differentiable else "No gradient: attacks follow another."
        if component.prepares:
            yield "Learns from the training images first."
    costs: dict[str, Callable[[Any], tuple[int, int]]] = {
        "explainer": count_explaining, "attack": count_attacking, "defense": count_training,
    }  # fmt: skip
    is_loaded = isinstance(component, bench.Defense) and not component.trains
    if cls.kind not in costs or is_loaded or any(p.required for p in parameters(cls).values()):
        return
    about = ""
    try:
        forwards, backwards = costs[cls.kind](component)
    except bench.BadValue:  # its defaults are for larger images
        component = bench.component(cls.kind, f"{cls.name}:{cls.examples[0]}")
        forwards, backwards = costs[cls.kind](component)
        about = f", as `{component}`"
    if isinstance(component, bench.Defense):
        base = sum(count_training(bench.component("defense", "ce")))
        yield f"**Cost**: {(forwards + backwards) / base:.3g} times that of `ce`{about}."
    elif forwards + backwards:
        yield f"**Cost**: {forwards:,} forward and {backwards:,} backward passes{about}."
    else:
        yield "**Cost**: no pass of the network."


def default_of(cls: type[Component]) -> Component | None:
    """The component with its defaults; where it has required parameters, its first example, or None without any."""
    texts = [""] if not any(p.required for p in parameters(cls).values()) else cls.examples[:1]
    return next((bench.component(cls.kind, f"{cls.name}:{text}".rstrip(":")) for text in texts), None)


def count_explaining(explainer: bench.Explainer) -> tuple[int, int]:
    """Forward and backward passes of one map of one image."""
    _, images, targets = make_inputs()
    network = fixtures.network_for(explainer, True, torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        prepared = explainer.prepare(network, fixtures.tiny_data(), fixtures.tiny_fit(folder))
    return count(network, lambda: explainer.maps(network, images, targets, prepared))


def count_attacking(attack: bench.Attack) -> tuple[int, int]:
    """Forward and backward passes of an attack on one image, at 8/255 or, of its rotation, at 30 degrees."""
    network, images, targets = make_inputs()
    victim = fixtures.tiny_victim(network)
    ball = bench.Ball("linf", Fraction(8, 255)) if "images" in attack.spaces else bench.Ball("rotation", Fraction(30))
    return count(network, lambda: attack.perturb(victim, images, targets, ball))


def count_training(defense: bench.Defense) -> tuple[int, int]:
    """Forward and backward passes of the batches of all epochs, those of teachers included."""
    with tempfile.TemporaryDirectory() as folder:
        fit = fixtures.tiny_fit(folder, fixtures.TinySchedule())
        defense.train(fit)
    trained = [phase for phase in fit.log if phase.name.rpartition("/")[2] == "train"]
    return sum(phase.forwards for phase in trained), sum(phase.backwards for phase in trained)


def make_inputs() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    images, targets = fixtures.tiny_images(1)
    return fixtures.tiny_network(True, torch.float32), images.float(), targets


class Rows(gradients.Passes):
    """Counts passes of single images: a batch counts as often as it has rows."""

    rows = 1  # of the last batch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), named: Any = None) -> Any:
        before, self.backwards = self.backwards, 0
        result = super().__torch_function__(func, types, args, named)
        self.backwards = before + self.backwards * self.rows
        return result


def count(network: torch.nn.Module, work: Callable[[], object]) -> tuple[int, int]:
    """Forward and backward passes of some work on one image; one that is repeated counts as often."""
    passes = Rows()

    def look(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        passes.rows = len(inputs[0])
        passes.forwards += passes.rows

    handle = network.register_forward_pre_hook(look)
    with torch.no_grad(), noise.rows(0, "reference", [0]), passes:
        work()
    handle.remove()
    return passes.forwards, passes.backwards


def find_refusals(catalog: Catalog, choices: dict[str, list[Component]]) -> dict[tuple[str, str], list[str]]:
    """What each component refuses, by kind and name: tried by itself, and beside data sets, models and surrogates."""
    case = select(catalog, {}, reference=False).cases[0]
    zero = [explainer for explainer in choices["explainer"] if not explainer.differentiable]  # type: ignore[attr-defined]
    probe = bench.component("metric", PROBE)

    def attempt(metric: Component, **axes: Component) -> str:
        needed = dependencies(type(metric).__call__)  # type: ignore[operator]
        reason = find_refusal(catalog, dataclasses.replace(case, **axes), needed, metric) or ""  # type: ignore[arg-type]
        return re.sub(r"^\w+ \w+: ", "", reason)

    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    alone = set()
    for component in itertools.chain.from_iterable(choices.values()):
        by_itself = attempt(component) if component.kind == "metric" else attempt(probe, **{component.kind: component})
        if by_itself:
            alone.add(component)
            found[component.kind, component.name] = {by_itself: []}
    pairs = [
        *(("attack", "surrogate", zero), ("defense", "dataset", choices["dataset"])),
        *((kind, "model", choices["model"]) for kind in ("defense", "metric")),
        ("metric", "dataset", choices["dataset"]),
    ]
    for kind, axis, others in pairs:
        for component, other in itertools.product(choices[kind], others):
            if component not in alone and other not in alone:
                own = {} if kind == "metric" else {kind: component}
                reason = attempt(component if kind == "metric" else probe, **own, **{axis: other})
                if reason:
                    general = reason.replace(f"dataset {other}", "it").replace(str(other), f"this {axis}")
                    reasons = found.setdefault((kind, component.name), {})
                    reasons.setdefault(general, []).append(f"`{other}`")
    return {
        key: [
            f"{'beside ' + ', '.join(others) if others else 'by default'}: {reason}."
            for reason, others in reasons.items()
        ]
        for key, reasons in found.items()
    }


def describe_evidence() -> str:
    """A page with everything that a metric can ask for."""
    rows = [(f"`{name}`", " ".join((v.function.__doc__ or "").split())) for name, v in VOCABULARY.values.items()]
    return (
        "# Evidence\n\nThe parameters of a metric's `__call__` name what it is made from. A metric may also name an "
        "axis, such as `model` or `seed`.\n\n" + tabulate(("evidence", "what it is"), rows) + "\n"
    )


def describe_commands() -> str:
    """A page with the help of every command."""
    parts = ["# Commands", "What `bench COMMAND --help` prints. stdout is data, and stderr is progress."]

    def add(command: click.Command, words: tuple[str, ...]) -> None:
        context = click.Context(
            command, info_name=" ".join(words), help_option_names=["-h", "--help"], terminal_width=76
        )
        if len(words) > 1:
            parts.extend([f"{'#' * len(words)} `{' '.join(words)}`", f"```text\n{command.get_help(context)}\n```"])
        for name, inner in sorted(getattr(command, "commands", {}).items()):
            add(inner, (*words, name))

    add(main, ("bench",))
    return "\n\n".join(parts) + "\n"


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def tabulate(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [headers, ("---",) * len(headers), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
