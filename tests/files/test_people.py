"""People and other programs change files while the store does: real sed, git, shells and a second process."""

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsstate.collection import Collection
from fsstate.errors import ConflictError, CorruptRecordError
from fsstate.store import Store

IN_PLACE = "python3 - <<'E'\nopen('planner.json', 'r+').write(open('planner.json').read().replace('calm', 'busy'))\nE"
# Each changes the word calm to busy in planner.json, in its own way.
EDITORS = {
    "sed -i, which renames": "sed -i s/calm/busy/ planner.json",
    "a copy that is moved": "sed s/calm/busy/ planner.json > .planner.swp && mv .planner.swp planner.json",
    "a shell that truncates": "text=$(sed s/calm/busy/ planner.json) && printf '%s\\n' \"$text\" > planner.json",
    "in place, same size, same inode": IN_PLACE,
}
if shutil.which("rsync"):
    EDITORS["rsync"] = "sed s/calm/busy/ planner.json > ../new && rsync -I ../new planner.json"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state") as store:
        yield store


@pytest.fixture
def agents(store: Store) -> Collection[Any]:
    agents = store.collection("agents")
    agents.put("planner", {"mood": "calm", "n": 0, "note": "x"})
    return agents


def shell(command: str, store: Store) -> None:
    subprocess.run(["bash", "-ec", command], cwd=Path(store.path, "agents"), check=True, capture_output=True)


def meanwhile(store: Store, editor: str) -> None:
    shell(EDITORS[editor], store)


@pytest.mark.parametrize("editor", EDITORS)
def test_an_edit_block_is_merged_with_what_a_person_saved(store: Store, agents: Collection[Any], editor: str) -> None:
    with agents.edit("planner") as doc:
        doc["n"] = 1
        meanwhile(store, editor)
    assert agents["planner"] == {"mood": "busy", "n": 1, "note": "x"}


@pytest.mark.parametrize("editor", EDITORS)
def test_an_edit_of_the_same_field_is_refused_and_the_persons_file_stays(
    store: Store, agents: Collection[Any], editor: str
) -> None:
    editing = agents.open_edit("planner")
    editing.value["mood"] = "angry"
    meanwhile(store, editor)
    with pytest.raises(ConflictError) as caught:
        editing.commit()
    assert caught.value.base["mood"] == "calm"
    assert caught.value.mine["mood"] == "angry"
    assert caught.value.theirs["mood"] == "busy"
    assert caught.value.fields == ("$.mood",)
    assert agents["planner"]["mood"] == "busy"
    # What was to be saved stands beside it, until somebody decides.
    (conflict,) = store.conflicts()
    assert (conflict.record, conflict.path) == ("agents/planner.json", caught.value.kept_at)
    shell(f'sed -i \'s/"n": 0/"n": 7/\' {Path(conflict.path).name}', store)
    store.resolve(conflict, "mine")
    assert agents["planner"] == {"mood": "angry", "n": 7, "note": "x"}
    assert store.conflicts() == []


@pytest.mark.parametrize("editor", EDITORS)
def test_an_update_runs_again_on_what_a_person_saved(store: Store, agents: Collection[Any], editor: str) -> None:
    seen = []

    def change(doc: dict[str, Any]) -> dict[str, Any]:
        seen.append(doc["mood"])
        if len(seen) == 1:
            meanwhile(store, editor)
        return {**doc, "n": doc["n"] + 1}

    agents.update("planner", change)
    assert seen == ["calm", "busy"]
    assert agents["planner"] == {"mood": "busy", "n": 1, "note": "x"}


@pytest.mark.parametrize("editor", EDITORS)
def test_a_put_with_a_revision_sees_what_a_person_saved(store: Store, agents: Collection[Any], editor: str) -> None:
    revision = agents.revision("planner")
    meanwhile(store, editor)
    with pytest.raises(ConflictError):
        agents.put("planner", {"n": 5}, expect=revision)
    assert agents["planner"]["mood"] == "busy"


@pytest.mark.parametrize("editor", EDITORS)
def test_a_put_that_merges_keeps_what_a_person_saved(store: Store, agents: Collection[Any], editor: str) -> None:
    revision = agents.revision("planner")
    meanwhile(store, editor)
    agents.put("planner", {"mood": "calm", "n": 5, "note": "x"}, expect=revision, merge=True)
    assert agents["planner"] == {"mood": "busy", "n": 5, "note": "x"}
    with pytest.raises(ConflictError):
        agents.put("planner", {"mood": "sad", "n": 0, "note": "x"}, expect=revision, merge=True)
    assert agents["planner"]["mood"] == "busy"
    assert [each.record for each in store.conflicts()] == ["agents/planner.json"]


def test_a_person_who_saves_nonsense_is_told_of_and_loses_nothing(store: Store, agents: Collection[Any]) -> None:
    editing = agents.open_edit("planner")
    editing.value["n"] = 1
    shell('sed -i \'s/"n": 0,/"n": zero,/\' planner.json', store)
    with pytest.raises(CorruptRecordError, match=r"planner\.json, line 3"):
        editing.commit()
    assert '"n": zero' in Path(agents.path_of("planner")).read_text()
    (conflict,) = store.conflicts()
    store.resolve(conflict, "mine")
    assert agents["planner"]["n"] == 1


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_takes_files_back_and_forth(store: Store, agents: Collection[Any]) -> None:
    git = "git -c user.name=a -c user.email=a@b -c core.autocrlf=false"
    journal = store.journal("agents", "trail")
    journal.append("first")
    shell(f"cd .. && git init -q && git add . && {git} commit -qm one", store)
    agents.put("planner", {"mood": "busy", "n": 1, "note": "x"})
    journal.append("second")
    shell(f"{git} stash -q", store)
    assert agents["planner"]["mood"] == "calm"
    assert [entry.kind for entry in journal.read()] == ["first"]
    assert journal.append("other") == 3
    shell(f"{git} checkout -q . && {git} stash pop -q", store)
    assert agents["planner"] == {"mood": "busy", "n": 1, "note": "x"}
    assert [entry.kind for entry in journal.read()] == ["first", "second"]
    with agents.edit("planner") as doc:
        doc["note"] = "y"
        shell(f"{git} checkout -q -- planner.json", store)
    assert agents["planner"] == {"mood": "calm", "n": 0, "note": "y"}


COUNTER = textwrap.dedent("""
    import sys, fsstate
    agents = fsstate.Store(sys.argv[1]).collection("agents")
    for _ in range(100):
        agents.update("planner", lambda doc: {**doc, "n": doc["n"] + 1})
        print("done", flush=True)
""")


def test_two_processes_and_an_editor_on_one_record(store: Store, agents: Collection[Any]) -> None:
    command = [sys.executable, "-c", COUNTER, store.path]
    counters = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    while any(counter.poll() is None for counter in counters):
        # Never half written, however many write and read.
        assert set(agents["planner"]) == {"mood", "n", "note"}
        # The person's change is in the file by the time that the block ends, and the counters' changes stay.
        with agents.edit("planner") as doc:
            doc["note"] += "y"
            shell("sed -i 's/calm/busy/;t;s/busy/calm/' planner.json", store)
            mood = agents["planner"]["mood"]
        assert agents["planner"]["mood"] == mood
    acknowledged = sum(counter.communicate()[0].count(b"done") for counter in counters)
    assert acknowledged == agents["planner"]["n"] == 200
    assert agents["planner"]["note"].startswith("xy")
