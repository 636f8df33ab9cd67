//! Owns how rows look on a terminal: aligned columns, widths taken from the first rows, the others streamed after.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};

/// Rows that are held back to find the columns' widths.
const SAMPLE_ROWS: usize = 1000;

const FORMAT: FormatOptions<'static> = FormatOptions::new()
    .with_display_error(true)
    .with_null("NULL")
    .with_duration_format(DurationFormat::Pretty)
    .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
    .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));

/// A table that is written as its rows come.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    sample: Vec<Vec<String>>,
    header_written: bool,
    rows: u64,
}

#[derive(Debug)]
struct Column {
    name: String,
    right: bool,
    width: usize,
}

impl Table {
    /// A table with these columns and no rows yet.
    pub fn new(schema: &Schema) -> Self {
        let columns = schema.fields().iter().map(|f| Column::new(f)).collect();
        Self { columns, sample: Vec::new(), header_written: false, rows: 0 }
    }

    /// Adds rows; writes them once the widths are known.
    pub fn push(&mut self, batch: &RecordBatch, out: &mut impl Write) -> io::Result<()> {
        let formatters = formatters(batch).map_err(io::Error::other)?;
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = formatters.iter().map(|f| cell(f, row)).collect();
            self.rows += 1;
            if self.header_written {
                self.write_row(&cells, out)?;
            } else {
                self.sample.push(cells);
                if self.sample.len() == SAMPLE_ROWS {
                    self.write_sample(out)?;
                }
            }
        }
        Ok(())
    }

    /// Writes what was held back and the count of rows.
    pub fn finish(mut self, out: &mut impl Write) -> io::Result<()> {
        if !self.header_written {
            self.write_sample(out)?;
        }
        writeln!(out, "({} row{})", self.rows, if self.rows == 1 { "" } else { "s" })
    }

    fn write_sample(&mut self, out: &mut impl Write) -> io::Result<()> {
        let sample = std::mem::take(&mut self.sample);
        for (i, column) in self.columns.iter_mut().enumerate() {
            let widest = sample.iter().map(|row| width(&row[i])).max().unwrap_or(0);
            column.width = widest.max(width(&column.name));
        }
        let names: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
        let line: Vec<String> =
            names.iter().zip(&self.columns).map(|(name, c)| format!(" {} ", centred(name, c.width))).collect();
        writeln!(out, "{}", line.join("|").trim_end())?;
        let rule: Vec<String> = self.columns.iter().map(|c| "-".repeat(c.width + 2)).collect();
        writeln!(out, "{}", rule.join("+"))?;
        self.header_written = true;
        sample.iter().try_for_each(|row| self.write_row(row, out))
    }

    /// Writes a row; a cell with several lines takes as many, each but its last marked with `+`, as psql does.
    fn write_row(&self, cells: &[String], out: &mut impl Write) -> io::Result<()> {
        let mut lines: Vec<_> = cells.iter().map(|cell| cell.split('\n').peekable()).collect();
        loop {
            let mut line = String::new();
            for (i, (rest, column)) in lines.iter_mut().zip(&self.columns).enumerate() {
                let text = column.pad(rest.next().unwrap_or_default());
                let mark = if rest.peek().is_some() { '+' } else { ' ' };
                line.push_str(if i == 0 { " " } else { "| " });
                line.push_str(&text);
                line.push(mark);
            }
            writeln!(out, "{}", line.trim_end())?;
            if lines.iter_mut().all(|rest| rest.peek().is_none()) {
                return Ok(());
            }
        }
    }
}

impl Column {
    fn new(field: &Field) -> Self {
        let right = field.data_type().is_numeric() && !matches!(field.data_type(), DataType::Interval(_));
        Self { name: field.name().clone(), right, width: 0 }
    }

    fn pad(&self, cell: &str) -> String {
        let space = " ".repeat(self.width.saturating_sub(width(cell)));
        if self.right { format!("{space}{cell}") } else { format!("{cell}{space}") }
    }
}

fn formatters(batch: &RecordBatch) -> Result<Vec<ArrayFormatter<'_>>, ArrowError> {
    batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &FORMAT)).collect()
}

/// A value, with what would disturb the terminal shown as escapes.
fn cell(formatter: &ArrayFormatter<'_>, row: usize) -> String {
    let text = formatter.value(row).to_string();
    match text.contains(disturbing) {
        true => text.chars().flat_map(shown).collect(),
        false => text,
    }
}

fn disturbing(c: char) -> bool {
    c.is_control() && c != '\n'
}

fn shown(c: char) -> Vec<char> {
    if disturbing(c) { c.escape_default().collect() } else { vec![c] }
}

/// The columns that the widest line takes on a terminal.
fn width(text: &str) -> usize {
    text.split('\n').map(unicode_width::UnicodeWidthStr::width).max().unwrap_or(0)
}

fn centred(text: &str, to: usize) -> String {
    let space = to.saturating_sub(width(text));
    format!("{}{text}{}", " ".repeat(space / 2), " ".repeat(space - space / 2))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};

    fn shown(batches: &[RecordBatch]) -> String {
        let mut out = Vec::new();
        let mut table = Table::new(&batches[0].schema());
        for batch in batches {
            table.push(batch, &mut out).unwrap();
        }
        table.finish(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_stand_right_and_text_left_with_nulls_named() {
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("Düsseldorf"), None, Some("two\nli\tnes")]));
        let counts: ArrayRef = Arc::new(Int64Array::from(vec![1, 20, 300]));
        let batch = RecordBatch::try_from_iter([("name", names), ("n", counts)]).unwrap();
        let expected = [
            "    name    |  n",
            "------------+-----",
            " Düsseldorf |   1",
            " NULL       |  20",
            " two       +| 300",
            " li\\tnes    |",
            "(3 rows)\n",
        ];
        let expected = expected.join("\n");
        assert_eq!(shown(&[batch]), expected);
    }

    #[test]
    fn times_look_as_in_postgres() {
        let times = TimestampMicrosecondArray::from(vec![1_357_034_400_000_000]);
        let utc: ArrayRef = Arc::new(times.clone().with_timezone("UTC"));
        let plain: ArrayRef = Arc::new(times);
        let batch = RecordBatch::try_from_iter([("a", utc), ("b", plain)]).unwrap();
        let text = shown(&[batch]);
        assert!(text.contains(" 2013-01-01 10:00:00+00:00 | 2013-01-01 10:00:00\n"), "{text}");
    }

    #[test]
    fn rows_after_the_sample_are_written_as_they_come() {
        let batch = |n: i64| {
            let numbers: ArrayRef = Arc::new(Int64Array::from(vec![n; 700]));
            RecordBatch::try_from_iter([("n", numbers)]).unwrap()
        };
        let mut out = Vec::new();
        let mut table = Table::new(&batch(1).schema());
        table.push(&batch(1), &mut out).unwrap();
        assert!(out.is_empty());
        table.push(&batch(2), &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out).lines().count(), 2 + 1400);
    }
}
