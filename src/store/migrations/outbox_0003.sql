-- Four classes of records, by priority (docs/decisions/0014): a table each, since a column that is searched by needs an index, and an index costs
-- 30 to 125 % more bytes on the card. One sequence goes over all. `rule` names the `out` rule that took a record up, NULL where that is not known.

ALTER TABLE q RENAME TO q2;
ALTER TABLE q2 ADD COLUMN rule INTEGER;

CREATE TABLE q0(
    seq INTEGER PRIMARY KEY, qos INTEGER NOT NULL, retain INTEGER NOT NULL, ts_ms INTEGER NOT NULL, synced INTEGER NOT NULL, exp_ms INTEGER,
    topic TEXT NOT NULL, props BLOB, payload BLOB NOT NULL, up_ms INTEGER, stamp_ms INTEGER, rule INTEGER
);
CREATE TABLE q1(
    seq INTEGER PRIMARY KEY, qos INTEGER NOT NULL, retain INTEGER NOT NULL, ts_ms INTEGER NOT NULL, synced INTEGER NOT NULL, exp_ms INTEGER,
    topic TEXT NOT NULL, props BLOB, payload BLOB NOT NULL, up_ms INTEGER, stamp_ms INTEGER, rule INTEGER
);
CREATE TABLE q3(
    seq INTEGER PRIMARY KEY, qos INTEGER NOT NULL, retain INTEGER NOT NULL, ts_ms INTEGER NOT NULL, synced INTEGER NOT NULL, exp_ms INTEGER,
    topic TEXT NOT NULL, props BLOB, payload BLOB NOT NULL, up_ms INTEGER, stamp_ms INTEGER, rule INTEGER
);

-- With priorities the order of sending is no longer that of `seq`, and what is said again has to be said in it [MQTT-4.6.0-1].
ALTER TABLE inflight RENAME TO inflight_2;
CREATE TABLE inflight(
    pkid    INTEGER PRIMARY KEY,
    class   INTEGER NOT NULL,   -- 0: urgent (q0) to 3: low (q3)
    seq     INTEGER NOT NULL,
    st      INTEGER NOT NULL,   -- 0: PUBLISH sent or about to be; 1: PUBREL sent or about to be
    n       INTEGER NOT NULL    -- rises in the order of sending
);
INSERT INTO inflight(pkid, class, seq, st, n) SELECT pkid, 2, seq, st, seq FROM inflight_2;
DROP TABLE inflight_2;

-- Letters that the cloud will never take: bounded, and kept for a person to look at, to send again or to throw away.
CREATE TABLE dead(
    seq     INTEGER PRIMARY KEY,    -- what it was in its class
    class   INTEGER NOT NULL,
    cause   TEXT NOT NULL,          -- as in the `dropped` event
    at_ms   INTEGER NOT NULL,       -- wall clock when it was given up
    qos     INTEGER NOT NULL,
    retain  INTEGER NOT NULL,
    ts_ms   INTEGER NOT NULL,
    synced  INTEGER NOT NULL,
    exp_ms  INTEGER,
    topic   TEXT NOT NULL,
    props   BLOB,
    payload BLOB NOT NULL,
    up_ms   INTEGER,
    rule    INTEGER
);
