"""Sessions of one owner: those of others do not exist, and cannot be taken."""

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fsstate.backends.base import JSON, LOG, Ref
from fsstate.errors import (
    AlreadyExistsError,
    CorruptRecordError,
    InvalidValueError,
    NotFoundError,
    WrongOwnerError,
)
from fsstate.retention import PrunePolicy
from fsstate.sessions import OwnedSessions, Session
from fsstate.store import Store
from tests.contract.blocking import Blocking
from tests.contract.conftest import Background, Elsewhere
from tests.files.processes import start

THEIRS = ("bobs", "nobodys")


@pytest.fixture
def ada(store: Store) -> OwnedSessions:
    """Ada's sessions, in a store that has one of hers, one of Bob's and one of nobody's."""
    for name, user_id in (("adas", "ada"), ("bobs", "bob"), ("nobodys", None)):
        store.sessions.create(id=name, user_id=user_id, title="Trip", label=f"{name} label", project_id="p")
        store.session(name).messages.append("user", f"of {name}")
    return store.sessions.owned_by("ada")


@pytest.fixture
def unchanged(store: Store, ada: OwnedSessions) -> Callable[[], bool]:
    """Whether the sessions of others are still as they were."""
    assert not {*THEIRS} & {*ada}

    def held() -> list[object]:
        documents = [store.backend.read(Ref("sessions", name, JSON)) for name in THEIRS]
        logs = [store.backend.log_stamp(Ref(f"sessions/{name}", "messages", LOG)) for name in THEIRS]
        return [*(blob and blob.data for blob in documents), *logs]

    before = held()
    return lambda: held() == before


def test_what_is_mine_is_there(store: Store, ada: OwnedSessions) -> None:
    mine = store.sessions["adas"]
    assert ada.user_id == "ada"
    assert ada.get("adas") == ada.require("adas") == ada.get_or_create("adas", title="other") == mine
    assert "adas" in ada
    ada.check("adas")
    made = ada.create(title="new")
    assert (made.user_id, store.sessions[made.id]) == ("ada", made)
    assert ada.get_or_create("more", user_id="ada").user_id == "ada"
    assert set(ada) == set(ada.ids()) == {"adas", "more", made.id}
    assert len(ada) == 3
    with pytest.raises(AlreadyExistsError):
        ada.create(id="adas")


@pytest.mark.parametrize("theirs", THEIRS)
def test_what_is_not_mine_does_not_exist(ada: OwnedSessions, theirs: str, unchanged: Callable[[], bool]) -> None:
    assert (ada.get(theirs), ada.summary(theirs)) == (None, None)
    assert theirs not in ada
    assert not ada.delete(theirs)
    absent: list[Callable[[str], object]] = [ada.require, ada.archive, ada.unarchive, ada.end, ada.find, ada.fork]
    absent += [lambda name: ada.move(name, "q"), lambda name: ada.set_memory_mode(name, "off")]
    absent += [lambda name: ada.set_label(name, "x"), lambda name: ada.find(f"{name} label")]
    absent += [lambda name: ada.update(name, lambda _: pytest.fail("it was shown"))]
    absent += [lambda name: ada.edit(name).__enter__()]
    for act in absent:
        with pytest.raises(NotFoundError):
            act(theirs)
    assert ada.titles([theirs]) == {theirs: None}
    assert unchanged()


@pytest.mark.parametrize("theirs", THEIRS)
def test_what_is_not_mine_cannot_be_taken(ada: OwnedSessions, theirs: str, unchanged: Callable[[], bool]) -> None:
    taking: list[Callable[[], object]] = [lambda: ada.create(id=theirs), lambda: ada.get_or_create(theirs)]
    taking += [lambda: ada.fork("adas", new_id=theirs), lambda: ada.check(theirs)]
    for take in taking:
        with pytest.raises(WrongOwnerError, match="belongs to a different owner") as caught:
            take()
        assert theirs in caught.value.where
        assert "bob" not in caught.value.message.replace("bobs", "")
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - what was just made
    assert unchanged()


