-- How often the circuit was installed differently: who attached to it earlier has to look again.
ALTER TABLE circuit ADD COLUMN installs INTEGER NOT NULL DEFAULT 0;
