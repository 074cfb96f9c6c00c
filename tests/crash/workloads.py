"""What is tried: short programs over a store whose every step says what it wants, and when it was told that it is done.

Each runs in a process of its own that records its calls. What it does before it settles was done long ago: it lasts.
What it does then is what the power is cut in. A workload may also have steps run by a child that is killed with
SIGKILL after its n-th change: what the child did is in the kernel's memory but not yet on the disk, and whoever comes
next finds it there.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from fsstate.backends.base import JSON, LOG, MARKDOWN, Change, Compose, LogLine, Ref
from fsstate.backends.files import FileBackend
from tests.crash.recorder import Recorder

__all__ = ["WORKLOADS", "Job", "Mark", "Records", "Script", "Workload", "killed", "write_all_again"]

_DONE: Final = 7


Step: TypeAlias = Callable[[Any], None]


class Mark(NamedTuple):
    """What an operation wants of one record; `seqs` once it was acknowledged."""

    number: int
    verb: str
    ref: Ref
    value: bytes | None = None
    tags: tuple[int, ...] = ()
    before: int = 0
    seqs: tuple[int, ...] = ()


class Script:
    """A store in the hands of a workload. What it does to records marks its start and its acknowledgement."""

    def __init__(self, base: Path, recorder: Recorder, kill: int) -> None:
        self.base = base
        self.root = base / "state"
        self.kill = kill
        self.numbers = itertools.count(1)
        self._recorder = recorder
        self._open()

    def _open(self) -> None:
        """Open the store."""
        raise NotImplementedError

    def _close(self) -> None:
        """Close the store."""
        raise NotImplementedError

    def settle(self, *, begin: bool = True) -> None:
        """Everything so far lasts, its writer has gone, and from now on the power may be cut."""
        self.reopen()
        self._recorder.mark("settle")
        if begin:
            self._recorder.mark("begin")

    def reopen(self) -> None:
        """Go on as another process would."""
        self._close()
        self._open()

    def killed(self, steps: Callable[[Any], None]) -> None:
        """Run the steps in a child that is killed on its way; without a number it ends as soon as it is done."""
        if not self.kill:
            self._recorder.mark("begin")
        pid = os.fork()
        if pid == 0:
            self._open()
            if self.kill:
                self._recorder.kill_after(self.kill)
            steps(self)
            os._exit(_DONE)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status not in (_DONE, -signal.SIGKILL):
            raise RuntimeError(f"the child ended with {status}")
        # The child counted on alone: never give its numbers to others.
        self.numbers = itertools.count(1000)
        self._recorder.mark("begin")

    def note(self, kind: str, mark: Any) -> None:
        """Put a mark into the trace."""
        self._recorder.mark(kind, mark)


class Records(Script):
    """The backend's records."""

    def _open(self) -> None:
        self.backend = FileBackend(self.root)

    def _close(self) -> None:
        self.backend.close()

    def begin(self, verb: str, ref: Ref, **details: Any) -> Mark:
        """Say what is to become of a record."""
        mark = Mark(next(self.numbers), verb, ref, **details)
        self.note("start", mark)
        return mark

    def _ack(self, mark: Mark, seqs: Sequence[int] = ()) -> None:
        self.note("ack", mark._replace(seqs=tuple(seqs)))

    def _tags(self, count: int) -> tuple[int, ...]:
        return tuple(itertools.islice(self.numbers, count))

    # -- documents

    def put(self, ref: Ref, data: bytes | None, owner: Ref | None = None) -> None:
        mark = self.begin("put", ref, value=data)
        self.backend.change(ref, lambda _: data, owner=owner)
        self._ack(mark)

    def put_many(self, values: dict[Ref, bytes | None]) -> None:
        marks = [self.begin("put", ref, value=data) for ref, data in values.items()]
        outcomes = self.backend.change_many([(ref, _becomes(data)) for ref, data in values.items()])
        for mark, outcome in zip(marks, outcomes, strict=True):
            if isinstance(outcome, Exception):
                raise outcome
            self._ack(mark)

    # -- logs

    def append(self, ref: Ref, count: int = 1, *, size: int = 0, owner: Ref | None = None) -> None:
        mark = self.begin("append", ref, tags=self._tags(count))
        self._ack(mark, self.backend.append(ref, _entries(mark.tags, size), owner=owner))

    def append_many(self, ref: Ref, counts: Sequence[int]) -> None:
        marks = [self.begin("append", ref, tags=self._tags(count)) for count in counts]
        outcomes = self.backend.append_many(ref, [_entries(mark.tags, 0) for mark in marks])
        for mark, outcome in zip(marks, outcomes, strict=True):
            if isinstance(outcome, Exception):
                raise outcome
            self._ack(mark, outcome)

    def edit_log(self, ref: Ref, line: bytes, *, seq: int, tag: int) -> None:
        mark = self.begin("append", ref, tags=(tag,))
        fd = os.open(f"{self.root}/{ref}", os.O_WRONLY | os.O_APPEND)
        os.write(fd, line)
        os.close(fd)
        self._ack(mark, [seq])

    def trim(self, ref: Ref, before: int) -> None:
        mark = self.begin("trim", ref, before=before)
        self.backend.trim(ref, before)
        self._ack(mark)

    def delete_log(self, ref: Ref) -> None:
        mark = self.begin("delete_log", ref)
        self.backend.delete_log(ref)
        self._ack(mark)

    # -- both

    def delete_with(self, ref: Ref) -> None:
        mark = self.begin("delete_with", ref)
        done = self.backend.delete_with(ref, f"{ref.category}/{ref.name}", lambda: True)
        # Where there was no document, nothing was said about what belonged to it.
        self._ack(mark if done else mark._replace(verb="absent"))


