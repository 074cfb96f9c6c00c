"""Records in flight and processes: killed ones, stopped ones, forked ones, and many that recover at once."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import stat
import subprocess
from collections import Counter
from collections.abc import Iterator
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.options import StoreOptions
from fsstate.store import Store
from tests.contract.plans import PLANS, TASKS, Plan
from tests.files.processes import run, start
from tests.files.test_locks import in_another_s_child, in_child, shared_root, wait_for

__all__ = ["shared_root"]

PATIENCE = 60.0
PRELUDE = """
import json
from fsstate.store import Store
from tests.contract.plans import PLANS, TASKS, Plan
store = Store(root, types=(PLANS, TASKS))
plans = store.records(PLANS)
"""

HOLD = (
    PRELUDE
    + """
for name in sys.argv[2:]:
    plans.create(name, session_id="s", status="running")
print("ready", flush=True)
sys.stdin.read()
"""
)


@contextlib.contextmanager
def holding(root: Path, *names: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has records in flight."""
    with start(HOLD, root, *names) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store(root, types=(PLANS, TASKS)) as store:
        yield store


def tree(root: Path) -> dict[str, tuple[int, ...]]:
    """Everything below a directory, with what any write would change."""
    found: dict[str, tuple[int, ...]] = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        # Not the time of access; all else.
        found[str(path)] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def test_a_holder_lives_until_it_is_killed(store: Store, root: Path) -> None:
    with holding(root, "a") as process:
        [flight] = store.in_flight()
        assert (flight.id, flight.is_alive) == ("a", True)
        assert store.recover().settled == []
        process.kill()
        process.wait()
        assert [flight.is_alive for flight in store.in_flight()] == [False]
        assert [one.id for one in store.recover().settled] == ["a"]
    assert store.records(PLANS)["a"].error_code == "interrupted"


def test_a_stopped_holder_lives(store: Store, root: Path) -> None:
    with holding(root, "a") as process:
        process.send_signal(signal.SIGSTOP)
        assert [one.id for one in store.recover().alive] == ["a"]
        process.send_signal(signal.SIGCONT)
    assert [one.id for one in store.recover().settled] == ["a"]


def test_a_closed_store_holds_nothing(store: Store, root: Path) -> None:
    with Store(root) as first, Store(root) as second:
        first.records(PLANS).create("a", status="running")
        second.records(PLANS).create("b", status="running")
        assert store.recover().settled == []
        first.close()
        assert [one.id for one in store.recover().settled] == ["a"]
        assert [one.id for one in second.in_flight(PLANS)] == ["b"]
    assert [one.id for one in store.recover().settled] == ["b"]
    with Store(root, types=(PLANS,), recover=True) as third:
        assert third.in_flight() == []


def test_opening_recovers_if_told_to(root: Path) -> None:
    with Store(root) as first:
        first.records(PLANS).create("a", status="running")
    with Store(root, types=(PLANS,)) as plain:
        assert plain.records(PLANS)["a"].status == "running"
    with Store(root, types=(PLANS,), recover=True) as second:
        assert second.records(PLANS)["a"].status == "failed"


def test_a_forked_child_holds_nothing_of_its_parent_s(store: Store, root: Path) -> None:
    """Neither does it keep it alive, nor does it let it go."""
    child = run(
        """
        from fsstate.store import Store
        from tests.contract.plans import PLANS
        store = Store(root)
        plans = store.records(PLANS)
        plans.create("parents", status="running")
        pid = os.fork()
        if pid == 0:
            plans.create("childs", status="running")
            os.close(1); os.close(2)
            time.sleep(60)
            os._exit(0)
        while "childs" not in plans:
            time.sleep(0.01)
        print(pid, flush=True)
        os._exit(0)
        """,
        root,
    )
    try:
        assert {flight.id: flight.is_alive for flight in store.in_flight()} == {"parents": False, "childs": True}
        assert [one.id for one in store.recover().settled] == ["parents"]
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_the_child_of_a_living_parent(store: Store) -> None:
    plans = store.records(PLANS)
    plans.create("mine", status="running")

    def child() -> None:
        assert [flight.is_alive for flight in store.in_flight()] == [True]
        assert store.recover().settled == []
        plans.create("childs", status="running")

    assert wait_for(in_child(child)) == 0
    assert {flight.id: flight.is_alive for flight in store.in_flight()} == {"mine": True, "childs": False}


