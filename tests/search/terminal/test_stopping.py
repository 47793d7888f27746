"""Ctrl-C in a notebook, even if Python loses the exception that it raises."""

import signal
import threading
from collections.abc import Iterator

import pytest

from search.terminal.stopping import interrupts_set


@pytest.fixture(autouse=True)
def _as_in_a_notebook() -> Iterator[None]:
    """Earlier tests may have left another handler for Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def lose_an_interrupt() -> None:
    del [Interrupted()][0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", [None, RuntimeError("stopped")])
def test_an_interrupt_that_a_destructor_swallows(error: Exception | None) -> None:
    event = threading.Event()

    def work() -> None:
        with interrupts_set(event):
            lose_an_interrupt()
            assert event.is_set()
            if error is not None:  # raised by work that was stopped
                raise error

    with pytest.raises(KeyboardInterrupt) as raised:
        work()
    assert raised.value.__cause__ is error
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ordinary_interrupt_and_none() -> None:
    event = threading.Event()
    with pytest.raises(KeyboardInterrupt), interrupts_set(event):
        signal.raise_signal(signal.SIGINT)
    assert event.is_set()
    with pytest.raises(ValueError, match="its own"), interrupts_set(threading.Event()):
        raise ValueError("its own")
