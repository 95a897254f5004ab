-- What is being made in pull mode, so that of several runs on one registry one makes it and the others wait.
-- id: the execution's key. owner: who makes it. until: when it is anybody's again, unless its owner says otherwise.
CREATE TABLE begun (
    id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT;
CREATE INDEX begun_owner ON begun (owner);
