"""A program that works on shared records at random, from several threads or tasks, and records what it is told.

python -m tests.storms.worker STORE HISTORY SEED threads|asyncio|trio|steady|updates|person SECONDS
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import random
import re
import sys
import threading
import time
import uuid
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import anyio

from fsstate import AsyncStore, PrunePolicy, Store, StoreOptions
from fsstate.backends.files.flocks import opening
from fsstate.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptRecordError,
    LockTimeoutError,
    NotFoundError,
    OutcomeUnknownError,
)
from tests.storms.history import Recorder
from tests.storms.person import Person
from tests.storms.scene import DOCUMENTS, LOGS, PASSING, SESSIONS, WORD, blank

__all__ = ["Hand"]

T = TypeVar("T")
Work: TypeAlias = Callable[[], Any]

# They say that nothing was done.
REFUSALS: Final = (AlreadyExistsError, ConflictError, CorruptRecordError, LockTimeoutError, NotFoundError)
THREADS, TASKS = 3, 5
# Seconds between two looks at what the process holds.
LOOK_EVERY: Final = 0.1
# One operation of so many is cancelled soon after its begin, in a task; one forks a child, in a thread.
CANCELLED, FORKED = 12, 60


async def settled(value: Any) -> Any:
    """What a method of a sync store returned, or that of an async one will."""
    return await value if inspect.isawaitable(value) else value


@asynccontextmanager
async def entered(context: Any) -> AsyncGenerator[Any]:
    """The block of a sync store, or of an async one."""
    if hasattr(context, "__aenter__"):
        async with context as value:
            yield value
    else:
        with context as value:
            yield value


def drive(work: Coroutine[Any, Any, object]) -> None:
    """Run to its end what works on a sync store: it waits for nothing."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("waits, with a sync store")


