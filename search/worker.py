"""Lend this process, or this host, to a running study."""

from search.reporting.commands import run_process
from search.running.joining import main

__all__ = ["main"]

if __name__ == "__main__":
    run_process(main)
