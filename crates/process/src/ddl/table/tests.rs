//! Owns the tests of parsing and rendering tables, and of what becomes of their definitions.

use millstream_catalog::fault::{Code, Fault};
use millstream_catalog::{DataType, Durability, Generated, ObjectName, Stream, StreamId};
use uuid::Uuid;

use super::*;
use crate::Error;
use crate::ddl::{Command, parse};
use crate::files::Format;

pub(super) fn one(sql: &str) -> Command {
    let mut statements = parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert_eq!(statements.len(), 1, "{sql}");
    statements.remove(0).command
}

pub(super) fn table(sql: &str) -> Stream {
    match one(sql) {
        Command::CreateTable { table, .. } => table.into_stream(StreamId(Uuid::nil()), 0).unwrap(),
        other => panic!("{sql} gave {other:?}"),
    }
}

/// The error, as `code at position: message`.
fn refusal(sql: &str) -> String {
    let error = match parse(sql) {
        Err(error) => error,
        Ok(mut found) => match found.remove(0).command {
            Command::CreateTable { table, .. } => table.into_stream(StreamId(Uuid::nil()), 0).unwrap_err(),
            other => panic!("{sql} gave {other:?}"),
        },
    };
    let position = error.position().map_or_else(|| "-".to_owned(), |p| p.to_string());
    format!("{} at {position}: {error}", error.code().name())
}

const ORDERS: &str = "
    CREATE TABLE IF NOT EXISTS ops.orders (
        id bigint CONSTRAINT the_key PRIMARY KEY,
        status text NOT NULL DEFAULT 'new' CHECK (status <> '') COMMENT 'where it is',
        amount decimal(12, 2) DEFAULT 0 CONSTRAINT cheap CHECK (amount < 1000),
        updated timestamp DEFAULT now(),
        day date GENERATED ALWAYS AS (CAST(updated AS date)) STORED,
        CHECK (amount > 0 OR status = 'a,b')
    ) USING delta PARTITIONED BY (day) ORDER BY (status, id) LOCATION 's3://b/orders' COMMENT 'all of them'
    WITH (durability = 'os')";

#[test]
fn a_create_statement_gives_every_part_of_the_definition() {
    let Command::CreateTable { if_not_exists: true, .. } = one(ORDERS) else { panic!("not taken") };
    let orders = table(ORDERS);
    assert_eq!((orders.name.to_string().as_str(), orders.kind()), ("ops.orders", "table"));
    let columns: Vec<_> = orders.columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect();
    assert_eq!(columns, ["id bigint", "status text", "amount decimal(12,2)", "updated timestamp", "day date"]);
    assert_eq!(orders.columns.iter().map(|c| c.nullable).collect::<Vec<_>>(), [false, false, true, true, true]);
    let checks: Vec<_> = orders.checks.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(checks, ["orders_status_check", "cheap", "orders_check"]);
    let spec = orders.table.as_ref().unwrap();
    let key = spec.primary_key.as_ref().unwrap();
    assert_eq!((key.name.as_str(), key.columns.as_slice()), ("the_key", &["id".to_owned()][..]));
    let day = Generated { column: "day".into(), expression: "CAST(updated AS date)".into() };
    assert_eq!(spec.generated, [day]);
    assert_eq!((spec.partitioned_by.join(","), spec.sorted_by.join(",")), ("day".into(), "status,id".into()));
    assert_eq!(spec.location.as_deref(), Some("s3://b/orders"));
    assert_eq!((orders.comment.as_deref(), orders.options.durability), (Some("all of them"), Durability::Os));
    assert_eq!(table(&render_create_table(&orders)), orders);
}

