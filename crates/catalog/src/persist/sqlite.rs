//! Owns the catalog that lies in an SQLite file.
//!
//! One file in WAL mode with `synchronous = FULL`: a commit is on the disk when it returns. `PRAGMA user_version`
//! counts the file's layout; [`MIGRATIONS`] takes an older file to the newest one, step by step, in one transaction
//! each. Definitions are JSON beside the number of the JSON's own format, so that a definition can change its shape
//! without a new file layout. A file or a definition from a newer version is refused, never guessed at.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};
use uuid::Uuid;

use crate::{Catalog, DroppedStream, Error, ObjectName, Result, Stream, StreamId};

/// Each entry takes a file from the version of its index to the next one. Entries are never changed once released.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE streams (
        id TEXT PRIMARY KEY,
        schema_name TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        format INTEGER NOT NULL,
        definition TEXT NOT NULL,
        UNIQUE (schema_name, name)
    ) STRICT;
    CREATE TABLE dropped_streams (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        schema_name TEXT NOT NULL,
        name TEXT NOT NULL
    ) STRICT;
"];

/// The format that definitions are written in.
const DEFINITION_FORMAT: i64 = 1;

/// How long a statement waits for another process that holds the file, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A catalog in an SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteCatalog {
    pool: SqlitePool,
    path: String,
}

