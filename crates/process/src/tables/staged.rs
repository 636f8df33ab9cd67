//! Owns what a log record says of files: which files came with a change, and which rows went by it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_catalog::fault::Code;
use millstream_store::StagedFile;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The content of `_files`, as JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct FilesOfChange {
    /// Files with the rows that came.
    pub(crate) come: Vec<StagedFile>,
    /// Files with the old content of the rows that went; empty when it is not kept.
    #[serde(default)]
    pub(crate) old: Vec<StagedFile>,
    /// The numbers of the rows that went: a roaring treemap, in base64.
    #[serde(default)]
    gone: String,
    /// The number after the greatest that a row in `come` has.
    pub(crate) next_row: i64,
}

impl FilesOfChange {
    pub(crate) fn new(come: Vec<StagedFile>, old: Vec<StagedFile>, gone: &RoaringTreemap, next_row: i64) -> Self {
        let mut bytes = Vec::new();
        if !gone.is_empty() {
            // Writing to memory does not fail.
            let _ = gone.serialize_into(&mut bytes);
        }
        Self { come, old, gone: STANDARD.encode(bytes), next_row }
    }

    /// Reads what [`FilesOfChange::text`] wrote.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| damaged(&e))
    }

    /// As it is kept.
    pub(crate) fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| damaged(&e))
    }

    /// The rows that went, if any did.
    pub(crate) fn gone_rows(&self) -> Result<Option<RoaringTreemap>> {
        if self.gone.is_empty() {
            return Ok(None);
        }
        let bytes = STANDARD.decode(&self.gone).map_err(|e| damaged(&e))?;
        RoaringTreemap::deserialize_from(&bytes[..]).map(Some).map_err(|e| damaged(&e))
    }
}

fn damaged(error: &dyn std::error::Error) -> Error {
    Error::rejected(Code::DataCorrupted, format!("the table's log names files in a form that is not known: {error}"))
}