#[test]
fn a_rendered_table_reads_well() {
    let sql = "create table t (a int, b text default 'x', c int generated always as (a + 1) stored, primary key (a, b))
               partition by (b)";
    let expected = "CREATE TABLE t (\n  a int NOT NULL,\n  b text NOT NULL DEFAULT 'x',\n  \
                    c int GENERATED ALWAYS AS (a + 1) STORED,\n  PRIMARY KEY (a, b)\n)\nPARTITIONED BY (b)";
    assert_eq!(render_create_table(&table(sql)), expected);
}

#[test]
fn other_ways_to_make_a_table_are_read() {
    let Command::CreateTableAs { table, if_not_exists: true } =
        one("create table if not exists t (x, y comment 'why') partitioned by (y) as select 1, 2 with no data")
    else {
        panic!("not taken")
    };
    assert_eq!((table.query.text.as_str(), table.with_data), ("select 1, 2", false));
    let columns = [DataType::Int, DataType::Text].map(|t| millstream_catalog::Column::new("c", t));
    let made = table.with_columns(columns.to_vec()).unwrap().into_stream(StreamId(Uuid::nil()), 0).unwrap();
    assert_eq!(render_create_table(&made), "CREATE TABLE t (\n  x int,\n  y text COMMENT 'why'\n)\nPARTITIONED BY (y)");
    for sql in ["create table t as select 1 as a", "create table t as select 1 as a with data"] {
        assert!(matches!(one(sql), Command::CreateTableAs { table, .. } if table.with_data), "{sql}");
    }
    let Command::CreateTableFromSample { sample, .. } =
        one("create table t from sample 'x' order by (a) with (format = 'csv', durability = 'os')")
    else {
        panic!("not taken")
    };
    assert_eq!((sample.format, sample.options.durability), (Format::Csv, Durability::Os));
    assert_eq!(sample.table.unwrap().sorted_by, ["a"]);
    let Command::CreateTable { table, .. } = one("create table t location 'file:///x'") else { panic!("not taken") };
    assert!(table.columns.is_empty());
}

#[test]
fn a_clone_has_all_that_was_declared_of_its_source() {
    let name = |text: &str| ObjectName::parse(text).unwrap();
    let clone = |point, if_not_exists| Command::CloneTable {
        name: name("dev"),
        source: name("ops.orders"),
        point,
        if_not_exists,
    };
    assert_eq!(one("create table dev clone ops.orders"), clone(None, false));
    let third = Some(Point::Version(3));
    assert_eq!(one("CREATE TABLE IF NOT EXISTS dev SHALLOW CLONE ops.orders VERSION AS OF 3"), clone(third, true));
    let then = Some(Point::Time("now()".into()));
    for words in ["TIMESTAMP AS OF", "FOR SYSTEM_TIME AS OF"] {
        assert_eq!(one(&format!("create table dev clone ops.orders {words} now()")), clone(then.clone(), false));
    }
    assert!(refusal("create table dev deep clone orders").contains("AS SELECT copies"));
    assert!(refusal("create table dev clone orders version 3").contains("expected VERSION AS OF"));
    let orders = table(ORDERS);
    let made = clone_draft(&orders, name("dev")).into_stream(orders.id, 0).unwrap();
    assert_eq!(Stream { name: orders.name.clone(), ..made }, orders);
    let keyed = table("create table t (id bigint primary key)");
    let made = clone_draft(&keyed, name("dev")).into_stream(keyed.id, 0).unwrap();
    assert_eq!(made.table.unwrap().primary_key.unwrap().name, "dev_pkey");
}

