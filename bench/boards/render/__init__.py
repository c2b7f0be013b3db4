"""Boards as Markdown, pages, plots and data."""
