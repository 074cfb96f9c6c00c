"""What is said of a store after a storm: of its history, and of what the storm left behind."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from fsstate import Store, StoreOptions
from tests.storms import checks
from tests.storms.history import Operation
from tests.storms.scene import DOCUMENTS, LOGS, PASSING, SESSIONS, STABLE, blank

__all__ = ["verdict", "verdict_of_long", "verdict_with_person"]

# Seconds after which a lock that nobody alive holds is not free.
SOON: Final = 2.0
# What a program may hold at most, and how much more of it in the last third of its time than in the second. It knows
# the conversations by heart.
MOST: Final = {"descriptors": 300, "memory": 300 << 20}
MORE: Final = {"descriptors": 30, "memory": 24 << 20}
# With fewer looks at it than this, it is still filling what it keeps at hand.
WARM: Final = 100


def verdict(root: Path, operations: Sequence[Operation], survivor: int) -> Iterator[str]:
    """All that is wrong."""
    yield from (f"{each} failed" for each in operations if each.outcome == "failed")
    yield from _refusals(operations)
    with Store(root, StoreOptions(durability="process", lock_timeout=SOON)) as store:
        yield from _after_the_storm(store, operations)
        yield from _left_behind(store, root)
    yield from _locks(root)
    yield from _held([each.result for each in operations if each.does == "look" and each.pid == survivor])


def verdict_with_person(root: Path, operations: Sequence[Operation]) -> Iterator[str]:
    """All that is wrong where a person saved the shared documents, too, and checked them out."""
    yield from (f"{each} failed" for each in operations if each.outcome == "failed")
    copies = "".join(path.read_text("utf-8") for path in (root / "shared").glob("*.conflict-*.json"))
    quarantined = "".join(path.read_text("utf-8") for path in _files(root / ".fsstate/quarantine"))
    for each in operations:
        # There is no document in the middle of a checkout, or half of one.
        if each.error not in ("", "ConflictError", "NotFoundError", "CorruptRecordError"):
            yield f"{each} was refused"
        if each.does == "edit" and each.error == "ConflictError" and each.given["register"] not in copies:
            yield f"{each} met a person's save, and was not kept beside it"
    with Store(root, StoreOptions(durability="process", lock_timeout=SOON)) as store:
        for name in DOCUMENTS:
            found: dict[str, Any] = store.collection("shared")[name]
            done = [_perhaps_put_aside(each, quarantined) for each in operations if each.on == name]
            yield from checks.document_problems([*done, _seen("read", name, found)])
            store.collection("shared").update(name, _touch)
    yield from (f"{path} is left over" for path in _files(root / ".fsstate/staging"))
    yield from _locks(root)


def _perhaps_put_aside(each: Operation, quarantined: str) -> Operation:
    """A person's save, which may be in quarantine instead of the record, if a writer was killed in that moment."""
    is_aside = each.does == "save" and f'"{each.given["becomes"][1]}"' in quarantined
    return msgspec.structs.replace(each, outcome="unknown") if is_aside else each


def verdict_of_long(root: Path, operations: Sequence[Operation], survivor: int) -> Iterator[str]:
    """What is wrong after a storm that lasted, and left nothing behind that grows. Lists are judged in shorter ones."""
    yield from verdict(root, [each for each in operations if each.does != "list"], survivor)


def _held(looks: Sequence[dict[str, int] | None]) -> Iterator[str]:
    """What the program that was there all the time holds too much of."""
    for what, most in MOST.items():
        figures = [look[what] for look in looks if look is not None]
        if max(figures, default=0) > most:
            yield f"{max(figures):,} {what}, expected no more than {most:,}"
        if len(figures) > WARM:
            yield from checks.growth_problems(figures, what, slack=MORE[what])


def _refusals(operations: Sequence[Operation]) -> Iterator[str]:
    """Refusals for no reason that the storm gives."""
    expected = {"put": "ConflictError", "create": "AlreadyExistsError"}
    for each in operations:
        if each.outcome == "refused" and each.does != "restore" and each.error != expected.get(each.does):
            yield f"{each} was refused"