#[test]
fn statements_about_tables_are_read() {
    let name = |text: &str| ObjectName::parse(text).unwrap();
    let drop = |names: &[&str], if_exists, cascade| Command::DropTable {
        names: names.iter().map(|n| name(n)).collect(),
        if_exists,
        cascade,
    };
    assert_eq!(one("drop table t"), drop(&["t"], false, false));
    assert_eq!(one("DROP TABLE IF EXISTS a, public.B CASCADE"), drop(&["a", "b"], true, true));
    for sql in ["truncate t", "truncate table t", "TRUNCATE TABLE ONLY t RESTART IDENTITY CASCADE"] {
        assert_eq!(one(sql), Command::Truncate { names: vec![name("t")] }, "{sql}");
    }
    assert_eq!(one("show tables"), Command::ShowTables { like: None });
    assert_eq!(one("show tables like 'o%'"), Command::ShowTables { like: Some("o%".into()) });
    assert_eq!(one("show create table t"), Command::ShowCreateTable { name: name("t") });
    assert_eq!(one("describe table t"), Command::Describe { name: name("t") });
    assert_eq!(one("flush table t"), Command::Flush { name: Some(name("t")) });
    assert_eq!(one("flush \"table\""), Command::Flush { name: Some(name("table")) });
    let comment = Command::CommentOnTable { name: name("t"), text: Some("x".into()) };
    assert_eq!(one("comment on table t is 'x'"), comment);
}

