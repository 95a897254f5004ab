-- Payloads that are purged, or about to be; all others have no row. state: 'marked' (nobody needed it at `at`), 'going'
-- (is being deleted: it may be there or not), 'gone', 'back' (made again from its recipe). wire: whose values let it go;
-- NULL where nothing names it.
CREATE TABLE purge (
    digest TEXT NOT NULL PRIMARY KEY,
    size INTEGER NOT NULL,
    wire INTEGER REFERENCES wire,
    state TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;

CREATE INDEX purge_state ON purge (state, at);

-- purged: values before this position need not be looked at again.
ALTER TABLE wire ADD COLUMN purged INTEGER NOT NULL DEFAULT 0;

CREATE INDEX lookup_asked ON lookup (substr(asked, 8, 12)) WHERE asked_kept = 1;

CREATE INDEX lookup_told ON lookup (substr(told, 8, 12)) WHERE told_kept = 1;

CREATE INDEX refusal_digest ON refusal (digest);

-- purged: when a round of purging was last begun by itself.
ALTER TABLE circuit ADD COLUMN purged INTEGER NOT NULL DEFAULT 0;
