-- Every file of ours has this table. `clean` is 1 only between an orderly close and the next open.
CREATE TABLE meta(k TEXT PRIMARY KEY, v NOT NULL) WITHOUT ROWID;
INSERT INTO meta(k, v) VALUES ('clean', 1);
