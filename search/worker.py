"""Lend this process, or this host, to a running study."""

from search.running.joining import main
from search.terminal.commands import run_process

__all__ = ["main"]

if __name__ == "__main__":
    run_process(main)
