-- The circuit as it was installed last, as JSON: where a task runs without the circuit's folder it is read from here.
ALTER TABLE circuit ADD COLUMN model TEXT NOT NULL DEFAULT '';
