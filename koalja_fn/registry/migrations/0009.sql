-- Executions that push mode need not repeat (`cache = on`). id: the execution's key; snapshot: whose outputs are the answer.
CREATE TABLE cached (
    id TEXT NOT NULL PRIMARY KEY,
    snapshot INTEGER NOT NULL REFERENCES snapshot
) STRICT;
