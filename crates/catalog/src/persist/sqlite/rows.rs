//! Owns the file's rows: definitions as JSON, tombstones, and the statements that read and write them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::sqlite::{SqliteExecutor, SqliteRow};
use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};
use uuid::Uuid;

use crate::persist::objects::{KnownStream, Objects, Removal};
use crate::{Error, ObjectName, Result, Stream, StreamId, View, ViewKind};

/// A definition that has a row.
pub(super) trait Stored: Serialize + DeserializeOwned {
    /// What it is, in messages.
    const KIND: &'static str;
    /// Its table; its tombstones are in `dropped_` and this.
    const TABLE: &'static str;
    /// The newest format of its JSON.
    const FORMAT: i64;
    /// The format that its JSON is written in: the oldest one whose readers understand it.
    fn format(&self) -> i64 {
        Self::FORMAT
    }
    /// Its identity.
    fn id(&self) -> Uuid;
    /// Its name.
    fn name(&self) -> &ObjectName;
    /// Its version.
    fn version(&self) -> u32;
    /// What it is, in messages about this one.
    fn kind(&self) -> &'static str {
        Self::KIND
    }
}

impl Stored for Stream {
    const KIND: &'static str = "stream";
    const TABLE: &'static str = "streams";
    const FORMAT: i64 = 3;

    fn format(&self) -> i64 {
        match &self.table {
            // Format 3 knows that files may lie elsewhere, and have other columns.
            Some(table) if table.folder.is_some() || table.reshape.is_some() => 3,
            // Format 2 knows tables. Whoever does not would take one for a stream and append to it.
            Some(_) => 2,
            None => 1,
        }
    }

    fn id(&self) -> Uuid {
        self.id.0
    }

    fn name(&self) -> &ObjectName {
        &self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn kind(&self) -> &'static str {
        Stream::kind(self)
    }
}

impl Stored for View {
    const KIND: &'static str = "view";
    const TABLE: &'static str = "views";
    const FORMAT: i64 = 2;

    fn format(&self) -> i64 {
        // Format 2 knows views of which nothing is kept.
        if self.kind == ViewKind::PlainView { 2 } else { 1 }
    }

    fn id(&self) -> Uuid {
        self.id.0
    }

    fn name(&self) -> &ObjectName {
        &self.name
    }

    fn version(&self) -> u32 {
        self.version
    }
}

/// Every definition of a kind, by name.
pub(super) async fn definitions<T: Stored>(from: impl SqliteExecutor<'_>, path: &str) -> Result<Vec<T>> {
    let sql = format!("SELECT name, format, definition FROM {} ORDER BY schema_name, name", T::TABLE);
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(from).await.map_err(|e| storage(path, "read", e))?;
    rows.iter().map(|row| decode(row, path)).collect()
}

fn decode<T: Stored>(row: &SqliteRow, path: &str) -> Result<T> {
    let read = |e| storage(path, "read", e);
    let name: String = row.try_get("name").map_err(read)?;
    let format: i64 = row.try_get("format").map_err(read)?;
    let definition: String = row.try_get("definition").map_err(read)?;
    let object = format!("{} {name}", T::KIND);
    if format > T::FORMAT {
        return Err(Error::Newer { object, found: format, known: T::FORMAT });
    }
    serde_json::from_str(&definition).map_err(|source| Error::Corrupt { object, source })
}

pub(super) fn encode<T: Stored>(definition: &T) -> Result<String> {
    let object = || format!("{} {}", T::KIND, definition.name());
    serde_json::to_string(definition).map_err(|source| Error::Corrupt { object: object(), source })
}

/// Every tombstone of a kind, oldest first.
pub(super) async fn dropped<T: Stored>(from: impl SqliteExecutor<'_>, path: &str) -> Result<Vec<(Uuid, ObjectName)>> {
    let sql = format!("SELECT id, schema_name, name FROM dropped_{} ORDER BY number", T::TABLE);
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(from).await.map_err(|e| storage(path, "read", e))?;
    rows.iter().map(|row| identity(row, path)).collect()
}

/// Takes a tombstone away.
pub(super) async fn forget<T: Stored>(from: impl SqliteExecutor<'_>, path: &str, id: Uuid) -> Result<()> {
    let sql = format!("DELETE FROM dropped_{} WHERE id = ?", T::TABLE);
    let done = sqlx::query(AssertSqlSafe(sql)).bind(id.simple().to_string()).execute(from).await;
    done.map(|_| ()).map_err(|e| storage(path, "written", e))
}

/// The schemas that were created, by name.
pub(super) async fn schemas(from: impl SqliteExecutor<'_>, path: &str) -> Result<Vec<String>> {
    let rows = sqlx::query("SELECT name FROM schemas ORDER BY name").fetch_all(from).await;
    let rows = rows.map_err(|e| storage(path, "read", e))?;
    rows.iter().map(|row| row.try_get("name").map_err(|e| storage(path, "read", e))).collect()
}

/// The columns `id`, `schema_name` and `name`.
fn identity(row: &SqliteRow, path: &str) -> Result<(Uuid, ObjectName)> {
    let read = |e| storage(path, "read", e);
    let id: String = row.try_get("id").map_err(read)?;
    let schema: String = row.try_get("schema_name").map_err(read)?;
    let name: String = row.try_get("name").map_err(read)?;
    let id = Uuid::parse_str(&id).map_err(|e| storage(path, "read", e))?;
    Ok((id, ObjectName::new(schema, name)?))
}

