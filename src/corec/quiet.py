"""Warnings of libraries, kept from users; one module, because Python's filters are the whole process'."""

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

_lock = Lock()
_kept = ExitStack()
_inside = 0


def _alone() -> None:
    """In a forked child: no other thread, within a block or about to be, has come along."""
    global _inside, _lock
    _lock, _inside = Lock(), 0
    _kept.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone)


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings in the block. Of blocks in several threads the last to end puts the filters back: each by itself
    would keep, and put back, what another had made of them."""
    global _inside
    with _lock:
        if not _inside:
            _kept.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside = max(0, _inside - 1)  # 0 already in a child that was forked within the block
            if not _inside:
                _kept.close()
