-- What the gateway itself must remember: which commands it has taken. A row is written before its actuator moves.

CREATE TABLE command(
    n        INTEGER PRIMARY KEY,   -- in the order they were taken
    actuator TEXT NOT NULL,
    id       TEXT,                  -- what its sender calls it; null: it had none, and the row goes with its answer
    ts_ms    INTEGER NOT NULL,      -- wall clock when it was taken
    synced   INTEGER NOT NULL,      -- whether that clock had been set
    outcome  TEXT,                  -- its answer; null: there is none yet, and after a start there never will be
    reason   TEXT
);
CREATE UNIQUE INDEX command_id ON command(actuator, id);
