-- QoS 2 messages of local clients that were taken in and whose packet ids are not free yet: said again after a crash, they are known. `session` is the
-- number that the broker's file has for it; `mark` is made of topic and payload. They count while `meta` (`era`) names the era that the broker's file names.
CREATE TABLE exchange(
    session INTEGER NOT NULL,
    pkid    INTEGER NOT NULL,
    mark    INTEGER NOT NULL,
    PRIMARY KEY(session, pkid)
) WITHOUT ROWID;
