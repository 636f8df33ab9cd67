//! Owns CSV bodies: a header that names columns, then records (RFC 4180).
//!
//! An unquoted empty field is NULL, a quoted one the empty text. Columns that the header does not name are missing from
//! every row. Fields of json, array and row columns hold JSON. A record that cannot be told from the next one, because
//! its quotes do not close, costs its first line.

use super::Error;
use super::columns::{ColumnBuffer, Values};
use super::json::{append_json_text, push_quoted};
use super::place::{check_encoding, line_end};
use super::refusal::{Parsed, Refusal, shown};
use super::rows::{Extra, RowBuilder};

/// After so many lines whose quotes do not close, the rest of the body is rejected as one row: each of them costs a
/// look at everything behind it.
const MAX_OPEN_QUOTES: usize = 16;

/// What a header field stands for.
enum Target {
    Column(usize),
    /// No column; its name as JSON writes it between quotes.
    Unknown(Vec<u8>),
}

/// A field's place, without its quotes.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    quoted: bool,
    /// Whether it holds doubled quotes.
    doubled: bool,
}

/// Reads the header and every record behind it.
pub(crate) fn decode(rows: &mut RowBuilder<'_>, body: &[u8], start: usize) -> Result<(), Error> {
    let mut reader =
        Records { body, pos: start, spans: Vec::new(), scratch: Vec::new(), max_bytes: rows.max_row_bytes() };
    let targets = reader.header(rows)?;
    let valid = simdutf8::basic::from_utf8(body).is_ok();
    let mut open_quotes = 0;
    while reader.skip_blank_lines() {
        let start = reader.pos;
        let end = match reader.split(start) {
            Ok(end) => end,
            Err(refusal) => {
                open_quotes += 1;
                let end = if open_quotes > MAX_OPEN_QUOTES { body.len() } else { line_end(body, start) };
                rows.reject(*refusal, body, start, end)?;
                reader.pos = end;
                continue;
            }
        };
        let checked = if valid { Ok(()) } else { check_encoding(body, start, end) };
        let read = checked.and_then(|()| rows.check_size(start, end));
        match read.and_then(|()| reader.read(rows, &targets, start)) {
            Ok(()) => {
                rows.commit(start, end)?;
                if rows.rows() == 1 {
                    rows.reserve(body.len() - end);
                }
            }
            Err(refusal) => rows.reject(*refusal, body, start, end)?,
        }
    }
    Ok(())
}

/// Splits a body into records.
struct Records<'a> {
    body: &'a [u8],
    /// Where the next record begins.
    pos: usize,
    /// The fields of the record that was split last.
    spans: Vec<Span>,
    scratch: Vec<u8>,
    max_bytes: usize,
}

impl<'a> Records<'a> {
    fn header(&mut self, rows: &RowBuilder<'_>) -> Result<Vec<Target>, Error> {
        let wrong = |reason: String| Error::Header { reason };
        if !self.skip_blank_lines() {
            return Err(wrong("it is missing".into()));
        }
        self.split(self.pos).map_err(|refusal| wrong(refusal.reason))?;
        let mut names: Vec<String> = Vec::new();
        for span in &self.spans {
            let name = unquoted(self.body, *span, &mut self.scratch).trim_ascii();
            let name = std::str::from_utf8(name).map_err(|_| wrong("it is not UTF-8".into()))?;
            if name.is_empty() {
                return Err(wrong(format!("field {} has no name", names.len() + 1)));
            }
            if names.iter().any(|n| n == name) {
                return Err(wrong(format!("it names {} twice", shown(name.as_bytes()))));
            }
            names.push(name.to_owned());
        }
        let known = names.iter().any(|name| rows.plan.keys.find(name.as_bytes()).is_some());
        if !known {
            let columns: Vec<&str> = rows.plan.columns.iter().take(8).map(|c| c.name.as_str()).collect();
            let reason = format!("none of its names is a column; the stream has {}", columns.join(", "));
            return Err(wrong(reason));
        }
        Ok(names.iter().map(|name| target(rows, name)).collect())
    }

    /// Goes on to the next line that is not blank; false at the end.
    fn skip_blank_lines(&mut self) -> bool {
        loop {
            match self.body.get(self.pos..) {
                Some([b'\n', ..]) => self.pos += 1,
                Some([b'\r', b'\n', ..]) => self.pos += 2,
                Some([_, ..]) => return true,
                _ => return false,
            }
        }
    }