def _becomes(data: bytes | None) -> Change:
    return lambda _: data


def _entries(tags: Sequence[int], size: int) -> Compose:
    def compose(_: LogLine | None) -> list[bytes]:
        return [orjson.dumps({"tag": tag, "fill": f"{tag}." * (size // 4)}) for tag in tags]

    return compose


A: Final = Ref("agents", "a", JSON)
B: Final = Ref("agents", "b", JSON)
NOTE: Final = Ref("notes", "n", MARKDOWN)
TRAIL: Final = Ref("audit", "trail", LOG)
SESSION: Final = Ref("sessions", "s1", JSON)
OTHER: Final = Ref("sessions", "s2", JSON)
MESSAGES: Final = Ref("sessions/s1", "messages", LOG)
EVENTS: Final = Ref("sessions/s1", "events", LOG)
GOAL: Final = Ref("sessions/s1", "goal", JSON)
STREAM: Final = Ref("sessions/s1/streams", "m1", LOG)
DEEP: Final = Ref("teams/red/agents", "a", JSON)
DEEP_LOG: Final = Ref("teams/red/logs", "l", LOG)


def _document(word: str, size: int = 0) -> bytes:
    return b'{\n  "text": "%s"\n}\n' % (word.encode() * (1 + size // len(word)))


class Workload(NamedTuple):
    """A program, the records that it is about (none: sessions), and whether it has steps that are to be killed."""

    run: Callable[[Any], None]
    refs: tuple[Ref, ...] = ()
    kills: bool = False


def _new_store(do: Records) -> None:
    do.settle()
    do.put(A, _document("one"))
    do.put(NOTE, b"# note\n")
    do.append(TRAIL)


def _documents(do: Records) -> None:
    do.put(A, _document("old"))
    do.settle()
    do.put(A, _document("new"))
    do.put(B, _document("large", 9000))
    do.put(B, _document("other", 5000))
    do.put(A, None)
    do.put(A, _document("again"))


def _many(do: Records) -> None:
    do.put_many({A: _document("old"), NOTE: b"old\n"})
    do.settle()
    more = {Ref("agents", f"c{n}", JSON): _document(f"c{n}") for n in range(2)}
    do.put_many({**more, B: _document("large", 5000), DEEP: _document("deep"), A: None, NOTE: b"new\n"})
    do.put_many({B: _document("small"), A: _document("back")})


def _new_log(do: Records) -> None:
    do.put(A, _document("there"))
    do.settle()
    for _ in range(3):
        do.append(TRAIL)
    do.append(DEEP_LOG, 2)


def _old_log(do: Records) -> None:
    do.append(TRAIL, 4)
    do.settle()
    do.append(TRAIL)
    do.append(TRAIL, 3, size=3000)
    do.append_many(TRAIL, [1, 2, 1])
    do.reopen()
    do.append(TRAIL)


def _no_newline(do: Records) -> None:
    """A last line as editors leave it; who wrote it saw to it that it lasts."""
    do.append(TRAIL, 2)
    do.edit_log(TRAIL, b'{"seq":3,"tag":100,"fill":""}', seq=3, tag=100)
    do.settle()
    do.append(TRAIL)
    do.append(TRAIL)


def _large_append(do: Records) -> None:
    do.append(TRAIL, 2)
    do.settle()
    do.append(TRAIL, 3, size=700_000)
    do.append(TRAIL)


def _damaged_log(tail: bytes) -> Callable[[Any], None]:
    def run(do: Records) -> None:
        do.append(TRAIL, 3)
        fd = os.open(f"{do.root}/{TRAIL}", os.O_WRONLY | os.O_APPEND)
        os.write(fd, tail)
        os.close(fd)
        do.settle()
        do.append(TRAIL)
        do.append(TRAIL)

    return run


def _trims(do: Records) -> None:
    do.append(TRAIL, 6)
    do.settle()
    do.trim(TRAIL, 4)
    do.append(TRAIL)
    do.trim(TRAIL, 100)
    do.append(TRAIL)
    do.reopen()
    do.trim(TRAIL, 9)
    do.append(TRAIL)


def _nested(do: Records) -> None:
    do.put(A, _document("there"))
    do.settle()
    do.put(DEEP, _document("deep"))
    do.append(DEEP_LOG)
    do.put(Ref("teams/red", "r", JSON), _document("between"))


def _session(do: Records) -> None:
    do.put(SESSION, _document("s1"))
    do.append(MESSAGES, 2, owner=SESSION)
    do.append(EVENTS, owner=SESSION)
    do.put(GOAL, _document("goal"), owner=SESSION)
    do.put(OTHER, _document("s2"))


def _owned(do: Records) -> None:
    do.put(OTHER, _document("s2"))
    do.settle()
    _session(do)
    do.append(MESSAGES, 2, owner=SESSION)


def _delete_with(do: Records) -> None:
    _session(do)
    do.settle()
    do.append(MESSAGES, owner=SESSION)
    do.delete_with(SESSION)
    do.put(SESSION, _document("anew"))
    do.append(MESSAGES, owner=SESSION)


def _claims(do: Records) -> None:
    _session(do)
    do.settle()
    with do.backend.claim_log(STREAM, owner=SESSION):
        for _ in range(3):
            do.append(STREAM, owner=SESSION)
    do.append(MESSAGES, owner=SESSION)
    do.delete_log(STREAM)


def _dead_maker(do: Records) -> None:
    """Somebody made directories and files, and died before he flushed any."""
    do.settle()
    for name in ("", "/agents", "/audit", "/teams", "/teams/red", "/.fsstate", "/.fsstate/staging", "/.fsstate/locks"):
        os.mkdir(f"{do.root}{name}", 0o700)
    os.close(os.open(f"{do.root}/{TRAIL}", os.O_WRONLY | os.O_CREAT, 0o600))
    do.put(A, _document("one"))
    do.append(TRAIL)
    do.put(DEEP, _document("deep"))


def _dead_maker_of_a_log(do: Records) -> None:
    """Somebody made a log with the directories that it is in, and died before he flushed any."""
    do.put(A, _document("there"))
    do.settle()
    for name in ("/teams", "/teams/red", "/teams/red/logs"):
        os.mkdir(f"{do.root}{name}", 0o700)
    os.close(os.open(f"{do.root}/{DEEP_LOG}", os.O_WRONLY | os.O_CREAT, 0o600))
    do.append(DEEP_LOG)


def _threads(do: Records) -> None:
    do.put(A, _document("there"))
    do.settle()

    def work(number: int) -> None:
        do.append(TRAIL)
        do.put(Ref("agents", f"t{number}", JSON), _document(f"t{number}"))
        do.append(TRAIL, 2)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def killed(prepare: Step, before: Step, after: Step) -> Step:
    """A workload of which the middle part is run by a child that is killed."""

    def run(do: Script) -> None:
        prepare(do)
        do.settle(begin=False)
        do.killed(before)
        do.reopen()
        after(do)

    return run


def _some(do: Records) -> None:
    do.put(A, _document("old"))
    do.append(TRAIL, 4)


def _nothing(_: Script) -> None:
    pass


def _edit(do: Records) -> None:
    """What an editor does that flushes nothing."""
    for ref, data in ((A, _document("edited")), (DEEP, _document("edited"))):
        os.makedirs(os.path.dirname(f"{do.root}/{ref}"), 0o700, exist_ok=True)
        do.begin("edit", ref, value=data)
        fd = os.open(f"{do.root}/{ref}~", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, data)
        os.close(fd)
        os.rename(f"{do.root}/{ref}~", f"{do.root}/{ref}")


def _put_edited(do: Records) -> None:
    do.put(A, _document("edited"))
    do.put(DEEP, _document("edited"))


def _put_new(do: Records) -> None:
    do.put(A, _document("new"))


def _put_first(do: Records) -> None:
    do.put(DEEP, _document("new"))


def _remove(do: Records) -> None:
    do.put(A, None)


def _append(do: Records) -> None:
    do.append(TRAIL, 2)


def _trim(do: Records) -> None:
    do.trim(TRAIL, 4)


def _delete(do: Records) -> None:
    do.delete_with(SESSION)


def _remove_log(do: Records) -> None:
    do.delete_log(TRAIL)


def _put_new_many(do: Records) -> None:
    do.put_many({A: _document("new"), B: _document("b")})


def _append_and_trim(do: Records) -> None:
    _append(do)
    _trim(do)


WORKLOADS: Final[dict[str, Workload]] = {
    "new store": Workload(_new_store, (A, NOTE, TRAIL)),
    "documents": Workload(_documents, (A, B)),
    "many documents": Workload(
        _many, (A, B, NOTE, DEEP, Ref("agents", "c0", JSON), Ref("agents", "c1", JSON))
    ),
    "new log": Workload(_new_log, (A, TRAIL, DEEP_LOG)),
    "old log": Workload(_old_log, (TRAIL,)),
    "log without a last newline": Workload(_no_newline, (TRAIL,)),
    "large append": Workload(_large_append, (TRAIL,)),
    "log with a torn tail": Workload(_damaged_log(b'{"seq":4,"ta'), (TRAIL,)),
    "log with zeros": Workload(_damaged_log(bytes(300)), (TRAIL,)),
    "log with zeros before text": Workload(_damaged_log(bytes(20) + b"0" * 30 + b'"}\n'), (TRAIL,)),
    "trims": Workload(_trims, (TRAIL,)),
    "nested categories": Workload(_nested, (A, DEEP, DEEP_LOG, Ref("teams/red", "r", JSON))),
    "owned records": Workload(_owned, (SESSION, OTHER, MESSAGES, EVENTS, GOAL)),
    "deletion": Workload(_delete_with, (SESSION, OTHER, MESSAGES, EVENTS, GOAL)),
    "claims": Workload(_claims, (SESSION, MESSAGES, EVENTS, GOAL, STREAM, OTHER)),
    "dead maker": Workload(_dead_maker, (A, TRAIL, DEEP)),
    "dead maker of a log": Workload(_dead_maker_of_a_log, (A, DEEP_LOG)),
    "threads": Workload(_threads, (A, TRAIL, *(Ref("agents", f"t{n}", JSON) for n in range(3)))),
    "killed, same save": Workload(killed(_some, _put_new, _put_new), (A, TRAIL), kills=True),
    "killed, same new save": Workload(killed(_some, _put_first, _put_first), (A, TRAIL, DEEP), kills=True),
    "killed, other save": Workload(killed(_some, _put_first, _put_new), (A, TRAIL, DEEP), kills=True),
    "killed, same saves": Workload(killed(_some, _put_new_many, _put_new_many), (A, B, TRAIL), kills=True),
    "killed, same removal": Workload(killed(_some, _remove, _remove), (A, TRAIL), kills=True),
    "killed, save as edited": Workload(killed(_some, _edit, _put_edited), (A, DEEP, TRAIL), kills=True),
    "killed, append": Workload(killed(_some, _append, _append), (A, TRAIL), kills=True),
    "killed, first append": Workload(killed(_nothing, _append, _append), (TRAIL,), kills=True),
    "killed, same trim": Workload(killed(_some, _trim, _trim), (A, TRAIL), kills=True),
    "killed, trim and append": Workload(killed(_some, _append_and_trim, _append), (A, TRAIL), kills=True),
    "killed, same removal of a log": Workload(killed(_some, _remove_log, _remove_log), (A, TRAIL), kills=True),
    "killed, same deletion": Workload(
        killed(_session, _delete, _delete), (SESSION, OTHER, MESSAGES, EVENTS, GOAL), kills=True
    ),
}  # fmt: skip


def write_all_again(do: Records, refs: Sequence[Ref]) -> None:
    """Go on after a power cut: write to each record."""
    do.numbers = itertools.count(5000)
    do.note("begin", None)
    for ref in refs:
        if ref.suffix == LOG:
            do.append(ref, 2)
        else:
            do.put(ref, _document("again"))


class Job(NamedTuple):
    """One recording: a workload, after which change its child is killed (0: none), and a planted mistake ("": none)."""

    workload: str
    kill: int = 0
    plant: str = ""
