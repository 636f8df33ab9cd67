//! Owns the lines of a Delta commit: what is read from them and how they are written.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use deltalake_core::kernel::{Add, Remove, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The table feature of timestamps without zone.
const TIMESTAMP_NTZ: &str = "timestampNtz";
/// Writer features that an append, a compaction and an added column by this crate respect.
const WRITABLE: [&str; 5] = ["appendOnly", "invariants", TIMESTAMP_NTZ, "deletionVectors", "vacuumProtocolCheck"];
/// Reader features that the plain Parquet scan respects (deletion vectors are looked at file by file).
const READABLE: [&str; 3] = [TIMESTAMP_NTZ, "deletionVectors", "vacuumProtocolCheck"];

/// The `metaData` action. What is not known here is carried along.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    /// The table's id.
    pub id: String,
    /// The schema, as JSON text.
    pub schema_string: String,
    /// Partition columns; streams' tables have none.
    #[serde(default)]
    pub partition_columns: Vec<String>,
    /// Table properties.
    #[serde(default)]
    pub configuration: BTreeMap<String, Option<String>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Metadata {
    /// The metadata of a new table.
    pub fn new(
        id: String,
        fields: Vec<Value>,
        partition_columns: Vec<String>,
        configuration: BTreeMap<String, Option<String>>,
        now_ms: i64,
    ) -> Self {
        let mut rest = Map::new();
        rest.insert("format".into(), json!({"provider": "parquet", "options": {}}));
        rest.insert("createdTime".into(), now_ms.into());
        let mut metadata = Self { id, schema_string: String::new(), partition_columns, configuration, rest };
        metadata.set_fields(fields);
        metadata
    }

    /// The fields of the schema, as Delta has them.
    pub fn fields(&self) -> Result<Vec<Value>, serde_json::Error> {
        #[derive(Deserialize)]
        struct Struct {
            fields: Vec<Value>,
        }
        Ok(serde_json::from_str::<Struct>(&self.schema_string)?.fields)
    }

    /// Replaces the fields of the schema.
    pub fn set_fields(&mut self, fields: Vec<Value>) {
        self.schema_string = json!({"type": "struct", "fields": fields}).to_string();
    }
}

/// The `protocol` action.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Protocol {
    min_reader_version: i32,
    min_writer_version: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reader_features: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writer_features: Option<Vec<String>>,
}

impl Protocol {
    /// The lowest protocol that allows what is needed.
    pub fn new(timestamp_ntz: bool) -> Self {
        let plain = Self { min_reader_version: 1, min_writer_version: 2, reader_features: None, writer_features: None };
        if timestamp_ntz { plain.with_timestamp_ntz() } else { plain }
    }

    /// The same protocol, with timestamps without zone allowed.
    pub fn with_timestamp_ntz(mut self) -> Self {
        let mut reader = self.reader_features.take().unwrap_or_default();
        let mut writer = self.writer_features.take().unwrap_or_else(|| vec!["appendOnly".into(), "invariants".into()]);
        for list in [&mut reader, &mut writer] {
            if !list.iter().any(|f| f == TIMESTAMP_NTZ) {
                list.push(TIMESTAMP_NTZ.into());
            }
        }
        Self {
            min_reader_version: 3,
            min_writer_version: 7,
            reader_features: Some(reader),
            writer_features: Some(writer),
        }
    }

    /// Whether timestamps without zone are allowed.
    pub fn allows_timestamp_ntz(&self) -> bool {
        self.reader_features.iter().flatten().any(|f| f == TIMESTAMP_NTZ)
    }

    /// What this table needs of its writers that this crate does not do.
    pub fn unwritable(&self) -> Option<String> {
        match self.min_writer_version {
            ..=2 => None,
            7 => unknown(&self.writer_features, &WRITABLE),
            v => Some(format!("writer version {v}")),
        }
    }

    /// The features that its readers must know.
    pub fn reader_needs(&self) -> Vec<String> {
        match self.min_reader_version {
            ..=1 => vec![],
            2 => vec!["columnMapping".to_owned()],
            3 => self.reader_features.clone().unwrap_or_default(),
            v => vec![format!("reader version {v}")],
        }
    }

    /// The features that its writers must know.
    pub fn writer_needs(&self) -> Vec<String> {
        const BY_VERSION: [(i32, &str); 7] = [
            (2, "appendOnly"),
            (2, "invariants"),
            (3, "checkConstraints"),
            (4, "changeDataFeed"),
            (4, "generatedColumns"),
            (5, "columnMapping"),
            (6, "identityColumns"),
        ];
        match self.min_writer_version {
            7 => self.writer_features.clone().unwrap_or_default(),
            version @ ..=6 => {
                BY_VERSION.iter().filter(|(since, _)| *since <= version).map(|(_, f)| (*f).to_owned()).collect()
            }
            version => vec![format!("writer version {version}")],
        }
    }

