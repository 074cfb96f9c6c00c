"""The texts in documents, with path and line."""

import json

from hypothesis import given
from hypothesis import strategies as st

from fsstate import codec
from fsstate.search.texts import json_parts, markdown_parts, value_parts

DOCUMENT = b"""\xef\xbb\xbf{
  "model": "m1", "n": 5,
  "goal": {"text": "find \\"it\\"",
    "odd key": ["a", {"b": "c"}, [],
      "d"]}, "e": {}, "f": [null, "g"]
}
"""


def test_json() -> None:
    assert [(part.text, part.field, part.line) for part in json_parts(DOCUMENT)] == [
        ("m1", "$.model", 2),
        ('find "it"', "$.goal.text", 3),
        ("a", '$.goal["odd key"][0]', 4),
        ("c", '$.goal["odd key"][1].b', 4),
        ("d", '$.goal["odd key"][3]', 5),
        ("g", "$.f[1]", 5),
    ]
    assert [part.text for part in json_parts(DOCUMENT, {"goal", "f"})] == ["m1"]
    assert [part[:3] for part in json_parts(b'\n"text"')] == [("text", "$", 2)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_every_text_stands_on_its_line(value: object) -> None:
    try:
        data = codec.encode(value)
    except ValueError:
        return
    lines = data.decode().split("\n")
    parts = json_parts(data)
    assert [part[:2] for part in parts] == [part[:2] for part in value_parts(json.loads(data))]
    for part in parts:
        assert codec.encode(part.text).decode().strip() in lines[part.line - 1]


def test_markdown() -> None:
    data = b"\xef\xbb\xbf---\ntitle: Daily # x\n---\n\nBody\n"
    assert [part[:3] for part in markdown_parts(data, "")] == [
        ("---\ntitle: Daily # x\n---\n", "front_matter", 1),
        ("\nBody\n", None, 4),
    ]
    assert [part[:3] for part in markdown_parts(b"Body", "")] == [("Body", None, 1)]
    assert markdown_parts(b"", "") == []
