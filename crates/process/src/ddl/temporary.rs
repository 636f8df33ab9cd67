//! Owns how temporary tables are named: in a schema that each connection has for itself.

use millstream_catalog::ObjectName;

/// What a connection calls the schema of its own temporary tables; a number behind it makes it that connection's.
pub(crate) const TEMPORARY: &str = "pg_temp";

/// Whether a schema is that of a connection's temporary tables.
pub(crate) fn is_temporary_schema(name: &str) -> bool {
    name == TEMPORARY || name.strip_prefix(TEMPORARY).is_some_and(|rest| rest.starts_with('_'))
}

/// Whether a name is that of a temporary table.
pub(crate) fn is_temporary(name: &ObjectName) -> bool {
    is_temporary_schema(name.schema())
}