    /// What this table needs of its readers that a plain Parquet scan does not do.
    pub fn unreadable(&self) -> Option<String> {
        match self.min_reader_version {
            ..=1 => None,
            3 => unknown(&self.reader_features, &READABLE),
            v => Some(format!("reader version {v}")),
        }
    }
}

fn unknown(features: &Option<Vec<String>>, known: &[&str]) -> Option<String> {
    features.iter().flatten().find(|f| !known.contains(&f.as_str())).cloned()
}

/// An action that changes the table's state.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// A new schema or new properties.
    Metadata(Metadata),
    /// A new protocol.
    Protocol(Protocol),
    /// A file comes in.
    Add(Add),
    /// A file goes out.
    Remove(Remove),
    /// An application's progress.
    Txn(Transaction),
}

/// The first line of a commit, as any writer has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommitInfo {
    /// When, ms since 1970.
    pub timestamp: Option<i64>,
    /// The operation.
    pub operation: Option<String>,
    /// What it was asked for.
    #[serde(default)]
    pub operation_parameters: Map<String, Value>,
    /// What it did.
    #[serde(default)]
    pub operation_metrics: Map<String, Value>,
}

/// What a commit says about itself; nothing when it says nothing.
pub(crate) fn parse_info(bytes: &[u8]) -> CommitInfo {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line {
        commit_info: Option<CommitInfo>,
    }
    let lines = serde_json::Deserializer::from_slice(bytes).into_iter::<Line>();
    lines.map_while(Result::ok).find_map(|line| line.commit_info).unwrap_or_default()
}

/// One line of a commit; lines of other kinds come out empty.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    add: Option<Add>,
    remove: Option<Remove>,
    txn: Option<Transaction>,
    meta_data: Option<Metadata>,
    protocol: Option<Protocol>,
}

/// The actions in a commit's bytes.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Action>, serde_json::Error> {
    let mut actions = Vec::new();
    for line in serde_json::Deserializer::from_slice(bytes).into_iter::<Line>() {
        let line = line?;
        actions.extend(line.meta_data.map(Action::Metadata));
        actions.extend(line.protocol.map(Action::Protocol));
        actions.extend(line.add.map(Action::Add));
        actions.extend(line.remove.map(Action::Remove));
        actions.extend(line.txn.map(Action::Txn));
    }
    Ok(actions)
}

/// What a commit says about itself.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// The operation, in Delta's words: `WRITE`, `MERGE`, `OPTIMIZE`, ….
    pub operation: String,
    /// What it was asked for; values are text.
    pub parameters: BTreeMap<String, String>,
    /// What it did, where that is more than its actions say.
    pub metrics: BTreeMap<String, u64>,
    /// When, ms since 1970.
    pub now_ms: i64,
}

impl About {
    /// An operation without parameters.
    pub fn new(operation: impl Into<String>, now_ms: i64) -> Self {
        Self { operation: operation.into(), parameters: BTreeMap::new(), metrics: BTreeMap::new(), now_ms }
    }

    /// The same with a parameter.
    pub fn with_parameter(mut self, name: &str, value: impl Into<String>) -> Self {
        self.parameters.insert(name.to_owned(), value.into());
        self
    }

    /// The same with a number of what it did.
    pub fn with_metric(mut self, name: &str, value: u64) -> Self {
        self.metrics.insert(name.to_owned(), value);
        self
    }
}

/// A commit's bytes.
pub(crate) fn format(about: &About, actions: &[Action]) -> Result<Bytes, serde_json::Error> {
    let metrics: BTreeMap<&str, String> = about.metrics.iter().map(|(k, v)| (k.as_str(), v.to_string())).collect();
    let info = json!({"commitInfo": {
        "timestamp": about.now_ms,
        "operation": about.operation,
        "operationParameters": about.parameters,
        "operationMetrics": metrics,
        "engineInfo": concat!("millstream/", env!("CARGO_PKG_VERSION")),
    }});
    let mut text = info.to_string();
    for action in actions {
        text.push('\n');
        text.push_str(&match action {
            Action::Metadata(m) => serde_json::to_string(&HashMap::from([("metaData", m)]))?,
            Action::Protocol(p) => serde_json::to_string(&HashMap::from([("protocol", p)]))?,
            Action::Add(a) => serde_json::to_string(&HashMap::from([("add", a)]))?,
            Action::Remove(r) => serde_json::to_string(&HashMap::from([("remove", r)]))?,
            Action::Txn(t) => serde_json::to_string(&HashMap::from([("txn", t)]))?,
        });
    }
    Ok(Bytes::from(text))
}
