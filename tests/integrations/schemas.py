"""The tables that other programs make, as far as their sources tell."""

STEER = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, status TEXT NOT NULL, metadata TEXT,
    tool_policy_type TEXT NOT NULL, pre_approved_tools TEXT, tool_config TEXT NOT NULL,
    workspace_config TEXT NOT NULL DEFAULT '{}', system_prompt TEXT, active_message_id TEXT
);
CREATE TABLE messages (
    id TEXT PRIMARY KEY, session_id TEXT NOT NULL, sequence_num INTEGER NOT NULL, role TEXT NOT NULL,
    content TEXT NOT NULL, created_at TEXT NOT NULL, parent_message_id TEXT
);
CREATE TABLE tool_calls (
    id TEXT PRIMARY KEY, session_id TEXT NOT NULL, tool_name TEXT NOT NULL, parameters TEXT NOT NULL,
    status TEXT NOT NULL, result TEXT, error TEXT, started_at TEXT, completed_at TEXT, kind TEXT,
    payload_json TEXT, error_json TEXT
);
CREATE TABLE events (
    session_id TEXT NOT NULL, sequence_num INTEGER NOT NULL, event_type TEXT NOT NULL, event_data TEXT NOT NULL,
    created_at TEXT NOT NULL
);
CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL);
INSERT INTO _sqlx_migrations VALUES (1, 'initial');
"""

ZERO = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ulid TEXT NOT NULL UNIQUE, started_at TEXT NOT NULL, ended_at TEXT,
    engine_base_url TEXT, cli_version TEXT NOT NULL, parent_ulid TEXT
);
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session_id INTEGER NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    seq INTEGER NOT NULL, at TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('prompt', 'system', 'command', 'warn', 'alert', 'mode_change')),
    text TEXT NOT NULL, UNIQUE (session_id, seq)
);
CREATE TABLE milestones (key TEXT PRIMARY KEY, value TEXT NOT NULL, at TEXT NOT NULL);
CREATE TABLE refinery_schema_history (version INTEGER PRIMARY KEY, name TEXT, applied_on TEXT, checksum TEXT);
INSERT INTO refinery_schema_history VALUES (1, 'initial', '', '');
"""

CODEWHALE = """
CREATE TABLE threads (
    id TEXT PRIMARY KEY, rollout_path TEXT, preview TEXT NOT NULL, ephemeral INTEGER NOT NULL,
    model_provider TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, status TEXT NOT NULL,
    path TEXT, cwd TEXT NOT NULL, cli_version TEXT NOT NULL, source TEXT NOT NULL, title TEXT, sandbox_policy TEXT,
    approval_mode TEXT, archived INTEGER NOT NULL DEFAULT 0, archived_at INTEGER, git_sha TEXT, git_branch TEXT,
    git_origin_url TEXT, memory_mode TEXT, current_leaf_id INTEGER
);
CREATE TABLE thread_dynamic_tools (
    thread_id TEXT NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL, description TEXT,
    input_schema TEXT NOT NULL, PRIMARY KEY (thread_id, position)
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, thread_id TEXT NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL,
    item_json TEXT, created_at INTEGER NOT NULL, parent_entry_id INTEGER
);
CREATE TABLE checkpoints (
    thread_id TEXT NOT NULL, checkpoint_id TEXT NOT NULL, state_json TEXT NOT NULL, created_at INTEGER NOT NULL,
    PRIMARY KEY (thread_id, checkpoint_id)
);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, status TEXT NOT NULL, progress INTEGER, detail TEXT,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
);
CREATE TABLE workflow_runs (
    id TEXT PRIMARY KEY, workflow_id TEXT NOT NULL, goal TEXT NOT NULL, status TEXT NOT NULL, input_hash TEXT,
    started_at INTEGER NOT NULL, completed_at INTEGER, metadata_json TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE branch_runs (
    id TEXT PRIMARY KEY, workflow_run_id TEXT NOT NULL, branch_id TEXT NOT NULL, node_id TEXT NOT NULL,
    status TEXT NOT NULL, started_at INTEGER NOT NULL, completed_at INTEGER, result_json TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE leaf_runs (
    id TEXT PRIMARY KEY, workflow_run_id TEXT NOT NULL, branch_run_id TEXT, leaf_id TEXT NOT NULL,
    task_id TEXT NOT NULL, input_hash TEXT, status TEXT NOT NULL, output_json TEXT NOT NULL DEFAULT '{}',
    artifacts_json TEXT NOT NULL DEFAULT '[]', started_at INTEGER NOT NULL, completed_at INTEGER
);
CREATE TABLE control_node_runs (
    id TEXT PRIMARY KEY, workflow_run_id TEXT NOT NULL, node_id TEXT NOT NULL, kind TEXT NOT NULL,
    status TEXT NOT NULL, selected_children_json TEXT NOT NULL DEFAULT '[]',
    result_json TEXT NOT NULL DEFAULT '{}', started_at INTEGER NOT NULL, completed_at INTEGER
);
CREATE TABLE teacher_candidates (
    id TEXT PRIMARY KEY, workflow_run_id TEXT NOT NULL, control_node_run_id TEXT NOT NULL,
    candidate_id TEXT NOT NULL, branch_run_id TEXT, score REAL, passed INTEGER,
    rationale_json TEXT NOT NULL DEFAULT '{}', created_at INTEGER NOT NULL
);
CREATE TABLE thread_goals (
    thread_id TEXT PRIMARY KEY NOT NULL, goal_id TEXT NOT NULL, objective TEXT NOT NULL, status TEXT NOT NULL,
    token_budget INTEGER, tokens_used INTEGER NOT NULL DEFAULT 0, time_used_seconds INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
);
PRAGMA user_version = 3;
"""