def test_a_lock_file_that_was_left_is_no_sign_of_life(store: Store, root: Path) -> None:
    with holding(root, "a") as process:
        process.kill()
        process.wait()
    [left] = (root / ".fsstate" / "locks").glob("holders*")
    assert [one.id for one in store.recover().settled] == ["a"]
    for number in range(100):
        left.with_name(f"holders+{number}.json.lock").touch()
    with holding(root, "b"):
        files = list(left.parent.glob("holders*"))
        assert len(files) == 1
        assert [flight.is_alive for flight in store.in_flight()] == [True]


def holder_files(root: Path) -> list[Path]:
    return list((root / ".fsstate" / "locks").glob("*"))


def test_a_program_that_does_not_close_leaves_no_lock_file(store: Store, root: Path) -> None:
    run(PRELUDE + "plans.create('a', session_id='s', status='running')", root)
    assert holder_files(root) == []
    assert [one.id for one in store.recover().settled] == ["a"]


def test_a_store_that_is_dropped_lets_go(store: Store, root: Path) -> None:
    dropped = Store(root)
    dropped.records(PLANS).create("a", status="running")
    assert [flight.is_alive for flight in store.in_flight()] == [True]
    del dropped
    gc.collect()
    assert holder_files(root) == []
    assert [flight.is_alive for flight in store.in_flight()] == [False]


def test_a_child_that_ends_normally_lets_nothing_of_its_parent_s_go(store: Store, root: Path) -> None:
    run(
        PRELUDE
        + """
plans.create("parents", status="running")
pid = os.fork()
if pid == 0:
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
pid = os.fork()
if pid == 0:
    store.close()
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
assert [flight.is_alive for flight in store.in_flight()] == [True]
assert [flight.is_alive for flight in Store(root, types=(PLANS,)).in_flight()] == [True]
""",
        root,
    )
    assert holder_files(root) == []
    assert [flight.is_alive for flight in store.in_flight()] == [False]


def test_a_holder_that_may_not_be_looked_at_counts_as_alive(shared_root: Path) -> None:
    """Once with a warning, and the others are told of all the same. Root may look everywhere: not as root, then."""
    everybody = StoreOptions(file_mode=0o666, directory_mode=0o777)
    with Store(shared_root, options=everybody) as secret, Store(shared_root, options=everybody) as gone:
        secret.records(PLANS).create("secret", status="running")
        [file] = (shared_root / ".fsstate" / "locks").glob("holders*")
        gone.records(PLANS).create("gone", status="running")
        gone.close()
        file.chmod(0)

        def look() -> None:
            queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
            logging.getLogger("fsstate").addHandler(QueueHandler(queue))
            with Store(shared_root, types=(PLANS,), options=everybody) as store:
                assert {each.id: each.is_alive for each in store.in_flight()} == {"secret": True, "gone": False}
                report = store.recover()
            assert ([one.id for one in report.settled], [one.id for one in report.alive]) == (["gone"], ["secret"])
            assert str(file) in queue.get_nowait().getMessage()
            assert queue.empty()

        assert wait_for((in_another_s_child if os.geteuid() == 0 else in_child)(look)) == 0


def test_looking_changes_nothing(root: Path) -> None:
    with Store(root) as store:
        store.records(PLANS).create("a", session_id="s", status="running")
        store.records(TASKS).create("b")
        store.sessions.create(id="c")
    before = tree(root)
    with Store(root, types=(PLANS, TASKS)) as store:
        assert {flight.id for flight in store.in_flight()} == {"a", "b"}
        assert store.records(PLANS).count() == len(store.records(TASKS).list()) == 1
        store.migrate(dry_run=True)
    assert tree(root) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_only_be_read(root: Path) -> None:
    with Store(root) as store:
        store.records(PLANS).create("a", status="running")
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with Store(root, types=(PLANS,)) as store:
            assert [flight.is_alive for flight in store.in_flight()] == [False]
    finally:
        for folder in folders:
            folder.chmod(stat.S_IRWXU)


