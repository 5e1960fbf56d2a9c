"""Warnings of libraries, which users need not see, and those of users, which stay."""

import warnings
from threading import Event, Thread

import pytest

from corec.quiet import quiet


def test_nothing_is_heard_within() -> None:
    with quiet():
        warnings.warn("of damaged metadata", stacklevel=1)
    with pytest.warns(UserWarning, match="of a user"):
        warnings.warn("of a user", stacklevel=1)


def test_threads_leave_filters_as_they_were() -> None:
    filters, entered, left = list(warnings.filters), Event(), Event()

    def other() -> None:
        with quiet():
            entered.set()
            left.wait(10)

    thread = Thread(target=other)
    with quiet():
        thread.start()
        assert entered.wait(10)
    warnings.warn("still quiet", stacklevel=1)  # an error, as pytest is told here, if it were heard
    left.set()
    thread.join()
    assert list(warnings.filters) == filters
