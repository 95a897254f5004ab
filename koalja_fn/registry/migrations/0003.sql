-- The code that a claim was made for, while it lasts: whoever finds the claim lost has newer code, perhaps.
ALTER TABLE snapshot ADD COLUMN version TEXT;
