"""Computes the values of a case, keeps them, and turns them into records."""
