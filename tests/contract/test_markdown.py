"""Markdown documents: what they add to what collections promise, over memory and files."""

import sys
from typing import Any

import pytest

from fsstate.backends.base import MARKDOWN, Backend, Ref
from fsstate.errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptRecordError,
    InvalidValueError,
    MissingExtraError,
    NotFoundError,
)
from fsstate.markdown import Document, Markdown
from tests.contract.conftest import Elsewhere, View

STANDUP = Ref("notes", "standup", MARKDOWN)
NOTE = b"---\nstatus: open   # by hand\nowner: 'ann'\ntags: [a, b]\n---\n\n# Standup\r\nText\n"


@pytest.fixture
def notes(backend: Backend, view: View) -> Markdown:
    return view(Markdown(backend, "notes"))  # type: ignore[no-any-return]


@pytest.fixture
def without_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extra were not installed."""
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)


def bytes_of(backend: Backend) -> bytes:
    blob = backend.read(STANDUP)
    assert blob is not None
    return blob.data


class TestReadingAndWriting:
    def test_what_is_absent(self, notes: Markdown) -> None:
        assert notes.get("standup") is None
        with pytest.raises(NotFoundError):
            notes.require("standup")

    def test_a_document(self, notes: Markdown, backend: Backend) -> None:
        revision = notes.put("standup", Document("# Hello\n", {"status": "open", "count": 1}))
        assert bytes_of(backend) == b"---\nstatus: open\ncount: 1\n---\n# Hello\n"
        document = notes["standup"]
        assert (document.text, document.front_matter) == ("# Hello\n", {"status": "open", "count": 1})
        assert notes.record("standup") == ("standup", document, revision)

    @pytest.mark.parametrize("text", ["", "plain", "# A\r\n\r\nB\r\n", "\ufeff# BOM\n", NOTE.decode(), "---\nno end\n"])
    def test_a_text_is_the_whole_file(self, notes: Markdown, backend: Backend, text: str) -> None:
        notes.put("standup", text)
        assert bytes_of(backend) == text.encode()
        assert notes["standup"].render() == text.encode()

    def test_text_that_cannot_be_stored(self, notes: Markdown) -> None:
        for value in ("\ud800", Document("\ud800")):
            with pytest.raises(InvalidValueError):
                notes.put("standup", value)
        assert notes.names() == []

    def test_many(self, notes: Markdown) -> None:
        notes.put_many({"a": "# A\n", "b": Document("# B\n")})
        assert [(item.name, item.value.text) for item in notes.items()] == [("a", "# A\n"), ("b", "# B\n")]
        with pytest.raises(AlreadyExistsError):
            notes.create("a", "again")
        assert notes.delete_many(["a", "b"]) == 2

    def test_expect(self, notes: Markdown) -> None:
        first = notes.put("standup", "1")
        notes.put("standup", "2", expect=first)
        with pytest.raises(ConflictError) as caught:
            notes.put("standup", "3", expect=first)
        assert caught.value.theirs == Document("2")

    def test_documents_are_the_readers_own(self, notes: Markdown, elsewhere: Elsewhere) -> None:
        elsewhere(STANDUP, NOTE)
        document = notes["standup"]
        document.text = "other"
        (document.front_matter or {})["tags"].append("c")
        assert notes["standup"].render() == NOTE

    def test_kinds_of_documents_do_not_meet(self, notes: Markdown, backend: Backend) -> None:
        notes.put("standup", "# A\n")
        assert backend.names("notes", ".json") == []
        assert notes.path_of("standup").endswith("notes/standup.md")


class TestFaithfulness:
    def test_unchanged_is_not_written(self, notes: Markdown, backend: Backend, elsewhere: Elsewhere) -> None:
        elsewhere(STANDUP, NOTE)
        revision = notes.revision("standup")
        assert notes.put("standup", notes["standup"]) == revision
        notes.update("standup", lambda _: None)
        with notes.edit("standup") as document:
            assert document.front_matter is not None
        assert bytes_of(backend) == NOTE

    def test_a_new_document_takes_on_the_layout_that_is_there(
        self, notes: Markdown, backend: Backend, elsewhere: Elsewhere
    ) -> None:
        elsewhere(STANDUP, b"\xef\xbb\xbf" + NOTE)
        text = notes["standup"].text
        same = {"tags": ["a", "b"], "owner": "ann", "status": "open"}
        notes.put("standup", Document(text, same))
        assert bytes_of(backend) == b"\xef\xbb\xbf" + NOTE
        notes.put("standup", Document(text, {**same, "owner": "bob"}))
        assert bytes_of(backend) == b"\xef\xbb\xbf" + NOTE.replace(b"'ann'", b"bob")

    def test_a_parsed_document_keeps_its_own_layout(self, notes: Markdown, backend: Backend) -> None:
        notes.put("standup", "---\na: 1\n---\ntext")
        notes.put("standup", Document.parse(b"---\na: 1 # one\n---\ntext"))
        assert bytes_of(backend) == b"---\na: 1 # one\n---\ntext"

    def test_a_new_document_may_drop_the_front_matter(self, notes: Markdown, backend: Backend) -> None:
        notes.put("standup", "---\na: 1\n---\ntext")
        notes.put("standup", Document("text"))
        assert bytes_of(backend) == b"text"

    def test_update_changes_only_its_lines(self, notes: Markdown, backend: Backend, elsewhere: Elsewhere) -> None:
        elsewhere(STANDUP, NOTE)

        def close(document: Document) -> None:
            fields = document.front_matter
            assert fields is not None
            fields["status"] = "closed"

        notes.update("standup", close)
        assert bytes_of(backend) == NOTE.replace(b"open", b"closed")
        notes.update("standup", lambda document: Document(document.text + "more\n", document.front_matter))
        assert bytes_of(backend) == NOTE.replace(b"open", b"closed") + b"more\n"

    def test_a_default(self, notes: Markdown) -> None:
        def add(document: Document) -> None:
            document.text += "x"

        for default in ("# A\n", Document("# A\n")):
            assert notes.update("standup", add, default=default).text == "# A\nx"
            assert default in ("# A\n", Document("# A\n"))
            notes.delete("standup")


class TestEdit:
    def test_text_here_and_front_matter_there(self, notes: Markdown, backend: Backend, elsewhere: Elsewhere) -> None:
        elsewhere(STANDUP, NOTE)
        with notes.edit("standup") as document:
            document.text += "mine\n"
            elsewhere(STANDUP, NOTE.replace(b"open", b"closed"))
        assert bytes_of(backend) == NOTE.replace(b"open", b"closed") + b"mine\n"

    def test_front_matter_here_and_text_there(self, notes: Markdown, backend: Backend, elsewhere: Elsewhere) -> None:
        elsewhere(STANDUP, NOTE)
        with notes.edit("standup") as document:
            (document.front_matter or {})["status"] = "closed"
            elsewhere(STANDUP, NOTE + b"theirs\n")
        assert bytes_of(backend) == NOTE.replace(b"open", b"closed") + b"theirs\n"

    def test_different_fields(self, notes: Markdown, backend: Backend, elsewhere: Elsewhere) -> None:
        elsewhere(STANDUP, NOTE)
        with notes.edit("standup") as document:
            (document.front_matter or {})["status"] = "closed"
            elsewhere(STANDUP, NOTE.replace(b"'ann'", b"'bob' # new"))
        assert bytes_of(backend) == NOTE.replace(b"open", b"closed").replace(b"'ann'", b"'bob' # new")

    def test_the_same_field(self, notes: Markdown, elsewhere: Elsewhere) -> None:
        elsewhere(STANDUP, NOTE)
        editing = notes.open_edit("standup")
        (editing.value.front_matter or {})["status"] = "closed"
        elsewhere(STANDUP, NOTE.replace(b"open", b"late"))
        with pytest.raises(ConflictError) as caught:
            editing.commit()
        assert caught.value.fields == ("$.front_matter.status",)
        assert caught.value.base == Document.parse(NOTE)
        assert caught.value.theirs == notes["standup"]
        assert caught.value.revision == notes.revision("standup")

    def test_different_lines_of_the_text(self, notes: Markdown, backend: Backend, elsewhere: Elsewhere) -> None:
        notes.put("standup", "one\ntwo\nthree\n")
        with notes.edit("standup") as document:
            document.text = document.text.replace("one", "mine")
            elsewhere(STANDUP, b"one\ntwo\ntheirs\nmore\n")
        assert bytes_of(backend) == b"mine\ntwo\ntheirs\nmore\n"

    def test_text_on_both_sides(self, notes: Markdown, backend: Backend, elsewhere: Elsewhere) -> None:
        notes.put("standup", "one\n")
        editing = notes.open_edit("standup")
        editing.value.text = "mine\n"
        elsewhere(STANDUP, b"theirs\n")
        with pytest.raises(ConflictError) as caught:
            editing.commit()
        assert caught.value.fields == ("$.text",)
        assert bytes_of(backend) == b"theirs\n"

    def test_the_same_change_on_both_sides(self, notes: Markdown, backend: Backend, elsewhere: Elsewhere) -> None:
        notes.put("standup", "one\n")
        with notes.edit("standup") as document:
            document.text = "two\n"
            elsewhere(STANDUP, b"two\n")
        assert bytes_of(backend) == b"two\n"

    def test_deleted_meanwhile(self, notes: Markdown, elsewhere: Elsewhere) -> None:
        notes.put("standup", "one\n")
        with notes.edit("standup"):
            elsewhere(STANDUP, None)
        assert "standup" not in notes
        notes.put("standup", "one\n")
        editing = notes.open_edit("standup")
        editing.value.text = "two\n"
        elsewhere(STANDUP, None)
        with pytest.raises(ConflictError):
            editing.commit()


class TestBadDocuments:
    def test_not_utf8(self, notes: Markdown, backend: Backend, elsewhere: Elsewhere) -> None:
        elsewhere(STANDUP, b"ok\n\xff\n")
        for use in (
            lambda: notes.get("standup"),
            lambda: notes.put("standup", "new"),
            lambda: notes.update("standup", lambda _: None),
        ):
            with pytest.raises(CorruptRecordError) as caught:
                use()
            assert caught.value.path == notes.path_of("standup")
        assert bytes_of(backend) == b"ok\n\xff\n"
        notes.put("other", "fine")
        assert [item.name for item in notes.items()] == ["other"]
        assert len(notes.problems()) == 1

    def test_faulty_front_matter_is_a_problem_and_hides_nothing(
        self, notes: Markdown, elsewhere: Elsewhere, caplog: pytest.LogCaptureFixture
    ) -> None:
        elsewhere(STANDUP, b"---\na: [1\n---\ntext\n")
        notes.put("other", "---\na: 1\n---\n")
        assert notes["standup"].text == "text\n"
        assert [item.name for item in notes.query({"a": 1})] == ["other"]
        assert notes.path_of("standup") in caplog.text
        (problem,) = notes.problems()
        assert isinstance(problem, CorruptRecordError)
        with notes.edit("standup") as document:
            document.text = "more\n"
        assert notes["standup"].render() == b"---\na: [1\n---\nmore\n"


@pytest.mark.usefixtures("without_yaml")
class TestWithoutYaml:
    def test_texts_are_all_there(self, notes: Markdown, backend: Backend, elsewhere: Elsewhere) -> None:
        elsewhere(STANDUP, NOTE)
        document = notes["standup"]
        document.text += "more\n"
        notes.put("standup", document)
        with notes.edit("standup") as edited:
            edited.text += "mine\n"
            elsewhere(STANDUP, NOTE.replace(b"open", b"closed") + b"more\n")
        assert bytes_of(backend) == NOTE.replace(b"open", b"closed") + b"more\nmine\n"
        assert notes.problems() == []

    def test_fields_are_not(self, notes: Markdown, elsewhere: Elsewhere) -> None:
        elsewhere(STANDUP, NOTE)
        with pytest.raises(MissingExtraError):
            _ = notes["standup"].front_matter
        with pytest.raises(MissingExtraError):
            notes.query({"status": "open"})


def test_what_is_no_document_is_refused(notes: Markdown) -> None:
    with pytest.raises(InvalidValueError, match="expected a Document or a str, got int"):
        notes.put("standup", 5)  # type: ignore[arg-type]
    assert notes.names() == []


def test_query_looks_at_the_front_matter(notes: Markdown) -> None:
    fields: dict[str, dict[str, Any] | None] = {"a": {"n": 2}, "b": {"n": 1, "done": True}, "c": None, "d": {}}
    notes.put_many({name: Document("text\n", front_matter) for name, front_matter in fields.items()})
    assert [item.name for item in notes.query(order_by="n")] == ["b", "a", "c", "d"]
    assert [item.name for item in notes.query({"done": True})] == ["b"]
    assert [item.name for item in notes.query(lambda document: document.text == "text\n", limit=1)] == ["a"]