fn altered(table: &Stream, sql: &str) -> crate::Result<Option<Stream>> {
    match one(sql) {
        Command::AlterTable { actions, .. } => altered_table(table, &actions),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_alter_gives_the_next_definition() {
    let first = table("create table t (a int primary key, b real, c text, d decimal(5,2), check (b > 0)) order by (b)");
    let shown = |sql: &str| {
        let next = altered(&first, sql).unwrap_or_else(|e| panic!("{sql}: {e}")).expect("something changes");
        assert_eq!(next.version, 2);
        let lines = render_create_table(&next);
        lines.lines().skip(1).map(|l| l.trim().trim_end_matches(',').to_owned()).collect::<Vec<_>>().join("; ")
    };
    let rest = "PRIMARY KEY (a); CONSTRAINT t_check CHECK (b > 0); ); ORDER BY (b)";
    assert_eq!(
        shown("alter table t add column e uuid, alter column c set default 'x', alter c set not null"),
        format!("a int NOT NULL; b real; c text NOT NULL DEFAULT 'x'; d decimal(5,2); e uuid; {rest}")
    );
    assert_eq!(
        shown("alter table t alter a type bigint, alter b set data type double precision, alter d type decimal(8,3)"),
        format!("a bigint NOT NULL; b double precision; c text; d decimal(8,3); {rest}")
    );
    assert_eq!(
        shown("alter table t drop column c, drop if exists z"),
        format!("a int NOT NULL; b real; d decimal(5,2); {rest}")
    );
    assert_eq!(
        shown("alter table t rename a to id"),
        "id int NOT NULL; b real; c text; d decimal(5,2); PRIMARY KEY (id); CONSTRAINT t_check CHECK (b > 0); ); ORDER BY (b)"
    );
    assert_eq!(
        shown("alter table t drop constraint t_pkey, add constraint k primary key (a, c)"),
        "a int NOT NULL; b real; c text NOT NULL; d decimal(5,2); CONSTRAINT k PRIMARY KEY (a, c); CONSTRAINT t_check CHECK (b > 0); ); ORDER BY (b)"
    );
    assert!(shown("alter table t rename b to \"B b\"").contains("CONSTRAINT t_check CHECK (\"B b\" > 0)"));
    assert!(shown("alter table t rename constraint t_check to positive").contains("CONSTRAINT positive CHECK (b > 0)"));
    assert!(shown("alter table t add check (c <> '')").contains("CONSTRAINT t_check1 CHECK (c <> '')"));
    assert!(shown("alter table t set (durability = 'os')").ends_with("WITH (durability = 'os')"));
    assert_eq!(altered(&first, "alter table t reset (durability)").unwrap(), None);
    assert_eq!(altered(&first, "alter table t add if not exists c int").unwrap(), None);
    assert_eq!(altered(&first, "alter table t drop constraint if exists nope").unwrap(), None);
}

#[test]
fn an_alter_says_where_values_come_from() {
    let first =
        table("create table t (a int primary key, b int check (b > a), g int generated always as (b + 1) stored)");
    let reshape = |t: &Stream, sql: &str| {
        let next = altered(t, sql).unwrap().unwrap();
        let reshape = next.table.clone().unwrap().reshape.map(|r| {
            let kept: Vec<String> = r.kept.iter().map(|k| format!("{}={}", k.name, k.from)).collect();
            format!("{} since {}: {} + {}", r.version, r.since, kept.join(" "), r.filled.join(" "))
        });
        (next, reshape.unwrap_or_default())
    };
    let (second, said) = reshape(&first, "alter table t rename b to c");
    assert_eq!(said, "2 since 2: a=a c=b g=g + ");
    assert!(render_create_table(&second).contains("GENERATED ALWAYS AS (c + 1)"), "{}", render_create_table(&second));
    let (third, said) = reshape(&second, "alter table t add d int default 7, add e text");
    assert_eq!(said, "3 since 2: a=a c=c g=g + d");
    assert_eq!(reshape(&third, "alter table t add f text").1, said, "nothing is written again");
    let (last, said) = reshape(&third, "alter table t drop c cascade, add c text, alter a type bigint");
    assert_eq!(said, "4 since 4: a=a d=d e=e + ");
    assert_eq!(last.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "d", "e", "c"]);
    assert_eq!(last.checks, vec![], "what needs the column went with it");
    let renamed = altered(&last, "alter table t rename to u").unwrap().unwrap();
    assert_eq!((renamed.name.to_string(), renamed.folder().to_string()), ("u".into(), "t".into()));
    let back = altered(&renamed, "alter table u rename to t").unwrap().unwrap();
    assert_eq!(back.table.unwrap().folder, None);
}

#[test]
fn what_an_alter_cannot_do_is_said() {
    let t = table(
        "create table t (a int primary key, b real, c text, g int generated always as (a + 1) stored, check (b > 0))
         partitioned by (c)",
    );
    let cases = [
        ("add A int", Code::DuplicateColumn, "column \"a\" of table t already exists"),
        ("drop z", Code::UndefinedColumn, "table t has no column \"z\""),
        (
            "drop a",
            Code::DependentObjects,
            "column \"a\" of table t cannot be dropped: constraint \"t_pkey\" is made of it, drop that first",
        ),
        (
            "drop b",
            Code::DependentObjects,
            "column \"b\" of table t cannot be changed so: constraint \"t_check\" reads it, drop that first",
        ),
        ("drop c", Code::DependentObjects, "column \"c\" of table t cannot be dropped: the table is PARTITIONED BY it"),
        ("rename c to B", Code::DuplicateColumn, "column \"b\" of table t already exists"),
        (
            "drop a cascade, alter c type json",
            Code::Unsupported,
            "column \"c\" of table t is text and cannot become json",
        ),
        (
            "drop c cascade",
            Code::DependentObjects,
            "column \"c\" of table t cannot be dropped: the table is PARTITIONED BY it",
        ),
        ("alter b type int", Code::Unsupported, "column \"b\" of table t is real and cannot become int"),
        ("alter a drop not null", Code::InvalidDefinition, "column \"a\" of table t is in its PRIMARY KEY"),
        ("alter g set default 1", Code::InvalidDefinition, "column \"g\" of table t is generated, it has no default"),
        ("add primary key (b)", Code::InvalidDefinition, "table t has a PRIMARY KEY already: DROP CONSTRAINT first"),
        ("add constraint t_pkey check (true)", Code::InvalidDefinition, "table t has a constraint \"t_pkey\" already"),
        ("drop constraint nope", Code::UndefinedObject, "table t has no constraint \"nope\""),
    ];
    for (action, code, message) in cases {
        let error: Error = altered(&t, &format!("alter table t {action}")).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, message), "{action}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_its_fix() {
    let cases = [
        ("create table", "syntax_error at 13: expected a table name, found the end of the statement"),
        (
            "create table t",
            "syntax_error at 15: expected \"(\" and the columns, AS and a query, CLONE and a table, LOCATION 'url', or FROM SAMPLE 'file', found the end of the statement",
        ),
        (
            "create table t (id serial)",
            "feature_not_supported at 20: type serial is not supported, there are no sequences: use bigint and give the number with the row, or use uuid DEFAULT gen_random_uuid()",
        ),
        (
            "create table t (id int generated by default as identity)",
            "feature_not_supported at 24: a table has no IDENTITY columns: give the number with the row, or use uuid DEFAULT gen_random_uuid()",
        ),
        (
            "create table t (a int unique)",
            "feature_not_supported at 23: UNIQUE is not supported beside the one key that a table has: write PRIMARY KEY",
        ),
        (
            "create table t (a int, constraint u unique (a))",
            "feature_not_supported at 37: UNIQUE is not supported beside the one key that a table has: write PRIMARY KEY",
        ),
        (
            "create table t (a int references u (a))",
            "feature_not_supported at 23: REFERENCES and FOREIGN KEY are not supported: tables change without looking at each other, join in the query",
        ),
        (
            "create table t (a int primary key, primary key (a))",
            "invalid_definition at 36: a table has one PRIMARY KEY, this is the second",
        ),
        (
            "create table t (a int null primary key)",
            "invalid_definition at 40: column \"a\" is said to be NULL, and is in the PRIMARY KEY",
        ),
        (
            "create table t (a int, b int generated always as (a) virtual)",
            "feature_not_supported at 54: a generated column is computed when its row is written: write STORED",
        ),
        (
            "create table t (a timestamp, watermark for a as a)",
            "feature_not_supported at 30: a table has no watermark, its rows may change at any time: declare it on a stream",
        ),
        (
            "create table t (a int) with (partitions = 2)",
            "invalid_request at 30: partitions is an option of streams: a table has one log: PARTITIONED BY lays out its files",
        ),
        (
            "create table t (a int) with (durabilty = 'os')",
            "invalid_request at 30: unknown option \"durabilty\", did you mean durability?",
        ),
        (
            "create table t (a int) partition by range (a)",
            "feature_not_supported at 37: each value of the columns has a folder of its own, there is no method to choose: write PARTITIONED BY (column, …)",
        ),
        ("create table t (a int) order by (a) order by (a)", "syntax_error at 37: ORDER BY is given twice"),
        (
            "create table t (a int) inherits (u)",
            "feature_not_supported at 24: INHERITS is not supported: write the columns",
        ),
        (
            "create table t (a json, primary key (a))",
            "invalid_definition at -: invalid definition of table t: PRIMARY KEY column \"a\" must be of a plain type",
        ),
        (
            "create or replace table t (a int)",
            "feature_not_supported at 1: a table cannot be replaced, its rows and its history would be lost: use ALTER TABLE, or DROP TABLE first",
        ),
        (
            "create unlogged table t (a int)",
            "feature_not_supported at 1: every table is durable: leave UNLOGGED out; WITH (durability = 'os') acknowledges before the fsync",
        ),
        (
            "alter table t add e int generated always as (1) stored",
            "feature_not_supported at 19: a column of the PRIMARY KEY and a generated one cannot be added: the rows that are there have no values for it; CREATE TABLE … AS SELECT makes a table with it",
        ),
        (
            "alter table t rename a to b, add c int",
            "feature_not_supported at 39: RENAME stands alone, write a statement for it",
        ),
        (
            "alter table t owner to me",
            "feature_not_supported at 15: there are no accounts, whoever connects owns everything: leave OWNER TO out",
        ),
        ("drop table a, a", "syntax_error at 15: table a is named twice"),
        (
            "drop table system.jobs",
            "denied at 12: system.jobs is the platform's own: nothing in schema \"system\" can be made or changed",
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(refusal(sql), expected, "{sql}");
    }
}
