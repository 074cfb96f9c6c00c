"""Pages of sessions: whatever they hold stays in its place, as a parser of Markdown sees it, and nothing is lost."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from fsstate import Goal, NotFoundError, Store, StoreOptions
from fsstate.integrations.claude_code import import_transcripts
from fsstate.integrations.pages import page_of, page_of_record, pieces_of
from fsstate.integrations.pages.marks import Cut, code, fenced, plain, table
from fsstate.integrations.pages.prose import prose
from fsstate.integrations.session_json import export_session
from fsstate.messages import Message
from fsstate.tool_calls import ToolCall

MARKDOWN = MarkdownIt("commonmark").enable("table").enable("strikethrough")
WORDS = (
    "<b> </details> <!-- --> <script> ` `` ``` ~~~ ~~~~ # ## --- === - = | |-|-| [a]: [a] (u) ![ ![a](u) ] [ \\ * _ ~ "
    "&lt; <http://x> $$ { <? <![CDATA[ a text : > 1."
)
SPACED = ("# x", "> ", "- ", "1. ", "  ", "    ", "\t", " ", "\n", "\n\n", "\r", "\x00", "\x1b[31m", "\u202e", "   ")
LINES = (
    "\n```\n",
    "\n   ```\n",
    "\n- x\n  ```\n",
    "\n| a | b |\n|--|--|\n| `",
    "<details>\n<summary>x</summary>\n\n",
)
PIECES = st.sampled_from([*WORDS.split(), *SPACED, *LINES])
HOSTILE = st.lists(PIECES, max_size=20).map("".join) | st.text("`~ \n-#<>[]:!ab|1.*\t=\\")
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state", StoreOptions(durability="process")) as store:
        yield store


def tokens(page: str) -> tuple[list[Token], dict[str, Any]]:
    env: dict[str, Any] = {}
    return list(flat(MARKDOWN.parse(page, env))), env


def flat(found: list[Token]) -> Iterator[Token]:
    for token in found:
        yield token
        yield from flat(token.children or [])


def headings(page: str) -> list[str]:
    found, _ = tokens(page)
    return [found[number + 1].content for number, token in enumerate(found) if token.type == "heading_open"]


def check_page(page: str) -> None:
    """See that the page has no HTML but folds, each closed; no images and no definitions; nothing a terminal obeys."""
    found, env = tokens(page)
    depth = 0
    for token in found:
        if token.type in ("html_block", "html_inline"):
            opens = token.content.startswith("<details>\n<summary>") and token.content.endswith("</summary>\n")
            assert opens or token.content == "</details>\n", token.content
            assert token.content.count("<") == (4 if opens else 1) - (1 if opens else 0)
            depth += 1 if opens else -1
            assert depth >= 0
        assert token.type != "image"
        assert token.type != "heading_open" or token.level == 0
    assert depth == 0
    assert not env.get("references")
    assert all(character in "\n\t" or ord(character) >= 0x20 for character in page)
    assert not set(page) & set("\x7f\x9b\u202e\u2066\u2028")


# --- text ------------------------------------------------------------------------------------------------------------


@given(HOSTILE)
def test_text_stays_within_itself(text: str) -> None:
    for block in prose(text):
        page = f"# top\n\n{block}\n\n## end\n\n<details>\n<summary>x</summary>\n\n{block}\n\n</details>\n\n## end\n"
        check_page(page)
        assert headings(page) == ["top", "end", "end"]


@given(HOSTILE)
def test_no_text_is_lost(text: str) -> None:
    shown = "".join(prose(text))
    letters = [character for character in text if character.isalnum()]
    rest = iter(shown)
    assert all(letter in rest for letter in letters)


@given(HOSTILE)
def test_a_fence_holds_the_very_text(text: str) -> None:
    (block,) = fenced(text)
    found, _ = tokens(f"{block}\n\n## end\n")
    assert [token.type for token in found[:2]] == ["fence", "heading_open"]


@given(st.text("ab` \\|<>*_[]!\n"))
def test_cells_and_headings_hold_the_very_text(text: str) -> None:
    shown = " ".join(text.replace("\n", "\\n").split())
    found, _ = tokens(table(("x", "y"), [(plain(f"x{shown}x"), code(f"x{shown}x"))]))
    cells = [token for token in found if token.type in ("text", "code_inline", "text_special")]
    assert "".join(token.content for token in cells[2:-1]) == f"x{shown}x"
    assert cells[-1].content == f"x{shown}x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("**bold** and `a < b`", "**bold** and `a < b`"),
        ("one\ntwo", "one  \ntwo"),
        ("# Title\n\nText", "**# Title**\n\nText"),
        ("# A *title*", "\\# A *title*"),
        ("Text\n---", "Text  \n\\---"),
        ("a <b> c", "a \\<b> c"),
        ("```python\n# <b>\n```", "```python\n# <b>\n```"),
        ("```\nnever closed", "```\nnever closed\n```"),
        ("1. do\n   ```\n   <x>\n   ```\n2. done", "1. do  \n   ```\n   <x>\n   ```\n2. done"),
        ("![alt](http://x/y.png)", "\\![alt](http://x/y.png)"),
        ("[a]: http://x", "\\[a]: http://x"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("an odd ` tick", "an odd \\` tick"),
        ("\x1b[31mred\u202e", "\\x1b[31mred\\u202e"),
        ("   ```\n<b>\n```", "````text\n   ```\n<b>\n```\n````"),
        ("x\n\n    if a <b> c", "```text\nx\n\n    if a <b> c\n```"),
        ("", ""),
    ],
)
def test_how_text_is_shown(text: str, shown: str) -> None:
    assert "".join(prose(text)) == shown


def test_what_is_cut_is_counted() -> None:
    (block,) = fenced("\n".join(map(str, range(1000))), cut=Cut(lines=8))
    assert block.split("\n")[1:-1] == [*"012345", "[… 992 lines left out here; --full shows all …]", "998", "999"]
    (block,) = fenced("x" * 1000, cut=Cut(characters=100))
    assert "[… 900 characters left out here; --full shows all …]" in block


# --- sessions --------------------------------------------------------------------------------------------------------


def talk(store: Store) -> str:
    """A session that has everything."""
    session = store.sessions.create(id="s1", title="A *talk*", user_id="ada|x", metadata={"k": "</details>"})
    one = store.session(session.id)
    one.goal.put(Goal(id="g", objective="Mend the *parser*", token_budget=1000, tokens_used=120))
    one.messages.append("user", "Fix it", id="a", created_at=AT)
    uses = [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}]
    blocks = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "I look."}, *uses]
    one.messages.append("assistant", blocks, id="b", model="m1", created_at=AT)
    ended = AT + timedelta(seconds=2)
    call = ToolCall(id="t1", name="Bash", parameters={"command": "ls"}, status="completed", result="a\n</details>\n```")
    call.message_id, call.created_at, call.completed_at = "b", AT, ended
    other = ToolCall(id="t2", name="Lost", parameters={"text": "one\ntwo"}, status="failed", error="no", created_at=AT)
    one.tool_calls.extend([call, other])
    one.messages.append("user", [{"type": "tool_result", "tool_use_id": "t1", "content": call.result}], id="c")
    one.messages.append("assistant", "Done.", id="d", steps=(0, 1))
    one.messages.append("assistant", "Another way", parent="a", id="e")
    one.messages.append("user", [{"type": "image", "source": {"media_type": "image/png", "data": "QUJD"}}], id="f")
    one.messages.append("assistant", "cut off", id="g", parent="d", status="interrupted")
    one.steps.append("grep", {"pattern": "x"}, output_summary="2 hits", duration_ms=1500)
    one.events.append("started", name="x|y")
    one.events.append("started", name="```")
    one.checkpoints.save("first/one", {"n": 1})
    one.markdown().put("plan", "# Plan\n```\n")
    one.collection("reviews").put("r1", {"ok": True})
    one.journal("changes").append("changed", what="x")
    return session.id


def test_a_whole_session(store: Store) -> None:
    page = page_of(store.session(talk(store)))
    check_page(page)
    shown = headings(page)
    assert shown[:4] == ["A \\*talk\\*", "Goal", "Conversation", "1 · user · 2026-01-31 12:00:00Z"]
    assert shown[4] == "2 · assistant · m1 · 2026-01-31 12:00:00Z"
    assert shown[5].startswith("4 · assistant · ")
    assert shown[6].startswith("7 · assistant · ")
    assert shown[6].endswith("**interrupted**")
    rest = [
        "Other tool calls",
        "Steps (1)",
        "Events (2)",
        "Checkpoints (1)",
        "Documents",
        "plan.md",
        "changes.jsonl (1)",
    ]
    assert shown[7:] == rest
    for piece in (
        "| **user** | ada\\|x |",
        "| **messages** | 7, in 2 branches |",
        "| **tool calls** | 1 × completed, 1 × failed |",
        "Mend the *parser*",
        "120 of 1,000 tokens",
        "<summary>Thinking</summary>",
        "<summary>Tool Bash · ls · completed · 2 s</summary>",
        "result of `Bash`, shown with its call*",
        "*1 other continuation:*",
        "<summary>Continuation 1 of 1 · assistant · ",
        "Another way",
        "\\[image, image/png, 3 bytes\\]",
        "*Comes of step 0.*",
        "<summary>Step 0 · grep · x · 1.5 s</summary>",
        "<summary>Checkpoint first/one · ",
        "<summary>reviews/r1.json</summary>",
        "2 × started",
    ):
        assert piece in page, piece
    # A call and its result are shown once.
    assert page.count('"command": "ls"') == 1


@settings(max_examples=25)
@given(st.lists(HOSTILE.filter(str.strip), min_size=8, max_size=8))
def test_hostile_text_everywhere(texts: list[str]) -> None:
    a, b, c, d, e, f, g, h = texts
    with Store.in_memory() as store:
        session = store.sessions.create(id="s1", title=a, user_id=b, project_id=c, metadata={d: e}, status=f)
        one = store.session(session.id)
        one.goal.set(a, token_budget=5)
        one.messages.append(a, b, model=c, status=d, metadata={e: f}, tool_call_id=g)
        blocks = [
            {"type": a, b: c},
            {"type": "text", "text": d},
            {"type": "tool_use", "name": e, "id": f, "input": {g: h}},
        ]
        one.messages.append("assistant", [*blocks, {"type": "tool_result", "tool_use_id": f, "content": [a, {b: c}]}])
        one.messages.append(
            "user", [{"type": "image", "name": a, "source": {"url": b}}, {"type": "thinking", "thinking": c}]
        )
        one.messages.append("user", g, parent=one.messages.children(None)[0].id, id=h)
        one.tool_calls.complete(one.tool_calls.create(a, {b: c, d: [e]}, id=f, metadata={g: h}).id, h)
        one.steps.append(a, {b: c}, output_summary=d, tool_call_id=e)
        one.events.append(a, x=b)
        one.checkpoints.save(c, d)
        one.markdown().put("note", e)
        for full in (False, True):
            check_page(page_of(one, full=full))
        check_page(page_of(one, branches="head"))


def test_the_head_branch_alone_says_what_it_leaves_out(store: Store) -> None:
    page = page_of(store.session(talk(store)), branches="head")
    check_page(page)
    assert "Another way" not in page
    assert "*1 other continuation left out here; `--branch all` shows them*" in page


def test_a_head_that_is_no_message(store: Store) -> None:
    one = store.session(talk(store))
    one.messages.set_head(None)
    assert "goes on from no message" in page_of(one, branches="head")
    assert "Another way" in page_of(one)


def test_a_page_in_pieces_is_the_page(store: Store) -> None:
    one = store.session(talk(store))
    assert "".join(pieces_of(one, full=True)) == page_of(one, full=True)


def test_long_outputs_are_cut_unless_all_is_asked_for(store: Store) -> None:
    one = store.session(store.sessions.create(id="s1").id)
    one.tool_calls.complete(one.tool_calls.create("run").id, "\n".join(f"line {n}" for n in range(1000)))
    for number in range(300):
        one.events.append("tick", n=number)
    page, full = page_of(one), page_of(one, full=True)
    assert "[… 800 lines left out here; --full shows all …]" in page
    assert "*100 entries left out here; `--full` shows all.*" in page
    assert "line 500\n" not in page
    assert "line 500\n" in full
    assert '{"n":299}' in full
    check_page(page)
    check_page(full)


def test_what_cannot_be_read_is_told_and_hides_nothing(store: Store) -> None:
    one = store.session(talk(store))
    with open(one.messages.path, "ab") as file:
        file.write(b'not json\n{"seq":90,"id":"h","role":7,"content":"odd"}\n')
        file.write(b'{"seq":91,"id":"i","role":"user","content":"on"}\n')
    with open(one.events.path, "ab") as file:
        file.write(b"</details>\n")
    Path(one.collection("reviews").path_of("r1")).write_bytes(b"{")
    Path(one.goal.path).write_bytes(b"[]")
    Path(one.markdown().path_of("plan")).write_bytes(b"\xff\x1b")
    page = page_of(one)
    check_page(page)
    assert "problems found in the files of this session" in page
    assert "· cannot be read as a message" in page
    assert '"content": "odd"' in page
    problems = page[page.index("## Problems") :]
    for place in ("s1/messages.jsonl, line 8", "s1/events.jsonl, line 3", "reviews/r1.json", "goal.json", "plan.md"):
        assert place in problems
    # Where the store lies is nobody's business.
    assert str(store.path) not in page
    assert "Done." in page
    # A goal that is none is shown as it stands.
    assert "<summary>goal.json</summary>" in page


def test_a_session_whose_document_cannot_be_read(store: Store) -> None:
    one = store.session(talk(store))
    Path(one.path).write_bytes(b"{")
    page = page_of(one)
    check_page(page)
    assert headings(page)[0] == "Fix it"
    assert "sessions/s1.json, line 1" in page


def test_links_lead_nowhere(store: Store, tmp_path: Path) -> None:
    one = store.session(talk(store))
    (tmp_path / "secret").write_text('{"secret": "hunter2"}\n')
    folder = Path(one.path).with_suffix("")
    for name in ("evil.json", "evil.md", "evil.jsonl", "goal.json"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(tmp_path / "secret")
    page = page_of(one)
    check_page(page)
    assert "hunter2" not in page
    assert "evil" not in page
    assert "goal.json" in page[page.index("## Problems") :]
    assert "Done." in page
    assert b"hunter2" not in b"".join(export_session(one))


def test_secrets_of_a_config_are_left_out(store: Store) -> None:
    one = store.session(store.sessions.create(id="s1").id)
    auth = {"type": "bearer", "token": "hunter2"}
    one.collection().put("config", {"workspace": {"type": "remote", "agent_address": "x", "auth": auth}})
    page = page_of(one, full=True)
    assert "hunter2" not in page
    assert '"agent_address": "x"' in page


def test_odd_trees(store: Store) -> None:
    one = store.session(store.sessions.create(id="s1", title="Odd").id)
    rows = [("a", "b"), ("b", "a"), ("c", "nowhere"), ("d", None), ("e", "d"), ("f", None)]
    one.messages.extend(Message(id=name, role="user", content=f"text {name}", parent_id=above) for name, above in rows)
    page = page_of(one)
    check_page(page)
    assert all(page.count(f"text {name}\n") == 1 for name, _ in rows)
    assert "*This follows the message `nowhere`, which is not here.*" in page
    assert "*A new beginning: this follows none of the messages before.*" in page


def test_forks_in_forks(store: Store) -> None:
    one = store.session(store.sessions.create(id="s1").id)
    pairs = [message for n in range(1500) for message in (_said(f"m{n}", n), _said(f"x{n}", n))]
    one.messages.extend(pairs)
    one.messages.set_head("x0")
    page = page_of(one)
    assert page.count("<details>") == page.count("</details>")
    assert all(f"text m{n}\n" in page and f"text x{n}\n" in page for n in range(1500))


def _said(name: str, number: int) -> Message:
    return Message(id=name, role="user", content=f"text {name}", parent_id=f"m{number - 1}" if number else None)


def test_a_message_that_is_being_written(store: Store) -> None:
    one = store.session(store.sessions.create(id="s1").id)
    with one.messages.stream("assistant") as reply:
        reply.write("```\nHel")
        page = page_of(one)
    check_page(page)
    assert "**still being written**" in page


@pytest.mark.parametrize(
    ("block", "shown"),
    [
        ({"type": "toolCall", "id": "x", "name": "read", "arguments": {"path": "/a"}}, "Tool read · /a"),
        ({"type": "function_call_output", "call_id": "x", "output": "out"}, "out"),
        ({"type": "redacted_thinking", "data": "abcd"}, "of which the provider tells nothing: 4 characters"),
        ({"type": "image_url", "image_url": {"url": "data:image/gif;base64,QUJDRA=="}}, "image, image/gif, 4 bytes"),
        ({"type": "input_image", "image_url": "https://x/y.png"}, "image, https://x/y.png"),
        ({"type": "hologram", "x": 1}, "Block: hologram"),
        ({"no": "type"}, "Block: of no type"),
        ("text", "text"),
        (7, "7"),
        (None, "null"),
    ],
)
def test_blocks_of_every_kind(store: Store, block: Any, shown: str) -> None:
    one = store.session(store.sessions.create(id="s1").id)
    one.messages.append("assistant", [block, {"type": "text", "text": "end"}])
    page = page_of(one)
    check_page(page)
    assert shown in page


def test_there_is_no_such_session(store: Store) -> None:
    with pytest.raises(NotFoundError):
        page_of(store.session("nobody"))


# --- other records ---------------------------------------------------------------------------------------------------


def test_other_records(store: Store) -> None:
    store.collection("agents").put("planner", {"a": "```"})
    store.markdown("notes").put("standup", "---\na: 1\n---\n# Text")
    store.journal("audit", "trail").append("x|y", text="a`b")
    pages = {}
    for name, ref in {
        "document": store.collection("agents").ref_of("planner"),
        "note": store.markdown("notes").ref_of("standup"),
        "log": store.journal("audit", "trail").log.ref,
    }.items():
        pages[name] = "".join(page_of_record(store.backend, ref))
    assert pages["note"] == "---\na: 1\n---\n# Text"
    assert pages["document"] == '# agents/planner\n\n````json\n{\n  "a": "```"\n}\n````\n'
    assert pages["log"].startswith("# audit/trail\n\n1 entry\n\n| seq | time | kind | fields |\n")
    check_page(pages["log"])


# --- real transcripts ------------------------------------------------------------------------------------------------


def test_public_transcripts(store: Store, shared_data: Path) -> None:
    for folder in ("claude-code-log", "claude-code-transcripts", "claude-code-viewer"):
        import_transcripts(store, shared_data / folder)
    assert len(store.sessions) >= 10
    for session in store.sessions:
        one = store.session(session)
        page = page_of(one)
        check_page(page)
        for message in one.messages.all():
            for line in message.text.splitlines():
                words = "".join(filter(str.isalnum, line))
                assert words in "".join(filter(str.isalnum, page)), line
                break


def test_naughty_strings(store: Store, shared_data: Path) -> None:
    one = store.session(store.sessions.create(id="s1").id)
    for text in json.loads((shared_data / "naughty-strings" / "blns.json").read_text("utf-8")):
        one.messages.append("user", text)
        one.tool_calls.complete(one.tool_calls.create(text or "x", {"a": text, text: 1}).id, text)
        one.events.append("x", text=text)
    page = page_of(one, full=True)
    check_page(page)
    assert html.escape("ヽ༼ຈل͜ຈ༽ﾉ") in page
