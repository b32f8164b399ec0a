//! Opens a database file: lock, pragmas, schema, check, quarantine.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::StoreError;
use super::condition::{Identity, fit_for_writing, identity};
use super::quarantine::{file_error, finish_set_aside, set_aside, sync_directory, with_suffix};
use super::salvage::{log_has_a_hole, log_is_garbage};
use crate::limits::{STATEMENTS_CACHED, STORE_CHECK_BYTES_MAX};

/// What a kind of file holds: its migrations, in order. A file's version is the number of those that were run on it.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Tells our kinds of file apart (`PRAGMA application_id`).
    pub application_id: i32,
    /// SQL, each run once in a transaction of its own. Never changed after a release, only added to.
    pub migrations: &'static [&'static str],
    /// Whether the owner brings over what can be read of a damaged file.
    pub salvaged: bool,
}

impl Schema {
    /// What a file's `user_version` is when all of them were run: the base counts too.
    pub(super) const fn version(&self) -> usize {
        self.migrations.len() + 1
    }
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
    /// Which file that is, whatever its name leads to later.
    identity: Option<Identity>,
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
        let found = match fs::metadata(path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            // Whether there is one is not known: none is put in its place.
            Err(error) => return Err(file_error("look at", path, error)),
        };
        let damage = match &found {
            None => {
                let opened = finish_set_aside(path)?.map_or(Opened::New, |moved_to| {
                    let reason = "it was being set aside when the process ended".into();
                    Opened::Quarantined { moved_to, reason }
                });
                return Ok((create(path, schema, lock)?, opened));
            }
            // SQLite takes an empty file for a new database: what was in it would vanish without a word.
            Some(file) if file.len() == 0 => "is empty".to_owned(),
            Some(_) => match read(path, schema) {
                Ok(connection) => {
                    // A full disk must not keep what is stored from being sent; what it costs is the check after a crash.
                    let _ = mark(&connection, false);
                    return Ok((Self::new(connection, path, schema, lock), Opened::Existing));
                }
                Err(error) if error.is_damage() => error.to_string(),
                Err(error) => return Err(error),
            },
        };
        let moved_to = set_aside(path, schema.salvaged)?;
        Ok((create(path, schema, lock)?, Opened::Quarantined { moved_to, reason: damage }))
    }

    /// Opens a file that is there and in order, for work by hand: one that is damaged stays where it is, for its owner to set aside.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::Damaged`].
    pub fn open_sound(path: &Path, schema: Schema) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let connection = read(path, schema)?;
        mark(&connection, false)?;
        Ok(Self::new(connection, path, schema, lock))
    }

    /// Moves the file away and starts a new one in its place: what is left to do when reading it ends in [`StoreError::is_damage`].
    ///
    /// # Errors
    /// [`StoreError`] when the file system refuses.
    pub fn quarantine(self, reason: String) -> Result<(Self, Opened), StoreError> {
        let Self { connection, path, schema, lock, .. } = self;
        keep_log(&connection, true);
        drop(connection);
        let moved_to = set_aside(&path, schema.salvaged)?;
        Ok((create(&path, schema, lock)?, Opened::Quarantined { moved_to, reason }))
    }

    fn new(connection: Connection, path: &Path, schema: Schema, lock: File) -> Self {
        Self { connection, path: path.to_path_buf(), schema, lock, identity: identity(path) }
    }

    /// Whether new records may be written. `was_low`: the last time there was too little room.
    ///
    /// # Errors
    /// [`StoreError::Removed`], [`StoreError::ReadOnly`], [`StoreError::LittleRoom`]: what is stored may be read and removed all the same.
    pub fn fit_for_writing(&self, was_low: bool) -> Result<(), StoreError> {
        fit_for_writing(&self.path, self.identity, was_low)
    }

    /// Whether the file is still where it was opened.
    pub fn is_there(&self) -> bool {
        self.identity.is_none() || self.identity == identity(&self.path)
    }

    /// The connection, for the tables on top.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Pages in use times their size. What is free of the file, and the write-ahead log, come on top.
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

    /// Bytes of the file once its log is folded back, free pages and all.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn length(&self) -> Result<u64, StoreError> {
        Ok(pragma_u64(&self.connection, "page_count")? * pragma_u64(&self.connection, "page_size")?)
    }

    /// Gives pages that hold nothing any more back to the file system, at most `pages`, where they are more than a quarter of the file
    /// and at least as many (less is soon used again), or the file has more than `most` bytes. Returns whether there were.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`].
    pub fn shrink(&self, pages: u32, most: u64) -> Result<bool, StoreError> {
        let free = pragma_u64(&self.connection, "freelist_count")?;
        let all = pragma_u64(&self.connection, "page_count")?;
        let is_too_large = free > 0 && all * pragma_u64(&self.connection, "page_size")? > most;
        if !is_too_large && (free < u64::from(pages) || free * 4 <= all) {
            return Ok(false);
        }
        // Each step gives back one page, and is a row.
        let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut given_back = vacuum.query([])?;
        while given_back.next()?.is_some() {}
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
    migrate(&connection, path, schema)?;
    mark(&connection, false)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))?;
    Ok(Store::new(connection, path, schema, lock))
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = open_file(path)?;
    settle(&connection)?;
    Ok(connection)
}

