"""Joins store and boards: publishes records, re-runs them, draws panels and figures."""

from bench.publishing.examples import (
    Example,
    check_cases,
    explain_pictures,
    list_pictures,
    make_example,
    use_own_weights,
)
from bench.publishing.export import add_entry, export_network, find_texts, read_stored
from bench.publishing.figures import (
    OF_PICTURES,
    OF_SCORES,
    describe_figures,
    draw_curves,
    draw_pictures,
    draw_records,
    draw_scores,
)
from bench.publishing.panels import draw_panel
from bench.publishing.pins import check_data
from bench.publishing.publication import describe_stale, draw_examples, publish
from bench.publishing.verification import draw_sample, read_published, read_submission, run_again, tell_absent