    /// Splits the record at `start` into its fields, moves behind it, and gives its end.
    fn split(&mut self, start: usize) -> Parsed<usize> {
        self.spans.clear();
        let mut pos = start;
        loop {
            let (span, next) = self.field(pos, start)?;
            self.spans.push(span);
            match self.body.get(next) {
                Some(b',') => pos = next + 1,
                Some(_) => {
                    self.pos = next + 1;
                    let end = if self.body[..next].ends_with(b"\r") { next - 1 } else { next };
                    return Ok(end.max(start));
                }
                None => {
                    self.pos = next;
                    return Ok(next);
                }
            }
        }
    }

    /// One field, and the place of the comma, newline or end behind it.
    fn field(&self, start: usize, record: usize) -> Parsed<(Span, usize)> {
        if self.body.get(start) == Some(&b'"') {
            return self.quoted_field(start, record);
        }
        let next = memchr::memchr2(b',', b'\n', &self.body[start..]).map_or(self.body.len(), |offset| start + offset);
        let at_line_end = self.body.get(next) != Some(&b',');
        let end = if at_line_end && self.body[start..next].ends_with(b"\r") { next - 1 } else { next };
        Ok((Span { start, end, quoted: false, doubled: false }, next))
    }

    fn quoted_field(&self, start: usize, record: usize) -> Parsed<(Span, usize)> {
        let limit = self.body.len().min(record + self.max_bytes + 1);
        let mut doubled = false;
        let mut pos = start + 1;
        while let Some(offset) = memchr::memchr(b'"', self.body.get(pos..limit).unwrap_or_default()) {
            let quote = pos + offset;
            match self.body.get(quote + 1..) {
                Some([b'"', ..]) => {
                    doubled = true;
                    pos = quote + 2;
                }
                None | Some([] | [b',' | b'\n', ..] | [b'\r', b'\n', ..] | [b'\r']) => {
                    let carriage = usize::from(self.body.get(quote + 1) == Some(&b'\r'));
                    let span = Span { start: start + 1, end: quote, quoted: true, doubled };
                    return Ok((span, quote + 1 + carriage));
                }
                Some(_) => {
                    return Err(Refusal::invalid("only a comma or the line's end can follow a closing quote; a quote in a quoted field is doubled")
                        .at(quote + 1));
                }
            }
        }
        Err(Refusal::invalid("the quoted field that begins here does not end").at(start))
    }

    /// Appends the fields of the record that was split to their columns.
    fn read(&mut self, rows: &mut RowBuilder<'_>, targets: &[Target], start: usize) -> Parsed<()> {
        if self.spans.len() != targets.len() {
            let (found, expected) = (self.spans.len(), targets.len());
            return Err(Refusal::invalid(format!("the row has {found} fields, the header {expected}")).at(start));
        }
        let plan = rows.plan;
        for (span, target) in self.spans.iter().zip(targets) {
            let absent = !span.quoted && span.start == span.end;
            let text = unquoted(self.body, *span, &mut self.scratch);
            match target {
                Target::Column(column) if absent => rows.columns[*column].append_null(),
                Target::Column(column) => {
                    append(&mut rows.columns[*column], text, &mut rows.extra)
                        .map_err(|e| e.within(&plan.columns[*column].name).at(span.start))?;
                }
                Target::Unknown(_) if absent => {}
                Target::Unknown(name) => {
                    let mut quoted = Vec::new();
                    push_quoted(&mut quoted, &String::from_utf8_lossy(text));
                    rows.extra.unknown_field(name, &quoted);
                }
            }
        }
        Ok(())
    }
}

fn target(rows: &RowBuilder<'_>, name: &str) -> Target {
    if let Some(column) = rows.plan.keys.find(name.as_bytes()) {
        return Target::Column(column);
    }
    let mut quoted = Vec::new();
    push_quoted(&mut quoted, name);
    Target::Unknown(quoted[1..quoted.len() - 1].to_vec())
}

fn append(column: &mut ColumnBuffer, text: &[u8], extra: &mut Extra) -> Parsed<()> {
    if !matches!(column.values, Values::Json(_) | Values::Array(_) | Values::Row(_)) {
        return column.append_text(text);
    }
    append_json_text(column, text, extra).map_err(|mut refusal| {
        // Its place is one within the field's text, not within the body.
        refusal.at = None;
        refusal
    })
}

/// A field's text, its doubled quotes made single.
fn unquoted<'b>(body: &'b [u8], span: Span, scratch: &'b mut Vec<u8>) -> &'b [u8] {
    let text = &body[span.start..span.end];
    if !span.doubled {
        return text;
    }
    scratch.clear();
    let mut rest = text;
    while let Some(quote) = memchr::memchr(b'"', rest) {
        scratch.extend_from_slice(&rest[..=quote]);
        rest = &rest[(quote + 2).min(rest.len())..];
    }
    scratch.extend_from_slice(rest);
    scratch
}

