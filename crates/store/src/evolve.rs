//! Owns what becomes of a table's schema: whether a stream's schema fits, and what must be added.

use arrow::datatypes::{Field, Schema, SchemaRef};
use millstream_catalog::{HIDDEN_COLUMNS, StreamId};
use serde_json::Value;
use std::sync::Arc;

use crate::action::{Action, Metadata};
use crate::lake::unstorable;
use crate::layout::Layout;
use crate::schema::{delta_field, has_timestamp_ntz, same_type};
use crate::state::TableState;

/// The table property that names the stream a table belongs to.
pub(crate) const OWNER_KEY: &str = "millstream.stream";

/// What a stream's schema means for its table.
pub(crate) struct SchemaChange {
    /// The actions to commit; none when the table has it all.
    pub actions: Vec<Action>,
    /// The schema that readers get: as the stream has it, nullable where the table is.
    pub log_schema: SchemaRef,
}

/// Works out what must be committed so that the table holds `wanted`; an error is the reason why it cannot.
pub(crate) fn plan_schema(
    state: &TableState,
    id: StreamId,
    wanted: &SchemaRef,
    layout: &Layout,
) -> Result<Option<SchemaChange>, String> {
    let (Some(metadata), Some(protocol)) = (&state.metadata, &state.protocol) else {
        return Err("its log has no schema; restore the first commit or remove the folder".into());
    };
    check_owner(metadata, id)?;
    if let Some(feature) = protocol.unwritable() {
        return Err(format!("it needs {feature}, which Millstream does not write; drop that feature from the table"));
    }
    if metadata.partition_columns != layout.partitioned_by {
        return Err(format!(
            "it is partitioned by {:?} and should be by {:?}; create a table with other partition columns anew",
            metadata.partition_columns, layout.partitioned_by
        ));
    }
    let have = metadata.fields().map_err(|e| format!("its schema cannot be read: {e}"))?;
    let (fields, log_fields) = merge(&have, wanted)?;
    let mut actions = Vec::new();
    if fields != have {
        let mut metadata = metadata.clone();
        metadata.set_fields(fields);
        actions.push(Action::Metadata(metadata));
    }
    if has_timestamp_ntz(wanted.fields()) && !protocol.allows_timestamp_ntz() {
        actions.insert(0, Action::Protocol(protocol.clone().with_timestamp_ntz()));
    }
    let log_schema = Arc::new(Schema::new(log_fields));
    if actions.is_empty() && state.log_schema.as_ref() == Some(&log_schema) {
        return Ok(None);
    }
    Ok(Some(SchemaChange { actions, log_schema }))
}

/// The id of the stream that a table belongs to.
pub(crate) fn owner(metadata: &Metadata) -> Option<&str> {
    metadata.configuration.get(OWNER_KEY).and_then(Option::as_deref)
}

fn check_owner(metadata: &Metadata, id: StreamId) -> Result<(), String> {
    match owner(metadata) {
        Some(owner) if owner == id.to_string() => Ok(()),
        Some(owner) => Err(format!("it belongs to another stream ({owner}); move or remove its folder")),
        None => Err("it was not made by Millstream; move its folder, or choose another name or store".into()),
    }
}

/// The table's fields with what is missing added before the hidden columns, and the reader's fields.
fn merge(have: &[Value], wanted: &Schema) -> Result<(Vec<Value>, Vec<Field>), String> {
    let mut fields = have.to_vec();
    let mut log_fields = Vec::with_capacity(wanted.fields().len());
    for field in wanted.fields() {
        let new = delta_field(field).ok_or_else(|| unstorable(field.name()))?;
        let nullable = match fields.iter_mut().find(|f| f["name"] == new["name"]) {
            Some(old) if !same_type(&old["type"], &new["type"]) => {
                return Err(format!(
                    "column {:?} is {} in the table and {} in the stream; give one of them another name",
                    field.name(),
                    old["type"],
                    new["type"]
                ));
            }
            Some(old) => {
                if field.is_nullable() {
                    old["nullable"] = true.into();
                }
                old["nullable"] == true
            }
            None => {
                let mut new = new;
                new["nullable"] = true.into();
                fields.push(new);
                true
            }
        };
        log_fields.push(field.as_ref().clone().with_nullable(nullable));
    }
    fields.sort_by_key(|f| HIDDEN_COLUMNS.iter().position(|h| f["name"] == *h).map_or(0, |i| i + 1));
    Ok((fields, log_fields))
}
