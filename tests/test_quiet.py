"""Warnings of libraries, which users need not see, and those of users, which stay."""

import os
import sys
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


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of threads that a child lacks: just those are meant
@pytest.mark.skipif(sys.platform == "win32", reason="nothing is forked there")
def test_a_child_forked_meanwhile_hears_warnings_again() -> None:
    entered, left = Event(), Event()

    def other() -> None:
        with quiet():
            entered.set()
            left.wait(10)

    thread = Thread(target=other)
    thread.start()
    assert entered.wait(10)
    child = os.fork()
    if not child:
        try:
            warnings.warn("at once", stacklevel=1)
            os._exit(3)
        except UserWarning:
            pass
        try:
            with quiet():
                warnings.warn("within", stacklevel=1)
            warnings.warn("behind", stacklevel=1)  # an error here
        except UserWarning as heard:
            os._exit(7 if str(heard) == "behind" else 1)
        os._exit(2)
    left.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
