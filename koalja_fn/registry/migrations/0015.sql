-- replayed: the row of the look-up whose recorded answer was given once more (`recompute --replay-lookups`); NULL where
-- somebody was asked.
ALTER TABLE lookup ADD COLUMN replayed INTEGER;
