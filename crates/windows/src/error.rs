//! Owns what can be wrong with a call, and how it reaches a user through the planner.

use datafusion::common::{Diagnostic, Span};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Spanned};

use crate::Function;

/// Why a call cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Arguments that are missing, too many, or of another kind.
    #[error("{function}: {cause}; write {}", function.usage())]
    Arguments {
        /// The function.
        function: Function,
        /// What is wrong with them.
        cause: String,
    },
    /// The timestamp column is not one of the input's.
    #[error("{function}: column {column:?} is not in the input; {}", timestamps(columns))]
    UndefinedColumn {
        /// The function.
        function: Function,
        /// What was named.
        column: String,
        /// The timestamp columns that there are.
        columns: Vec<String>,
    },
    /// A key of PARTITION BY is not one of the input's columns.
    #[error("{function}: key {key:?} is not in the input; its columns are {}", shortened(columns))]
    UndefinedKey {
        /// The function.
        function: Function,
        /// What was named.
        key: String,
        /// The columns that there are.
        columns: Vec<String>,
    },
    /// The timestamp column is of another type.
    #[error("{function}: column {column:?} is {data_type}, and windows are over a timestamp; {}", timestamps(columns))]
    NotTimestamp {
        /// The function.
        function: Function,
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
        /// The timestamp columns that there are.
        columns: Vec<String>,
    },
    /// An interval that is not acceptable by itself or beside another.
    #[error("{function}: {cause}")]
    Interval {
        /// The function.
        function: Function,
        /// What is wrong and what to write instead.
        cause: String,
    },
    /// The input has a column of a name that the call adds.
    #[error(
        "{function}: the input has a column {column:?} already; give it another name in a query in parentheses, as \
         {function}((SELECT {column} AS inner_{column}, … FROM …), …)"
    )]
    DuplicateColumn {
        /// The function.
        function: Function,
        /// The column.
        column: &'static str,
    },
}

impl Error {
    /// The planner's error, pointing at `expr`.
    pub(crate) fn at(self, expr: &SqlExpr) -> DataFusionError {
        self.with_span(expr.span())
    }

    pub(crate) fn with_span(self, span: datafusion::sql::sqlparser::tokenizer::Span) -> DataFusionError {
        let diagnostic = Diagnostic::new_error(self.to_string(), Span::try_from_sqlparser_span(span));
        DataFusionError::from(self).with_diagnostic(diagnostic)
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

/// How many columns a message lists.
const COLUMNS_SHOWN: usize = 20;

fn shortened(columns: &[String]) -> String {
    let shown = columns.iter().take(COLUMNS_SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if columns.len() > COLUMNS_SHOWN { format!("{shown}, …") } else { shown }
}

fn timestamps(columns: &[String]) -> String {
    match columns {
        [] => "none of its columns is a timestamp: cast one in a query in parentheses".to_owned(),
        [one] => format!("its timestamp column is {one}"),
        more => format!("its timestamp columns are {}", shortened(more)),
    }
}
