-- Errands: executions of pull mode that a run asks another process to do, which has the program (make --cluster).
-- id: the execution's key. run: who asks. whole: its inputs' values, and what it is made from, as JSON. A row is there
-- while somebody waits for it; what came of it is in made.
CREATE TABLE errand (
    id TEXT NOT NULL PRIMARY KEY,
    circuit TEXT NOT NULL,
    task TEXT NOT NULL,
    number INTEGER NOT NULL,
    version TEXT NOT NULL,
    run INTEGER NOT NULL,
    at INTEGER NOT NULL,
    whole TEXT NOT NULL
) STRICT;
