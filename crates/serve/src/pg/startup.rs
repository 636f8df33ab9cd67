//! Owns how a connection begins: no encryption, a startup message or a cancel request, and what the client is told first.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::response::{GssEncResponse, SslResponse};
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey, Startup,
};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage, SslNegotiationMetaMessage};

use super::Server;
use super::connection::Connection;
use super::report;
use super::wire::{Wire, WireError};

/// What a client asked for in its startup message.
pub(super) type Parameters = BTreeMap<String, String>;

/// Settings whose values clients are told at the start and whenever they change, as PostgreSQL names them.
const REPORTED: [(&str, &str); 11] = [
    ("application_name", ""),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("server_encoding", "UTF8"),
    ("server_version", "16.6"),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "UTC"),
];

/// Hears who connects. None when there is nothing more to do, as after a cancel request.
pub(super) async fn greet(wire: &mut Wire, server: &Server) -> Result<Option<Parameters>, WireError> {
    loop {
        match wire.receive().await? {
            PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::PostgresSsl(_)) => {
                wire.send(PgWireBackendMessage::SslResponse(SslResponse::Refuse))?;
            }
            PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::PostgresGss(_)) => {
                wire.send(PgWireBackendMessage::GssEncResponse(GssEncResponse::Refuse))?;
            }
            PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::None) => wire.expect_startup(),
            PgWireFrontendMessage::CancelRequest(CancelRequest { pid, secret_key, .. }) => {
                if let Some(secret) = secret_number(&secret_key) {
                    server.cancel(pid, secret);
                }
                return Ok(None);
            }
            PgWireFrontendMessage::Startup(startup) => {
                wire.started();
                negotiate_version(wire, &startup)?;
                return Ok(Some(startup.parameters));
            }
            _ => return Ok(None),
        }
    }
}

fn secret_number(key: &SecretKey) -> Option<i32> {
    match key {
        SecretKey::I32(number) => Some(*number),
        SecretKey::Bytes(bytes) => bytes.as_ref().try_into().ok().map(i32::from_be_bytes),
    }
}

/// Protocol 3.0 is spoken; newer minor versions and protocol options are declined by name.
fn negotiate_version(wire: &mut Wire, startup: &Startup) -> Result<(), WireError> {
    let options: Vec<String> = startup.parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    if startup.protocol_number_minor > 0 || !options.is_empty() {
        let message = NegotiateProtocolVersion::new(3 << 16, options);
        wire.send(PgWireBackendMessage::NegotiateProtocolVersion(message))?;
    }
    Ok(())
}

/// Opens a session, tells the client what it needs to know, and serves it.
pub(super) async fn welcome(mut wire: Wire, server: &Arc<Server>, parameters: &Parameters) -> Result<(), WireError> {
    let session = server.engine.session();
    for (name, value) in settings_of(parameters) {
        if let Err(error) = session.set(&name, &value) {
            // Text in another encoding would be wrong; another time zone or date style is only shown otherwise.
            if name.eq_ignore_ascii_case("client_encoding") {
                wire.send(report::fatal("22023", &error.to_string()))?;
                return wire.flush().await;
            }
            tracing::debug!(%error, "a setting of a client's startup message was not taken");
        }
    }
    let registered = server.register(session.canceller());
    wire.send(PgWireBackendMessage::Authentication(Authentication::Ok))?;
    for (name, fallback) in REPORTED {
        let value = session.setting(name).unwrap_or_else(|| fallback.to_owned());
        wire.send(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name.to_owned(), value)))?;
    }
    let key = SecretKey::I32(registered.secret);
    wire.send(PgWireBackendMessage::BackendKeyData(BackendKeyData::new(registered.process_id, key)))?;
    Connection::new(wire, session, REPORTED.map(|(name, _)| name)).serve().await
}

/// The settings in a startup message: those given by name, and `-c name=value` in `options`.
fn settings_of(parameters: &Parameters) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    for (name, value) in parameters {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => settings.extend(options_of(value)),
            name if name.starts_with("_pq_.") => {}
            // psql sends the locale's encoding; plain ASCII is UTF-8 as well.
            "client_encoding" if value.eq_ignore_ascii_case("SQL_ASCII") => {}
            name => settings.push((name.to_owned(), value.trim_matches('\'').to_owned())),
        }
    }
    settings
}

fn options_of(text: &str) -> Vec<(String, String)> {
    let text = text.replace("\\ ", "\u{1}");
    let mut words = text.split_whitespace();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next(),
            other => other,
        };
        if let Some((name, value)) = assignment.and_then(|assignment| assignment.split_once('=')) {
            settings.push((name.replace('-', "_"), value.replace('\u{1}', " ")));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_both_spellings() {
        let settings = options_of("-c statement_timeout=5min --search-path=public -csearch_path=a\\ b");
        let expected = [("statement_timeout", "5min"), ("search_path", "public"), ("search_path", "a b")];
        assert_eq!(settings, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