def test_mine_stays_mine(store: Store, ada: OwnedSessions) -> None:
    given: list[Callable[[], object]] = [
        lambda: ada.create(id="gift", user_id="bob"),
        lambda: ada.get_or_create("gift", user_id="bob"),
        lambda: ada.update("adas", lambda session: setattr(session, "user_id", "bob")),
        lambda: ada.update("adas", lambda _: Session(title="of nobody")),
    ]
    for give in given:
        with pytest.raises(WrongOwnerError, match="can only belong to 'ada'"):
            give()
    with pytest.raises(WrongOwnerError), ada.edit("adas") as session:
        session.user_id = None
    assert ("gift" in store.sessions, ada["adas"].title) == (False, "Trip")
    with ada.edit("adas") as session:
        session.title = "edited"
    assert ada.update("adas", lambda session: setattr(session, "status", "busy")).title == "edited"
    assert ada.update("adas", lambda _: Session(user_id="ada")) == store.sessions["adas"]


def test_changes_with_a_name(store: Store, ada: OwnedSessions) -> None:
    assert ada.archive("adas").archived_at is not None
    assert ada.unarchive("adas").archived_at is None
    assert ada.end("adas").status == "ended"
    assert ada.move("adas", None).project_id is None
    assert ada.set_memory_mode("adas", "off") == store.sessions["adas"]
    fork = ada.fork("adas", copy_messages=True)
    assert (fork.user_id, store.session(fork.id).messages.count()) == ("ada", 1)
    assert ada.delete("adas")
    assert not ada.delete("adas")
    assert store.session("adas").messages.list() == []
    with pytest.raises(NotFoundError):
        ada.check("adas")


def test_lists_have_mine_only(store: Store, ada: OwnedSessions) -> None:
    assert [each.id for each in ada.list()] == [each.id for each in ada.all()] == ["adas"]
    assert [each.message_count for each in ada.list(project_id="p")] == [1]
    assert ada.list(user_id="bob") == []
    assert ada.titles() == ada.titles(["adas"]) == {"adas": "Trip"}
    assert ada.find_title("trip") == ada.find("adas label") == store.sessions["adas"]
    assert store.sessions.owned_by("carol").find_title("trip") is None
    assert store.sessions.count() == 3


def test_a_beginning_of_ids_finds_mine(store: Store, ada: OwnedSessions) -> None:
    store.sessions.create(id="shared-1", user_id="bob")
    ada.create(id="shared-2")
    assert ada.find("shared").id == "shared-2"


def test_labels_are_taken_from_nobody_else(ada: OwnedSessions, unchanged: Callable[[], bool]) -> None:
    assert ada.set_label("adas", "bobs label").label == "bobs label"
    assert ada.create(id="second", label="bobs label").label == "bobs label"
    assert ada["adas"].label is None
    assert ada.find("bobs label").id == "second"
    assert unchanged()


def test_a_deletion_that_was_cut_off_is_finished(store: Store, ada: OwnedSessions, elsewhere_in: Elsewhere) -> None:
    store.session("adas").events.append("k")
    elsewhere_in(Ref("sessions", "adas", JSON), None)
    assert not ada.delete("adas")
    assert "adas" not in store.backend.categories("sessions")
    assert not ada.delete("bobs")
    assert "bobs" in store.backend.categories("sessions")


def test_prune_removes_mine_only(store: Store, ada: OwnedSessions, unchanged: Callable[[], bool]) -> None:
    ada.create(id="second")
    assert [each.id for each in ada.prune(PrunePolicy(keep=1)).pruned] == ["adas"]
    assert store.sessions.ids() == ["bobs", "nobodys", "second"]
    assert unchanged()


def test_what_cannot_be_read_is_nobodys(ada: OwnedSessions, elsewhere_in: Elsewhere) -> None:
    elsewhere_in(Ref("sessions", "broken", JSON), b'{"user_id": "ada", ')
    assert ada.ids() == ["adas"]
    acts: list[Callable[[str], Any]] = [ada.get, ada.check, ada.contains, ada.delete, ada.get_or_create]
    for act in acts:
        with pytest.raises(CorruptRecordError):
            act("broken")


def test_whose_it_is_is_decided_on_what_the_file_holds(store: Store, ada: OwnedSessions) -> None:
    store.sessions.update("adas", lambda session: setattr(session, "user_id", "bob"))
    assert "adas" not in ada
    assert not ada.delete("adas")
    with pytest.raises(NotFoundError):
        ada.archive("adas")
    store.sessions.update("nobodys", lambda session: setattr(session, "user_id", "ada"))
    assert ada.ids() == ["nobodys"]


