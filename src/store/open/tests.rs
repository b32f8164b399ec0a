use super::*;

const SCHEMA: Schema = Schema { application_id: 7, migrations: &["CREATE TABLE t(x)"], salvaged: false };

type Spoil<'a> = (&'a str, &'a dyn Fn(&Path));

fn open(path: &Path) -> (Store, Opened) {
    Store::open(path, SCHEMA).unwrap()
}

fn rows(store: &Store) -> u32 {
    store.connection().query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

#[test]
fn what_was_committed_is_there_after_a_close_and_after_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/x.db");
    let (store, opened) = open(&path);
    assert_eq!(opened, Opened::New);
    store.connection().execute_batch("INSERT INTO t VALUES (1)").unwrap();
    store.close().unwrap();
    let (store, opened) = open(&path);
    assert_eq!((opened, rows(&store)), (Opened::Existing, 1));
    store.connection().execute_batch("INSERT INTO t VALUES (2)").unwrap();
    drop(store);
    let (store, opened) = open(&path);
    assert_eq!((opened, rows(&store)), (Opened::Existing, 2));
}

#[test]
fn what_was_committed_is_there_though_nothing_more_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let (store, _) = open(&path);
    store
        .connection()
        .execute_batch(
            "INSERT INTO t VALUES (1); CREATE TRIGGER full BEFORE INSERT ON meta BEGIN SELECT raise(ABORT, 'full'); END",
        )
        .unwrap();
    drop(store);
    let (store, opened) = open(&path);
    assert_eq!((opened, rows(&store)), (Opened::Existing, 1));
}

#[test]
fn the_files_are_readable_by_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let (_store, _) = open(&path);
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let mode = fs::metadata(with_suffix(&path, suffix)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "mode of `x.db{suffix}`");
    }
}

#[test]
fn a_second_owner_is_refused_until_the_first_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let (store, _) = open(&path);
    assert!(matches!(Store::open(&path, SCHEMA), Err(StoreError::InUse(at)) if at == path));
    drop(store);
    assert!(Store::open(&path, SCHEMA).is_ok());
}

#[test]
fn a_commit_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(&dir.path().join("x.db"));
    let pragma = |name| store.connection().pragma_query_value(None, name, |row| row.get::<_, u32>(0)).unwrap();
    assert_eq!((pragma("synchronous"), pragma("auto_vacuum"), pragma("page_size")), (2, 2, 4096));
}

#[test]
fn a_file_of_a_later_version_is_left_alone_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let (store, _) = open(&path);
    store.connection().pragma_update(None, "user_version", 9).unwrap();
    drop(store);
    let error = Store::open(&path, SCHEMA).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 9, known: 2, .. }), "{error}");
    assert!(!dir.path().join("quarantine").exists());
}

#[test]
fn a_database_of_another_program_is_left_alone_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let other = Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA application_id = 77; CREATE TABLE mail(x); INSERT INTO mail VALUES (1)").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    let error = Store::open(&path, SCHEMA).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { found: 77, .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(!dir.path().join("quarantine").exists());
}

#[test]
fn a_database_that_a_crash_left_without_tables_is_made_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    drop(connect_new(&path));
    let (store, opened) = open(&path);
    assert_eq!((opened, rows(&store)), (Opened::Existing, 0));
    let id: i32 = store.connection().pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
    assert_eq!(id, 7);
}

fn connect_new(path: &Path) -> Connection {
    fs::write(path, b"").unwrap();
    let connection = connect(path).unwrap();
    connection.execute_batch("CREATE TABLE gone(x); DROP TABLE gone").unwrap();
    connection
}