#[cfg(test)]
mod tests {
    use millstream_catalog::fault::Code;
    use millstream_catalog::{Column, DataType};

    use super::super::tests::{run, shown, stream};
    use super::super::{DecodeLimits, Decoded, Format, Plan};

    fn csv(body: impl AsRef<[u8]>) -> Decoded {
        let columns = vec![
            Column::new("id", DataType::Int),
            Column::new("name", DataType::Text),
            Column::new("tags", DataType::Array(Box::new(DataType::Text))),
        ];
        run(&stream(columns), Format::Csv, body)
    }

    #[test]
    fn columns_are_matched_by_name_in_any_order() {
        let decoded = csv("\u{feff}name,zip,id\r\nann,9,1\r\n\"b, \"\"x\"\"\ny\",,2\r\n\r\n,8,\n");
        assert_eq!(shown(&decoded, 0), ["1", "2", "∅"]);
        assert_eq!(shown(&decoded, 1), ["ann", "b, \"x\"\ny", "∅"]);
        assert_eq!(shown(&decoded, 2), ["∅", "∅", "∅"]);
        assert_eq!((decoded.unknown_fields, decoded.rejected.len()), (2, 0));
    }

    #[test]
    fn an_empty_field_is_null_and_a_quoted_one_the_empty_text() {
        let decoded = csv("id,name\n1,\n2,\"\"\n3,\"\"\"\"");
        assert_eq!(shown(&decoded, 1), ["∅", "", "\""]);
    }

    #[test]
    fn nested_values_are_json() {
        let decoded = csv("id,tags\n1,\"[\"\"a\"\",null]\"\n2,[]\n3,x\n4,\"[1] 2\"");
        assert_eq!(shown(&decoded, 2), ["[a, ∅]", "[]"]);
        assert_eq!(decoded.rejected.iter().map(|r| r.column).collect::<Vec<_>>(), [Some(3), Some(4)]);
    }

    #[test]
    fn a_bad_record_costs_itself_alone_and_says_where() {
        let decoded = csv("id,name\n1,a\nx,b\n2\n3,c,d\n4,\"e\"f\n99999999999,g\n\"5\",\"h\ni\"\nz,j\n6,k");
        assert_eq!(shown(&decoded, 0), ["1", "5", "6"]);
        let places: Vec<_> = decoded.rejected.iter().map(|r| (r.line, r.column, r.text.as_str())).collect();
        assert_eq!(
            places,
            [
                (3, Some(1), "x,b"),
                (4, Some(1), "2"),
                (5, Some(1), "3,c,d"),
                (6, Some(6), "4,\"e\"f"),
                (7, Some(1), "99999999999,g"),
                (10, Some(1), "z,j"),
            ]
        );
        assert_eq!(decoded.rejected[4].code, Code::OutOfRange);
        assert_eq!(decoded.rejected[0].field.as_deref(), Some("id"));
        let mut reader =
            decoded.origins.reader(b"id,name\n1,a\nx,b\n2\n3,c,d\n4,\"e\"f\n99999999999,g\n\"5\",\"h\ni\"\nz,j\n6,k");
        assert_eq!(reader.locate(1), (8, "\"5\",\"h\ni\"".into()));
    }

    #[test]
    fn a_quote_that_does_not_close_costs_its_line() {
        let decoded = csv("id,name\n1,\"open\n2,b\n");
        assert_eq!((shown(&decoded, 0), decoded.rejected[0].text.as_str()), (vec!["2".into()], "1,\"open"));
        let many = format!("id,name\n{}2,b", "1,\"open, \n".repeat(101));
        let decoded = csv(many);
        assert!(decoded.rejected.len() <= 101);
        assert!(
            decoded.rejected.iter().map(|r| r.text.lines().count()).sum::<usize>() + decoded.batch.num_rows() >= 102
        );
    }

    #[test]
    fn a_header_that_cannot_be_used_refuses_the_body() {
        for body in ["x,y\n1,2", "id,id\n1,2", "id,\n1,2", "\"id\n1", "\n\n"] {
            let plan = Plan::new(&stream(vec![Column::new("id", DataType::Int)]));
            let result = super::super::decode(&plan, Format::Csv, &body.into(), DecodeLimits::default());
            assert!(result.is_err() || body.trim().is_empty(), "{body:?}");
        }
    }
}
