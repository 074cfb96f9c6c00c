"""What a session was set up with: where it works, which tools it sees, and which of them need approval.

One document, `sessions/<id>/config.json`. Secrets in it (`RemoteWorkspace.auth`) stand there in clear: the file is
readable for its owner only (mode 0600, unless the store has another), and belongs into no repository.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

from fsstate.backends.base import Ref
from fsstate.record_types import RecordType
from fsstate.shared import Shared
from fsstate.single import Single

__all__ = [
    "CONFIGS",
    "AlwaysAsk",
    "ApiKeyAuth",
    "BearerAuth",
    "Blacklist",
    "LocalWorkspace",
    "Mixed",
    "PreApproved",
    "RemoteWorkspace",
    "SessionConfig",
    "ToolApproval",
    "ToolConfig",
    "ToolRules",
    "ToolVisibility",
    "Whitelist",
    "Workspace",
    "config_of",
]


# On disk, the tags as well as the names of the fields: do not rename.


class BearerAuth(msgspec.Struct, tag_field="type", tag="bearer"):
    """A token that is sent as the bearer's. Kept in clear."""

    token: str

    def __repr__(self) -> str:
        return "BearerAuth(token=…)"


class ApiKeyAuth(msgspec.Struct, tag_field="type", tag="api_key"):
    """A key that is sent as such. Kept in clear."""

    key: str

    def __repr__(self) -> str:
        return "ApiKeyAuth(key=…)"


class LocalWorkspace(msgspec.Struct, omit_defaults=True, tag_field="type", tag="local"):
    """The session works in a directory of this machine."""

    path: str


class RemoteWorkspace(msgspec.Struct, omit_defaults=True, tag_field="type", tag="remote"):
    """The session works where another agent is."""

    agent_address: str
    auth: BearerAuth | ApiKeyAuth | None = None


Workspace: TypeAlias = LocalWorkspace | RemoteWorkspace


class Whitelist(msgspec.Struct, omit_defaults=True, tag_field="type", tag="whitelist"):
    """Only these tools are seen."""

    tools: set[str] = set()


class Blacklist(msgspec.Struct, omit_defaults=True, tag_field="type", tag="blacklist"):
    """All tools are seen but these."""

    tools: set[str] = set()


ToolVisibility: TypeAlias = Literal["all", "read_only"] | Whitelist | Blacklist


# Frozen, so that it may be a default.
class AlwaysAsk(msgspec.Struct, frozen=True, tag_field="type", tag="always_ask"):
    """Every tool needs approval."""

    def is_approved(self, tool: str) -> bool:
        """Whether the tool may be used without asking: none may."""
        return False

    def asks_for(self, tool: str) -> bool:
        """Whether to ask before the tool is used: always."""
        return True


class PreApproved(msgspec.Struct, omit_defaults=True, tag_field="type", tag="pre_approved"):
    """These tools are approved; all others need approval."""

    tools: set[str] = set()

    def is_approved(self, tool: str) -> bool:
        """Whether the tool may be used without asking."""
        return tool in self.tools

    def asks_for(self, tool: str) -> bool:
        """Whether to ask before the tool is used."""
        return tool not in self.tools


class Mixed(msgspec.Struct, omit_defaults=True, tag_field="type", tag="mixed"):
    """These tools are approved. All others need approval, or are refused unasked if `ask_for_others` is False."""

    pre_approved: set[str] = set()
    ask_for_others: bool = True

    def is_approved(self, tool: str) -> bool:
        """Whether the tool may be used without asking."""
        return tool in self.pre_approved

    def asks_for(self, tool: str) -> bool:
        """Whether to ask before the tool is used. One that is neither approved nor asked for is refused."""
        return self.ask_for_others and tool not in self.pre_approved


ToolApproval: TypeAlias = AlwaysAsk | PreApproved | Mixed


class ToolRules(msgspec.Struct, omit_defaults=True):
    """What one tool may do without asking, as patterns that it understands."""

    approved_patterns: list[str] = []


class ToolConfig(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where a session's tools come from, which are seen, and which need approval.

    `backends` are JSON objects of your own, `tools` maps a tool's name to its rules.
    """

    backends: list[dict[str, Any]] = []
    visibility: ToolVisibility = "all"
    approval: ToolApproval = AlwaysAsk()
    metadata: dict[str, str] = {}
    tools: dict[str, ToolRules] = {}


class SessionConfig(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A session's config. Changing these attributes changes no file; `config.edit()` and the like do."""

    workspace: Workspace | None = None
    tools: ToolConfig = msgspec.field(default_factory=ToolConfig)
    system_prompt: str | None = None
    metadata: dict[str, str] = {}


CONFIGS: Final = RecordType("config", SessionConfig)


def config_of(shared: Shared, owner: Ref) -> Single[SessionConfig]:
    """The config of one session. Writing raises NotFoundError when the session is gone."""
    return Single(shared, CONFIGS, owner.belongings, "config", owner=owner)
