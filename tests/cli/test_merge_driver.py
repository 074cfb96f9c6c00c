"""`git merge-driver` and `git textconv` as git calls them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsstate.codec import encode
from fsstate.merging.files import merge_file
from fsstate.merging.versions import Versions
from tests.cli.conftest import Cli, environment
from tests.unit.test_merging_files import GARBAGE, NAMES


class Files:
    """Three files, as git puts them down for the driver."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = [str(folder / f".merge_file_{name}") for name in ("base", "ours", "theirs")]

    def put(self, base: bytes, ours: bytes, theirs: bytes) -> list[str]:
        for path, data in zip(self.paths, (base, ours, theirs), strict=True):
            Path(path).write_bytes(data)
        return self.paths

    @property
    def ours(self) -> bytes:
        return Path(self.paths[1]).read_bytes()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    folder = tmp_path / "work"
    folder.mkdir()
    return Files(folder)


def test_what_is_merged_takes_the_place_of_ours(cli: Cli, files: Files) -> None:
    paths = files.put(encode({"a": 1, "b": 1}), encode({"a": 2, "b": 1}), encode({"a": 1, "b": 2}))
    assert cli.out("git", "merge-driver", *paths, "7", "state/agents/planner.json") == ""
    assert files.ours == encode({"a": 2, "b": 2})
    assert sorted(os.listdir(files.folder)) == sorted(os.path.basename(path) for path in paths)


def test_a_conflict_is_told_and_marked_as_git_asks(cli: Cli, files: Files) -> None:
    paths = files.put(encode({"a": 1}), encode({"a": 2}), encode({"a": 3}))
    told = cli.fails(1, "git", "merge-driver", *paths, "9", "state/agents/planner.json")
    assert told == "fsstate: state/agents/planner.json: both sides changed $.a\n"
    assert files.ours == (b'{\n<<<<<<<<< ours\n  "a": 2\n=========\n  "a": 3\n>>>>>>>>> theirs\n}\n')


def test_many_conflicts_are_counted(cli: Cli, files: Files) -> None:
    paths = files.put(*(encode(dict.fromkeys("abcdefg", n)) for n in range(3)))
    told = cli.fails(1, "git", "merge-driver", *paths, "7", "x.json")
    assert told == "fsstate: x.json: both sides changed $.a, $.b, $.c, $.d, $.e and 2 more\n"


def test_json_tells_the_same(cli: Cli, files: Files) -> None:
    paths = files.put(encode({"a": 1}), encode({"a": 2}), encode({"a": 3}))
    result = cli("git", "merge-driver", *paths, "7", "x.json", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout) == {"path": "x.json", "merged": False, "conflicts": ["$.a"], "note": ""}


@pytest.mark.parametrize("path", ["-x.json", "--store.json", "a b/ü.json", "--"])
def test_any_name_is_a_name(cli: Cli, files: Files, path: str) -> None:
    paths = files.put(encode({"a": 1}), encode({"a": 2}), encode({"a": 3}))
    result = cli("git", "merge-driver", *paths, "7", path)
    assert result.exit_code == 1
    assert b"<<<<<<<" in files.ours


@pytest.mark.parametrize("name", NAMES)
def test_garbage_ends_in_a_merge_or_a_conflict(cli: Cli, files: Files, name: str) -> None:
    for ours, theirs in zip(GARBAGE, GARBAGE[1:] + GARBAGE[:1], strict=True):
        for base in (b"base\n",):
            paths = files.put(base, ours, theirs)
            wanted = merge_file(name, Versions(base, ours, theirs))
            result = cli("git", "merge-driver", *paths, "7", name)
            assert result.exit_code == bool(wanted.conflicts)
            assert "Traceback" not in result.output
            assert files.ours == (ours if wanted.data is None else wanted.data)


def test_a_file_that_is_not_there_is_named(cli: Cli, files: Files) -> None:
    paths = files.put(b"", b"{}", b"[]")
    os.unlink(paths[2])
    assert paths[2] in cli.fails(5, "git", "merge-driver", *paths, "7", "x.json")
    assert files.ours == b"{}"


def test_nothing_is_left_behind_where_ours_cannot_be_replaced(files: Files) -> None:
    paths = files.put(encode({"a": 1, "b": 1}), encode({"a": 2, "b": 1}), encode({"a": 1, "b": 2}))
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); import signal; "
    code += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from fsstate.cli import main; main()"
    command = [sys.executable, "-c", code, "git", "merge-driver", *paths, "7", "x.json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("fsstate: cannot write ")
    assert files.ours == encode({"a": 2, "b": 1})
    assert len(os.listdir(files.folder)) == 3


def test_textconv(cli: Cli, files: Files) -> None:
    path = files.folder / "messages.jsonl"
    path.write_bytes(b'{"seq":1,"id":"a","role":"user","content":"Hi \xc3\xbc\\u001b[1m"}\n')
    done = cli.run("git", "textconv", str(path), env={"LC_ALL": "C"})
    assert done.stderr == b""
    assert done.stdout == "#1  user  a\n    content: Hi ü\\x1b[1m\n".encode()
    assert json.loads(cli.out("git", "textconv", str(path), "--json"))["text"].startswith("#1  user")


def test_textconv_of_what_is_not_there(cli: Cli) -> None:
    assert "nowhere.json" in cli.fails(5, "git", "textconv", "nowhere.json")


def test_both_start_without_what_they_do_not_need(files: Files) -> None:
    heavy = {"rich", "anyio", "asyncio", "msgspec", "ruamel.yaml", "subprocess", "tempfile", "sqlite3"}
    paths = files.put(encode({"a": 1, "b": 1}), encode({"a": 2, "b": 1}), encode({"a": 1, "b": 2}))
    for arguments in (["merge-driver", *paths, "7", "x.json"], ["textconv", paths[0]]):
        code = "import sys; from fsstate.cli.app import run; run(); print(*sys.modules, file=sys.stderr)"
        command = [sys.executable, "-c", code, "git", *arguments]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
        assert not set(done.stderr.split()) & heavy
