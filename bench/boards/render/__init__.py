"""Boards as Markdown, pages, plots and data."""

from bench.boards.render.diff import compare_boards
from bench.boards.render.site import render_board, render_overview
from bench.boards.render.terminal import find_varying, format_areas, format_table
