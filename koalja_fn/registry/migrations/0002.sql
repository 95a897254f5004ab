-- For the stories: which values have this payload (`trace FILE`; twelve digits of the digest make an index of a
-- quarter of the size), and two partial indexes over what is rare.
CREATE INDEX value_digest ON value (substr(digest, 8, 12));

CREATE INDEX snapshot_skipped ON snapshot (task, number) WHERE state = 'skipped';

CREATE INDEX remark_anomaly ON remark (task, at) WHERE kind = 'anomaly';
