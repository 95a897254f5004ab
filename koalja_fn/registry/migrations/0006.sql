-- latest: the time of the last value on a wire, and of the last record in a task's log: what follows is never earlier.
ALTER TABLE wire ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;

ALTER TABLE task ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;

UPDATE wire SET latest = coalesce(
    (SELECT v.arrived FROM value v WHERE v.wire = wire.id AND v.position = wire.head - 1), 0
);

UPDATE task SET latest = coalesce((SELECT l.at FROM log l WHERE l.task = task.id AND l.seq = task.log_head), 0);
