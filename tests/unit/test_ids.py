import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from fsstate.ids import new_id


def test_an_id_is_a_uuid_of_version_7() -> None:
    text = new_id()
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


def test_the_first_48_bits_are_the_time() -> None:
    before = time.time_ns() // 1_000_000
    ms = uuid.UUID(new_id()).int >> 80
    # Ids made in a hurry may run a little ahead of the clock.
    assert before <= ms <= time.time_ns() // 1_000_000 + 100


def test_ids_grow_within_a_millisecond() -> None:
    ids = [new_id() for _ in range(20_000)]
    assert ids == sorted(set(ids))


def test_ids_grow_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    assert new_id() > first


def test_ids_grow_when_the_random_part_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    monkeypatch.setattr(os, "urandom", lambda size: b"\xff" * size)
    ids = [new_id() for _ in range(100)]
    assert ids == sorted(set(ids))


def test_threads_share_one_sequence() -> None:
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [new_id() for _ in range(2_000)], range(8)))
    assert all(batch == sorted(batch) for batch in batches)
    assert len({one for batch in batches for one in batch}) == 16_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gives_out_other_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    # The same millisecond and the same entropy: only the handling of the fork can tell the two apart.
    monkeypatch.setattr(time, "time_ns", lambda: 2_000_000)
    before = new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - measured in the parent only
        os.write(writing, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read()
    assert theirs > before
    assert theirs[:13] > new_id()[:13]