#[test]
fn a_damaged_file_is_moved_aside_whole_and_replaced() {
    let garbage: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
    let spoil: [Spoil<'_>; 4] = [
        ("garbage", &|path| fs::write(path, &garbage).unwrap()),
        ("empty", &|path| fs::write(path, b"").unwrap()),
        ("truncated", &|path| File::options().write(true).open(path).unwrap().set_len(5_000).unwrap()),
        ("head of a page overwritten", &|path| {
            use std::os::unix::fs::FileExt;
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(&garbage[..2_048], 4 * 4096).unwrap();
        }),
    ];
    for (what, spoil) in spoil {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let (store, _) = open(&path);
        let insert = "INSERT INTO t SELECT randomblob(500) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                      WHERE i < 200) SELECT i FROM n)";
        store.connection().execute_batch(insert).unwrap();
        store.close().unwrap();
        let unclean = Connection::open(&path).unwrap();
        mark(&unclean, false).unwrap();
        drop(unclean);
        spoil(&path);
        let (store, opened) = open(&path);
        let Opened::Quarantined { moved_to, .. } = opened else { panic!("{what}: {opened:?}") };
        assert!(moved_to.join("x.db").exists(), "{what}");
        assert_eq!(rows(&store), 0, "{what}");
    }
}

#[test]
fn damage_that_a_migration_meets_sets_the_file_aside() {
    const NEWER: &[&str] = &[SCHEMA.migrations[0], "UPDATE t SET x = 1"];

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    drop(open(&path));
    let spoil = Connection::open(&path).unwrap();
    // Nothing reads the page of this table before the migration does.
    spoil.execute_batch("INSERT INTO t SELECT randomblob(3000); PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    mark(&spoil, true).unwrap();
    let root: u32 =
        spoil.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 't'", [], |row| row.get(0)).unwrap();
    drop(spoil);
    let file = File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4096], u64::from(root - 1) * 4096).unwrap();
    let newer = Schema { migrations: NEWER, ..SCHEMA };
    let (store, opened) = Store::open(&path, newer).unwrap();
    assert!(matches!(opened, Opened::Quarantined { .. }), "{opened:?}");
    assert_eq!(rows(&store), 0);
}

#[test]
fn a_log_whose_file_was_being_set_aside_goes_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    fs::write(&path, b"not a database, not even close to one").unwrap();
    let (store, Opened::Quarantined { moved_to, .. }) = open(&path) else { panic!("it is none") };
    drop(store);
    // As if the process had died between the two.
    fs::remove_file(&path).unwrap();
    fs::write(with_suffix(&path, "-wal"), b"log").unwrap();
    fs::write(moved_to.join("moving"), b"").unwrap();
    let opened = open(&path).1;
    assert!(matches!(&opened, Opened::Quarantined { moved_to: to, .. } if *to == moved_to), "{opened:?}");
    assert_eq!(fs::read(moved_to.join("x.db-wal")).unwrap(), b"log");
}

#[test]
fn a_name_that_cannot_be_looked_at_is_not_taken_for_a_file_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(matches!(Store::open(&path, SCHEMA), Err(StoreError::File { what: "look at", .. })));
}

#[test]
fn only_the_newest_quarantines_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    for _ in 0..4 {
        drop(open(&path));
        fs::write(&path, b"not a database, not even close to one").unwrap();
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(with_suffix(&path, suffix));
        }
    }
    drop(open(&path));
    let mut kept: Vec<_> =
        fs::read_dir(dir.path().join("quarantine")).unwrap().map(|e| e.unwrap().file_name()).collect();
    kept.sort();
    assert_eq!(kept, ["x.db.3", "x.db.4"]);
}

#[test]
fn a_file_of_a_later_version_is_opened_once_its_version_is_put_back() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let (store, _) = open(&path);
    store.connection().execute_batch("INSERT INTO t VALUES (1)").unwrap();
    store.close().unwrap();
    // `PRAGMA user_version`: four bytes at offset 60 of the file.
    let version = |version: u32| {
        File::options().write(true).open(&path).unwrap().write_all_at(&version.to_be_bytes(), 60).unwrap();
    };
    version(9);
    let error = Store::open(&path, SCHEMA).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 9, .. }), "{error}");
    version(2);
    let (store, opened) = open(&path);
    assert_eq!((opened, rows(&store)), (Opened::Existing, 1));
}
