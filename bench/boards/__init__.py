"""Records to tables and pages, and what strangers submit. Needs no torch and runs no plugin."""