impl SqliteCatalog {
    /// Opens the catalog at `path`, making the file when it is not there and bringing an older one up to date.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let shown = path.display().to_string();
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(|e| storage(&shown, "opened", e))?;
        let catalog = Self { pool, path: shown };
        catalog.migrate().await?;
        sync_folder_of(path).map_err(|e| storage(&catalog.path, "opened", e))?;
        Ok(catalog)
    }

    /// Closes the file after everything under way is finished.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn migrate(&self) -> Result<()> {
        let opened = |e| storage(&self.path, "opened", e);
        let row = sqlx::query("PRAGMA user_version").fetch_one(&self.pool).await.map_err(opened)?;
        let found: i64 = row.try_get(0).map_err(opened)?;
        let known = MIGRATIONS.len() as i64;
        if found > known {
            return Err(Error::Newer { object: format!("the catalog at {}", self.path), found, known });
        }
        for (version, script) in MIGRATIONS.iter().enumerate().skip(found.max(0) as usize) {
            let mut tx = self.pool.begin().await.map_err(opened)?;
            sqlx::raw_sql(*script).execute(&mut *tx).await.map_err(opened)?;
            let stamp = format!("PRAGMA user_version = {}", version + 1);
            sqlx::raw_sql(AssertSqlSafe(stamp)).execute(&mut *tx).await.map_err(opened)?;
            tx.commit().await.map_err(opened)?;
        }
        Ok(())
    }

    /// A transaction that holds the write lock from the start.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.written(e))
    }

    fn read(&self, source: sqlx::Error) -> Error {
        storage(&self.path, "read", source)
    }

    fn written(&self, source: sqlx::Error) -> Error {
        storage(&self.path, "written", source)
    }

    fn decode_stream(&self, row: &SqliteRow) -> Result<Stream> {
        let (name, format, definition): (String, i64, String) = (
            row.try_get("name").map_err(|e| self.read(e))?,
            row.try_get("format").map_err(|e| self.read(e))?,
            row.try_get("definition").map_err(|e| self.read(e))?,
        );
        let object = format!("stream {name}");
        if format > DEFINITION_FORMAT {
            return Err(Error::Newer { object, found: format, known: DEFINITION_FORMAT });
        }
        serde_json::from_str(&definition).map_err(|source| Error::Corrupt { object, source })
    }

    fn decode_dropped(&self, row: &SqliteRow) -> Result<DroppedStream> {
        let (id, schema, name): (String, String, String) = (
            row.try_get("id").map_err(|e| self.read(e))?,
            row.try_get("schema_name").map_err(|e| self.read(e))?,
            row.try_get("name").map_err(|e| self.read(e))?,
        );
        let id = Uuid::parse_str(&id).map_err(|e| storage(&self.path, "read", e))?;
        Ok(DroppedStream { id: StreamId(id), name: ObjectName::new(schema, name)? })
    }
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn streams(&self) -> Result<Vec<Stream>> {
        let rows = sqlx::query("SELECT name, format, definition FROM streams ORDER BY schema_name, name")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.read(e))?;
        rows.iter().map(|row| self.decode_stream(row)).collect()
    }

    async fn create_stream(&self, stream: &Stream) -> Result<()> {
        let mut tx = self.begin().await?;
        let pending = sqlx::query("SELECT 1 FROM dropped_streams WHERE schema_name = ? AND name = ?")
            .bind(stream.name.schema())
            .bind(stream.name.name())
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| self.written(e))?;
        if pending.is_some() {
            return Err(Error::DropUnfinished { name: stream.name.to_string() });
        }
        sqlx::query(
            "INSERT INTO streams (id, schema_name, name, version, format, definition) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(stream.id.to_string())
        .bind(stream.name.schema())
        .bind(stream.name.name())
        .bind(i64::from(stream.version))
        .bind(DEFINITION_FORMAT)
        .bind(encode(stream)?)
        .execute(&mut *tx)
        .await
        .map_err(|e| self.taken_or_written(e, stream))?;
        tx.commit().await.map_err(|e| self.written(e))
    }

    async fn alter_stream(&self, stream: &Stream) -> Result<()> {
        let mut tx = self.begin().await?;
        let row = sqlx::query("SELECT version FROM streams WHERE id = ?")
            .bind(stream.id.to_string())
            .fetch_optional(&mut *tx)
            .await
            .map_err(|e| self.written(e))?;
        let Some(row) = row else {
            return Err(Error::NotFound { kind: "stream", name: stream.name.to_string() });
        };
        let version: i64 = row.try_get(0).map_err(|e| self.written(e))?;
        if version + 1 != i64::from(stream.version) {
            return Err(Error::Changed { name: stream.name.to_string() });
        }
        sqlx::query(
            "UPDATE streams SET schema_name = ?, name = ?, version = ?, format = ?, definition = ? WHERE id = ?",
        )
        .bind(stream.name.schema())
        .bind(stream.name.name())
        .bind(i64::from(stream.version))
        .bind(DEFINITION_FORMAT)
        .bind(encode(stream)?)
        .bind(stream.id.to_string())
        .execute(&mut *tx)
        .await
        .map_err(|e| self.taken_or_written(e, stream))?;
        tx.commit().await.map_err(|e| self.written(e))
    }

    async fn drop_stream(&self, id: StreamId) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO dropped_streams (id, schema_name, name) SELECT id, schema_name, name FROM streams WHERE id = ?",
        )
        .bind(id.to_string())
        .execute(&mut *tx)
        .await
        .map_err(|e| self.written(e))?;
        let removed = sqlx::query("DELETE FROM streams WHERE id = ?")
            .bind(id.to_string())
            .execute(&mut *tx)
            .await
            .map_err(|e| self.written(e))?;
        if removed.rows_affected() == 0 {
            return Err(Error::NotFound { kind: "stream", name: id.to_string() });
        }
        tx.commit().await.map_err(|e| self.written(e))
    }

    async fn list_dropped(&self) -> Result<Vec<DroppedStream>> {
        let rows = sqlx::query("SELECT id, schema_name, name FROM dropped_streams ORDER BY number")
            .fetch_all(&self.pool)
            .await
            .map_err(|e| self.read(e))?;
        rows.iter().map(|row| self.decode_dropped(row)).collect()
    }

    async fn forget_dropped(&self, id: StreamId) -> Result<()> {
        sqlx::query("DELETE FROM dropped_streams WHERE id = ?")
            .bind(id.to_string())
            .execute(&self.pool)
            .await
            .map_err(|e| self.written(e))?;
        Ok(())
    }
}

impl SqliteCatalog {
    fn taken_or_written(&self, source: sqlx::Error, stream: &Stream) -> Error {
        let taken = source.as_database_error().is_some_and(|e| e.is_unique_violation());
        if taken {
            Error::AlreadyExists { kind: "stream", name: stream.name.to_string() }
        } else {
            self.written(source)
        }
    }
}

