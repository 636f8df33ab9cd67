//! Owns the catalog that lies in an SQLite file.
//!
//! One file in WAL mode with `synchronous = FULL`: a commit is on the disk when it returns. `PRAGMA user_version`
//! counts the file's layout; [`MIGRATIONS`] takes an older file to the newest one, step by step, in one transaction
//! each. Definitions are JSON beside the number of the JSON's own format, so that a definition can change its shape
//! without a new file layout. A file or a definition from a newer version is refused, never guessed at.

mod rows;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use rows::{Write, storage};

use crate::{Catalog, DroppedStream, DroppedView, Error, ObjectId, Result, Stream, StreamId, View, ViewId};

/// Each entry takes a file from the version of its index to the next one. Entries are never changed once released.
const MIGRATIONS: &[&str] = &[
    "
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
",
    "
    CREATE TABLE views (
        id TEXT PRIMARY KEY,
        schema_name TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        format INTEGER NOT NULL,
        definition TEXT NOT NULL,
        UNIQUE (schema_name, name)
    ) STRICT;
    CREATE TABLE dropped_views (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        schema_name TEXT NOT NULL,
        name TEXT NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE schemas (
        name TEXT PRIMARY KEY
    ) STRICT;
",
];

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

    /// A transaction that holds the write lock from the start: what its rules saw is still so when it commits.
    async fn begin(&self) -> Result<Write> {
        let tx = self.pool.begin_with("BEGIN IMMEDIATE").await;
        Ok(Write { tx: tx.map_err(|e| storage(&self.path, "written", e))?, path: self.path.clone() })
    }
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn streams(&self) -> Result<Vec<Stream>> {
        rows::definitions(&self.pool, &self.path).await
    }

    async fn create_stream(&self, stream: &Stream) -> Result<()> {
        let mut write = self.begin().await?;
        let announced = write.objects().await?.check_new_stream(stream)?;
        if announced {
            rows::forget::<Stream>(&mut *write.tx, &self.path, stream.id.0).await?;
        }
        write.insert(stream).await?;
        write.commit().await
    }

    async fn announce_stream(&self, stream: &Stream) -> Result<()> {
        let mut write = self.begin().await?;
        write.objects().await?.check_announced(stream)?;
        write.announce(stream).await?;
        write.commit().await
    }

    async fn alter_and_drop(&self, stream: &Stream, objects: &[ObjectId]) -> Result<()> {
        let mut write = self.begin().await?;
        let there = write.objects().await?;
        there.check_altered_stream(stream)?;
        write.remove(there.removal(objects)?).await?;
        write.update(stream).await?;
        write.commit().await
    }

    async fn list_dropped(&self) -> Result<Vec<DroppedStream>> {
        let dropped = rows::dropped::<Stream>(&self.pool, &self.path).await?;
        Ok(dropped.into_iter().map(|(id, name)| DroppedStream { id: StreamId(id), name }).collect())
    }

    async fn forget_dropped(&self, id: StreamId) -> Result<()> {
        rows::forget::<Stream>(&self.pool, &self.path, id.0).await
    }

    async fn views(&self) -> Result<Vec<View>> {
        rows::definitions(&self.pool, &self.path).await
    }

    async fn create_view(&self, view: &View) -> Result<()> {
        let mut write = self.begin().await?;
        write.objects().await?.check_new_view(view, None)?;
        write.insert(view).await?;
        write.commit().await
    }

    async fn create_derived_stream(&self, stream: &Stream, view: &View) -> Result<()> {
        let mut write = self.begin().await?;
        write.objects().await?.check_new_view(view, Some(stream))?;
        write.insert(stream).await?;
        write.insert(view).await?;
        write.commit().await
    }

    async fn alter_view(&self, view: &View) -> Result<()> {
        let mut write = self.begin().await?;
        write.objects().await?.check_altered_view(view)?;
        write.update(view).await?;
        write.commit().await
    }

    async fn swap_view(&self, old: ViewId, new: ViewId) -> Result<Vec<View>> {
        let mut write = self.begin().await?;
        let changed = write.objects().await?.swapped(old, new)?;
        write.bury::<View>(old.0).await?;
        for view in &changed {
            write.update(view).await?;
        }
        write.commit().await?;
        Ok(changed)
    }

    async fn drop_objects(&self, objects: &[ObjectId]) -> Result<()> {
        let mut write = self.begin().await?;
        let removal = write.objects().await?.removal(objects)?;
        write.remove(removal).await?;
        write.commit().await
    }

    async fn schemas(&self) -> Result<Vec<String>> {
        rows::schemas(&self.pool, &self.path).await
    }

    async fn create_schema(&self, name: &str) -> Result<()> {
        let mut write = self.begin().await?;
        write.objects().await?.check_new_schema(name)?;
        write.insert_schema(name).await?;
        write.commit().await
    }

    async fn drop_schema(&self, name: &str) -> Result<()> {
        let mut write = self.begin().await?;
        write.objects().await?.check_dropped_schema(name)?;
        write.delete_schema(name).await?;
        write.commit().await
    }

    async fn list_dropped_views(&self) -> Result<Vec<DroppedView>> {
        let dropped = rows::dropped::<View>(&self.pool, &self.path).await?;
        Ok(dropped.into_iter().map(|(id, name)| DroppedView { id: ViewId(id), name }).collect())
    }

    async fn forget_dropped_view(&self, id: ViewId) -> Result<()> {
        rows::forget::<View>(&self.pool, &self.path, id.0).await
    }
}

/// Makes the file's own entry in its folder durable; without it a new file could vanish with its content.
fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::File::open(folder)?.sync_all()
}