class Hand:
    """Does one operation after another, on a sync or an async store."""

    def __init__(self, store: Any, recorder: Recorder, seed: object) -> None:
        self.store = store
        self.recorder = recorder
        self.chance = random.Random(str(seed))
        self.shared = store.collection("shared")
        self.records = store.collection("records")
        self.indexed = store.collection("records", indexed=["kind"])
        self.deeds: dict[Callable[[], Awaitable[object]], int] = {
            self.set_register: 6, self.count_up: 8, self.edit: 4, self.put_expecting: 6, self.read: 8, self.help: 3,
            self.append: 10, self.tail: 4, self.say: 6, self.answer: 2, self.stream: 3, self.hear: 3,
            self.create: 6, self.delete: 4, self.get: 6, self.prune: 1, self.restore: 2,
            self.list: 3, self.query: 2, self.page: 1, self.search: 1, self.list_sessions: 1,
        }  # fmt: skip

    async def act(self) -> None:
        """Do one thing."""
        (deed,) = self.chance.choices(list(self.deeds), list(self.deeds.values()))
        await deed()

    async def attempt(self, does: str, on: str, work: Work, **given: Any) -> Any:
        """Do something and record it. Returns what came of it; None if that is an error."""
        name = self.recorder.begin(does, on, given)
        try:
            result = await settled(work())
        except REFUSALS as error:
            self.recorder.end(name, "refused", error=type(error).__name__)
        except OutcomeUnknownError:
            self.recorder.end(name, "unknown")
        except Exception as error:  # noqa: BLE001 - judged at the end
            self.recorder.end(name, "failed", error=f"{type(error).__name__}: {error}")
        except BaseException:
            # Cancelled: whatever was under way has ended by now.
            self.recorder.end(name, "unknown")
            raise
        else:
            self.recorder.end(name, "done", result=result)
            return result

    def token(self) -> str:
        """A value that nobody else writes."""
        return uuid.UUID(int=self.chance.getrandbits(128)).hex + f"-{os.getpid()}"

    # -- shared documents

    async def set_register(self) -> None:
        value, name = self.token(), self.chance.choice(DOCUMENTS)
        work = partial(self.shared.update, name, lambda document: {**document, "register": value})
        await self.attempt("update", name, work, register=value)

    async def count_up(self) -> None:
        name = self.chance.choice(DOCUMENTS)
        work = partial(self.shared.update, name, lambda document: {**document, "counter": document["counter"] + 1})
        await self.attempt("update", name, work, add=1)

    async def read(self) -> None:
        name = self.chance.choice(DOCUMENTS)
        await self.attempt("read", name, partial(self.shared.get, name))

    async def put_expecting(self) -> None:
        value, name = self.token(), self.chance.choice(DOCUMENTS)
        record = await settled(self.shared.record(name))
        if record is None:
            # In the middle of a checkout.
            return
        before = record.value
        after = {**before, "register": value, "counter": before["counter"] + 1}

        async def work() -> None:
            await settled(self.shared.put(name, after, expect=record.revision))

        expects = [before["register"], before["note"], before["counter"]]
        await self.attempt("put", name, work, register=value, add=1, expects=expects)

    async def edit(self) -> None:
        await self._edit(person=False)

    async def help(self) -> None:
        """Edit while a person writes a note into the file."""
        await self._edit(person=True)

    async def _edit(self, *, person: bool) -> None:
        value, name = self.token(), self.chance.choice(DOCUMENTS)

        async def work() -> dict[str, Any]:
            async with entered(self.shared.edit(name)) as document:
                document["register"] = value
                document["counter"] += 1
                if person:
                    note = self.token()
                    write = partial(write_note, Path(self.shared.path_of(name)), note)
                    await self.attempt("person", name, write, note=note)
                return {"register": value, "counter": document["counter"]}

        await self.attempt("edit", name, work, register=value, add=1)

    # -- logs and conversations

    async def append(self) -> None:
        token, name = self.token(), self.chance.choice(LOGS)
        journal = self.store.journal("audit", name)
        await self.attempt("append", name, partial(journal.append, "x", text=token), text=token)

    async def tail(self) -> None:
        name, number = self.chance.choice(LOGS), self.chance.choice((1, 5, 100))

        async def work() -> list[str]:
            return [entry["text"] for entry in await settled(self.store.journal("audit", name).tail(number))]

        await self.attempt("tail", name, work)

    async def say(self) -> None:
        token, name = self.token(), self.chance.choice(SESSIONS)
        await self._message("say", name, token, partial(self._messages(name).append, "user", token))

    async def answer(self) -> None:
        """Go on from an earlier message."""
        token, name = self.token(), self.chance.choice(SESSIONS)
        earlier = [message.id for message in await settled(self._messages(name).list(limit=5))]
        parent = self.chance.choice(earlier) if earlier else None
        await self._message("say", name, token, partial(self._messages(name).fork_at, parent, "user", token))

    async def stream(self) -> None:
        token, name = self.token(), self.chance.choice(SESSIONS)

        async def work() -> None:
            async with entered(self._messages(name).stream("assistant")) as stream:
                for piece in (token[:10], token[10:]):
                    await settled(stream.write(piece))

        await self._message("stream", name, token, work)

    async def _message(self, does: str, name: str, token: str, say: Work) -> None:
        async def work() -> None:
            await settled(say())

        await self.attempt(does, name, work, text=token)

    async def hear(self) -> None:
        name = self.chance.choice(SESSIONS)

        async def work() -> list[str]:
            messages = await settled(self._messages(name).all())
            return [message.text for message in messages if message.status == "complete"]

        await self.attempt("hear", name, work)

    def _messages(self, name: str) -> Any:
        return self.store.session(name).messages

    # -- records that come and go

    async def create(self) -> None:
        content, name = self.token(), self.chance.choice(PASSING)

        async def work() -> None:
            await settled(self.records.create(name, blank(content)))

        await self.attempt("create", name, work, content=content)

    async def delete(self) -> None:
        name = self.chance.choice(PASSING)
        await self.attempt("delete", name, partial(self.records.delete, name))

    async def get(self) -> None:
        name = self.chance.choice(PASSING)

        async def work() -> str | None:
            document = await settled(self.records.get(name))
            return None if document is None else document["content"]

        await self.attempt("get", name, work)

    async def prune(self) -> None:
        async def work() -> list[str]:
            report = await settled(self.records.prune(PrunePolicy(keep=self.chance.choice((2, 4)))))
            return [each.id for each in report.pruned]

        await self.attempt("prune", "records", work)

    async def restore(self) -> None:
        name = self.chance.choice(PASSING)

        place = Path(self.records.path_of(name))

        async def work() -> str | None:
            there = trashed(place)
            (item,) = await settled(self.store.trash.restore(f"records/{name}.json"))
            return there.get(item.id.partition("/")[0])

        await self.attempt("restore", name, work)

    # -- lists

    async def list(self) -> None:
        await self.attempt("list", "records", self.records.names)

    async def query(self) -> None:
        async def work() -> Any:
            return [item.name for item in await settled(self.indexed.query({"kind": WORD}))]

        await self.attempt("list", "records", work)

    async def page(self) -> None:
        """All pages, each asked for with the cursor of the one before."""

        async def work() -> Any:
            names, cursor = [], None
            while True:
                page = await settled(self.records.page({"kind": WORD}, limit=4, after=cursor))
                names += [item.name for item in page.items]
                cursor = page.cursor
                if cursor is None:
                    return names

        await self.attempt("list", "records", work)

    async def search(self) -> None:
        async def work() -> Any:
            hits = await settled(self.store.search(WORD, in_="records", limit=None))
            return [hit.place.removeprefix("records/").removesuffix(".json") for hit in hits]

        await self.attempt("list", "records", work)

    async def list_sessions(self) -> None:
        async def work() -> Any:
            return [summary.id for summary in await settled(self.store.sessions.list())]

        await self.attempt("list", "sessions", work)


