//! Owns what there is, as PostgreSQL counts it: schemas, relations, columns and constraints, each with its number.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use arrow::datatypes::{DataType as ArrowType, Schema, TimeUnit};
use millstream_catalog::{Column, DataType, LOGICAL_TYPE_KEY, ObjectName, SYSTEM_SCHEMA, Stream, quoted};
use parking_lot::Mutex;

use crate::engine::Shared;
use crate::system::{SYSTEM_TABLES, system_table};

/// Numbers of objects of the catalog itself, which PostgreSQL fixes and tools know by heart.
const FIXED: [(&str, i32); 10] = [
    ("n:pg_catalog", 11),
    ("r:pg_catalog.pg_type", 1247),
    ("r:pg_catalog.pg_attribute", 1249),
    ("r:pg_catalog.pg_proc", 1255),
    ("r:pg_catalog.pg_class", 1259),
    ("r:pg_catalog.pg_attrdef", 2604),
    ("r:pg_catalog.pg_constraint", 2606),
    ("r:pg_catalog.pg_description", 2609),
    ("r:pg_catalog.pg_index", 2610),
    ("r:pg_catalog.pg_namespace", 2615),
];
/// The number of `pg_class`, under which relations and columns are described.
pub(super) const PG_CLASS: i32 = 1259;
/// Where numbers of users' objects begin.
const FIRST: i32 = 16_384;

/// The engine, and the numbers that were given to its objects. A number stays as long as the process.
#[derive(Debug, Default)]
pub(crate) struct Numbered {
    shared: Weak<Shared>,
    given: Mutex<HashMap<String, i32>>,
}

impl Numbered {
    /// Of an engine.
    pub(crate) fn new(shared: Weak<Shared>) -> Self {
        Self { shared, given: Mutex::default() }
    }

    /// The number of an object.
    pub(super) fn oid(&self, object: String) -> i32 {
        if let Some((_, fixed)) = FIXED.iter().find(|(name, _)| *name == object) {
            return *fixed;
        }
        let mut given = self.given.lock();
        let next = FIRST + i32::try_from(given.len()).unwrap_or(i32::MAX - FIRST);
        *given.entry(object).or_insert(next)
    }

    /// The number of a schema.
    pub(super) fn schema(&self, name: &str) -> i32 {
        self.oid(format!("n:{name}"))
    }

    fn relation(&self, schema: &str, name: &str) -> i32 {
        self.oid(format!("r:{schema}.{name}"))
    }

    /// The engine, while it is there.
    pub(super) fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.upgrade()
    }

    /// Every schema, by name.
    pub(super) fn schemas(&self) -> Vec<String> {
        let own = self.shared().map_or_else(Vec::new, |shared| shared.schemas());
        let fixed = ["information_schema", "pg_catalog", SYSTEM_SCHEMA].map(str::to_owned);
        let mut all: Vec<String> = own.into_iter().chain(fixed).collect();
        all.sort();
        all
    }

    /// Every relation of users and of the platform, by schema and name.
    pub(super) fn relations(&self) -> Vec<Relation> {
        let Some(shared) = self.shared() else { return vec![] };
        let mut all: Vec<Relation> =
            shared.streams().iter().map(|open| self.of_stream(&open.definition().stream)).collect();
        for view in shared.all_views().iter().filter(|view| view.stream().is_none()) {
            let definition = view.definition();
            let kind = if view.is_plain() { 'v' } else { 'm' };
            let mut relation = self.named(&definition.name, kind);
            relation.attributes = definition.columns.iter().map(Attribute::of).collect();
            relation.comment.clone_from(&definition.comment);
            relation.query = Some(definition.query.clone());
            all.push(relation);
        }
        for name in SYSTEM_TABLES {
            let (Ok(object), Some(table)) = (ObjectName::new(SYSTEM_SCHEMA, name), system_table(&shared, name)) else {
                continue;
            };
            let mut relation = self.named(&object, 'v');
            relation.attributes = attributes_of(&table.schema());
            all.push(relation);
        }
        all.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        all
    }

    /// A relation of the catalog itself, whose columns are known.
    pub(super) fn of_catalog(&self, schema: &str, name: &str, columns: &Schema) -> Relation {
        let mut relation = self.bare(schema, name, 'r');
        relation.attributes = attributes_of(columns);
        relation
    }

    fn bare(&self, schema: &str, name: &str, kind: char) -> Relation {
        Relation {
            oid: self.relation(schema, name),
            schema_oid: self.schema(schema),
            schema: schema.to_owned(),
            name: name.to_owned(),
            kind,
            attributes: vec![],
            constraints: vec![],
            comment: None,
            query: None,
        }
    }

    fn named(&self, name: &ObjectName, kind: char) -> Relation {
        self.bare(name.schema(), name.name(), kind)
    }

    fn of_stream(&self, stream: &Stream) -> Relation {
        let mut relation = self.named(&stream.name, 'r');
        relation.comment.clone_from(&stream.comment);
        relation.attributes = stream.columns.iter().map(Attribute::of).collect();
        let spec = stream.table.as_ref();
        for generated in spec.iter().flat_map(|spec| &spec.generated) {
            if let Some(column) = relation.attributes.iter_mut().find(|a| a.name == generated.column) {
                (column.default, column.generated) = (Some(generated.expression.clone()), true);
            }
        }
        let place = |name: &String| stream.columns.iter().position(|c| c.name == *name).map(|i| i as i16 + 1);
        let id = stream.id;
        if let Some(key) = spec.and_then(|spec| spec.primary_key.as_ref()) {
            relation.constraints.push(Constraint {
                oid: self.oid(format!("c:{id}:{}", key.name)),
                index: Some(self.oid(format!("i:{id}:{}", key.name))),
                name: key.name.clone(),
                columns: key.columns.iter().filter_map(place).collect(),
                check: None,
            });
        }
        for check in &stream.checks {
            let named = stream.columns.iter().filter(|c| crate::ddl::names_column(&check.expr, &c.name));
            relation.constraints.push(Constraint {
                oid: self.oid(format!("c:{id}:{}", check.name)),
                index: None,
                name: check.name.clone(),
                columns: named.filter_map(|c| place(&c.name)).collect(),
                check: Some(check.expr.clone()),
            });
        }
        relation
    }
}

