//! Millstream's own SQL statements: text in, commands out, and back. Pure: nothing here opens, plans or evaluates.
//!
//! A text is split into statements by the library's tokenizer, so that strings, dollar quotes and comments keep their
//! semicolons. Statements that the library does not know, or knows otherwise, are read here token by token; column
//! expressions inside them and every other statement are parsed by the library, in PostgreSQL's dialect.
//!
//! ```text
//! CREATE STREAM [IF NOT EXISTS] name ( entry, … ) [PARTITION BY (column, …)] [COMMENT 'text'] [WITH (option = value, …)]
//!   entry: column type [NOT NULL | NULL] [DEFAULT expr] [[CONSTRAINT name] CHECK (expr)] [COMMENT 'text']
//!        | [CONSTRAINT name] CHECK (expr)
//!        | WATERMARK FOR column AS expr
//! CREATE STREAM [IF NOT EXISTS] name FROM SAMPLE 'file' [PARTITION BY …] [COMMENT …] [WITH (format = 'csv', …)]
//! ALTER STREAM [IF EXISTS] name ADD [COLUMN] [IF NOT EXISTS] column type … | SET (option = value, …) | RESET (option, …)
//! DROP STREAM [IF EXISTS] name [CASCADE | RESTRICT]
//! SHOW STREAMS [LIKE 'pattern']     DESCRIBE name     SHOW CREATE STREAM name     FLUSH [STREAM name]
//! COMMENT ON STREAM name IS 'text' | NULL             COMMENT ON COLUMN name.column IS 'text' | NULL
//! ```
//!
//! A view is a query that is kept up to date; a stream can be written by one. The query is kept as it is written, up
//! to the clauses behind it, which are found from the statement's end, outside of parentheses and strings:
//!
//! ```text
//! CREATE MATERIALIZED VIEW [IF NOT EXISTS] name [(column [COMMENT 'text'], …)] [COMMENT 'text'] [WITH (option = value, …)]
//!   AS query [behind …]
//! CREATE REPLACEMENT MATERIALIZED VIEW name FOR name …as above…
//! CREATE STREAM [IF NOT EXISTS] name [(column [COMMENT 'text'], …, WATERMARK FOR column AS expr)] [PARTITION BY …]
//!   [COMMENT …] [WITH (…)] AS query [behind …]
//!   behind: EMIT ON WINDOW CLOSE | ON ERROR QUARANTINE | ON ERROR STOP | WITH (option = value, …) | WITH DATA
//! ALTER MATERIALIZED VIEW [IF EXISTS] name SUSPEND | RESUME | APPLY REPLACEMENT name
//!   | SET (option = value, …) | RESET (option, …) | RENAME TO name
//! ALTER STREAM [IF EXISTS] name SUSPEND | RESUME | SET (on_error = value, …) | RESET (on_error, …)
//! DROP MATERIALIZED VIEW [IF EXISTS] name [CASCADE | RESTRICT]
//! SHOW MATERIALIZED VIEWS [LIKE 'pattern']            SHOW CREATE MATERIALIZED VIEW name
//! COMMENT ON MATERIALIZED VIEW name IS 'text' | NULL
//! EXPLAIN [VERBOSE] CREATE MATERIALIZED VIEW … | CREATE STREAM … AS …
//! query EMIT CHANGES
//! ```
//!
//! A plain view's query stands for its name. Objects lie in schemas:
//!
//! ```text
//! CREATE [OR REPLACE] VIEW [IF NOT EXISTS] name [(column [COMMENT 'text'], …)] [COMMENT 'text'] AS query
//! DROP VIEW [IF EXISTS] name, … [CASCADE | RESTRICT]
//! SHOW VIEWS [LIKE 'pattern']     SHOW CREATE VIEW name     COMMENT ON VIEW name IS 'text' | NULL
//! CREATE SCHEMA [IF NOT EXISTS] name     DROP SCHEMA [IF EXISTS] name, … [CASCADE | RESTRICT]
//! SHOW SCHEMAS [LIKE 'pattern']
//! ```
//!
//! A table's rows change:
//!
//! ```text
//! CREATE TABLE [IF NOT EXISTS] name ( entry, … ) [clause …]
//!   entry: column type [NOT NULL | NULL] [DEFAULT expr] [[CONSTRAINT name] CHECK (expr)] [[CONSTRAINT name] PRIMARY KEY]
//!          [GENERATED ALWAYS AS (expr) STORED] [COMMENT 'text']
//!        | [CONSTRAINT name] CHECK (expr) | [CONSTRAINT name] PRIMARY KEY (column, …)
//!   clause: PARTITIONED BY (column, …) | ORDER BY (column, …) | LOCATION 'url' | COMMENT 'text' | WITH (option = value, …)
//! CREATE TABLE [IF NOT EXISTS] name FROM SAMPLE 'file' [clause …]
//! CREATE TABLE [IF NOT EXISTS] name [(column [COMMENT 'text'], …)] [clause …] AS query [WITH [NO] DATA]
//! CREATE TABLE [IF NOT EXISTS] name LOCATION 'url' [clause …]
//! CREATE TABLE [IF NOT EXISTS] name [SHALLOW] CLONE table [VERSION AS OF n | TIMESTAMP AS OF t | FOR SYSTEM_TIME AS OF t]
//! ALTER TABLE [IF EXISTS] name action, …
//!   action: ADD [COLUMN] [IF NOT EXISTS] column type … | DROP [COLUMN] [IF EXISTS] column
//!         | ALTER [COLUMN] column TYPE type | … SET DEFAULT expr | … DROP DEFAULT | … SET NOT NULL | … DROP NOT NULL
//!         | ADD [CONSTRAINT name] CHECK (expr) | ADD [CONSTRAINT name] PRIMARY KEY (column, …)
//!         | DROP CONSTRAINT [IF EXISTS] name | SET (option = value, …) | RESET (option, …)
//!         | RENAME TO name | RENAME [COLUMN] column TO name | RENAME CONSTRAINT name TO name
//! DROP TABLE [IF EXISTS] name, … [CASCADE | RESTRICT]     TRUNCATE [TABLE] name, …
//! CONVERT TO DELTA parquet.'folder' [PARTITIONED BY (column type, …)]
//! SHOW TABLES [LIKE 'pattern']     SHOW CREATE TABLE name     COMMENT ON TABLE name IS 'text' | NULL
//! ```
//!
//! COPY is at the head of `copy.rs`.