def write_note(path: Path, note: str) -> None:
    """Put a note into a document as `sed -i` does: a new file, moved to the place of the old one.

    In the process that edits it meanwhile: a person's editor knows no lock, and would overwrite what others save
    between its reading and its saving. So it must not outlive the lock that keeps these out.
    """
    text = re.sub(r'"note": ?"[^"]*"', f'"note": "{note}"', path.read_text("utf-8"))
    aside = Path(f"{path.parents[1]}.{note}")
    with opening():
        # A child that was forked meanwhile would have it open for writing, and wait for itself to be done.
        aside.write_text(text, "utf-8")
    aside.replace(path)


def trashed(place: Path) -> dict[str, str]:
    """What a record held each time that it went to the trash, by the run that brought it there."""
    found: dict[str, str] = {}
    for path in place.parents[1].glob(f".fsstate/trash/*/{place.parent.name}/{place.name}"):
        # Another one restores it.
        with contextlib.suppress(OSError):
            found[path.parents[1].name] = json.loads(path.read_bytes())["content"]
    return found


# -- programs


class Program:
    """A process of the storm: a store, and hands that work with it until the end."""

    def __init__(self, root: Path, history: Path, seed: int, seconds: float) -> None:
        options = StoreOptions(durability="full" if seed % 4 == 0 else "process", lock_timeout=60.0)
        self.store = Store(root, options)
        self.recorder = Recorder(history)
        self.seed = seed
        self.ends = time.monotonic() + seconds
        # Whether only that is done which leaves no more to be known behind: what then grows is a leak.
        self.is_steady = False

    def hand(self, seed: object) -> Hand:
        """One that works on the store itself."""
        hand = Hand(self.store, self.recorder, seed)
        if self.is_steady:
            growing = (hand.append, hand.say, hand.answer, hand.stream, hand.prune, hand.restore)
            hand.deeds = {deed: weight for deed, weight in hand.deeds.items() if deed not in growing}
        return hand

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.ends

    def run(self, style: str) -> None:
        if style == "person":
            Person(self.store.path, self.recorder, self.seed).edit_until(self.ends)
        elif style == "updates":
            self.update()
        else:
            self.do_everything(style)
        self.store.close()

    def update(self) -> None:
        """Change the shared documents, and nothing else: what is read while a person saves may be put back."""
        hand = Hand(self.store, self.recorder, self.seed)
        hand.deeds = {hand.set_register: 3, hand.count_up: 3, hand.put_expecting: 2, hand.edit: 2}
        while not self.is_over:
            # A put reads first, perhaps in the middle of a checkout.
            with contextlib.suppress(*REFUSALS):
                drive(hand.act())

    def do_everything(self, style: str) -> None:
        self.is_steady = style == "steady"
        self.warm_up()
        hands = [threading.Thread(target=self.work, args=(number,)) for number in range(THREADS)]
        hands.append(threading.Thread(target=self.look))
        for hand in hands:
            hand.start()
        if style in ("asyncio", "trio"):
            anyio.run(self.work_in_tasks, backend=style)
        for hand in hands:
            hand.join()

    def warm_up(self) -> None:
        """Do everything once: a child forked while another thread imports a module would wait for ever."""
        hand = self.hand(self.seed)
        for deed in hand.deeds:
            drive(deed())  # type: ignore[arg-type]

    def work(self, number: int) -> None:
        hand = self.hand((self.seed, number))
        while not self.is_over:
            if hand.chance.randrange(FORKED) == 0:
                drive(hand.attempt("fork", "process", partial(self.fork, hand.token())))
            drive(hand.act())

    def fork(self, seed: str) -> None:
        """Let a child do some operations with what it inherited."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                hand = self.hand(seed)
                for _ in range(4):
                    drive(hand.act())
                status = 0
            finally:
                os._exit(status)
        _, ended = os.waitpid(pid, 0)
        if ended != 0:
            raise RuntimeError(f"a forked child ended with status {ended}")

    def look(self) -> None:
        """Record now and then what the process holds."""
        hand = self.hand(self.seed)
        while not self.is_over:
            drive(hand.attempt("look", "process", holdings))
            time.sleep(LOOK_EVERY)

    async def work_in_tasks(self) -> None:
        store = AsyncStore.of(self.store)
        async with anyio.create_task_group() as group:
            for number in range(TASKS):
                group.start_soon(self.work_in_task, Hand(store, self.recorder, (self.seed, "task", number)))

    async def work_in_task(self, hand: Hand) -> None:
        while not self.is_over:
            soon = hand.chance.random() * 0.01 if hand.chance.randrange(CANCELLED) == 0 else 60.0
            with anyio.move_on_after(soon):
                await hand.act()


def holdings() -> dict[str, int]:
    """How many descriptors, and bytes of memory, this process holds."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return {"descriptors": len(os.listdir("/proc/self/fd")), "memory": pages * os.sysconf("SC_PAGE_SIZE")}


def main(root: str, history: str, seed: str, style: str, seconds: str) -> None:
    Program(Path(root), Path(history), int(seed), float(seconds)).run(style)


if __name__ == "__main__":
    main(*sys.argv[1:])
