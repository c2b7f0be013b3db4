"""Records to tables and pages, and what strangers submit. Needs no torch and runs no plugin."""

from bench.boards.board import ROW, devices, read_board, row_name
from bench.boards.curves import Curve, average_levels, find_curves, group_by_budget
from bench.boards.folder import (
    EXAMPLES,
    RECORDS,
    UNFINISHED,
    find_outdated,
    read_records,
    write_submission,
    write_whole,
)
from bench.boards.marks import VERIFIED, add_mark
from bench.boards.printed import AREA, Figure, Place, PrintedFigures
from bench.boards.protocol import FILE, Protocol, quick_protocol, read_protocol
from bench.boards.record import CALMLY, RECORD, VALUES, VERSION, Record, make_command, values_file
from bench.boards.reruns import Run, compare_runs, find_new_flags
from bench.boards.scale import scale_protocol
from bench.boards.statistics import Estimate, estimate, find_impossible, summarise
