//! Owns CREATE TABLE … LOCATION: a name for a Delta table that is there, or a new, empty one.

use std::sync::Arc;

use arrow::datatypes::Field;
use millstream_catalog::fault::Code;
use millstream_catalog::{Column, StreamId};
use millstream_store::{Converted, LakeTable, convert_to_delta};
use uuid::Uuid;

use super::columns::{agreed, columns_of};
use super::place::place_of;
use crate::ddl::StreamDraft;
use crate::engine::Shared;
use crate::{Error, Result};

impl Shared {
    /// Creates a table at a place of its own. Returns false when something has the name and `if_not_exists` is set.
    pub(crate) async fn create_external(self: &Arc<Self>, mut draft: StreamDraft, if_not_exists: bool) -> Result<bool> {
        if let Some(kind) = self.kind_of(&draft.name) {
            let taken = millstream_catalog::Error::AlreadyExists { kind, name: draft.name.to_string() };
            return if if_not_exists { Ok(false) } else { Err(taken.into()) };
        }
        self.check_schema(&draft.name)?;
        let mut spec = draft.table.clone().unwrap_or_default();
        refuse_keys(&draft)?;
        let location = spec.location.clone().unwrap_or_default();
        let place = place_of(self, &location)?;
        // Nothing is written under this name: the table is opened under its own when it is first used.
        let nobody = StreamId(Uuid::nil());
        match LakeTable::open_at(&place.url, &place.store, nobody, &[], self.lake.options()).await? {
            Some(table) => {
                let found = table.snapshot();
                draft.columns = agreed(&draft.name, columns_of(&found.columns())?, &draft.columns)?;
                if !spec.partitioned_by.is_empty() && spec.partitioned_by != found.partitioned_by() {
                    let message = format!(
                        "the Delta table at {location} is partitioned by ({}), not by ({})",
                        found.partitioned_by().join(", "),
                        spec.partitioned_by.join(", ")
                    );
                    return Err(Error::rejected(Code::InvalidDefinition, message));
                }
                spec.partitioned_by = found.partitioned_by().to_vec();
                draft.table = Some(spec);
            }
            None if draft.columns.is_empty() => {
                return Err(Error::Rejected {
                    code: Code::UndefinedFile,
                    message: format!("there is no Delta table at {location}"),
                    hint: Some(
                        "give columns to make one; CONVERT TO DELTA parquet.'…' makes one of Parquet files".to_owned(),
                    ),
                    position: None,
                });
            }
            None if place.is_in_lake(self) => {
                let message = format!("LOCATION {location:?} is in the lake, where tables lie by their names");
                return Err(Error::Rejected {
                    code: Code::Denied,
                    message,
                    hint: Some("leave LOCATION out, or name another place".to_owned()),
                    position: None,
                });
            }
            None => {
                let stream = draft.clone().into_stream(nobody, 0)?;
                self.define(stream.clone())?;
                LakeTable::create_at(&place.url, &place.store, &stream.schema(), &spec.partitioned_by).await?;
            }
        }
        self.create_stream(draft, if_not_exists).await
    }
}

impl Shared {
    /// Makes a Delta table of a folder of Parquet files, none of which is changed.
    pub(crate) async fn convert_to_delta(&self, path: &str, partitioned_by: &[Column]) -> Result<Converted> {
        let place = place_of(self, path)?;
        if place.is_in_lake(self) {
            return Err(Error::rejected(
                Code::Denied,
                format!("folder {path:?} is in the lake, whose tables are Delta tables"),
            ));
        }
        let columns: Vec<Field> = partitioned_by.iter().map(Column::to_field).collect();
        Ok(convert_to_delta(&place.url, &place.store, &columns).await?)
    }
}

fn refuse_keys(draft: &StreamDraft) -> Result<()> {
    let spec = draft.table.as_ref();
    let what = match spec {
        Some(spec) if spec.primary_key.is_some() => "PRIMARY KEY",
        Some(spec) if !spec.generated.is_empty() => "GENERATED columns",
        _ => return Ok(()),
    };
    Err(Error::Rejected {
        code: Code::Unsupported,
        message: format!(
            "table {} cannot have {what}: others write to a table at a LOCATION, and would not keep them",
            draft.name
        ),
        hint: Some("leave LOCATION out, or write by MERGE ON the columns that tell rows apart".to_owned()),
        position: None,
    })
}