mod alter;
mod care;
mod cast_type;
mod column_type;
mod copy;
mod create;
mod cursor;
mod depth;
mod entry;
mod options;
mod policy;
mod query;
mod render;
mod sample;
mod schema;
mod session;
mod split;
mod standard;
mod statement;
mod suggest;
mod table;
mod temporary;
mod view;

#[cfg(test)]
mod tests;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::tokenizer::Location;
use millstream_catalog::{Check, Column, ObjectName};

pub use alter::altered;
pub use cast_type::CastTypes;
pub use column_type::parse_columns;
pub(crate) use column_type::type_named;
pub use copy::{CopyFrom, CopyTo};
pub use create::{SampleDraft, StreamDraft};
pub use options::{OptionChange, render_bytes, render_duration};
pub use policy::PolicyChange;
pub use query::{QueryText, parse_query};
pub(crate) use render::options as render_options;
pub use render::render_create;
pub(crate) use sample::{infer, infer_cells};
pub use split::char_position;
pub(crate) use split::{byte_offset, tokens};
pub(crate) use standard::restate_expression;
pub use suggest::nearest;
pub(crate) use table::names_column;
pub use table::{Point, TableAction, TableAsDraft, altered_table, clone_draft, render_create_table};
pub(crate) use temporary::{TEMPORARY, is_temporary, is_temporary_schema};
pub use view::{
    ColumnName, DerivedStreamDraft, PlainViewDraft, ViewAction, ViewDraft, ViewOptionChange, altered_view,
    render_create_derived, render_create_plain_view, render_create_view,
};

use crate::Result;

/// One statement of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedStatement {
    /// Its text, without the `;` and what surrounds it.
    pub text: String,
    /// Characters of the whole text before it. Positions inside [`ParsedStatement::command`] count from its own
    /// first character: add this to show one to a user.
    pub offset: usize,
    /// What it asks for.
    pub command: Command,
    /// The names of objects in it, but for those in queries.
    pub(crate) names: Vec<NamedAt>,
}

/// A name of an object, and where it stands: from the statement's own first character.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NamedAt {
    pub(crate) at: Location,
    pub(crate) naming: Naming,
}

