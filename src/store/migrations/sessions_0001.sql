-- What the local broker keeps. Durable sessions get tables of their own here.

-- The retained message of each topic. A rowid table: an update of an existing topic changes one page, however large the payload.
CREATE TABLE retained(
    topic   TEXT PRIMARY KEY,
    qos     INTEGER NOT NULL,   -- 0 to 2
    exp_ms  INTEGER,            -- wall clock when it stops being retained
    props   BLOB,               -- MQTT 5 properties as on the wire, length in front
    payload BLOB NOT NULL
);
