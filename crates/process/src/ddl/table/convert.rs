//! Owns CONVERT TO DELTA: which folder of Parquet files becomes a Delta table, and what its folders mean.

use datafusion::sql::sqlparser::tokenizer::Token;
use millstream_catalog::Column;

use crate::Result;
use crate::ddl::Command;
use crate::ddl::column_type::data_type;
use crate::ddl::cursor::Cursor;

/// Reads what stands after `CONVERT TO DELTA`: `parquet.'folder' [PARTITIONED BY (column type, …)]`.
pub(super) fn convert_to_delta(cursor: &mut Cursor<'_>) -> Result<Command> {
    const FORM: &str = "parquet.'folder'";
    if !cursor.take_word("parquet") || !cursor.take(&Token::Period) {
        return Err(cursor.expected(FORM));
    }
    let path = match &cursor.peek().token {
        Token::Word(word) if word.quote_style.is_some() => {
            let path = word.value.clone();
            cursor.advance();
            path
        }
        _ => cursor.string("the folder in quotes")?,
    };
    let mut partitioned_by = Vec::new();
    if cursor.take_words(&["partitioned", "by"]) || cursor.take_words(&["partition", "by"]) {
        partitioned_by = cursor.list("the columns that name folders", |c| {
            let name = c.identifier("a column name")?;
            Ok(Column::new(name, data_type(c)?))
        })?;
    }
    Ok(Command::ConvertToDelta { path, partitioned_by })
}
