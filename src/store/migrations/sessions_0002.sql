-- Sessions that outlive their connection (docs/decisions/0023). Ids of sessions and bodies begin at a place of chance, so that those of two lives never
-- meet. Nothing here is searched by anything but its key: who wants it all reads it all, at start.

CREATE TABLE session(
    id       INTEGER PRIMARY KEY,
    client   TEXT NOT NULL,
    user     TEXT,
    peer     TEXT,                  -- the gateway whose bridge this client is
    expiry_s INTEGER NOT NULL,      -- 4294967295 for ever
    left_ms  INTEGER                -- wall clock when its connection ended; null: it had one, or that clock was not set
);

CREATE TABLE subscription(
    session    INTEGER NOT NULL,
    asked      TEXT NOT NULL,       -- the filter as it was asked for, `$share/<group>/` included
    options    INTEGER NOT NULL,    -- QoS; 4: no local; 8: retain as published; 16: its retained messages are not all sent yet
    identifier INTEGER,
    after      TEXT,                -- while they are not: the topic of the last that is on its way
    PRIMARY KEY(session, asked)
) WITHOUT ROWID;

-- What waits in one queue or in many, once.
CREATE TABLE body(
    id      INTEGER PRIMARY KEY,
    qos     INTEGER NOT NULL,
    retain  INTEGER NOT NULL,
    exp_ms  INTEGER,                -- wall clock when it stops being worth sending; null also where that clock was not set
    topic   TEXT NOT NULL,
    props   BLOB,                   -- MQTT 5 properties as on the wire, length in front
    payload BLOB NOT NULL
);

CREATE TABLE queued(
    session INTEGER NOT NULL,
    row     INTEGER NOT NULL,       -- in the order they came
    body    INTEGER,                -- null once the client has it: only the PUBREL is left
    options INTEGER NOT NULL,       -- QoS; 8: retain
    ids     BLOB,                   -- identifiers of the subscriptions it answers, four bytes each, the first one first
    share   TEXT,                   -- the shared subscription that alone brings it
    pkid    INTEGER,                -- what it is on the wire under, or about to be
    turn    INTEGER,                -- rises in the order of sending
    PRIMARY KEY(session, row)
) WITHOUT ROWID;

-- QoS 2 packet ids of the client that were received and not yet released.
CREATE TABLE received(session INTEGER NOT NULL, pkid INTEGER NOT NULL, PRIMARY KEY(session, pkid)) WITHOUT ROWID;
