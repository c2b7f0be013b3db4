"""Boards as Markdown, pages, plots and data."""

from bench.boards.render.diff import compare_boards
from bench.boards.render.site import render_board, render_overview
from bench.boards.render.tables import draw_table, wrap
from bench.boards.render.terminal import ALWAYS, find_varying, format_areas, format_score, format_table
from bench.boards.render.wording import write_notes
