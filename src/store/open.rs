//! Opens a database file: lock, pragmas, schema, check, quarantine.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::StoreError;
use super::quarantine::{file_error, set_aside, sync_directory, with_suffix};
use crate::limits::{STATEMENTS_CACHED, STORE_CHECK_BYTES_MAX};

/// What a kind of file holds: its migrations, in order. A file's version is the number of those that were run on it.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Tells our kinds of file apart (`PRAGMA application_id`).
    pub application_id: i32,
    /// SQL, each run once in a transaction of its own. Never changed after a release, only added to.
    pub migrations: &'static [&'static str],
}

/// How the file was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// There was none.
    New,
    /// As it was left.
    Existing,
    /// It was damaged and has been moved away; the one in use is new.
    Quarantined {
        /// Where the old one is.
        moved_to: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
}

/// An open database file, locked against a second owner.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    schema: Schema,
    lock: File,
}

impl Store {
    /// Opens the file, makes it if there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`] when it is in use, newer than this program, or the file system refuses. Damage is no error: see [`Opened`].
    pub fn open(path: &Path, schema: Schema) -> Result<(Self, Opened), StoreError> {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| file_error("create", directory, error))?;
        let lock = lock(path)?;
        Self::open_locked(path, schema, lock)
    }

    fn open_locked(path: &Path, schema: Schema, lock: File) -> Result<(Self, Opened), StoreError> {
        let found = fs::metadata(path).ok();
        let damage = match &found {
            None => return Ok((create(path, schema, lock)?, Opened::New)),
            // SQLite takes an empty file for a new database: what was in it would vanish without a word.
            Some(file) if file.len() == 0 => "is empty".to_owned(),
            Some(_) => match connect(path).and_then(|connection| check(&connection, path).map(|()| connection)) {
                Ok(connection) => {
                    migrate(&connection, path, schema)?;
                    // A full disk must not keep what is stored from being sent; what it costs is the check after a crash.
                    let _ = mark(&connection, false);
                    return Ok((Self { connection, path: path.to_path_buf(), schema, lock }, Opened::Existing));
                }
                Err(error) if error.is_damage() => error.to_string(),
                Err(error) => return Err(error),
            },
        };
        let moved_to = set_aside(path)?;
        Ok((create(path, schema, lock)?, Opened::Quarantined { moved_to, reason: damage }))
    }

    /// Moves the file away and starts a new one in its place: what is left to do when reading it ends in [`StoreError::is_damage`].
    ///
    /// # Errors
    /// [`StoreError`] when the file system refuses.
    pub fn quarantine(self, reason: String) -> Result<(Self, Opened), StoreError> {
        let Self { connection, path, schema, lock } = self;
        drop(connection);
        let moved_to = set_aside(&path)?;
        Ok((create(&path, schema, lock)?, Opened::Quarantined { moved_to, reason }))
    }

    /// The connection, for the tables on top.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Pages in use times their size: what the caps count. The write-ahead log (a few MiB at most) comes on top.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn bytes(&self) -> Result<u64, StoreError> {
        Self::bytes_of(&self.connection)
    }

    pub(super) fn bytes_of(connection: &Connection) -> Result<u64, StoreError> {
        let pragma = |name| pragma_u64(connection, name);
        Ok(pragma("page_count")?.saturating_sub(pragma("freelist_count")?) * pragma("page_size")?)
    }

    /// Gives pages that hold nothing any more back to the file system, at most `pages`, where they are more than a quarter of the file
    /// and at least as many: less is soon used again. Returns whether there were.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn shrink(&self, pages: u32) -> Result<bool, StoreError> {
        let free = pragma_u64(&self.connection, "freelist_count")?;
        if free < u64::from(pages) || free * 4 <= pragma_u64(&self.connection, "page_count")? {
            return Ok(false);
        }
        self.connection.execute_batch(&format!("PRAGMA incremental_vacuum({pages})"))?;
        Ok(true)
    }

    /// Marks the file as closed in order and closes it.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`]; the content is safe all the same, and the next open checks it.
    pub fn close(self) -> Result<(), StoreError> {
        mark(&self.connection, true)?;
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

/// Holds `<file>.lock` for as long as the handle lives; the kernel lets go of it when the process dies.
fn lock(path: &Path) -> Result<File, StoreError> {
    let lock_path = with_suffix(path, ".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|error| file_error("open", &lock_path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_path_buf())),
        Err(fs::TryLockError::Error(error)) => Err(file_error("lock", &lock_path, error)),
    }
}

fn create(path: &Path, schema: Schema, lock: File) -> Result<Store, StoreError> {
    // SQLite gives its log files the mode of the database, so this one call decides for all three.
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(|error| file_error("create", path, error))?;
    // The mode of `open` passes through the umask; a backup may also have widened an existing file.
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(|error| file_error("protect", path, error))?;
    drop(file);
    let connection = connect(path)?;
    connection.pragma_update(None, "application_id", schema.application_id)?;
    migrate(&connection, path, schema)?;
    mark(&connection, false)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))?;
    Ok(Store { connection, path: path.to_path_buf(), schema, lock })
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    connection.execute_batch(PRAGMAS)?;
    Ok(connection)
}

