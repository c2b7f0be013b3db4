"""`python -m bench.cli`."""

from bench.cli.commands import main

main()
