"""What is flushed, in which order, before a write is acknowledged: read from the system calls themselves."""

from __future__ import annotations

from pathlib import Path

from tests.files.processes import needs_strace, run, trace

CALLS = "fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,ftruncate"
pytestmark = needs_strace


def calls(code: str, root: Path, tmp_path: Path) -> list[str]:
    return [line.split("(")[0] + " " + line for line in trace(code, root, tmp_path, CALLS)]


def assert_order(lines: list[str], *parts: tuple[str, str]) -> None:
    """That lines with these system calls and texts follow each other."""
    rest = iter(lines)
    for call, text in parts:
        assert any(line.startswith(call) and text in line for line in rest), (call, text, lines)


WARM = """
    b, doc, log = FileBackend(root), Ref("agents", "a", JSON), Ref("audit", "t", LOG)
    b.change(doc, lambda _: b"1")
    b.append(log, lambda _: [b"{}"])
"""


def test_save_flushes_data_then_renames_then_flushes_the_directory(root: Path, tmp_path: Path) -> None:
    code = WARM + '    os.write(2, b"MARK"); b.change(doc, lambda _: b"2"); os.write(2, b"MARK")'
    lines = calls(code, root, tmp_path)
    assert_order(lines, ("fdatasync", "staging"), ("rename", "a.json"), ("fsync", f"{root}/agents>"))
    assert len([line for line in lines if line.startswith(("fsync", "fdatasync"))]) == 2


def test_unchanged_save_writes_nothing(root: Path, tmp_path: Path) -> None:
    lines = calls(
        WARM + '    os.write(2, b"MARK"); b.change(doc, lambda _: b"1"); os.write(2, b"MARK")', root, tmp_path
    )
    assert lines == []


def test_unchanged_save_makes_what_another_left_last_once(root: Path, tmp_path: Path) -> None:
    # Who put it there may have been killed before it flushed, or was an editor.
    (root / "agents").mkdir(parents=True)
    (root / "agents" / "a.json").write_bytes(b"1")
    code = (
        WARM.replace("b.change(doc", "b.read(doc").replace(', lambda _: b"1")', ")", 1)
        + """
    os.write(2, b"MARK"); b.change(doc, lambda _: b"1"); os.write(2, b"----"); b.change(doc, lambda _: b"1")
    os.write(2, b"MARK")
    """
    )
    lines = calls(code, root, tmp_path)
    assert_order(lines, ("fdatasync", "a.json"), ("fsync", f"{root}/agents>"), ("write", "----"))
    assert "----" in lines[-1]


def test_delete_flushes_the_directory(root: Path, tmp_path: Path) -> None:
    lines = calls(
        WARM + '    os.write(2, b"MARK"); b.change(doc, lambda _: None); os.write(2, b"MARK")', root, tmp_path
    )
    assert_order(lines, ("unlink", "a.json"), ("fsync", f"{root}/agents>"))


def test_first_append_flushes_data_and_directory_later_ones_data_only(root: Path, tmp_path: Path) -> None:
    code = (
        WARM
        + """
    new = Ref("audit", "new", LOG)
    os.write(2, b"MARK"); b.append(new, lambda _: [b"{}"]); os.write(2, b"----"); b.append(new, lambda _: [b"{}"])
    os.write(2, b"MARK")
    """
    )
    lines = calls(code, root, tmp_path)
    middle = next(number for number, line in enumerate(lines) if "----" in line)
    assert_order(lines[:middle], ("write", "new.jsonl"), ("fdatasync", "new.jsonl"), ("fsync", f"{root}/audit>"))
    assert_order(lines[middle:], ("write", "new.jsonl"), ("fdatasync", "new.jsonl"))
    assert not [line for line in lines[middle:] if line.startswith("fsync")]


def test_append_of_nothing_makes_what_another_left_last_once(root: Path, tmp_path: Path) -> None:
    # Who appended it may have been killed before it flushed, and it is why there is nothing to append.
    run('FileBackend(root).append(Ref("audit", "t", LOG), lambda _: [b"{}"])', root)
    code = """
    b, log = FileBackend(root), Ref("audit", "t", LOG)
    os.write(2, b"MARK"); b.append(log, lambda _: []); os.write(2, b"----"); b.append(log, lambda _: [])
    os.write(2, b"MARK")
    """
    lines = calls(code, root, tmp_path)
    assert_order(lines, ("fdatasync", "t.jsonl"), ("fsync", f"{root}/audit>"), ("write", "----"))
    assert "----" in lines[-1]


def test_append_of_nothing_behind_an_own_one_flushes_nothing(root: Path, tmp_path: Path) -> None:
    code = WARM + '    os.write(2, b"MARK"); b.append(log, lambda _: []); os.write(2, b"MARK")'
    assert calls(code, root, tmp_path) == []


