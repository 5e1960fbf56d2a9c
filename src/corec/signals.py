"""Signals that ask a program to end: first it cleans up, or comes to the end of a step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any


@contextmanager
def ending() -> Iterator[None]:
    """Meanwhile a signal that ends the program lets it clean up first, as Ctrl-C does."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    if current_thread() is not main_thread():  # others cannot
        yield
        return
    names = ("SIGTERM", "SIGHUP")
    numbers = [number for name in names if (number := getattr(signal, name, None)) is not None]
    before = [(number, signal.signal(number, end)) for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def asked_to_stop() -> Iterator[list[int]]:
    """The signals that have asked this process to stop so far; after the first they do what they always do."""
    came: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, _: object) -> None:
        came.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    if current_thread() is main_thread():  # others cannot
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        restore()
