-- Pull mode: what was made when somebody asked for a wire. Apart from the wires' streams: nothing here arrives anywhere.

-- id: the execution's key. told: what it was made from, as JSON, so that the next one can say what differs.
CREATE TABLE made (
    id TEXT NOT NULL PRIMARY KEY,
    circuit TEXT NOT NULL,
    task TEXT NOT NULL,
    version TEXT NOT NULL,
    run INTEGER NOT NULL,
    at INTEGER NOT NULL,
    took INTEGER NOT NULL,
    told TEXT NOT NULL
) STRICT;

-- What an execution made (made is its key), or a file that was sampled (made is empty, path is its place).
CREATE TABLE made_value (
    id TEXT NOT NULL PRIMARY KEY,
    made TEXT NOT NULL,
    circuit TEXT NOT NULL,
    wire TEXT NOT NULL,
    idx INTEGER NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    type TEXT NOT NULL,
    name TEXT NOT NULL,
    lineage TEXT NOT NULL,
    hops INTEGER NOT NULL,
    at INTEGER NOT NULL,
    path TEXT NOT NULL
) STRICT;

CREATE INDEX made_value_made ON made_value (made);

CREATE INDEX made_value_digest ON made_value (digest);

-- Which execution stood at a place in the last run that came to it: number counts a task's snapshots from 0.
CREATE TABLE made_last (
    circuit TEXT NOT NULL,
    task TEXT NOT NULL,
    number INTEGER NOT NULL,
    made TEXT NOT NULL,
    PRIMARY KEY (circuit, task, number)
) WITHOUT ROWID, STRICT;

CREATE TABLE make_run (
    number INTEGER PRIMARY KEY,
    circuit TEXT NOT NULL,
    begun INTEGER NOT NULL,
    ended INTEGER,
    wanted TEXT NOT NULL,
    executed INTEGER NOT NULL DEFAULT 0,
    cached INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Files that were read before, so that what did not change is not read again. Times in nanoseconds.
CREATE TABLE known_file (
    path TEXT NOT NULL PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    ctime INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    digest TEXT NOT NULL
) WITHOUT ROWID, STRICT;
