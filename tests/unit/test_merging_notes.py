"""Markdown merged: the text by line, the front matter by field in the look that it has in ours."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.errors import CorruptRecordError, MissingExtraError
from fsstate.frontmatter import Document
from fsstate.merging.lines import merge_bytes
from fsstate.merging.notes import merge_note
from fsstate.merging.versions import Markers, Merged, Versions
from tests.unit.test_merging_lines import TEXTS, sides

HEAD = "---\n# who\nowner: 'ann' # asks\nstatus: open\ntags: [a, b]\n---\n"


def merge(base: str, ours: str, theirs: str) -> Merged:
    return merge_note(Versions(base, ours, theirs).map(str.encode), Markers())


def merged(base: str, ours: str, theirs: str) -> str:
    data, conflicts = merge(base, ours, theirs)
    assert conflicts == ()
    return data.decode()


TEXT_VERSIONS = st.builds(Versions, TEXTS, TEXTS, TEXTS)


@given(TEXT_VERSIONS)
def test_a_note_without_front_matter_is_text(versions: Versions[str]) -> None:
    data = versions.map(str.encode)
    assert merge_note(data, Markers()) == merge_bytes(data, Markers())


@given(TEXT_VERSIONS, st.sampled_from([HEAD, HEAD.replace("\n", "\r\n"), "\ufeff" + HEAD, "---\n---\n"]))
def test_front_matter_that_nobody_changed_stays_as_it_is(versions: Versions[str], head: str) -> None:
    text, met = merge_note(versions.map(str.encode), Markers())
    data, conflicts = merge_note(versions.map(lambda each: (head + each).encode()), Markers())
    assert data == head.encode() + text
    assert len(conflicts) == len(met)


def test_fields_that_both_changed_keep_the_look_of_ours() -> None:
    ours = HEAD.replace("'ann'", "'eve'").replace("# who\n", "# who it is\n")
    theirs = HEAD.replace("open", "done").replace("'ann' # asks", '"ann"') + "text\n"
    assert merged(HEAD, ours, theirs) == (
        "---\n# who it is\nowner: 'eve' # asks\nstatus: done\ntags: [a, b]\n---\ntext\n"
    )


def test_one_field_that_both_changed_is_marked_alone() -> None:
    ours, theirs = (HEAD.replace("open", word).replace("[a, b]", f"[{word}]") for word in ("mine", "yours"))
    data, conflicts = merge(HEAD, ours, theirs.replace("'ann'", "eve"))
    assert conflicts == ("$.front_matter.status", "$.front_matter.tags")
    with pytest.raises(CorruptRecordError, match="git conflict markers"):
        _ = Document.parse(data).front_matter
    for text, word in zip(sides(data.decode()), ("mine", "yours"), strict=True):
        assert Document.parse(text.encode()).front_matter == {"owner": "eve", "status": word, "tags": [word]}
        assert "# who\nowner: eve # asks\n" in text


def test_times_that_are_stamped_do_not_meet() -> None:
    base, ours, theirs = (
        f"---\nn: {n}\nupdated_at: 2026-01-0{day}T00:00:00Z\n---\n" for n, day in ((1, 1), (2, 3), (1, 2))
    )
    assert merged(base, ours, theirs) == ours


def test_front_matter_comes_and_goes() -> None:
    assert merged("text\n", HEAD + "text\n", "more\ntext\n") == HEAD + "more\ntext\n"
    assert merged(HEAD + "text\n", "text\n", HEAD + "text\nmore\n") == "text\nmore\n"
    assert merged("", HEAD + "a\n", HEAD.replace("open", "open\nnew: 1") + "a\n") == (
        HEAD.replace("b]\n", "b]\nnew: 1\n") + "a\n"
    )
    assert merged("---\na: 1\n---", "---\na: 2\n---", "---\na: 1\n---\ntext") == "---\na: 2\n---\ntext"


@pytest.mark.parametrize("bad", ["---\na: [\n---\n", "---\n- a\n---\n", "---\n<<<<<<< x\n---\n"])
def test_front_matter_that_cannot_be_read_is_refused_where_it_matters(bad: str) -> None:
    assert merged(bad + "a\n\nb\n", bad + "A\n\nb\n", bad + "a\n\nB\n") == bad + "A\n\nB\n"
    assert merged(HEAD, bad, HEAD + "text\n") == bad + "text\n"
    with pytest.raises(CorruptRecordError):
        merge(HEAD, bad, HEAD.replace("open", "done"))


def test_without_yaml_only_front_matter_that_both_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    assert (
        merged(HEAD + "a\n", HEAD.replace("open", "x") + "a\n", HEAD + "a\nb\n") == HEAD.replace("open", "x") + "a\nb\n"
    )
    with pytest.raises(MissingExtraError):
        merge(HEAD, HEAD.replace("open", "x"), HEAD.replace("ann", "eve"))