SOMA = """
CREATE TABLE source_roots (
    path TEXT PRIMARY KEY, id TEXT NOT NULL, read_only INTEGER NOT NULL DEFAULT 1,
    created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE provider_status (
    provider TEXT PRIMARY KEY, last_test_ok INTEGER, last_test_detail TEXT,
    last_tested_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE provider_selection (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1), provider TEXT, model_id TEXT,
    updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE sessions (id TEXT PRIMARY KEY, created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE conversations (
    id TEXT PRIMARY KEY, session_id TEXT NOT NULL, title TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    last_message_at TEXT
);
CREATE TABLE messages (
    id TEXT PRIMARY KEY, conversation_id TEXT NOT NULL, sequence INTEGER NOT NULL, role TEXT NOT NULL,
    content TEXT NOT NULL, status TEXT NOT NULL, created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    provider TEXT, model_id TEXT
);
CREATE TABLE source_files (
    source_root_id TEXT NOT NULL, relative_path TEXT NOT NULL, absolute_path TEXT NOT NULL,
    fingerprint TEXT NOT NULL, size_bytes INTEGER NOT NULL, modified_at TEXT NOT NULL, file_type TEXT NOT NULL,
    status TEXT NOT NULL, last_error TEXT, updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (source_root_id, relative_path)
);
CREATE TABLE ingest_jobs (
    id TEXT PRIMARY KEY, source_root_id TEXT, scope_label TEXT NOT NULL, status TEXT NOT NULL,
    file_count INTEGER NOT NULL DEFAULT 0, started_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, completed_at TEXT,
    last_error TEXT
);
CREATE TABLE workspace_task_runs (
    run_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, task_id TEXT NOT NULL, path TEXT NOT NULL,
    status TEXT NOT NULL, command_label TEXT NOT NULL, exit_code INTEGER, stdout_tail TEXT NOT NULL,
    stderr_tail TEXT NOT NULL, stdout_truncated INTEGER NOT NULL, stderr_truncated INTEGER NOT NULL,
    timed_out INTEGER NOT NULL, cancel_requested INTEGER NOT NULL, started_at_ms INTEGER NOT NULL,
    completed_at_ms INTEGER, duration_ms INTEGER, error TEXT, error_code TEXT, max_output_bytes INTEGER NOT NULL,
    updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE workspace_file_change_audits (
    audit_id TEXT PRIMARY KEY, session_id TEXT NOT NULL, action TEXT NOT NULL, path TEXT NOT NULL,
    target_path TEXT, status TEXT NOT NULL, error TEXT, error_code TEXT, size_bytes_before INTEGER,
    size_bytes_after INTEGER, created_at_ms INTEGER NOT NULL, applied_at_ms INTEGER,
    updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
PRAGMA user_version = 3;
"""
