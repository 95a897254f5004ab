-- Recompute: tasks are run again on what their logs say, in a lane of its own. world: while it lasts, the circuit row that
-- has the lane's tasks and wires; from then on the one that has those whose place they took. Its name is the circuit's, a
-- tilde, and the epoch. cut: the time up to which the lane is to come. options and told: JSON.
CREATE TABLE recompute (
    id INTEGER PRIMARY KEY,
    circuit INTEGER NOT NULL REFERENCES circuit,
    epoch INTEGER NOT NULL,
    world INTEGER NOT NULL REFERENCES circuit,
    begun INTEGER NOT NULL,
    ended INTEGER,
    state TEXT NOT NULL,
    cut INTEGER NOT NULL,
    options TEXT NOT NULL,
    told TEXT NOT NULL DEFAULT '{}',
    UNIQUE (circuit, epoch)
) STRICT;

-- seq: how far the old task's log was replayed; until: how far it is to be, up to the cut.
CREATE TABLE lane_task (
    recompute INTEGER NOT NULL REFERENCES recompute,
    place INTEGER NOT NULL,
    old INTEGER NOT NULL,
    new INTEGER NOT NULL,
    seq INTEGER NOT NULL DEFAULT 0,
    until INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (recompute, place)
) WITHOUT ROWID, STRICT;

-- looked: the position on the old wire up to which values from outside have come to the new one.
CREATE TABLE lane_wire (
    recompute INTEGER NOT NULL REFERENCES recompute,
    old INTEGER NOT NULL,
    new INTEGER NOT NULL,
    looked INTEGER NOT NULL DEFAULT 0,
    until INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (recompute, old)
) WITHOUT ROWID, STRICT;

-- The place that values of a lane's wire take: that of the old wire's position slot; or, with gap, one before it, of
-- the time at, where the old snapshot had made nothing.
CREATE TABLE lane_run (
    wire INTEGER NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    gap INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (wire, first)
) WITHOUT ROWID, STRICT;

-- What took the place of what, by ids. kind: value or snapshot; how: again (it was made again), kept (what was there
-- is as it would be now), gone (old without new), extra (new without old).
CREATE TABLE supersession (
    recompute INTEGER NOT NULL REFERENCES recompute,
    kind TEXT NOT NULL,
    how TEXT NOT NULL,
    old TEXT NOT NULL,
    new TEXT NOT NULL
) STRICT;

CREATE INDEX supersession_old ON supersession (old) WHERE old <> '';

CREATE INDEX supersession_new ON supersession (new) WHERE new <> '';