def test_what_a_failed_append_left_is_cut_off_for_good(root: Path, tmp_path: Path) -> None:
    code = (
        WARM
        + """
    from fsstate.backends.files import log_writing
    def write_half(fd, data):
        os.write(fd, data[: len(data) // 2])
        raise OSError(28, "full")
    log_writing.write_all = write_half
    try:
        os.write(2, b"MARK"); b.append(log, lambda _: [b"{}"])
    except StorageError:
        os.write(2, b"MARK")
    """
    )
    assert_order(calls(code, root, tmp_path), ("write", "t.jsonl"), ("ftruncate", "t.jsonl"), ("fdatasync", "t.jsonl"))


def test_the_name_of_a_log_is_flushed_after_a_trim_could_not(root: Path, tmp_path: Path) -> None:
    code = (
        WARM
        + """
    sync = b._tree.sync
    def fail(directory):
        raise OSError(5, "no")
    b._tree.sync = fail
    try:
        b.trim(log, 2)
    except OutcomeUnknownError:
        b._tree.sync = sync
        os.write(2, b"MARK"); b.append(log, lambda _: [b"{}"]); os.write(2, b"MARK")
    """
    )
    assert_order(calls(code, root, tmp_path), ("fdatasync", "t.jsonl"), ("fsync", f"{root}/audit>"))


def test_another_process_flushes_the_name_of_a_log_that_is_there(root: Path, tmp_path: Path) -> None:
    run('FileBackend(root).append(Ref("audit", "t", LOG), lambda _: [b"{}"])', root)
    code = """
    b = FileBackend(root)
    os.write(2, b"MARK"); b.append(Ref("audit", "t", LOG), lambda _: [b"{}"]); os.write(2, b"MARK")
    """
    assert_order(calls(code, root, tmp_path), ("fdatasync", "t.jsonl"), ("fsync", f"{root}/audit>"))


def test_new_directories_are_flushed_from_the_top(root: Path, tmp_path: Path) -> None:
    code = """
    b = FileBackend(root)
    os.write(2, b"MARK"); b.change(Ref("x/y", "a", JSON), lambda _: b"1"); os.write(2, b"MARK")
    """
    parts = [("mkdir", "state"), ("fsync", f"{tmp_path}>"), ("mkdir", '"x"'), ("fsync", f"{root}>")]
    after = [("mkdir", '"y"'), ("fsync", f"{root}/x>"), ("rename", "a.json"), ("fsync", f"{root}/x/y>")]
    assert_order(calls(code, root, tmp_path), *parts, *after)


def test_a_second_process_flushes_the_parents_of_directories_that_are_there(root: Path, tmp_path: Path) -> None:
    # Their maker may have died between mkdir and fsync.
    (root / "x" / "y").mkdir(parents=True)
    code = """
    b = FileBackend(root)
    os.write(2, b"MARK"); b.change(Ref("x/y", "a", JSON), lambda _: b"1"); os.write(2, b"MARK")
    """
    parts = [("fsync", f"{tmp_path}>"), ("fsync", f"{root}>"), ("fsync", f"{root}/x>"), ("rename", "a.json")]
    assert_order(calls(code, root, tmp_path), *parts)


def test_trim_flushes_the_new_file_before_it_takes_the_name(root: Path, tmp_path: Path) -> None:
    code = WARM + '    os.write(2, b"MARK"); b.trim(log, 2); os.write(2, b"MARK")'
    lines = calls(code, root, tmp_path)
    assert_order(lines, ("fdatasync", "staging"), ("rename", "t.jsonl"), ("fsync", f"{root}/audit>"))


def test_many_changes_flush_each_document_and_the_directory_once(root: Path, tmp_path: Path) -> None:
    code = (
        WARM
        + """
    refs = [Ref("agents", f"m{n}", JSON) for n in range(5)]
    os.write(2, b"MARK"); b.change_many([(ref, lambda _: b"2") for ref in refs]); os.write(2, b"MARK")
    """
    )
    lines = calls(code, root, tmp_path)
    assert len([line for line in lines if line.startswith("fdatasync")]) == 5
    assert len([line for line in lines if line.startswith("fsync")]) == 1
    assert lines[-1].startswith("fsync")


def test_durability_process_flushes_nothing(root: Path, tmp_path: Path) -> None:
    code = """
    b = FileBackend(root, StoreOptions(durability="process"))
    os.write(2, b"MARK")
    b.change(Ref("agents", "a", JSON), lambda _: b"1")
    b.append(Ref("audit", "t", LOG), lambda _: [b"{}"])
    b.trim(Ref("audit", "t", LOG), 2)
    os.write(2, b"MARK")
    """
    assert not [line for line in calls(code, root, tmp_path) if line.startswith(("fsync", "fdatasync"))]
