//! Owns the columns of text that does not say its own: found in a piece of it.
//!
//! Every row is read and each column gets the narrowest type that takes all of its values (see [`shape`]). Nothing is
//! declared NOT NULL: a sample shows what was there, not what will come.

mod json;
mod shape;
mod text;

use millstream_catalog::fault::Code;
use millstream_catalog::{Column, DataType, ObjectName, Stream, StreamId, StreamOptions};
use uuid::Uuid;

use self::shape::Shape;
use crate::{Error, Result};

/// The columns of JSON, an object per line or one array of objects, in the order in which they first
/// appear. Cut a long file behind one of its lines.
pub(crate) fn infer(sample: &[u8]) -> Result<Vec<Column>> {
    let fields = json::fields(sample)?;
    if fields.is_empty() {
        return Err(invalid("the sample has no rows with fields, there is nothing to find columns in"));
    }
    let columns: Vec<Column> =
        fields.into_iter().map(|(name, shape)| Column::new(name, shape.into_data_type())).collect();
    check(&columns)?;
    Ok(columns)
}

/// The narrowest type that takes all of these cells of a CSV column; text where there are none.
pub(crate) fn infer_cells<'a>(cells: impl Iterator<Item = &'a str>) -> DataType {
    let mut shape = Shape::Unknown;
    cells.filter(|cell| !cell.is_empty()).for_each(|cell| shape.widen(Shape::of_cell(cell)));
    shape.or_text().into_data_type()
}

/// Refuses what no stream could have, with the definition's own messages.
fn check(columns: &[Column]) -> Result<()> {
    let stream = Stream {
        id: StreamId(Uuid::nil()),
        name: ObjectName::public("sample")?,
        columns: columns.to_vec(),
        checks: Vec::new(),
        watermark: None,
        partition_by: Vec::new(),
        options: StreamOptions::default(),
        comment: None,
        version: 1,
        created_at_ms: 0,
        table: None,
    };
    Ok(stream.validate()?)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::rejected(Code::InvalidValue, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sample: &str) -> String {
        let columns = infer(sample.as_bytes()).unwrap();
        columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn each_column_gets_the_narrowest_type_that_takes_every_value() {
        let sample = r#"
            {"n": 1, "x": 1, "b": true, "d": "2013-01-01", "t": "2013-01-01T05:00:00", "z": "2013-01-01T05:00:00Z"}
            {"n": 2, "x": 1.5, "u": "0b7b8a7e-0f0f-4c3c-9d4b-1c2d3e4f5a6b", "d": "2013-01-01T10:00:00", "e": "", "n2": null}
            {"n": 18446744073709551615, "z": "2013-01-01 05:00:00.25+01:00", "m": 1, "h": "12:30:00", "n2": [1, 2.5]}
            {"m": "one", "e": "x", "o": {"a": 1, "b": {"c": "x"}}, "l": [{"k": 1}, {"k": 2, "v": null}]}
        "#;
        let lines: Vec<_> = sample.lines().map(str::trim).collect();
        assert_eq!(
            found(&lines.join("\n")),
            "n decimal(20,0), x double precision, b boolean, d timestamp, t timestamp, z timestamptz, u uuid, e text, \
             n2 double precision[], m json, h time, o row(a bigint, b row(c text)), l row(k bigint, v json)[]"
        );
    }

    #[test]
    fn an_array_of_objects_is_a_sample_too() {
        assert_eq!(found("[{\"a\": 1},\n {\"b\": \"x\"}]"), "a bigint, b text");
    }

    #[test]
    fn a_csv_sample_is_typed_by_its_cells() {
        for (cells, expected) in [
            (["1", "2"], "bigint"),
            (["1.5", "2"], "double precision"),
            (["true", "false"], "boolean"),
            (["2013-01-01 05:00:00", ""], "timestamp"),
            (["00501", "10001"], "text"),
            (["", ""], "text"),
        ] {
            assert_eq!(infer_cells(cells.into_iter()).to_string(), expected, "{cells:?}");
        }
    }

    #[test]
    fn a_sample_that_does_not_parse_is_refused_with_its_line() {
        let error = infer(b"{\"a\": 1}\n{\"a\": \n").unwrap_err().to_string();
        assert!(error.starts_with("the sample's line 2"), "{error}");
        let error = infer(b"{\"a\": 1}\n[1]\n").unwrap_err().to_string();
        assert_eq!(error, "the sample's line 2 is not a JSON object");
        for empty in ["", "\n\n", "{}\n", "[]"] {
            let error = infer(empty.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("there is nothing to find columns in"), "{error}");
        }
    }

    #[test]
    fn names_that_differ_in_case_alone_are_refused() {
        let error = infer(b"{\"id\": 1, \"ID\": 2}").unwrap_err().to_string();
        assert!(error.contains("named twice"), "{error}");
    }
}
