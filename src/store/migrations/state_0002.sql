-- What counters have counted, each since it was first set up. A row outlives its sensor: it may come back.

CREATE TABLE counter(
    sensor TEXT PRIMARY KEY,
    count  INTEGER NOT NULL,
    missed INTEGER NOT NULL   -- edges that could not be told apart
) WITHOUT ROWID;
