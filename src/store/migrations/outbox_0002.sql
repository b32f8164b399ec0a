-- Times from before the clock was set can be mended once it is (`logic::restamp`). Both columns are NULL in every other record, which costs
-- it a byte each.

ALTER TABLE q ADD COLUMN up_ms INTEGER;     -- monotonic clock when it was accepted, if the wall clock had not been set
ALTER TABLE q ADD COLUMN stamp_ms INTEGER;  -- monotonic clock at the time that the payload begins with, while that may be mended

-- Which boot those belong to, and what is known of its clock. One row for each boot in which a record was accepted by a clock that had not
-- been set, for as long as one of them may wait.
CREATE TABLE boots(
    first_seq INTEGER PRIMARY KEY,  -- its first such record; all up to the next row's are its own
    id        BLOB NOT NULL,        -- /proc/sys/kernel/random/boot_id
    anchor_ms INTEGER               -- wall clock when its monotonic clock began, once that was known
);
