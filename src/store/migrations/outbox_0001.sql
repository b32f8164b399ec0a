-- One outbox of one bridge. No secondary index, no AUTOINCREMENT, no state column in `q`: each was measured to cost 30 to 125 % more
-- bytes on the card. `seq` is given by us from a lease (meta `seq_lease`), so that it is never used twice though rows go.

-- What is to reach the cloud, oldest first.
CREATE TABLE q(
    seq     INTEGER PRIMARY KEY,
    qos     INTEGER NOT NULL,   -- 1 or 2
    retain  INTEGER NOT NULL,   -- 0 or 1
    ts_ms   INTEGER NOT NULL,   -- wall clock when it was accepted
    synced  INTEGER NOT NULL,   -- whether that clock had been set
    exp_ms  INTEGER,            -- wall clock when it stops being worth sending
    topic   TEXT NOT NULL,      -- at the cloud, after the mapping
    props   BLOB,               -- MQTT 5 properties as on the wire, length in front
    payload BLOB NOT NULL
);

-- What is on the wire: at most a window of rows, one or two pages, the only thing that is updated.
CREATE TABLE inflight(
    pkid    INTEGER PRIMARY KEY,
    seq     INTEGER NOT NULL,
    st      INTEGER NOT NULL    -- 0: PUBLISH sent or about to be; 1: PUBREL sent or about to be
);

-- QoS 2 packet ids of the cloud that were received and not yet released.
CREATE TABLE rx_q2(pkid INTEGER PRIMARY KEY);
