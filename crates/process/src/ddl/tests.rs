//! Owns the tests of parsing, of rendering, and of the way there and back.

use millstream_catalog::fault::{Code, Fault};
use millstream_catalog::{Durability, Stream, StreamId};
use uuid::Uuid;

use super::*;
use crate::Error;
use crate::files::Format;

fn one(sql: &str) -> Command {
    let mut statements = parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert_eq!(statements.len(), 1, "{sql}");
    statements.remove(0).command
}

fn stream(sql: &str) -> Stream {
    match one(sql) {
        Command::CreateStream { stream, .. } => stream.into_stream(StreamId(Uuid::nil()), 0).unwrap(),
        other => panic!("{sql} gave {other:?}"),
    }
}

/// The error, as `code at position: message`.
fn refusal(sql: &str) -> String {
    let error = match parse(sql) {
        Err(error) => error,
        Ok(mut found) => match found.remove(0).command {
            Command::CreateStream { stream, .. } => stream.into_stream(StreamId(Uuid::nil()), 0).unwrap_err(),
            other => panic!("{sql} gave {other:?}"),
        },
    };
    let position = error.position().map_or_else(|| "-".to_owned(), |p| p.to_string());
    format!("{} at {position}: {error}", error.code().name())
}

const FLIGHTS: &str = "
    CREATE STREAM IF NOT EXISTS ops.flights (
        Carrier text NOT NULL,
        \"Tail Num\" varchar NULL COMMENT 'the plane''s',
        distance int DEFAULT 0 CHECK (distance >= 0),
        at timestamp with time zone NOT NULL DEFAULT now() - INTERVAL '1' HOUR NOT NULL,
        price numeric(12, 2) CONSTRAINT cheap CHECK (price < 1000 AND (price IS NOT NULL)),
        tags text[] DEFAULT ARRAY['a', 'b'],
        place ROW(lon double precision, lat float8, names ARRAY<ARRAY<string>>),
        CHECK (distance > 0 OR carrier = 'x;y'),
        WATERMARK FOR at AS at - INTERVAL '5' SECOND
    ) PARTITION BY (carrier, \"Tail Num\") COMMENT 'real ones'
    WITH (partitions = 4, retention = '7 days', retention_size = '10 GB', durability = 'os', rest = true,
          lake_retention = '90 d');";

#[test]
fn a_create_statement_gives_every_part_of_the_definition() {
    let Command::CreateStream { stream, if_not_exists: true } = one(FLIGHTS) else { panic!("not taken") };
    assert_eq!(stream.name.to_string(), "ops.flights");
    let columns: Vec<_> = stream.columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect();
    assert_eq!(
        columns,
        [
            "carrier text",
            "Tail Num text",
            "distance int",
            "at timestamptz",
            "price decimal(12,2)",
            "tags text[]",
            "place row(lon double precision, lat double precision, names text[][])",
            "_rest json",
        ]
    );
    assert_eq!(
        stream.columns.iter().map(|c| c.nullable).collect::<Vec<_>>(),
        [false, true, true, false, true, true, true, true]
    );
    assert_eq!(stream.columns[1].comment.as_deref(), Some("the plane's"));
    assert_eq!(stream.columns[3].default.as_deref(), Some("now() - INTERVAL '1' HOUR"));
    let checks: Vec<_> = stream.checks.iter().map(|c| format!("{}: {}", c.name, c.expr)).collect();
    assert_eq!(
        checks,
        [
            "flights_distance_check: distance >= 0",
            "cheap: price < 1000 AND (price IS NOT NULL)",
            "flights_check: distance > 0 OR carrier = 'x;y'",
        ]
    );
    assert_eq!(stream.watermark.as_ref().map(|w| w.expr.as_str()), Some("at - INTERVAL '5' SECOND"));
    assert_eq!(stream.partition_by, ["carrier", "Tail Num"]);
    assert_eq!(stream.comment.as_deref(), Some("real ones"));
    let o = &stream.options;
    assert_eq!((o.partitions, o.durability, o.rest), (4, Durability::Os, true));
    assert_eq!((o.retention_ms, o.retention_bytes), (Some(604_800_000), Some(10 << 30)));
    assert_eq!(o.lake_retention_ms, Some(90 * 86_400_000));
}

#[test]
fn every_type_has_its_spellings() {
    let pairs = [
        ("bool", "boolean"),
        ("INT2", "smallint"),
        ("Integer", "int"),
        ("int4", "int"),
        ("int8", "bigint"),
        ("float4", "real"),
        ("float", "double precision"),
        ("float(24)", "real"),
        ("double", "double precision"),
        ("decimal(10)", "decimal(10,0)"),
        ("dec(38,38)", "decimal(38,38)"),
        ("character varying", "text"),
        ("string", "text"),
        ("time without time zone", "time"),
        ("timestamp(6)", "timestamp"),
        ("timestamptz", "timestamptz"),
        ("jsonb", "json"),
        ("text ARRAY", "text[]"),
        ("int[3][]", "int[][]"),
        ("STRUCT<a int, b ARRAY<STRUCT<c text>>>", "row(a int, b row(c text)[])"),
        ("interval", "interval"),
        ("row(\"A b\" uuid)[]", "row(\"A b\" uuid)[]"),
        ("array<array<array<int>>>", "int[][][]"),
        ("bytea", "bytea"),
    ];
    for (written, shown) in pairs {
        let stream = stream(&format!("CREATE STREAM s (a {written} NOT NULL, b date)"));
        assert_eq!(stream.columns[0].data_type.to_string(), shown, "{written}");
    }
}

#[test]
fn a_rendered_stream_is_read_back_the_same() {
    let first = stream(FLIGHTS);
    let sql = render_create(&first);
    assert_eq!(stream(&sql), first, "{sql}");
    assert_eq!(render_create(&stream(&sql)), sql);
}

#[test]
fn a_rendered_stream_reads_well() {
    let sql =
        "create stream t (\"select\" int not null, b text default 'x' comment 'c', watermark text) with (partitions=2)";
    let expected = "CREATE STREAM t (\n  \"select\" int NOT NULL,\n  b text DEFAULT 'x' COMMENT 'c',\n  \"watermark\" text\n)\nWITH (partitions = 2)";
    assert_eq!(render_create(&stream(sql)), expected);
}

#[test]
fn a_text_is_cut_at_the_semicolons_between_statements_alone() {
    let sql = "select ';' -- one; two\n ; ; select $x$ ; $x$ /* ; */ ;\n\nselect é FROM \"a;b\";";
    let found = parse(sql).unwrap();
    let texts: Vec<_> = found.iter().map(|s| (s.offset, s.text.as_str())).collect();
    assert_eq!(texts, [(0, "select ';'"), (28, "select $x$ ; $x$"), (56, "select é FROM \"a;b\"")]);
    assert!(found.iter().all(|s| matches!(s.command, Command::Sql(_))));
    assert!(parse(" ;; -- nothing\n").unwrap().is_empty());
}

#[test]
fn positions_count_characters_of_the_whole_text() {
    assert_eq!(
        refusal("select 'é';\n  create stream s (a int,, b int)"),
        "syntax_error at 38: expected a column name, found \",\""
    );
    assert_eq!(refusal("select 1;\nselect 'é' frm x y"), "syntax_error at 26: expected end of statement, found \"x\"");
    assert_eq!(char_position("ab\ncdé", 2, 4), 7);
    assert_eq!(char_position("ab", 0, 0), 3);
}

#[test]
fn statements_about_streams_are_read() {
    let name = ObjectName::parse("s").unwrap();
    let drop = |if_exists, cascade| Command::DropStream { name: name.clone(), if_exists, cascade };
    assert_eq!(one("drop stream s"), drop(false, false));
    assert_eq!(one("DROP STREAM IF EXISTS public.S CASCADE;"), drop(true, true));
    assert_eq!(one("show streams"), Command::ShowStreams { like: None });
    assert_eq!(one("show streams like 'x%'"), Command::ShowStreams { like: Some("x%".into()) });
    for sql in ["describe s", "desc s", "describe stream s", "DESCRIBE \"s\""] {
        assert_eq!(one(sql), Command::Describe { name: name.clone() }, "{sql}");
    }
    assert_eq!(one("describe stream"), Command::Describe { name: ObjectName::parse("stream").unwrap() });
    assert!(matches!(one("describe select 1"), Command::Sql(_)));
    assert_eq!(one("show create stream s"), Command::ShowCreate { name: name.clone() });
    assert_eq!(one("flush"), Command::Flush { name: None });
    assert_eq!(one("flush stream s"), Command::Flush { name: Some(name.clone()) });
    let comment = |column: Option<&str>, text: Option<&str>| Command::Comment {
        name: name.clone(),
        column: column.map(str::to_owned),
        text: text.map(str::to_owned),
    };
    assert_eq!(one("comment on stream s is 'it''s'"), comment(None, Some("it's")));
    assert_eq!(one("comment on column public.s.\"C\" is null"), comment(Some("C"), None));
}

#[test]
fn statements_about_the_session_are_read() {
    let set = |name: &str, value: Option<&str>, local| Command::Set {
        name: name.into(),
        value: value.map(str::to_owned),
        local,
    };
    assert_eq!(one("SET Statement_Timeout = '5s'"), set("statement_timeout", Some("5s"), false));
    assert_eq!(one("set local x.y to -3"), set("x.y", Some("-3"), true));
    assert_eq!(one("set session search_path = public, \"$user\""), set("search_path", Some("public, $user"), false));
    assert_eq!(one("set time zone 'Europe/Vienna'"), set("timezone", Some("Europe/Vienna"), false));
    assert_eq!(one("set names 'utf8'"), set("client_encoding", Some("utf8"), false));
    assert_eq!(one("set x to default"), set("x", None, false));
    assert_eq!(one("set statement_timeout = 5 min"), set("statement_timeout", Some("5min"), false));
    assert_eq!(one("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"), Command::Nothing { tag: "SET" });
    assert_eq!(one("show all"), Command::ShowAll);
    assert_eq!(one("show transaction isolation level"), Command::Show { name: "transaction_isolation".into() });
    assert_eq!(one("show server_version"), Command::Show { name: "server_version".into() });
    assert_eq!(one("reset all"), Command::Reset { name: None });
    assert_eq!(one("begin isolation level serializable, read only"), Command::Begin { tag: "BEGIN" });
    assert_eq!(one("start transaction read write"), Command::Begin { tag: "START TRANSACTION" });
    assert_eq!(one("end work"), Command::Commit);
    assert_eq!(one("abort"), Command::Rollback);
    assert_eq!(one("rollback to savepoint a"), Command::RollbackTo { name: "a".into() });
    assert_eq!(one("discard all"), Command::Discard { tag: "DISCARD ALL" });
    assert_eq!(one("deallocate prepare all"), Command::Deallocate { name: None });
    assert_eq!(one("deallocate p1"), Command::Deallocate { name: Some("p1".into()) });
    assert_eq!(one("close all"), Command::Nothing { tag: "CLOSE CURSOR ALL" });
    assert_eq!(one("unlisten *"), Command::Nothing { tag: "UNLISTEN" });
}

#[test]
fn an_alter_gives_the_next_definition() {
    let first = stream("create stream s (a int check (a > 0)) with (rest = true)");
    let act = |stream: &Stream, sql: &str| match one(sql) {
        Command::AlterStream { action, .. } => altered(stream, &action),
        Command::Comment { column, text, .. } => altered(stream, &AlterAction::SetComment { column, text }),
        other => panic!("{other:?}"),
    };
    let second = act(&first, "alter stream s add column b text default 'x' check (b <> '')").unwrap().unwrap();
    assert_eq!(second.version, 2);
    assert_eq!(second.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b", "_rest"]);
    assert_eq!(second.checks[1].name, "s_b_check");
    assert_eq!(act(&second, "alter stream s add if not exists b int").unwrap(), None);
    let third = act(&second, "alter stream s set (hot = '1 day', durability = 'os')").unwrap().unwrap();
    assert_eq!((third.options.retention_ms, third.options.durability), (Some(86_400_000), Durability::Os));
    assert_eq!(act(&third, "alter stream s set (retention = '24 hours')").unwrap(), None);
    let fourth = act(&third, "alter stream s reset (retention)").unwrap().unwrap();
    assert_eq!((fourth.version, fourth.options.retention_ms), (4, None));
    let fifth = act(&fourth, "comment on column s.a is 'first'").unwrap().unwrap();
    assert_eq!(fifth.columns[0].comment.as_deref(), Some("first"));

    let refused = |sql: &str| act(&first, sql).unwrap_err().to_string();
    assert_eq!(refused("alter stream s add A int"), "column \"a\" of stream s already exists");
    assert!(refused("alter stream s set (partitions = 2)").contains("stay 1"));
    assert!(refused("alter stream s set (rest = false)").contains("cannot be turned off"));
    assert_eq!(refused("comment on column s.z is 'x'"), "stream s has no column \"z\"");
}

#[test]
fn a_sample_statement_knows_its_format() {
    let sql = "create stream s from sample '/tmp/x.jsonl' partition by (a) with (partitions = 2)";
    let Command::CreateStreamFromSample { sample, if_not_exists: false } = one(sql) else { panic!("not taken") };
    assert_eq!((sample.path.as_str(), sample.format), ("/tmp/x.jsonl", Format::Json));
    let columns = infer(b"{\"a\": 1}").unwrap();
    let stream = sample.with_columns(columns).into_stream(StreamId(Uuid::nil()), 0).unwrap();
    assert_eq!(render_create(&stream), "CREATE STREAM s (\n  a bigint\n)\nPARTITION BY (a)\nWITH (partitions = 2)");
    let Command::CreateStreamFromSample { sample, .. } = one("create stream s from sample 'x' with (format = 'CSV')")
    else {
        panic!("not taken")
    };
    assert_eq!(sample.format, Format::Csv);
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_its_fix() {
    let cases = [
        ("create stream", "syntax_error at 14: expected a stream name, found the end of the statement"),
        (
            "create stream s",
            "syntax_error at 16: expected \"(\" and the columns, AS and a query, or FROM SAMPLE 'file', found the end of the statement",
        ),
        ("create stream s ()", "syntax_error at 18: expected a column name, found \")\""),
        ("create stream s (a)", "syntax_error at 19: expected a type for column \"a\", as in a text"),
        ("create stream s (a int", "syntax_error at 23: expected \",\" or \")\", found the end of the statement"),
        ("create stream s (a int b)", "syntax_error at 24: expected \",\" or \")\", found \"b\""),
        ("create stream \"1a\" (a int)", "invalid_name at 15: invalid name \"1a\": it must start with a letter or '_'"),
        ("create stream a.b.c (a int)", "invalid_name at 15: \"a.b.c\" has too many parts, write schema.name"),
        (
            "create stream system.s (a int)",
            "denied at 15: system.s is the platform's own: nothing in schema \"system\" can be made or changed",
        ),
        ("create stream s (a int, A text)", "duplicate_column at 25: column \"a\" is named twice"),
        ("create stream s (a strin)", "feature_not_supported at 20: type strin is not supported: did you mean string?"),
        (
            "create stream s (a varchar(20))",
            "feature_not_supported at 20: type varchar(20) is not supported: text has no length limit of its own: write text CHECK (length(column) <= 20)",
        ),
        (
            "create stream s (a serial)",
            "feature_not_supported at 20: type serial is not supported: rows are numbered by _partition and _offset already: use bigint for a number of your own",
        ),
        (
            "create stream s (a decimal)",
            "feature_not_supported at 20: type decimal without precision is not supported: its digits must be said: write decimal(18,4), up to 38 digits",
        ),
        (
            "create stream s (a decimal(39,2))",
            "feature_not_supported at 20: type decimal(39,2) is not supported: decimal takes 1 to 38 digits, and no more after the point than there are in all",
        ),
        (
            "create stream s (a timestamp(3))",
            "feature_not_supported at 20: type timestamp(3) is not supported: times are kept with 6 fractional digits: write timestamp",
        ),
        (
            "create stream s (a int primary key)",
            "feature_not_supported at 24: a stream is append-only and keeps every row, so it has no PRIMARY KEY or UNIQUE: send an Idempotency-Key so that retries add nothing, or remove duplicates in the query",
        ),
        (
            "create stream s (a int, unique (a))",
            "feature_not_supported at 25: a stream is append-only and keeps every row, so it has no PRIMARY KEY or UNIQUE: send an Idempotency-Key so that retries add nothing, or remove duplicates in the query",
        ),
        (
            "create stream s (a int references t)",
            "feature_not_supported at 24: a stream takes rows without looking at other objects, so it has no REFERENCES or FOREIGN KEY: join in the query",
        ),
        ("create stream s (a int not null null)", "invalid_definition at 33: column \"a\" has both NULL and NOT NULL"),
        ("create stream s (a int default)", "syntax_error at 31: expected an expression, found \")\""),
        ("create stream s (a int check a > 1)", "syntax_error at 30: expected \"(\" after CHECK, found \"a\""),
        (
            "create stream s (a int) with (partition = 2)",
            "invalid_request at 31: unknown option \"partition\", did you mean partitions?",
        ),
        (
            "create stream s (a int) with (partitions = 0)",
            "invalid_request at 44: option partitions = \"0\" must be a whole number from 1 to 1024",
        ),
        (
            "create stream s (a int) with (retention = '7')",
            "invalid_request at 43: option retention = \"7\" must be a time such as '7 days', '36 hours' or '1 day 12 hours', or 'none'",
        ),
        (
            "create stream s (a int) with (rest = true, rest = true)",
            "invalid_request at 44: option \"rest\" is given twice",
        ),
        (
            "create stream s (a int) partition by (b)",
            "invalid_definition at -: invalid definition of stream s: PARTITION BY names \"b\", which is not a column",
        ),
        (
            "create stream s (a json) partition by (a)",
            "invalid_definition at -: invalid definition of stream s: PARTITION BY column \"a\" must be of a plain type",
        ),
        (
            "create stream s (a int, watermark for b as b)",
            "invalid_definition at -: invalid definition of stream s: WATERMARK FOR \"b\" names no column",
        ),
        (
            "create stream s (_offset int)",
            "invalid_definition at -: invalid definition of stream s: column name \"_offset\" is reserved",
        ),
        (
            "create or replace stream s (a int)",
            "feature_not_supported at 1: a stream cannot be replaced, its history would be lost: use ALTER STREAM, or DROP STREAM first",
        ),
        (
            "create stream s from sample 'x.dat'",
            "invalid_request at 29: the format of \"x.dat\" is not known by its name: add WITH (format = 'csv') or another, which are parquet, csv, json (an object per line), arrow and avro",
        ),
        (
            "alter stream s drop column a",
            "feature_not_supported at 16: a stream's columns and constraints cannot be dropped: its history has them",
        ),
        (
            "alter stream s add b int not null",
            "invalid_definition at 20: column \"b\" cannot be added as NOT NULL: the rows that are there have no value for it; leave NOT NULL out",
        ),
        ("drop stream a, b", "syntax_error at 14: DROP STREAM takes one stream, write a statement for each"),
        ("show streams like x", "syntax_error at 19: expected a pattern in quotes, found \"x\""),
        (
            "comment on index s is 'x'",
            "syntax_error at 12: expected STREAM, TABLE, VIEW, MATERIALIZED VIEW or COLUMN, found \"index\"",
        ),
        ("selec 1", "syntax_error at 1: expected an SQL statement, found \"selec\""),
        ("select (1", "syntax_error at 10: expected ), found the end of the statement"),
        ("select 'x", "syntax_error at 8: unterminated string literal"),
        ("begin read sometimes", "syntax_error at 7: expected a transaction mode such as READ ONLY, found \"read\""),
    ];
    for (sql, expected) in cases {
        assert_eq!(refusal(sql), expected, "{sql}");
    }
}

#[test]
fn a_misspelt_first_word_gets_a_hint() {
    let error: Error = parse("creat stream s (a int)").unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("did you mean CREATE?"));
    let error = parse("create stream s (a int) with (compression = 'zstd')").unwrap_err();
    assert_eq!(
        error.hint().as_deref(),
        Some(
            "the options are partitions, hot, retention_size, durability, rest, expire, warm, cold, optimize, \
             target_file_size, vacuum_retention, checkpoint_interval"
        )
    );
}

#[test]
fn the_options_of_temperature_have_their_names_and_older_ones() {
    let made = stream(
        "create stream s (a int) with (hot = '1 day', warm = '30 days', cold = 's3://archive/x', expire = '2 years',
         optimize = off, target_file_size = '64 MB', vacuum_retention = '3 days', checkpoint_interval = 100)",
    );
    let (o, policy) = (&made.options, &made.options.policy);
    assert_eq!((o.retention_ms, o.lake_retention_ms), (Some(86_400_000), Some(730 * 86_400_000)));
    assert_eq!((policy.warm_ms, policy.cold.as_deref()), (Some(30 * 86_400_000), Some("s3://archive/x")));
    assert_eq!((policy.optimize_off, policy.target_file_bytes), (true, Some(64 << 20)));
    assert_eq!((policy.vacuum_retention_ms, policy.checkpoint_interval), (Some(3 * 86_400_000), Some(100)));
    let older = stream("create stream s (a int) with (retention = '1 day', lake_retention = '2 years')");
    assert_eq!((older.options.retention_ms, older.options.lake_retention_ms), (o.retention_ms, o.lake_retention_ms));
    let cases = [
        ("hot = '1 day', retention = '2 days'", "invalid_request at 46: option \"retention\" is given twice"),
        (
            "vacum_retention = '1 d'",
            "invalid_request at 31: unknown option \"vacum_retention\", did you mean vacuum_retention?",
        ),
        ("optimize = sometimes", "invalid_request at 42: option optimize = \"sometimes\" must be 'auto' or 'off'"),
        (
            "checkpoint_interval = 0",
            "invalid_request at 53: option checkpoint_interval = \"0\" must be a whole number of commits, 1 or more",
        ),
        (
            "vacuum_retention = 'none'",
            "invalid_request at 50: option vacuum_retention = \"none\" must be a time such as '7 days' or '36 hours'",
        ),
        (
            "warm = '1 day'",
            "invalid_definition at -: invalid definition of stream s: warm and cold go together: set both, warm = '30 days' for when files move and cold = 's3://bucket/place' for where to",
        ),
        (
            "cold = 'archive', warm = '1 day'",
            "invalid_definition at -: invalid definition of stream s: cold = \"archive\" is not a place: write s3://bucket/place, gs://, az:// or file:///folder",
        ),
    ];
    for (options, expected) in cases {
        assert_eq!(refusal(&format!("create stream s (a int) with ({options})")), expected);
    }
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    let deep_type = format!("create stream s (a {}int{})", "array<".repeat(5000), ">".repeat(5000));
    assert!(refusal(&deep_type).starts_with("too_large"), "{}", refusal(&deep_type));
    assert!(refusal(&format!("create stream s (a int{})", "[]".repeat(5000))).starts_with("too_large"));
    let deep_check = format!("create stream s (a int check ({}a > 1{}))", "(".repeat(5000), ")".repeat(5000));
    assert!(refusal(&deep_check).contains("nests deeper"), "{}", refusal(&deep_check));
    let deep_query = format!("select {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert_eq!(parse(&deep_query).unwrap_err().code(), Code::TooLarge);
}

pub(in crate::ddl) mod there_and_back {
    use super::*;
    use millstream_catalog::{Check, Column, DataType, LakePolicy, RowField, StreamOptions, Watermark};
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    fn data_type() -> impl Strategy<Value = DataType> {
        let plain = prop_oneof![
            Just(DataType::Boolean),
            Just(DataType::SmallInt),
            Just(DataType::Int),
            Just(DataType::BigInt),
            Just(DataType::Real),
            Just(DataType::Double),
            Just(DataType::Text),
            Just(DataType::Bytea),
            Just(DataType::Date),
            Just(DataType::Time),
            Just(DataType::Timestamp),
            Just(DataType::TimestampTz),
            Just(DataType::Interval),
            Just(DataType::Uuid),
            Just(DataType::Json),
            (1u8..=38)
                .prop_flat_map(|p| (Just(p), 0..=p as i8))
                .prop_map(|(precision, scale)| DataType::Decimal { precision, scale }),
        ];
        plain.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|t| DataType::Array(Box::new(t))),
                vec(inner, 1..4).prop_map(|types| {
                    let name = |i: usize| ["a", "Field B", "order", "\"q\""][i].to_owned();
                    let field = |(i, data_type)| RowField { name: name(i), data_type };
                    DataType::Row(types.into_iter().enumerate().map(field).collect())
                }),
            ]
        })
    }

    fn column() -> impl Strategy<Value = Column> {
        let default = prop_oneof![
            Just("0"),
            Just("-1.5e3"),
            Just("'it''s; --'"),
            Just("now()"),
            Just("'x' || upper('y')"),
            Just("CAST('1' AS bigint) + 2"),
            Just("(1 IS NOT NULL)"),
            Just("ARRAY[1, 2]"),
            Just("E'\\n'"),
            Just("INTERVAL '1' DAY"),
            Just("NULL"),
            Just("current_timestamp"),
            Just("'2013-01-01'::date"),
        ]
        .prop_map(str::to_owned);
        (data_type(), any::<bool>(), option::of(default), option::of("[^\\x00]{1,20}")).prop_map(
            |(data_type, nullable, default, comment)| Column {
                name: String::new(),
                data_type,
                nullable,
                default,
                comment,
            },
        )
    }

    /// Any policy for a stream's files.
    pub(in crate::ddl) fn policy() -> impl Strategy<Value = LakePolicy> {
        let bytes = prop_oneof![(64u64 << 10)..(1 << 20), (1u64..4096).prop_map(|mb| mb << 20)];
        (
            option::of((1u64..1000, "s3://[a-z]{1,5}(/[a-z0-9=_.-]{1,4}x){0,2}")),
            any::<bool>(),
            option::of(bytes),
            option::of(1u64..1_000_000_000),
            option::of(1u32..1000),
        )
            .prop_map(|(moving, optimize_off, target_file_bytes, vacuum_retention_ms, checkpoint_interval)| {
                let (warm_ms, cold) = moving.unzip();
                LakePolicy { warm_ms, cold, optimize_off, target_file_bytes, vacuum_retention_ms, checkpoint_interval }
            })
    }

    fn options() -> impl Strategy<Value = StreamOptions> {
        let amount = || option::of(prop_oneof![1u64..100_000, (1u64..400).prop_map(|d| d * 86_400_000)]);
        let given = (1u32..=1024, amount(), amount(), any::<bool>(), amount(), policy());
        given.prop_map(|(partitions, ms, bytes, os, lake, policy)| StreamOptions {
            partitions,
            retention_ms: ms,
            retention_bytes: bytes,
            durability: if os { Durability::Os } else { Durability::Fsync },
            rest: false,
            lake_retention_ms: lake,
            policy,
        })
    }

    prop_compose! {
        fn any_stream()(
            columns in vec((column(), "[a-zA-Z_\" é;'-][a-zA-Z0-9_\" é;'-]{0,12}"), 1..6),
            checked in option::of("[a-z \"]{1,8}"),
            time in any::<bool>(),
            keyed in any::<bool>(),
            schema in prop_oneof![Just("public"), Just("ops"), Just("Weird-One")],
            options in options(),
            rest in any::<bool>(),
            comment in option::of("[^\\x00]{1,30}"),
        ) -> Stream {
            let mut columns: Vec<Column> = columns.into_iter().enumerate()
                .map(|(i, (column, name))| Column { name: format!("{name}{i}"), ..column }).collect();
            let mut options = options;
            options.rest = rest;
            columns.push(Column::new("ts", DataType::TimestampTz));
            columns.push(Column::new("key", DataType::Text));
            if rest {
                columns.push(Column::new("_rest", DataType::Json));
            }
            Stream {
                id: StreamId(Uuid::nil()),
                name: ObjectName::new(schema, "Select").unwrap(),
                columns,
                checks: checked.into_iter().map(|name| Check { name, expr: "key <> 'a' -- no ; b\n OR key IS NULL".into() }).collect(),
                watermark: time.then(|| Watermark { column: "ts".into(), expr: "ts - INTERVAL '5' SECOND".into() }),
                partition_by: if keyed { vec!["key".into(), "ts".into()] } else { vec![] },
                options,
                comment,
                version: 1,
                created_at_ms: 0,
                table: None,
            }
        }
    }

    proptest! {
        #[test]
        fn parsing_what_was_rendered_gives_the_stream_back(original in any_stream()) {
            prop_assume!(original.validate().is_ok());
            let sql = render_create(&original);
            prop_assert_eq!(&stream(&sql), &original, "{}", sql);
        }

        #[test]
        fn no_text_makes_the_parser_panic(sql in "(create stream|alter stream|set|show|comment on|drop stream)? ?[a-z0-9 (),.;'\"<>\\[\\]$-]{0,60}") {
            if let Err(error) = parse(&sql) {
                let length = sql.chars().count();
                prop_assert!(error.position().is_none_or(|p| (1..=length + 1).contains(&p)), "{error} in {sql:?}");
            }
        }
    }
}
