-- Ghosts: values without payloads that show where data would go. They stand on no wire, so that nothing which forms,
-- runs, writes or counts knows of them. told: as JSON, the circuit as it was walked and what was asked.
CREATE TABLE ghost_walk (
    id TEXT NOT NULL PRIMARY KEY,
    circuit TEXT NOT NULL,
    at INTEGER NOT NULL,
    told TEXT NOT NULL
) STRICT;

-- One on each wire that a walk came to. task: who would have made the value, through whose link via; none from outside.
CREATE TABLE ghost (
    id TEXT NOT NULL PRIMARY KEY,
    walk TEXT NOT NULL REFERENCES ghost_walk,
    circuit TEXT NOT NULL,
    wire TEXT NOT NULL,
    task TEXT NOT NULL,
    via TEXT NOT NULL,
    at INTEGER NOT NULL,
    hops INTEGER NOT NULL,
    told TEXT NOT NULL,
    UNIQUE (walk, wire)
) STRICT;

-- Each link that a walk took, once; the wire is empty where time drives the task.
CREATE TABLE ghost_link (
    walk TEXT NOT NULL REFERENCES ghost_walk,
    circuit TEXT NOT NULL,
    wire TEXT NOT NULL,
    task TEXT NOT NULL,
    at INTEGER NOT NULL,
    told TEXT NOT NULL,
    PRIMARY KEY (walk, wire, task)
) WITHOUT ROWID, STRICT;
