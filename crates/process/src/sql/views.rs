//! Owns the running of the statements about views.

use millstream_catalog::fault::Code;

use super::{Outcome, Session};
use crate::ddl::Command;
use crate::{Error, Result};

/// Runs a command about views.
pub(super) async fn run(_session: &Session, command: &Command) -> Result<Outcome> {
    let what = match command {
        Command::CreateDerivedStream { .. } | Command::AlterDerivedStream { .. } => "streams that a query writes",
        Command::EmitChanges { .. } => "EMIT CHANGES",
        _ => "materialized views",
    };
    Err(Error::rejected(Code::Unsupported, format!("{what} cannot be run by this version: query the streams instead")))
}