/// A transaction that writes.
pub(super) struct Write {
    pub tx: Transaction<'static, Sqlite>,
    pub path: String,
}

impl Write {
    /// What is there, for the rules.
    pub(super) async fn objects(&mut self) -> Result<Objects> {
        let sql = "SELECT id, schema_name, name, version, \
                   json_valid(definition) AND json_type(definition, '$.table') IS NOT NULL AS is_table FROM streams";
        let rows = sqlx::query(sql).fetch_all(&mut *self.tx).await;
        let rows = rows.map_err(|e| storage(&self.path, "read", e))?;
        let mut streams = Vec::with_capacity(rows.len());
        for row in &rows {
            let (id, name) = identity(row, &self.path)?;
            let version = row.try_get("version").map_err(|e| storage(&self.path, "read", e))?;
            let is_table: bool = row.try_get("is_table").map_err(|e| storage(&self.path, "read", e))?;
            let kind = if is_table { "table" } else { "stream" };
            streams.push(KnownStream { id: StreamId(id), kind, name, version });
        }
        let views = definitions(&mut *self.tx, &self.path).await?;
        let pending = dropped::<Stream>(&mut *self.tx, &self.path).await?;
        let pending = pending.into_iter().map(|(id, name)| (StreamId(id), name)).collect();
        let schemas = schemas(&mut *self.tx, &self.path).await?;
        Ok(Objects { streams, views, pending, schemas })
    }

    /// Adds a definition.
    pub(super) async fn insert<T: Stored>(&mut self, definition: &T) -> Result<()> {
        let columns = "(schema_name, name, version, format, definition, id)";
        self.write(format!("INSERT INTO {} {columns} VALUES (?, ?, ?, ?, ?, ?)", T::TABLE), definition).await
    }

    /// Replaces the definition of its id.
    pub(super) async fn update<T: Stored>(&mut self, definition: &T) -> Result<()> {
        let sets = "schema_name = ?, name = ?, version = ?, format = ?, definition = ?";
        self.write(format!("UPDATE {} SET {sets} WHERE id = ?", T::TABLE), definition).await
    }

    async fn write<T: Stored>(&mut self, sql: String, definition: &T) -> Result<()> {
        let name = definition.name();
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(name.schema())
            .bind(name.name())
            .bind(i64::from(definition.version()))
            .bind(definition.format())
            .bind(encode(definition)?)
            .bind(definition.id().simple().to_string())
            .execute(&mut *self.tx)
            .await;
        match done {
            Ok(_) => Ok(()),
            Err(e) if e.as_database_error().is_some_and(|e| e.is_unique_violation()) => {
                Err(Error::AlreadyExists { kind: definition.kind(), name: name.to_string() })
            }
            Err(e) => Err(storage(&self.path, "written", e)),
        }
    }

    /// Adds a schema.
    pub(super) async fn insert_schema(&mut self, name: &str) -> Result<()> {
        self.run("INSERT INTO schemas (name) VALUES (?)", name).await
    }

    /// Takes a schema away.
    pub(super) async fn delete_schema(&mut self, name: &str) -> Result<()> {
        self.run("DELETE FROM schemas WHERE name = ?", name).await
    }

    async fn run(&mut self, sql: &'static str, name: &str) -> Result<()> {
        let done = sqlx::query(sql).bind(name).execute(&mut *self.tx).await;
        done.map(|_| ()).map_err(|e| storage(&self.path, "written", e))
    }

    /// Lists a stream's folder and identity among those whose files are to be removed.
    pub(super) async fn announce(&mut self, stream: &Stream) -> Result<()> {
        let done = sqlx::query("INSERT INTO dropped_streams (id, schema_name, name) VALUES (?, ?, ?)")
            .bind(stream.id.0.simple().to_string())
            .bind(stream.name.schema())
            .bind(stream.folder().name())
            .execute(&mut *self.tx)
            .await;
        done.map(|_| ()).map_err(|e| storage(&self.path, "written", e))
    }

    /// Turns a definition into a tombstone, of the name of its folder.
    pub(super) async fn bury<T: Stored>(&mut self, id: Uuid) -> Result<()> {
        let table = T::TABLE;
        let scripts = [
            format!(
                "INSERT INTO dropped_{table} (id, schema_name, name) SELECT id, schema_name, \
                 coalesce(CASE WHEN json_valid(definition) THEN json_extract(definition, '$.table.folder') END, name) \
                 FROM {table} WHERE id = ?"
            ),
            format!("DELETE FROM {table} WHERE id = ?"),
        ];
        for sql in scripts {
            let done = sqlx::query(AssertSqlSafe(sql)).bind(id.simple().to_string()).execute(&mut *self.tx).await;
            done.map_err(|e| storage(&self.path, "written", e))?;
        }
        Ok(())
    }

    /// Turns definitions into tombstones.
    pub(super) async fn remove(&mut self, removal: Removal) -> Result<()> {
        for id in removal.streams {
            self.bury::<Stream>(id.0).await?;
        }
        for id in removal.views {
            self.bury::<View>(id.0).await?;
        }
        Ok(())
    }

    pub(super) async fn commit(self) -> Result<()> {
        self.tx.commit().await.map_err(|e| storage(&self.path, "written", e))
    }
}

pub(super) fn storage(
    path: &str,
    action: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::Storage { path: path.to_owned(), action, source: Box::new(source) }
}