def _after_the_storm(store: Store, operations: Sequence[Operation]) -> Iterator[str]:
    def on(name: str, *kinds: str) -> list[Operation]:
        return [each for each in operations if each.on == name and (not kinds or each.does in kinds)]

    for name in DOCUMENTS:
        found: dict[str, Any] = store.collection("shared")[name]
        yield from checks.counter_problems(found["counter"], on(name))
        yield from checks.document_problems([*on(name), _seen("read", name, found)])
    for name in LOGS:
        entries = store.journal("audit", name).read()
        tokens = [entry["text"] for entry in entries]
        yield from checks.number_problems([entry.seq for entry in entries])
        yield from checks.entry_problems(tokens, on(name, "append"))
        yield from checks.reading_problems(tokens, on(name, "append"), on(name, "tail"))
    for name in SESSIONS:
        yield from _conversation(store, name, on(name, "say", "stream"), on(name, "hear"))
    records = {name: [*_created(name), *on(name)] for name in (*PASSING, *STABLE)}
    for name in PASSING:
        records[name] += _prunes(name, on("records", "prune"))
        document: Any = store.collection("records").get(name)
        last = _seen("get", name, None if document is None else document["content"])
        yield from checks.lifetime_problems([*records[name], last])
    yield from checks.listing_problems(on("records", "list"), records)
    sessions = {name: list(_created(name, always=True)) for name in SESSIONS}
    yield from checks.listing_problems(on("sessions", "list"), sessions)


def _conversation(store: Store, name: str, said: Sequence[Operation], heard: Sequence[Operation]) -> Iterator[str]:
    messages = store.session(name).messages
    # What was being streamed by those killed goes into the log as interrupted.
    messages.settle()
    yield from checks.number_problems([row["seq"] for row in messages.log.rows()])
    stored = messages.all()
    tokens = [message.text for message in stored if message.status == "complete"]
    yield from checks.entry_problems(tokens, said)
    yield from checks.reading_problems(tokens, said, heard)
    unknown = [each.given["text"] for each in said if each.outcome == "unknown"]
    for message in stored:
        if message.status != "complete" and not any(token.startswith(message.text) for token in unknown):
            yield f"message {message.id} of {name} is {message.status}, and nobody was interrupted"


def _seen(does: str, name: str, result: Any) -> Operation:
    """What is there after the storm, as one more read."""
    now = time.monotonic_ns()
    return Operation(id="0-0", does=does, on=name, begun=now, ended=now, outcome="done", result=result)


def _created(name: str, *, always: bool = False) -> Iterator[Operation]:
    """The creation of a record that was there before the storm."""
    if always or name in STABLE:
        yield Operation(id="0-0", does="create", on=name, begun=0, ended=1, outcome="done", given={"content": name})


def _prunes(name: str, prunes: Sequence[Operation]) -> Iterator[Operation]:
    """What prunes of all records did to one, or may have."""
    for each in prunes:
        if each.outcome == "unknown" or (each.outcome == "done" and name in each.result):
            yield Operation(
                id=each.id, does="prune", on=name, begun=each.begun, ended=each.ended, outcome=each.outcome
            )  # fmt: skip


def _left_behind(store: Store, root: Path) -> Iterator[str]:
    """Locks of the dead, what cannot be read, and staged files, once somebody has written."""
    for name in DOCUMENTS:
        store.collection("shared").update(name, _touch)
    for name in (*PASSING, *STABLE):
        store.collection("records").put(name, blank("after"))
    for name in LOGS:
        store.journal("audit", name).append("x")
    for name in SESSIONS:
        store.session(name).messages.append("user", "after")
        yield from (f"{path} is left over" for path in _files(root / "sessions" / name / "streams"))
    parts: list[Any] = [store.collection("shared"), store.collection("records"), store.sessions]
    parts += [store.journal("audit", name) for name in LOGS]
    parts += [store.session(name).messages for name in SESSIONS]
    yield from (str(problem) for part in parts for problem in part.problems())
    yield from (f"{conflict} is left over" for conflict in store.conflicts())
    yield from (f"{path} is left over" for path in _files(root / ".fsstate/staging"))


def _touch(document: dict[str, Any]) -> None:
    document["counter"] += 1


def _files(place: Path) -> Iterator[Path]:
    # A folder's lock is no content.
    return (path for path in place.rglob("*") if path.is_file() and path.stat().st_size > 0)


def _locks(root: Path) -> Iterator[str]:
    """Lock files that somebody still holds."""
    for path in (root / ".fsstate/locks").glob("*"):
        fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield f"{path} outlives its holder"
        finally:
            os.close(fd)
