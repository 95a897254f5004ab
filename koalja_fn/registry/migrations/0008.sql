-- Look-ups: what an execution asked on the side, and what it was told. answered: the snapshot of the service whose process
-- answered (none: an outside address, or nobody did); version: of that service's code; place: the outside address.
-- status is 0 where there was no answer at all. The digests are empty where there was no body, or its end was never
-- seen; kept says whether the store has the bytes. headers: as JSON, those that carry secrets masked.
CREATE TABLE lookup (
    id INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES task,
    snapshot INTEGER NOT NULL REFERENCES snapshot,
    attempt INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    wire TEXT NOT NULL,
    answered INTEGER REFERENCES snapshot,
    version TEXT NOT NULL,
    place TEXT NOT NULL,
    at INTEGER NOT NULL,
    took INTEGER NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER NOT NULL,
    asked TEXT NOT NULL,
    asked_size INTEGER NOT NULL,
    asked_kept INTEGER NOT NULL,
    told TEXT NOT NULL,
    told_size INTEGER NOT NULL,
    told_kept INTEGER NOT NULL,
    headers TEXT NOT NULL,
    problem TEXT NOT NULL
) STRICT;

CREATE INDEX lookup_snapshot ON lookup (snapshot, attempt, seq);

CREATE INDEX lookup_answered ON lookup (answered) WHERE answered IS NOT NULL;
