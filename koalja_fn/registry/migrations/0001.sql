-- Times are microseconds since 1970 by the registry's clock; positions, indexes and numbers count from 0.
-- Written so that PostgreSQL takes it, too: plain types, no expressions of one engine only.

CREATE TABLE circuit (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    wiring TEXT NOT NULL
) STRICT;

-- head: how many values were placed on the wire; sunk: how many of them its `to` has written.
CREATE TABLE wire (
    id INTEGER PRIMARY KEY,
    circuit INTEGER NOT NULL REFERENCES circuit,
    name TEXT NOT NULL,
    head INTEGER NOT NULL DEFAULT 0,
    sunk INTEGER NOT NULL DEFAULT 0,
    UNIQUE (circuit, name)
) STRICT;

-- state: the snapshot core's, as it was after record state_at of the log; due: when time alone may do something.
CREATE TABLE task (
    id INTEGER PRIMARY KEY,
    circuit INTEGER NOT NULL REFERENCES circuit,
    name TEXT NOT NULL,
    generation INTEGER NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    spec TEXT NOT NULL,
    state TEXT NOT NULL,
    state_at INTEGER NOT NULL,
    log_head INTEGER NOT NULL,
    formed INTEGER NOT NULL DEFAULT 0,
    due INTEGER,
    retired INTEGER NOT NULL DEFAULT 0,
    usual TEXT NOT NULL DEFAULT '{}',
    UNIQUE (circuit, name)
) STRICT;

-- position: the next value to read. Counted for an input, in the row of its first wire: used: the first index that was
-- in no window yet (under align: how many were); settled: values in a finished snapshot, or passed over on record.
CREATE TABLE link (
    task INTEGER NOT NULL REFERENCES task,
    wire INTEGER NOT NULL REFERENCES wire,
    input TEXT NOT NULL,
    start INTEGER NOT NULL,
    position INTEGER NOT NULL,
    used INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0,
    retired INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (task, wire)
) WITHOUT ROWID, STRICT;

CREATE INDEX link_wire ON link (wire);

CREATE TABLE version (
    id INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES task,
    digest TEXT NOT NULL,
    run TEXT NOT NULL,
    seen INTEGER NOT NULL,
    UNIQUE (task, digest)
) STRICT;

CREATE TABLE value (
    id TEXT NOT NULL PRIMARY KEY,
    wire INTEGER NOT NULL REFERENCES wire,
    position INTEGER NOT NULL,
    arrived INTEGER NOT NULL,
    created INTEGER NOT NULL,
    source TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    type TEXT NOT NULL,
    name TEXT NOT NULL,
    snapshot INTEGER,
    version TEXT NOT NULL,
    region TEXT NOT NULL,
    lineage TEXT NOT NULL,
    idx INTEGER NOT NULL,
    hops INTEGER NOT NULL,
    ghost INTEGER NOT NULL,
    event_source TEXT NOT NULL,
    event_id TEXT NOT NULL,
    sequence TEXT NOT NULL,
    attributes TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX value_place ON value (wire, position);

CREATE INDEX value_snapshot ON value (snapshot) WHERE snapshot IS NOT NULL;

-- The snapshot core's only input. kind: run (values first..last of a wire), time, free, wired (body: spec and starts),
-- due (a task without inputs had its instant).
CREATE TABLE log (
    task INTEGER NOT NULL REFERENCES task,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    wire INTEGER,
    first INTEGER,
    last INTEGER,
    body TEXT,
    PRIMARY KEY (task, seq)
) WITHOUT ROWID, STRICT;

-- Which value is which of an input that counts by admission: a run of indexes and the positions behind them.
CREATE TABLE feed (
    task INTEGER NOT NULL REFERENCES task,
    input TEXT NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    wire INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (task, input, first)
) WITHOUT ROWID, STRICT;

CREATE INDEX feed_wire ON feed (wire, position, task);

-- due: not to be started earlier; fence grows with each claim, and only the last claim may commit.
CREATE TABLE snapshot (
    rid INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    task INTEGER NOT NULL REFERENCES task,
    number INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    state TEXT NOT NULL,
    formed INTEGER NOT NULL,
    cause TEXT,
    due INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    lease INTEGER,
    claimed INTEGER,
    finished INTEGER,
    UNIQUE (task, number)
) STRICT;

CREATE INDEX snapshot_ready ON snapshot (task, due, number) WHERE state = 'ready';

CREATE INDEX snapshot_open ON snapshot (task, number) WHERE state IN ('ready', 'running', 'dead');

CREATE INDEX snapshot_running ON snapshot (task, lease) WHERE state = 'running';

CREATE INDEX snapshot_dead ON snapshot (task, number) WHERE state = 'dead';

-- wire is set where the window is a range of positions of one wire; else `feed` has its members.
CREATE TABLE snapshot_input (
    snapshot INTEGER NOT NULL REFERENCES snapshot,
    ord INTEGER NOT NULL,
    task INTEGER NOT NULL,
    input TEXT NOT NULL,
    wire INTEGER,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    fresh INTEGER NOT NULL,
    PRIMARY KEY (snapshot, ord)
) WITHOUT ROWID, STRICT;

CREATE INDEX snapshot_input_wire ON snapshot_input (task, wire, last) WHERE wire IS NOT NULL;

CREATE INDEX snapshot_input_feed ON snapshot_input (task, input, last) WHERE wire IS NULL;

-- One row for each attempt that ended. outcome: done, failed, lost, cancelled.
CREATE TABLE execution (
    id INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES task,
    snapshot INTEGER NOT NULL REFERENCES snapshot,
    attempt INTEGER NOT NULL,
    version TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    status INTEGER,
    message TEXT NOT NULL,
    stderr TEXT NOT NULL,
    size_in INTEGER NOT NULL,
    size_out INTEGER NOT NULL
) STRICT;

CREATE INDEX execution_snapshot ON execution (snapshot);

CREATE INDEX execution_task ON execution (task, ended);

-- What a program, or the wrapper, had to say: signposts, anomalies.
CREATE TABLE remark (
    id INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES task,
    snapshot INTEGER,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    body TEXT NOT NULL DEFAULT '{}'
) STRICT;

CREATE INDEX remark_snapshot ON remark (snapshot);

CREATE INDEX remark_task ON remark (task, at);

-- Values that a policy passed over: superseded, alone, late, gap. Ranges of the input's indexes.
CREATE TABLE passed (
    id INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES task,
    at INTEGER NOT NULL,
    input TEXT NOT NULL,
    wire INTEGER,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    reason TEXT NOT NULL,
    text TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX passed_task ON passed (task, input, last);

-- Events that were refused for good: same id, other content.
CREATE TABLE refusal (
    id INTEGER PRIMARY KEY,
    circuit INTEGER NOT NULL REFERENCES circuit,
    wire TEXT NOT NULL,
    at INTEGER NOT NULL,
    value TEXT NOT NULL,
    event_source TEXT NOT NULL,
    event_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    kept TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;

-- Files of in-trays as they were last seen; changes: how many different contents were observed.
CREATE TABLE seen (
    wire INTEGER NOT NULL REFERENCES wire,
    path TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    digest TEXT NOT NULL,
    changes INTEGER NOT NULL,
    PRIMARY KEY (wire, path)
) WITHOUT ROWID, STRICT;
