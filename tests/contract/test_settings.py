"""Settings: values under keys."""

import json
from typing import Any

import pytest

from fsstate.backends.base import JSON, Ref
from fsstate.errors import CorruptRecordError, InvalidNameError, InvalidValueError, ValidationError
from fsstate.settings import Settings
from fsstate.store import Store
from tests.contract.conftest import Background, Elsewhere


@pytest.fixture
def settings(store: Store) -> Settings:
    return store.settings


def document(store: Store, category: str, name: str) -> Any:
    blob = store.backend.read(Ref(category, name, JSON))
    assert blob is not None
    return json.loads(blob.data)


def test_a_value_and_its_times(store: Store, settings: Settings) -> None:
    first = settings.set("theme", "dark")
    assert (first.key, first.value) == ("theme", "dark")
    assert first.updated_at is not None
    assert first.created_at == first.updated_at
    again = settings.set("theme", "light")
    assert again.created_at == first.created_at
    assert again.updated_at is not None
    assert again.updated_at > first.updated_at
    assert settings.get("theme") == "light"
    assert settings.setting("theme") == again
    assert store.settings is store.settings
    assert list(document(store, "settings", "theme")) == ["key", "value", "created_at", "updated_at"]


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, {"a": {"b": [1, None]}}, 1.5, "Ünï\n"])
def test_any_json_is_a_value(store: Store, settings: Settings, value: Any) -> None:
    assert settings.set("k", value).value == value
    assert settings.get("k", "nothing") == value
    assert document(store, "settings", "k")["value"] == value
    setting = settings.setting("k")
    assert setting is not None
    assert setting.value == value
    assert settings.items() == {"k": value}


def test_what_is_absent(settings: Settings) -> None:
    assert settings.get("a/b") is None
    assert settings.get("a/b", 5) == 5
    assert settings.setting("a/b") is None
    assert settings.delete("a/b") is False
    assert settings.items() == {}
    assert settings.keys("a") == []


def test_the_same_value_again_is_newer(settings: Settings) -> None:
    one = settings.set("providers/ollama", {"ok": True, "detail": "pong"})
    two = settings.set("providers/ollama", {"ok": True, "detail": "pong"})
    assert one.updated_at is not None
    assert two.updated_at is not None
    assert two.updated_at > one.updated_at


def test_a_value_replaces_the_whole_value(settings: Settings) -> None:
    settings.set("selection", {"provider": "ollama", "model": "m1"})
    assert settings.set("selection", {"provider": None}).value == {"provider": None}
    settings.set("selection", None)
    assert settings.get("selection", "nothing") is None


def test_keys_nest(store: Store, settings: Settings) -> None:
    for key in ("milestones/welcome_shown", "milestones/last_daily_wrap_at", "milestones", "milestones2", "z/a/b/c"):
        settings.set(key, key)
    assert settings.path_of("milestones/welcome_shown").endswith("settings/milestones/welcome_shown.json")
    assert store.categories("settings") == ["milestones", "z"]
    below = ["milestones/last_daily_wrap_at", "milestones/welcome_shown"]
    assert settings.keys("milestones") == below
    assert settings.items("milestones") == {key: key for key in below}
    assert list(settings.items()) == settings.keys() == sorted(["milestones", "milestones2", "z/a/b/c", *below])
    assert settings.keys("z/a") == ["z/a/b/c"]
    assert settings.delete("milestones") is True
    assert settings.keys("milestones") == below


def test_a_key_that_looks_as_another_is_quoted_is_another(settings: Settings) -> None:
    for key, quoted in (("b c?", "b c%3F"), ("%", "%25")):
        settings.set(key, 1)
        assert settings.get(quoted) is None
        assert settings.delete(quoted) is False
        settings.set(quoted, 2)
        assert (settings.get(key), settings.get(quoted)) == (1, 2)


@pytest.mark.parametrize(
    "key",
    ["session.label.My Label", "a b", "é/ü", "CON", "a.json", "a/b.md/c", "x" * 300, "%", "a%2Fb", ".hidden", "a\\b:c"],
)
def test_any_text_is_a_key(settings: Settings, key: str) -> None:
    settings.set(key, 1)
    assert settings.get(key) == 1
    assert settings.items() == {key: 1}
    assert settings.setting(key) is not None
    assert settings.delete(key) is True
    assert settings.items() == {}