/// A table, stream or view.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) oid: i32,
    pub(super) schema_oid: i32,
    pub(super) schema: String,
    pub(super) name: String,
    /// As `relkind` has it.
    pub(super) kind: char,
    pub(super) attributes: Vec<Attribute>,
    pub(super) constraints: Vec<Constraint>,
    pub(super) comment: Option<String>,
    /// A view's query.
    pub(super) query: Option<String>,
}

impl Relation {
    /// What information_schema calls it.
    pub(super) fn word(&self) -> &'static str {
        if matches!(self.kind, 'v' | 'm') { "VIEW" } else { "BASE TABLE" }
    }

    /// The names of a constraint's columns.
    pub(super) fn columns_of<'a>(&'a self, constraint: &'a Constraint) -> impl Iterator<Item = &'a str> {
        let name = |place: &i16| Some(self.attributes.get(usize::try_from(*place - 1).ok()?)?.name.as_str());
        constraint.columns.iter().filter_map(name)
    }

    /// A constraint as `pg_get_constraintdef` tells it.
    pub(super) fn definition_of(&self, constraint: &Constraint) -> String {
        match &constraint.check {
            Some(expression) => format!("CHECK ({expression})"),
            None => format!("PRIMARY KEY ({})", self.quoted_columns(constraint)),
        }
    }

    /// The index of a constraint as `pg_get_indexdef` tells it.
    pub(super) fn index_of(&self, constraint: &Constraint) -> String {
        format!(
            "CREATE UNIQUE INDEX {} ON {}.{} USING btree ({})",
            quoted(&constraint.name),
            quoted(&self.schema),
            quoted(&self.name),
            self.quoted_columns(constraint)
        )
    }

    fn quoted_columns(&self, constraint: &Constraint) -> String {
        self.columns_of(constraint).map(quoted).collect::<Vec<_>>().join(", ")
    }
}

/// A primary key or a check.
#[derive(Debug)]
pub(super) struct Constraint {
    pub(super) oid: i32,
    /// The number of the index, of a key.
    pub(super) index: Option<i32>,
    pub(super) name: String,
    /// The places of its columns, from 1.
    pub(super) columns: Vec<i16>,
    /// What it checks; `None` for a key.
    pub(super) check: Option<String>,
}

/// A column.
#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) kind: PgType,
    pub(super) not_null: bool,
    pub(super) default: Option<String>,
    pub(super) generated: bool,
    pub(super) comment: Option<String>,
}

