"""Settings and sources that several processes set at once."""

from pathlib import Path

import fsstate
from tests.files.processes import start

_RACE = """
    import fsstate
    with fsstate.Store(root) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(20):
            told = store.settings.set_once(f"first/{number}", os.getpid())
            print(told, store.sources.add(f"/src/{number}").id)
"""


def test_processes_agree_on_who_was_first(tmp_path: Path) -> None:
    racers = [start(_RACE, tmp_path) for _ in range(4)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    # All have started: now.
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    told = {racer.communicate(timeout=100)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 4
    assert len(told) == 1
    with fsstate.Store(tmp_path) as store:
        lines = [f"{store.settings.get(f'first/{n}')} {_root(store, n)}" for n in range(20)]
    assert told.pop().splitlines() == lines


def _root(store: fsstate.Store, number: int) -> str:
    root = store.sources.get(f"/src/{number}")
    assert root is not None
    return root.id