/// How an object is named.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Naming {
    /// One that is there, without a schema.
    Existing(String),
    /// One that is to be made, without a schema.
    Made(String),
    /// A temporary table that is to be made, without a schema.
    Temporary,
    /// In this schema.
    InSchema(String),
}

/// What a statement asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `CREATE STREAM name (…)`.
    CreateStream {
        /// What to create.
        stream: StreamDraft,
        /// Whether an existing one is left alone.
        if_not_exists: bool,
    },
    /// `CREATE STREAM name FROM SAMPLE 'file'`.
    CreateStreamFromSample {
        /// What to create, but for its columns.
        sample: SampleDraft,
        /// Whether an existing one is left alone.
        if_not_exists: bool,
    },
    /// `ALTER STREAM`; [`altered`] says what becomes of the definition.
    AlterStream {
        /// The stream.
        name: ObjectName,
        /// Whether a missing one is passed over.
        if_exists: bool,
        /// What to change.
        action: AlterAction,
    },
    /// `DROP STREAM`.
    DropStream {
        /// The stream.
        name: ObjectName,
        /// Whether a missing one is passed over.
        if_exists: bool,
        /// Whether what depends on it goes too.
        cascade: bool,
    },
    /// `SHOW STREAMS`.
    ShowStreams {
        /// The LIKE pattern that names must match.
        like: Option<String>,
    },
    /// `CREATE STREAM name … AS query`.
    CreateDerivedStream {
        /// What to create.
        stream: Box<DerivedStreamDraft>,
        /// Whether an existing one is left alone.
        if_not_exists: bool,
    },
    /// `ALTER STREAM name SUSPEND | RESUME` and `SET | RESET` of its query's options, for a stream that a query writes.
    AlterDerivedStream {
        /// The stream.
        name: ObjectName,
        /// Whether a missing one is passed over.
        if_exists: bool,
        /// What to change of its query.
        action: ViewAction,
    },
    /// `CREATE TABLE name (…)`, and `CREATE TABLE name LOCATION 'url'` without columns.
    CreateTable {
        /// What to create.
        table: Box<StreamDraft>,
        /// Whether an existing one is left alone.
        if_not_exists: bool,
    },
    /// `CREATE TABLE name FROM SAMPLE 'file'`.
    CreateTableFromSample {
        /// What to create, but for its columns.
        sample: Box<SampleDraft>,
        /// Whether an existing one is left alone.
        if_not_exists: bool,
    },
    /// `CREATE TABLE name … AS query`.
    CreateTableAs {
        /// What to create, but for its columns.
        table: Box<TableAsDraft>,
        /// Whether an existing one is left alone.
        if_not_exists: bool,
    },
    /// `CREATE TABLE name CLONE source`.
    CloneTable {
        /// The new table.
        name: ObjectName,
        /// The table whose rows it begins with.
        source: ObjectName,
        /// When in the source's history; `None` is now.
        point: Option<Point>,
        /// Whether an existing one is left alone.
        if_not_exists: bool,
    },
    /// `CONVERT TO DELTA parquet.'folder'`.
    ConvertToDelta {
        /// The folder, as it is written.
        path: String,
        /// The columns that name folders, in their order.
        partitioned_by: Vec<Column>,
    },
    /// `ALTER TABLE`; [`altered_table`] says what becomes of the definition.
    AlterTable {
        /// The table.
        name: ObjectName,
        /// Whether a missing one is passed over.
        if_exists: bool,
        /// What to change, in order.
        actions: Vec<TableAction>,
    },
    /// `DROP TABLE`.
    DropTable {
        /// The tables.
        names: Vec<ObjectName>,
        /// Whether missing ones are passed over.
        if_exists: bool,
        /// Whether what depends on them goes too.
        cascade: bool,
    },
    /// `TRUNCATE`.
    Truncate {
        /// The tables.
        names: Vec<ObjectName>,
    },
    /// `DESCRIBE HISTORY name [LIMIT n]`.
    DescribeHistory {
        /// The table.
        name: ObjectName,
        /// How many versions are told of; all of them when it is not given.
        limit: Option<u64>,
    },
    /// `RESTORE [TABLE] name TO VERSION AS OF n`, or `TIMESTAMP AS OF time`.
    RestoreTable {
        /// The table.
        name: ObjectName,
        /// What it is to be again.
        point: Point,
    },
    /// `SHOW TABLES`.
    ShowTables {
        /// The LIKE pattern that names must match.
        like: Option<String>,
    },
    /// `SHOW CREATE TABLE name`.
    ShowCreateTable {
        /// The table.
        name: ObjectName,
    },
    /// `COMMENT ON TABLE`: a [`TableAction::SetComment`], but for its reply.
    CommentOnTable {
        /// The table.
        name: ObjectName,
        /// The text; `None` takes the comment away.
        text: Option<String>,
    },
    /// `OPTIMIZE name [ZORDER BY (…)]`.
    Optimize {
        /// The table or stream.
        name: ObjectName,
        /// The columns that rows are ordered by; none leaves it to the table.
        zorder: Vec<String>,
    },
    /// `OPTIMIZE name TEMPERATURE`: what is due by its age moves or goes now.
    OptimizeTemperature {
        /// The table or stream.
        name: ObjectName,
    },
    /// `VACUUM name [RETAIN n HOURS] [DRY RUN]`.
    Vacuum {
        /// The table or stream.
        name: ObjectName,
        /// How long files that were replaced are kept; `None` as configured.
        retain_ms: Option<u64>,
        /// Whether the files are only named.
        dry_run: bool,
    },
    /// `CREATE [REPLACEMENT] MATERIALIZED VIEW`.
    CreateView {
        /// What to create.
        view: Box<ViewDraft>,
        /// Whether an existing one is left alone.
        if_not_exists: bool,
    },
    /// `ALTER MATERIALIZED VIEW`; [`altered_view`] says what becomes of the definition.
    AlterView {
        /// The view.
        name: ObjectName,
        /// Whether a missing one is passed over.
        if_exists: bool,
        /// What to change.
        action: ViewAction,
    },
    /// `ALTER MATERIALIZED VIEW name APPLY REPLACEMENT replacement`.
    ApplyReplacement {
        /// The view that goes.
        name: ObjectName,
        /// Whether a missing one is passed over.
        if_exists: bool,
        /// The view that takes its name and place.
        replacement: ObjectName,
    },
    /// `DROP MATERIALIZED VIEW`.
    DropView {
        /// The view.
        name: ObjectName,
        /// Whether a missing one is passed over.
        if_exists: bool,
        /// Whether what depends on it goes too.
        cascade: bool,
    },
    /// `SHOW MATERIALIZED VIEWS`.
    ShowViews {
        /// The LIKE pattern that names must match.
        like: Option<String>,
    },
    /// `SHOW CREATE MATERIALIZED VIEW name`.
    ShowCreateView {
        /// The view.
        name: ObjectName,
    },
    /// `COMMENT ON MATERIALIZED VIEW`: a [`ViewAction::SetComment`], but for its reply.
    CommentOnView {
        /// The view.
        name: ObjectName,
        /// The text; `None` takes the comment away.
        text: Option<String>,
    },
    /// `CREATE VIEW`.
    CreatePlainView {
        /// What to create.
        view: Box<PlainViewDraft>,
        /// Whether an existing one gets this query.
        or_replace: bool,
        /// Whether an existing one is left alone.
        if_not_exists: bool,
    },
    /// `DROP VIEW`.
    DropPlainView {
        /// The views.
        names: Vec<ObjectName>,
        /// Whether missing ones are passed over.
        if_exists: bool,
        /// Whether what depends on them goes too.
        cascade: bool,
    },
    /// `SHOW VIEWS`.
    ShowPlainViews {
        /// The LIKE pattern that names must match.
        like: Option<String>,
    },
    /// `SHOW CREATE VIEW name`.
    ShowCreatePlainView {
        /// The view.
        name: ObjectName,
    },
    /// `COMMENT ON VIEW`.
    CommentOnPlainView {
        /// The view.
        name: ObjectName,
        /// The text; `None` takes the comment away.
        text: Option<String>,
    },
    /// `CREATE SCHEMA`.
    CreateSchema {
        /// Its name.
        name: String,
        /// Whether an existing one is left alone.
        if_not_exists: bool,
    },
    /// `DROP SCHEMA`.
    DropSchema {
        /// Their names.
        names: Vec<String>,
        /// Whether missing ones are passed over.
        if_exists: bool,
        /// Whether what lies in them goes too.
        cascade: bool,
    },
    /// `SHOW SCHEMAS`.
    ShowSchemas {
        /// The LIKE pattern that names must match.
        like: Option<String>,
    },
    /// `EXPLAIN CREATE MATERIALIZED VIEW …` and `EXPLAIN CREATE STREAM … AS …`.
    ExplainCreate {
        /// What would be created: [`Command::CreateView`] or [`Command::CreateDerivedStream`].
        create: Box<Command>,
        /// Whether all is to be shown.
        verbose: bool,
    },
    /// `query EMIT CHANGES`: the answer, and then what changes in it.
    EmitChanges {
        /// The query.
        query: QueryText,
    },
    /// `DESCRIBE name`.
    Describe {
        /// The stream, table or view.
        name: ObjectName,
    },
    /// `SHOW CREATE STREAM name`.
    ShowCreate {
        /// The stream.
        name: ObjectName,
    },
    /// `COMMENT ON STREAM` and `COMMENT ON COLUMN`: an [`AlterAction::SetComment`], but for its reply.
    Comment {
        /// The stream; for a column, perhaps a view.
        name: ObjectName,
        /// The column, unless it is about the stream itself.
        column: Option<String>,
        /// The text; `None` takes the comment away.
        text: Option<String>,
    },
    /// `FLUSH`: move what is in the log to the lake now.
    Flush {
        /// The stream; all of them when it is not given.
        name: Option<ObjectName>,
    },
    /// `COPY … FROM`.
    CopyFrom(Box<CopyFrom>),
    /// `COPY … TO`.
    CopyTo(Box<CopyTo>),
    /// `SET name = value`.
    Set {
        /// The setting, in lower case unless quoted.
        name: String,
        /// The value, as SHOW would print it; `None` is DEFAULT.
        value: Option<String>,
        /// Whether it ends with the transaction.
        local: bool,
    },
    /// `RESET name`, or `RESET ALL` without a name.
    Reset {
        /// The setting.
        name: Option<String>,
    },
    /// `SHOW name`.
    Show {
        /// The setting, in lower case unless quoted.
        name: String,
    },
    /// `SHOW ALL`.
    ShowAll,
    /// `BEGIN` or `START TRANSACTION`; the modes are read and not kept.
    Begin {
        /// The wire's command tag: `BEGIN` or `START TRANSACTION`.
        tag: &'static str,
    },
    /// `COMMIT` or `END`.
    Commit,
    /// `ROLLBACK` or `ABORT`.
    Rollback,
    /// `SAVEPOINT name`.
    Savepoint {
        /// Its name.
        name: String,
    },
    /// `RELEASE [SAVEPOINT] name`.
    Release {
        /// Its name.
        name: String,
    },
    /// `ROLLBACK TO [SAVEPOINT] name`.
    RollbackTo {
        /// Its name.
        name: String,
    },
    /// `DISCARD ALL` and its parts.
    Discard {
        /// The wire's command tag.
        tag: &'static str,
    },
    /// `DEALLOCATE name`, or `DEALLOCATE ALL` without a name.
    Deallocate {
        /// The prepared statement.
        name: Option<String>,
    },
    /// Something that clients send and that changes nothing here, such as `SET TRANSACTION` or `UNLISTEN *`.
    Nothing {
        /// The wire's command tag.
        tag: &'static str,
    },
    /// Everything else, for the planner.
    Sql(Box<Statement>),
}

/// What `ALTER STREAM` changes.
#[derive(Debug, Clone, PartialEq)]
pub enum AlterAction {
    /// `ADD COLUMN`.
    AddColumn {
        /// The column.
        column: Column,
        /// Its checks.
        checks: Vec<Check>,
        /// Whether an existing column is left alone.
        if_not_exists: bool,
    },
    /// `SET (…)` and `RESET (…)`.
    SetOptions(Vec<OptionChange>),
    /// `COMMENT ON`.
    SetComment {
        /// The column, unless it is about the stream itself.
        column: Option<String>,
        /// The text; `None` takes the comment away.
        text: Option<String>,
    },
}

/// Parses a text into its statements. An empty text gives none.
pub fn parse(sql: &str) -> Result<Vec<ParsedStatement>> {
    split::split(sql)?.into_iter().map(statement::parse_one).collect()
}