fn encode(stream: &Stream) -> Result<String> {
    serde_json::to_string(stream).map_err(|source| Error::Corrupt { object: format!("stream {}", stream.name), source })
}

fn storage(path: &str, action: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Storage { path: path.to_owned(), action, source: Box::new(source) }
}

/// Makes the file's own entry in its folder durable; without it a new file could vanish with its content.
fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::conformance::stream;

    #[tokio::test]
    async fn what_was_created_is_there_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        let first = SqliteCatalog::open(&path).await.unwrap();
        first.create_stream(&stream("kept")).await.unwrap();
        let gone = stream("gone");
        first.create_stream(&gone).await.unwrap();
        first.drop_stream(gone.id).await.unwrap();
        first.close().await;

        let second = SqliteCatalog::open(&path).await.unwrap();
        let names: Vec<_> = second.streams().await.unwrap().iter().map(|s| s.name.to_string()).collect();
        assert_eq!(names, ["kept"]);
        assert_eq!(second.list_dropped().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn commits_are_synced_to_the_write_ahead_log() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(dir.path().join("c")).await.unwrap();
        let mode: String = sqlx::query("PRAGMA journal_mode").fetch_one(&catalog.pool).await.unwrap().get(0);
        let synchronous: i64 = sqlx::query("PRAGMA synchronous").fetch_one(&catalog.pool).await.unwrap().get(0);
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    }

    #[tokio::test]
    async fn a_file_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let catalog = SqliteCatalog::open(&path).await.unwrap();
        sqlx::raw_sql("PRAGMA user_version = 99").execute(&catalog.pool).await.unwrap();
        catalog.close().await;
        let message = SqliteCatalog::open(&path).await.unwrap_err().to_string();
        assert!(message.contains("has format 99"), "{message}");
        assert!(message.contains("newer millstream"), "{message}");
    }

    #[tokio::test]
    async fn a_definition_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(dir.path().join("c")).await.unwrap();
        catalog.create_stream(&stream("s")).await.unwrap();
        sqlx::raw_sql("UPDATE streams SET format = 7").execute(&catalog.pool).await.unwrap();
        let message = catalog.streams().await.unwrap_err().to_string();
        assert!(message.starts_with("stream s has format 7"), "{message}");
    }

    #[tokio::test]
    async fn a_damaged_definition_names_its_stream() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(dir.path().join("c")).await.unwrap();
        catalog.create_stream(&stream("s")).await.unwrap();
        sqlx::raw_sql("UPDATE streams SET definition = '{'").execute(&catalog.pool).await.unwrap();
        let error = catalog.streams().await.unwrap_err();
        assert_eq!(error.to_string(), "the catalog's entry for stream s cannot be read");
    }

    #[tokio::test]
    async fn a_file_that_is_no_catalog_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        std::fs::write(&path, "these are not the bytes you are looking for, by a long way").unwrap();
        assert!(matches!(SqliteCatalog::open(&path).await, Err(Error::Storage { action: "opened", .. })));
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("these are not"));
    }

    /// A definition as format 1 writes it. Never change the file: catalogs that are out there hold the like.
    const DEFINITION_1: &str = include_str!("../../fixtures/definition-1.json");

    #[tokio::test]
    async fn a_definition_of_every_format_so_far_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(dir.path().join("c")).await.unwrap();
        sqlx::query("INSERT INTO streams VALUES ('x', 'public', 'flights', 3, 1, ?)")
            .bind(DEFINITION_1)
            .execute(&catalog.pool)
            .await
            .unwrap();
        let stream = catalog.streams().await.unwrap().remove(0);
        stream.validate().unwrap();
        assert_eq!((stream.columns.len(), stream.version, stream.options.partitions), (18, 3, 4));
        let written: serde_json::Value = serde_json::from_str(&encode(&stream).unwrap()).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(DEFINITION_1).unwrap());
    }
}