def test_recovering_nothing_writes_nothing(root: Path) -> None:
    with Store(root) as store:
        store.records(TASKS).create("b")
        store.records(PLANS).create("a")
    with Store(root, types=(PLANS, TASKS)) as store:
        assert [one.id for one in store.recover().settled] == ["b"]
    before = tree(root)
    with Store(root, types=(PLANS, TASKS), recover=True):
        pass
    assert tree(root) == before


# -- many at once

WORK = (
    PRELUDE
    + """
for number in range(40):
    name = f"{sys.argv[2]}-{number}"
    plans.create(name, session_id=sys.argv[2] + str(number // 4), status="running")
    if number % 2:
        plans.change(name, status="done")
    else:
        store.records(TASKS).create(name)
        plans.change(name, status="done")
        store.records(TASKS).change(name, status="running")
        store.records(TASKS).change(name, status="done")
print("done", flush=True)
"""
)

RECOVER = (
    PRELUDE
    + """
settled = []
for _ in range(int(sys.argv[2])):
    report = store.recover()
    assert not report.problems, report.problems
    settled += [one.id for one in report.settled]
print(json.dumps(settled), flush=True)
"""
)


def test_many_recover_while_others_work(store: Store, root: Path) -> None:
    orphans = [f"orphan{number}" for number in range(4)]
    with holding(root, *orphans) as dead:
        dead.kill()
        dead.wait()
    with holding(root, "stopped") as stopped:
        stopped.send_signal(signal.SIGSTOP)
        workers = [start(WORK, root, name) for name in "xy"]
        recoverers = [start(RECOVER, root, 20) for _ in range(4)]
        settled: Counter[str] = Counter()
        for process in recoverers:
            out, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors
            settled.update(json.loads(out))
        for process in workers:
            out, errors = process.communicate(timeout=PATIENCE)
            assert (process.returncode, out) == (0, "done\n"), errors
        stopped.send_signal(signal.SIGCONT)
        plans = store.records(PLANS)
        assert plans["stopped"].status == "running"
        assert {flight.id: flight.is_alive for flight in store.in_flight()} == {"stopped": True}
    assert settled == Counter(orphans)
    assert {plans[name].status for name in orphans} == {"failed"}
    assert plans.count(status="done") == 80
    assert store.records(TASKS).count(status="done") == 40


def settled_in(root: Path) -> int:
    return sum(b"interrupted" in path.read_bytes() for path in (root / "plans").rglob("*.json"))


def test_a_recovery_that_is_killed_is_finished_by_the_next(root: Path) -> None:
    count = 400
    with Store(root) as store:
        for number in range(count):
            document = {"id": str(number), "status": "running", "extra": number}
            store.collection(f"plans/{number // 4}").put(str(number), document)
    for wanted in (1, 30, 60):
        with start(RECOVER, root, 1) as process:
            while process.poll() is None and settled_in(root) < wanted:
                pass
            process.kill()
        documents = [json.loads(path.read_bytes()) for path in (root / "plans").rglob("*.json")]
        assert len(documents) == count
        assert all(each["status"] in ("running", "failed") for each in documents)
        assert all(each["extra"] == int(each["id"]) for each in documents)
    assert settled_in(root) < count
    run(RECOVER, root, 1)
    with Store(root, types=(PLANS,)) as store:
        assert store.in_flight() == []
        assert store.records(PLANS).count(status="failed") == count
        assert all(plan.error_code == "interrupted" for plan in store.records(PLANS).list())


# -- limits

ADD = (
    PRELUDE
    + """
for number in range(40):
    plans.create(f"{sys.argv[2]}{number}", session_id="s")
"""
)


def test_two_that_add_at_once_keep_to_the_number(store: Store, root: Path) -> None:
    processes = [start(ADD, root, name) for name in "xyz"]
    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    plans = store.records(PLANS)
    assert plans.count(session_id="s") == PLANS.keep
    plans.add(Plan(id="last", session_id="s"))
    assert plans.list(session_id="s")[0].id == "last"
    assert plans.count() == PLANS.keep


def test_the_lock_of_a_holder_is_one_for_each_store(store: Store, root: Path) -> None:
    plans = store.records(PLANS)
    for name in "abc":
        plans.create(name, status="running")
    assert len({flight.held_by for flight in store.in_flight()}) == 1
    assert len(list((root / ".fsstate" / "locks").glob("holders*"))) == 1
    assert store.backend.is_locked(Ref("holders", str(store.in_flight()[0].held_by), JSON))
