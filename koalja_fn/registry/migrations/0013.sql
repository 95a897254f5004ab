-- `why`: the executions of a task in pull mode, by run.
CREATE INDEX made_task ON made (circuit, task, run);
