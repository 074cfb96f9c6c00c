"""The rows of the table: what is measured, against what, and what it should come to.

A goal has two figures: on a file system without a journal, where an fsync is cheap, and on one with a journal.
"""

from __future__ import annotations

import statistics
from typing import Final

from tests.benchmarks import contention, crowds, ours, raw, records
from tests.benchmarks.interleave import ITS_TIME, Goal, Row, Setup
from tests.benchmarks.raw import KB

__all__ = ["ROWS"]

_READ: Final = "import sys, fsstate; fsstate.Store(sys.argv[1]).collection('docs').get('doc')"
_TAIL: Final = "import sys, fsstate; fsstate.Store(sys.argv[1]).journal('audit', 'trail').tail(20)"
_CALLS: Final = "the bare system calls"
_HELPER: Final = "a tempfile and json helper"
# Each of these takes a good part of a second.
_FEW: Final = 9


def _crowd(name: str, against: str, goal: float | None, ours: Setup, theirs: Setup) -> Row:
    """A row about 100,000 sessions, which tells how much of the bare operations' time fsstate takes."""
    wanted = None if goal is None else Goal(goal, goal)
    return Row(name, against, wanted, ours, theirs, unit=ITS_TIME, rounds=_FEW)


ROWS: Final = [
    Row("save 2 KB", _CALLS, Goal(0.95, 0.95), ours.save(2 * KB), raw.save(2 * KB)),
    Row("save 64 KB", _CALLS, Goal(0.88, 0.85), ours.save(64 * KB), raw.save(64 * KB)),
    Row("save 2 KB", "atomicwrites", Goal(1.1, 1.1), ours.save(2 * KB), raw.save_by_atomicwrites(2 * KB)),
    Row("save 2 KB", _HELPER, Goal(1.4, 1.4), ours.save(2 * KB), raw.save_by_helper(2 * KB)),
    Row("save 64 KB", _HELPER, Goal(1.4, 1.4), ours.save(64 * KB), raw.save_by_helper(64 * KB)),
    Row("save 2 KB", "sqlite3, WAL, FULL", Goal(0.35, 0.25), ours.save(2 * KB), raw.save_in_sqlite(2 * KB)),
    Row("put_many of 100", "100 saves", Goal(1.9, 3), ours.save_many(100), ours.save_singly(100)),
    Row("append 200 B", "write, fdatasync", Goal(0.95, 0.95), ours.append(200), raw.append(200)),
    Row("append 2 KB", "write, fdatasync", Goal(0.93, 0.93), ours.append(2 * KB), raw.append(2 * KB)),
    Row(
        "64 tasks append",
        "a hop, lock, fdatasync each",
        Goal(25, 30),
        ours.append_by_tasks(200),
        raw.append_by_tasks(200),
    ),
    Row("64 tasks save", "a hop and save each", Goal(1.3, 1.8), ours.save_by_tasks(2 * KB), raw.save_by_tasks(2 * KB)),
    Row("64 tasks save", "the sync store, a hop each", None, ours.save_by_tasks(2 * KB), ours.save_by_hops(2 * KB)),
    Row("append message 5,001", "rewriting the file", Goal(100), ours.append_message(5000), raw.rewrite_session(5000)),
    Row("append at 5,000 entries", "append at 10", Goal(0.95, 0.95), ours.append_to(5000), ours.append_to_young(10)),
    Row("lock and unlock", "filelock.FileLock", Goal(10, 10), ours.lock, raw.file_lock),
    Row(
        "8 processes, one record",
        "one process",
        Goal(0.8, 0.8),
        contention.throughput(8),
        contention.throughput(1),
        rounds=_FEW,
    ),
    Row(
        "8 processes, the longest wait",
        "the usual one",
        Goal(50, 50),
        contention.wait(8, max),
        contention.wait(8, statistics.median),
        unit=ITS_TIME,
        rounds=_FEW,
    ),
    Row("load 2 KB", "a sqlite3 select", Goal(1, 1), ours.load(2 * KB, 100), raw.load_from_sqlite(2 * KB, 100)),
    Row("load 2 KB again", "open, read", Goal(1.5, 1.5), ours.load(2 * KB, 100), raw.load_by_open(2 * KB, 100)),
    Row("load 2 KB again", _CALLS, None, ours.load(2 * KB, 100), raw.load_by_calls(2 * KB, 100)),
    Row("load 2 KB first", "open, read", None, ours.load_first(2 * KB, 100), raw.load_by_open(2 * KB, 100)),
    Row("last 20 of 100 MB", "reading the log", Goal(1000, 1000), ours.tail(20), raw.read_tail(ours.large_log, 20)),
    Row(
        "one seq of 100 MB",
        "reading the log",
        Goal(1000, 1000),
        ours.one_seq,
        raw.read_seq(ours.large_log, ours.middle),
    ),
    Row("recover 100 of 10,000 runs", "listing them", Goal(0.5, 0.5), records.open_and_recover, records.open_and_list),
    Row("open with 10,000 runs", "open an empty store", Goal(0.9), records.open_runs, records.open_empty),
    Row("add run 10,001", "the first ten", Goal(0.9, 0.9), records.add_run(100, among=True), records.add_run(1)),
    Row("add run, session full", "the first ten", Goal(0.9, 0.9), records.add_run(200, among=True), records.add_run(1)),
    Row(
        "add run, session full",
        "adding, deleting one",
        Goal(0.8, 0.8),
        records.add_run(200, among=True),
        records.add_and_delete_run,
    ),
    Row("add job 10,001", "the first ones", Goal(0.9, 0.9), records.add_job(10_000), records.add_job(0)),
    Row(
        "progress, history of 64",
        "short history",
        Goal(0.9, 0.9),
        records.report_progress(100),
        records.report_progress(1),
    ),
    Row(
        "add checkpoint 10,001",
        "the first ten",
        Goal(0.9, 0.9),
        records.save_checkpoint(10_000),
        records.save_checkpoint(1),
    ),
    Row(
        "import and read",
        "a bare interpreter",
        Goal(45, 45),
        raw.interpreter_time(_READ),
        raw.interpreter_time("pass"),
        unit="ms more",
    ),
    Row(
        "memory, last 20 of 100 MB",
        "a bare interpreter",
        Goal(30, 30),
        raw.interpreter_memory(_TAIL, ours.large_state),
        raw.interpreter_memory("pass"),
        unit="MB more",
        rounds=7,
    ),
    _crowd("page of 100,000, warm", "scandir, stat", 1.1, crowds.page(), crowds.bare_scan()),
    _crowd("page of 100,000, cold", "scandir, stat, cold", 1.6, crowds.cold_page(), crowds.cold_scan()),
    _crowd("query of 100,000, warm", "scandir, stat", None, crowds.query, crowds.bare_scan()),
    _crowd("prune 1 % of 100,000", "scandir, stat, unlinks", 1.5, crowds.prune(), crowds.bare_prune()),
    _crowd(
        "page of 100,000 talks, warm",
        "scandirs, stats",
        1.1,
        crowds.page(talk=True),
        crowds.bare_scan(talk=True),
    ),
    _crowd(
        "page of 100,000 talks, cold",
        "scandirs, stats, cold",
        1.6,
        crowds.cold_page(talk=True),
        crowds.cold_scan(talk=True),
    ),
    _crowd(
        "prune 1 % of 100,000 talks",
        "scandirs, stats, unlinks",
        1.5,
        crowds.prune(talk=True),
        crowds.bare_prune(talk=True),
    ),
    Row("search 100,000 messages", "an FTS5 query", Goal(3, 3), crowds.search, crowds.bare_search, unit=ITS_TIME),
    Row("save 2 KB, indexed", "not indexed", Goal(1.05, 1.05), crowds.save_indexed, crowds.save_plain, unit=ITS_TIME),
    # 150 MB altogether: a bare interpreter holds about 10.
    Row(
        "memory, page of 100,000",
        "a bare interpreter",
        Goal(140, 140),
        crowds.list_memory,
        raw.interpreter_memory("pass"),
        unit="MB more",
        rounds=3,
    ),
    Row(
        "memory, prune of 100,000",
        "a bare interpreter",
        Goal(140, 140),
        crowds.prune_memory,
        raw.interpreter_memory("pass"),
        unit="MB more",
        rounds=3,
    ),
]
