//! Owns what a Delta table of others asks of those who read and write it: what is not known here, in Delta's words.
//!
//! A protocol names features, or a version that stands for some; a table that names a feature need not use it. What
//! is used shows in the properties and in what the schema says of columns.

use serde_json::Value;

use crate::action::{Metadata, Protocol};

/// Features that need nothing of a reader beyond what is done here.
const READ: [&str; 3] = ["timestampNtz", "deletionVectors", "vacuumProtocolCheck"];
/// Features that need nothing of a writer beyond what is done here.
const WRITTEN: [&str; 6] =
    ["appendOnly", "timestampNtz", "deletionVectors", "vacuumProtocolCheck", "domainMetadata", "clustering"];

/// Properties that switch a feature on.
const SWITCHES: [(&str, &str); 6] = [
    ("changeDataFeed", "delta.enableChangeDataFeed"),
    ("inCommitTimestamp", "delta.enableInCommitTimestamps"),
    ("icebergCompatV1", "delta.enableIcebergCompatV1"),
    ("icebergCompatV2", "delta.enableIcebergCompatV2"),
    ("typeWidening", "delta.enableTypeWidening"),
    ("typeWidening-preview", "delta.enableTypeWidening"),
];
/// Features that show in what the schema says of a column.
const OF_COLUMNS: [(&str, &str); 4] = [
    ("generatedColumns", "delta.generationExpression"),
    ("identityColumns", "delta.identity."),
    ("invariants", "delta.invariants"),
    ("allowColumnDefaults", "CURRENT_DEFAULT"),
];

/// The first feature that a reader must know and this one does not.
pub(crate) fn unreadable(protocol: &Protocol, metadata: &Metadata) -> Option<String> {
    let needed = protocol.reader_needs();
    needed.into_iter().find(|feature| !READ.contains(&feature.as_str()) && is_used(feature, metadata))
}

/// The first feature that a writer must know and this one does not; `takes_out` says whether rows go.
pub(crate) fn unwritable(protocol: &Protocol, metadata: &Metadata, takes_out: bool) -> Option<String> {
    let needed = protocol.writer_needs();
    let unknown = |feature: &String| {
        // What only comes needs no change data: readers of the feed take added files for it.
        let just_added = feature == "changeDataFeed" && !takes_out;
        !WRITTEN.contains(&feature.as_str()) && !just_added && is_used(feature, metadata)
    };
    let only_added = takes_out && is_set(metadata, "delta.appendOnly");
    needed.into_iter().find(unknown).or_else(|| only_added.then(|| "appendOnly".to_owned()))
}

fn is_used(feature: &str, metadata: &Metadata) -> bool {
    let mode = || metadata.configuration.get("delta.columnMapping.mode").and_then(Option::as_deref);
    match feature {
        "columnMapping" => mode().is_some_and(|mode| mode != "none"),
        "checkConstraints" => metadata.configuration.keys().any(|key| key.starts_with("delta.constraints.")),
        _ => {
            let switch = SWITCHES.iter().find(|(name, _)| *name == feature);
            let column = OF_COLUMNS.iter().find(|(name, _)| *name == feature);
            match (switch, column) {
                (Some((_, property)), _) => is_set(metadata, property),
                (_, Some((_, key))) => metadata.fields().is_ok_and(|fields| fields.iter().any(|f| says(f, key))),
                (None, None) => true,
            }
        }
    }
}

fn is_set(metadata: &Metadata, property: &str) -> bool {
    metadata.configuration.get(property).and_then(Option::as_deref).is_some_and(|v| v.eq_ignore_ascii_case("true"))
}

/// Whether a field, or one inside it, has metadata under a key that begins like this.
fn says(field: &Value, key: &str) -> bool {
    match field {
        Value::Object(parts) => parts.iter().any(|(name, part)| match (name.as_str(), part) {
            ("metadata", Value::Object(metadata)) => metadata.keys().any(|k| k.starts_with(key)),
            _ => says(part, key),
        }),
        Value::Array(parts) => parts.iter().any(|part| says(part, key)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(protocol: Value, configuration: Value, field: Value) -> (Protocol, Metadata) {
        let fields = json!({"type": "struct", "fields": [field]}).to_string();
        let metadata = json!({"id": "x", "schemaString": fields, "configuration": configuration});
        (serde_json::from_value(protocol).unwrap(), serde_json::from_value(metadata).unwrap())
    }

    #[test]
    fn a_feature_counts_when_it_is_used() {
        let plain = json!({"name": "a", "type": "long", "nullable": true, "metadata": {}});
        let old = json!({"minReaderVersion": 2, "minWriterVersion": 6});
        let (protocol, metadata) = table(old.clone(), json!({}), plain.clone());
        assert_eq!((unreadable(&protocol, &metadata), unwritable(&protocol, &metadata, true)), (None, None));
        let (protocol, metadata) = table(old.clone(), json!({"delta.columnMapping.mode": "name"}), plain.clone());
        assert_eq!(unreadable(&protocol, &metadata).as_deref(), Some("columnMapping"));
        let (protocol, metadata) = table(old.clone(), json!({"delta.constraints.c": "a > 0"}), plain.clone());
        assert_eq!(unwritable(&protocol, &metadata, false).as_deref(), Some("checkConstraints"));
        let (protocol, metadata) = table(old.clone(), json!({"delta.enableChangeDataFeed": "true"}), plain.clone());
        assert_eq!(unwritable(&protocol, &metadata, false), None);
        assert_eq!(unwritable(&protocol, &metadata, true).as_deref(), Some("changeDataFeed"));
        let generated = json!({"name": "b", "type": "long", "nullable": true,
                               "metadata": {"delta.generationExpression": "a + 1"}});
        let (protocol, metadata) = table(old, json!({}), generated);
        assert_eq!(unwritable(&protocol, &metadata, false).as_deref(), Some("generatedColumns"));
        let features = json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors", "x"],
                              "writerFeatures": ["deletionVectors", "checkConstraints", "rowTracking"]});
        let (protocol, metadata) = table(features, json!({"delta.appendOnly": "true"}), plain.clone());
        assert_eq!(unreadable(&protocol, &metadata).as_deref(), Some("x"));
        assert_eq!(unwritable(&protocol, &metadata, false).as_deref(), Some("rowTracking"));
        let (protocol, metadata) =
            table(json!({"minReaderVersion": 1, "minWriterVersion": 2}), json!({"delta.appendOnly": "true"}), plain);
        assert_eq!(unwritable(&protocol, &metadata, true).as_deref(), Some("appendOnly"));
    }
}