def test_one_given_away_during_an_edit_is_not_overwritten(
    store: Store, ada: OwnedSessions, elsewhere_in: Elsewhere
) -> None:
    blob = store.backend.read(Ref("sessions", "adas", JSON))
    assert blob is not None
    bobs = blob.data.replace(b'"ada"', b'"bob"')

    def change(session: Session) -> None:
        session.status = "mine"
        elsewhere_in(Ref("sessions", "adas", JSON), bobs)

    with pytest.raises(WrongOwnerError), ada.edit("adas") as session:
        change(session)
    assert (store.sessions["adas"].user_id, store.sessions["adas"].status) == ("bob", "active")


def test_a_deletion_decides_under_the_lock(store: Store, ada: OwnedSessions) -> None:
    if isinstance(store, Blocking):
        pytest.skip("what it is made of is the sync side's")
    with store.sessions.edit("adas") as session:
        deletion = Background(lambda: ada.delete("adas"))
        # Long enough to have looked at it before it waits for the lock; where it is not, the outcome is the same.
        time.sleep(0.05)
        session.user_id = "bob"
    assert deletion.result() is False
    assert store.sessions["adas"].user_id == "bob"


def test_an_owner_has_an_id(store: Store) -> None:
    for user_id in ("", 5, None):
        with pytest.raises(InvalidValueError, match="user_id"):
            store.sessions.owned_by(user_id)  # type: ignore[arg-type]


@pytest.mark.parametrize("theirs", THEIRS)
def test_parents_are_mine(store: Store, ada: OwnedSessions, theirs: str, unchanged: Callable[[], bool]) -> None:
    hanging: list[Callable[[], object]] = [
        lambda: ada.create(id="new", parent_id=theirs),
        lambda: ada.get_or_create("new", parent_id=theirs),
        lambda: ada.update("adas", lambda session: setattr(session, "parent_id", theirs)),
    ]
    for hang in hanging:
        with pytest.raises(WrongOwnerError, match=theirs):
            hang()
    assert ada.ids() == ["adas"]
    assert ada.create(parent_id="adas").parent_id == "adas"
    assert ada.create(parent_id="a/b").parent_id == "a/b"
    store.sessions.update("adas", lambda session: setattr(session, "parent_id", theirs))
    assert ada.end("adas").parent_id == theirs
    assert unchanged()


@pytest.mark.parametrize("act", ["create", "get_or_create"])
def test_of_two_owners_who_race_one_gets_it(store: Store, act: str) -> None:
    views = {user_id: store.sessions.owned_by(user_id) for user_id in ("ada", "bob")}
    for number in range(20):
        name = f"s{number}"

        def take(user_id: str, name: str = name) -> str:
            view = views[user_id]
            try:
                return str((view.create(id=name) if act == "create" else view.get_or_create(name)).user_id)
            except WrongOwnerError:
                return f"{user_id} came too late"

        racing = {user_id: Background(lambda user_id=user_id: take(user_id)) for user_id in views}  # type: ignore[misc]
        owner = store.sessions[name].user_id if racing["ada"].result() and racing["bob"].result() else None
        late = {"ada": "bob", "bob": "ada"}[str(owner)]
        assert {racing["ada"].result(), racing["bob"].result()} == {owner, f"{late} came too late"}


RACE = """
from fsstate import Store, WrongOwnerError
owner = sys.argv[2]
with Store(root) as store:
    mine = store.sessions.owned_by(owner)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(50):
        try:
            assert mine.get_or_create(f"s{number}").user_id == owner
            print(number, flush=True)
        except WrongOwnerError:
            pass
"""


def test_of_two_processes_that_race_one_gets_it(tmp_path: Path) -> None:
    owners = ("ada", "bob")
    racing = [start(RACE, tmp_path, owner) for owner in owners]
    for process in racing:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in racing:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told: dict[str, set[str]] = {}
    for owner, process in zip(owners, racing, strict=True):
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        told[owner] = {f"s{number}" for number in out.split()}
    with Store(tmp_path) as store:
        assert {owner: set(store.sessions.owned_by(owner)) for owner in owners} == told
        assert store.sessions.count() == 50
