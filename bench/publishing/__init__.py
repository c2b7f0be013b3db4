"""Joins store and boards: publishes records, re-runs them, draws panels."""