@pytest.mark.parametrize("key", ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a"])
def test_what_is_no_key(settings: Settings, key: str) -> None:
    acts = (lambda: settings.set(key, 1), lambda: settings.set_once(key, 1), lambda: settings.get(key))
    for act in (*acts, lambda: settings.delete(key), lambda: settings.path_of(key)):
        with pytest.raises(InvalidNameError, match="empty or only dots"):
            act()
    if key:
        with pytest.raises(InvalidNameError):
            settings.items(key)


def test_what_is_no_json(settings: Settings) -> None:
    settings.set("k", 1)
    for value in (object(), float("nan"), {"a": {1, object()}}):
        with pytest.raises(InvalidValueError):
            settings.set("k", value)
    assert settings.get("k") == 1


def test_once(settings: Settings) -> None:
    assert settings.set_once("milestones/first_live_trade_at", "monday") == "monday"
    before = settings.setting("milestones/first_live_trade_at")
    assert settings.set_once("milestones/first_live_trade_at", "friday") == "monday"
    assert settings.setting("milestones/first_live_trade_at") == before
    settings.set("nothing", None)
    assert settings.set_once("nothing", 1) is None


def test_many_at_once_agree_on_who_was_first(settings: Settings) -> None:
    racers = [Background(lambda number=number: settings.set_once("k", number)) for number in range(8)]  # type: ignore[misc]
    told = {racer.result() for racer in racers}
    assert told == {settings.get("k")}


def test_what_hands_wrote(settings: Settings, elsewhere_in: Elsewhere) -> None:
    elsewhere_in(Ref("settings/my prefs", "font", JSON), b'{"note": "by hand", "value": 12}\n')
    assert settings.items() == {"my prefs/font": 12}
    setting = settings.set("my prefs/font", 13)
    assert setting.created_at is not None
    assert settings.get("my prefs/font") == 13
    # Moved to another place: that is what tells the key.
    elsewhere_in(Ref("settings/there", "x", JSON), b'{"key": "here/y", "value": 1}')
    assert settings.get("there/x") == 1
    assert settings.items("there") == {"there/x": 1}


def test_fields_of_others_stay(store: Store, settings: Settings, elsewhere_in: Elsewhere) -> None:
    elsewhere_in(Ref("settings", "k", JSON), b'{"note": "by hand", "value": {"a": 1}}\n')
    settings.set("k", {"b": 2})
    told = document(store, "settings", "k")
    assert (told["note"], told["value"]) == ("by hand", {"b": 2})
    assert "key" not in told


def test_a_bad_file_hides_no_other(settings: Settings, elsewhere_in: Elsewhere) -> None:
    settings.set("a/good", 1)
    elsewhere_in(Ref("settings/a", "bad", JSON), b"{")
    elsewhere_in(Ref("settings", "odd", JSON), b'{"values": 1}')
    assert settings.items() == {"a/good": 1}
    assert settings.keys() == ["a/bad", "a/good", "odd"]
    with pytest.raises(CorruptRecordError):
        settings.get("a/bad")
    with pytest.raises(ValidationError, match="value"):
        settings.get("odd")
    assert len(settings.problems()) == 2


def test_what_was_got_may_be_changed(settings: Settings) -> None:
    given = {"deep": [1]}
    got = settings.set("k", given).value
    given["deep"].append(2)
    got["deep"].append(3)
    settings.get("k")["deep"].append(4)
    assert settings.get("k") == {"deep": [1]}


def test_a_folder_that_is_no_key_hides_no_other(settings: Settings, elsewhere_in: Elsewhere) -> None:
    settings.set("a/b", 1)
    elsewhere_in(Ref("settings/x.json", "y", JSON), b'{"value": 2}')
    assert settings.items() == {"a/b": 1}
    assert settings.keys() == ["a/b"]
    assert settings.problems() == []