impl Attribute {
    fn of(column: &Column) -> Self {
        Self {
            name: column.name.clone(),
            kind: PgType::of(&column.data_type),
            not_null: !column.nullable,
            default: column.default.clone(),
            generated: false,
            comment: column.comment.clone(),
        }
    }
}

fn attributes_of(schema: &Schema) -> Vec<Attribute> {
    let attribute = |field: &Arc<arrow::datatypes::Field>| Attribute {
        name: field.name().clone(),
        kind: PgType::of_arrow(field.data_type(), field.metadata().get(LOGICAL_TYPE_KEY).map(String::as_str)),
        not_null: !field.is_nullable(),
        default: None,
        generated: false,
        comment: None,
    };
    schema.fields().iter().map(attribute).collect()
}

/// A type by its number in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PgType {
    pub(super) oid: i32,
    /// Bytes of a value; −1 where they vary.
    pub(super) size: i16,
    /// Precision and scale of decimals; else −1.
    pub(super) modifier: i32,
    /// What information_schema calls it.
    pub(super) name: &'static str,
}

impl PgType {
    const fn plain(oid: i32, size: i16, name: &'static str) -> Self {
        Self { oid, size, modifier: -1, name }
    }

    /// The array of it.
    fn array(self) -> Self {
        const ARRAYS: [(i32, i32); 16] = [
            (16, 1000),
            (17, 1001),
            (21, 1005),
            (23, 1007),
            (25, 1009),
            (20, 1016),
            (700, 1021),
            (701, 1022),
            (1114, 1115),
            (1082, 1182),
            (1083, 1183),
            (1184, 1185),
            (1186, 1187),
            (1700, 1231),
            (2950, 2951),
            (114, 199),
        ];
        let array = ARRAYS.iter().find(|(item, _)| *item == self.oid);
        match array {
            Some((_, oid)) => Self { oid: *oid, size: -1, modifier: self.modifier, name: "ARRAY" },
            None => Self::JSON,
        }
    }

    const JSON: Self = Self::plain(114, -1, "json");

    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Uuid => Self::plain(2950, 16, "uuid"),
            DataType::Json => Self::JSON,
            DataType::Array(item) => Self::of(item).array(),
            other => Self::of_arrow(&other.to_arrow(), None),
        }
    }

    fn of_arrow(data_type: &ArrowType, logical: Option<&str>) -> Self {
        match data_type {
            _ if logical == Some("uuid") => Self::plain(2950, 16, "uuid"),
            _ if logical == Some("json") => Self::JSON,
            ArrowType::Boolean => Self::plain(16, 1, "boolean"),
            ArrowType::Int8 | ArrowType::Int16 | ArrowType::UInt8 => Self::plain(21, 2, "smallint"),
            ArrowType::Int32 | ArrowType::UInt16 => Self::plain(23, 4, "integer"),
            ArrowType::Int64 | ArrowType::UInt32 | ArrowType::UInt64 => Self::plain(20, 8, "bigint"),
            ArrowType::Float16 | ArrowType::Float32 => Self::plain(700, 4, "real"),
            ArrowType::Float64 => Self::plain(701, 8, "double precision"),
            ArrowType::Decimal128(precision, scale) => {
                let modifier = (i32::from(*precision) << 16 | i32::from(*scale) & 0x7ff) + 4;
                Self { modifier, ..Self::plain(1700, -1, "numeric") }
            }
            ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView => Self::plain(17, -1, "bytea"),
            ArrowType::Date32 | ArrowType::Date64 => Self::plain(1082, 4, "date"),
            ArrowType::Time32(_) | ArrowType::Time64(_) => Self::plain(1083, 8, "time without time zone"),
            ArrowType::Timestamp(_, None) => Self::plain(1114, 8, "timestamp without time zone"),
            ArrowType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, Some(_))
            | ArrowType::Timestamp(_, Some(_)) => Self::plain(1184, 8, "timestamp with time zone"),
            ArrowType::Interval(_) | ArrowType::Duration(_) => Self::plain(1186, 16, "interval"),
            ArrowType::List(item) | ArrowType::LargeList(item) | ArrowType::FixedSizeList(item, _) => {
                Self::of_arrow(item.data_type(), item.metadata().get(LOGICAL_TYPE_KEY).map(String::as_str)).array()
            }
            ArrowType::Struct(_) | ArrowType::Map(..) => Self::JSON,
            _ => Self::plain(25, -1, "text"),
        }
    }
}
