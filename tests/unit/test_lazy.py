"""Properties that are computed once."""

from __future__ import annotations

import os
import threading

import pytest

from fsstate.lazy import lazy_property


class Thing:
    """Something with a part that takes its time."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    @lazy_property
    def part(self) -> object:
        """What it has."""
        self.begun.set()
        self.may_end.wait()
        return object()


def test_it_is_computed_once_and_documented() -> None:
    thing = Thing()
    thing.may_end.set()
    assert thing.part is thing.part
    assert isinstance(Thing.part, lazy_property)
    assert Thing.part.__doc__ == "What it has."


def test_threads_that_are_the_first_at_once_get_the_same() -> None:
    thing, found = Thing(), list[object]()
    threads = [threading.Thread(target=lambda: found.append(thing.part)) for _ in range(3)]
    for thread in threads:
        thread.start()
    thing.may_end.set()
    for thread in threads:
        thread.join()
    assert set(found) == {thing.part}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_meanwhile_computes_its_own() -> None:
    slow = Thing()
    thread = threading.Thread(target=lambda: slow.part)
    thread.start()
    slow.begun.wait()
    other = Thing()
    other.may_end.set()
    pid = os.fork()
    if pid == 0:
        # One that waits for a lock of the parent's would never end.
        threading.Timer(5, os._exit, (1,)).start()
        os._exit(0 if other.part is other.part else 1)
    slow.may_end.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
