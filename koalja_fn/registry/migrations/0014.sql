-- With `first`, windows that end behind a value and do not have it are passed over in the index (`wire`, always NULL,
-- so that SQLite sees that it need not look at the row).
DROP INDEX snapshot_input_wire;

DROP INDEX snapshot_input_feed;

CREATE INDEX snapshot_input_wire ON snapshot_input (task, wire, last, first) WHERE wire IS NOT NULL;

CREATE INDEX snapshot_input_feed ON snapshot_input (task, input, last, first, wire) WHERE wire IS NULL;
