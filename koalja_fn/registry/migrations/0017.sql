-- Who drives a recompute, until when, and the how-many-eth driver that is: an earlier one can write nothing any more.
ALTER TABLE recompute ADD COLUMN owner TEXT NOT NULL DEFAULT '';

ALTER TABLE recompute ADD COLUMN lease INTEGER NOT NULL DEFAULT 0;

ALTER TABLE recompute ADD COLUMN fence INTEGER NOT NULL DEFAULT 0;

-- Until when no snapshot of a task is claimed: a recompute is about to put another row in its place.
ALTER TABLE task ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