fn open_file(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(connection)
}

fn settle(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch(PRAGMAS)?)
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

/// Opens a file that is there, and brings its schema up to date. Nothing is written to one that is not ours.
fn read(path: &Path, schema: Schema) -> Result<Connection, StoreError> {
    // SQLite cannot look into a file with a log without writing beside it, so what can be told from its head is told from that.
    let found = id_in_head(path);
    if found != 0 && found != schema.application_id {
        return Err(StoreError::Foreign { path: path.to_path_buf(), found });
    }
    if log_is_garbage(path) {
        return Err(StoreError::Damaged { path: path.to_path_buf(), reason: "its write-ahead log is none".into() });
    }
    // Only a file whose records are brought over is better off without its place: what else it held would be lost for the end of the log.
    let has_a_hole = schema.salvaged && log_has_a_hole(path);
    let connection = open_file(path)?;
    // The log of a damaged file has to stay as it is: it is salvaged with it.
    keep_log(&connection, true);
    is_ours(&connection, path, schema)?;
    // Settling writes the first page into the log, which is not for a file that a later program owns.
    version_found(&connection, path, schema)?;
    if has_a_hole && !is_relaxed(&connection) {
        let reason = "its write-ahead log goes on behind a place that is damaged".into();
        return Err(StoreError::Damaged { path: path.to_path_buf(), reason });
    }
    settle(&connection)?;
    check(&connection, path)?;
    if has_a_hole {
        // What is committed from here on may wait for the disk, and good frames of before would lie behind it: that looks like damage. On a disk
        // that takes no more the next opening judges as this one.
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
    migrate(&connection, path, schema)?;
    keep_log(&connection, false);
    Ok(connection)
}

/// Whether the log outlives the connection as it is, instead of being folded back. It is no more than a wish where SQLite is too old.
fn keep_log(connection: &Connection, keep: bool) {
    let _ = connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep);
}

/// Whether commits did not wait for the disk: a power cut may then take any part of the end of the log, and that is no damage.
fn is_relaxed(connection: &Connection) -> bool {
    connection.prepare("SELECT 1 FROM meta WHERE k = 'relaxed'").and_then(|mut mark| mark.exists([])).unwrap_or(false)
}

/// `PRAGMA application_id` as it stands in the file itself: bytes 68 to 71 of a database. 0 where it is none or has none.
fn id_in_head(path: &Path) -> i32 {
    let mut head = [0; 72];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    if read.is_err() || !head.starts_with(b"SQLite format 3\0") {
        return 0;
    }
    i32::from_be_bytes([head[68], head[69], head[70], head[71]])
}

/// A database without tables is ours: a crash between the creation of a file and its first migration leaves one.
fn is_ours(connection: &Connection, path: &Path, schema: Schema) -> Result<(), StoreError> {
    let found: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if found == schema.application_id {
        return Ok(());
    }
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 { Ok(()) } else { Err(StoreError::Foreign { path: path.to_path_buf(), found }) }
}

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

/// How many migrations were run on the file.
fn version_found(connection: &Connection, path: &Path, schema: Schema) -> Result<usize, StoreError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(schema.version()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::Newer { path: path.to_path_buf(), found, known });
    }
    Ok(found as usize)
}

/// Runs what has not been run yet; each migration and its version number in one transaction.
fn migrate(connection: &Connection, path: &Path, schema: Schema) -> Result<(), StoreError> {
    let found = version_found(connection, path, schema)?;
    if found == 0 {
        connection.pragma_update(None, "application_id", schema.application_id)?;
    }
    let steps = std::iter::once(BASE).chain(schema.migrations.iter().copied());
    for (version, step) in (1..).zip(steps).skip(found) {
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
mod tests;