/// `page_size` and `auto_vacuum` take effect only before the first table. 4,096 bytes are a page of the kernel, of ext4 and of most
/// flash; smaller ones cost more calls, larger ones more bytes. The owner is the only writer, so it never waits for a lock
/// (`busy_timeout`); readers open read-only.
const PRAGMAS: &str = "
    PRAGMA page_size = 4096;
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 1000;
    PRAGMA journal_size_limit = 4194304;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -2048;
    PRAGMA busy_timeout = 0;
    PRAGMA foreign_keys = OFF;
";

/// Reads as much as the last goodbye and the size call for.
fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let damaged = |reason: String| StoreError::Damaged { path: path.to_path_buf(), reason };
    let pragma = |name| pragma_u64(connection, name);
    let size = pragma("page_count")? * pragma("page_size")?;
    let on_disk = |suffix| fs::metadata(with_suffix(path, suffix)).map_or(0, |file| file.len());
    // Pages may be in the log alone; with an empty log, the file must hold them all.
    if on_disk("-wal") == 0 && on_disk("") < size {
        return Err(damaged(format!("{} bytes long, {size} expected", on_disk(""))));
    }
    let clean: Option<bool> =
        connection.query_row("SELECT v FROM meta WHERE k = 'clean'", [], |row| row.get(0)).optional().or_else(
            // A crash between the creation of the file and its first migration leaves a database without tables.
            |error| if pragma("user_version")? == 0 { Ok(Some(true)) } else { Err(error) },
        )?;
    if clean != Some(true) && size <= STORE_CHECK_BYTES_MAX {
        let word: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if word != "ok" {
            return Err(damaged(word));
        }
    }
    Ok(())
}

/// SQLite's numbers are signed; those asked for here are sizes and counts.
fn pragma_u64(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(|value| u64::try_from(value).unwrap_or(0))
}

/// Runs what has not been run yet; each migration and its version number in one transaction.
fn migrate(connection: &Connection, path: &Path, schema: Schema) -> Result<(), StoreError> {
    let steps: Vec<&str> = std::iter::once(BASE).chain(schema.migrations.iter().copied()).collect();
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::Newer { path: path.to_path_buf(), found, known });
    }
    for (version, step) in (1..).zip(&steps).skip(found as usize) {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {step}; PRAGMA user_version = {version}; COMMIT;"))?;
    }
    Ok(())
}

const BASE: &str = include_str!("migrations/base.sql");

fn mark(connection: &Connection, clean: bool) -> Result<(), StoreError> {
    connection.execute("INSERT OR REPLACE INTO meta(k, v) VALUES ('clean', ?1)", [clean])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: Schema = Schema { application_id: 7, migrations: &["CREATE TABLE t(x)"] };

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
}
