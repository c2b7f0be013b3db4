"""Computes the values of a case, keeps them, and turns them into records."""

from bench.engine.alignment import gather
from bench.engine.catalog import Catalog, installed, load
from bench.engine.cells import Cell, find_refusal, group_by_text, list_cells, published_text
from bench.engine.chunks import chunked
from bench.engine.cleanup import find_unusable, list_holdings, remove
from bench.engine.cluster import Cluster
from bench.engine.descriptions import describe_component, find_component, list_components, list_evidence, qualify
from bench.engine.evidence import VOCABULARY
from bench.engine.executors import Processes, read_record
from bench.engine.graph import COST, TENSORS, Graph, Memory, dependencies
from bench.engine.grids import Candidate, Choice, choose, expand, read_varied
from bench.engine.phases import Phase
from bench.engine.plan import describe_plan, make_plan
from bench.engine.pretrained import build_network, load_model, place_networks
from bench.engine.printed import describe_printed, list_printed
from bench.engine.progress import tell_work
from bench.engine.report import (
    arrange_records,
    describe_failures,
    describe_refusals,
    describe_troubles,
    format_records,
    group_reasons,
    list_curves,
    read_stored_values,
)
from bench.engine.runner import Outcome, choose_device, open_store, read_records, run_cells
from bench.engine.scoring import find_flags, prepare_publication
from bench.engine.selection import select, select_record
from bench.engine.shared import Shared
from bench.engine.store import SPEC, Store
from bench.engine.tasks import Executor
from bench.engine.training import Batch, Fit, seeded
