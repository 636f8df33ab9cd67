//! Owns what standard SQL says in words that the planner does not take: they are written as others of the same meaning.
//!
//! `FETCH FIRST n ROWS ONLY` is LIMIT, `SIMILAR TO` with a constant pattern is a match with a regular expression, and
//! ONLY before a table says nothing, as tables have no children. What has no such form is refused: the planner would
//! leave it out, or fail with words about its own parts.

use std::iter::Peekable;
use std::ops::ControlFlow;
use std::str::Chars;

use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, LimitClause, Query, Spanned, TableFactor, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};
use millstream_catalog::fault::Code;

use super::split::char_position;
use crate::Error;

/// Why a statement is refused, and where.
struct Refusal {
    code: Code,
    message: String,
    hint: Option<&'static str>,
    span: Span,
}

/// Writes a statement in words that the planner takes; `text` is the statement's, behind `offset` characters of others.
pub(super) fn restate(statement: &mut DfStatement, text: &str, offset: usize) -> Result<(), Error> {
    let refused = match statement {
        DfStatement::Statement(statement) => VisitMut::visit(statement.as_mut(), &mut Restated),
        DfStatement::Explain(explain) => return restate(&mut explain.statement, text, offset),
        _ => ControlFlow::Continue(()),
    };
    let ControlFlow::Break(Refusal { code, message, hint, span }) = refused else { return Ok(()) };
    let start = span.start;
    let position = (start.line > 0).then(|| offset + char_position(text, start.line, start.column));
    Err(Error::Rejected { code, message, hint: hint.map(str::to_owned), position })
}

/// Writes an expression in words that the planner takes.
pub(crate) fn restate_expression(expr: &mut Expr) -> Result<(), Error> {
    match VisitMut::visit(expr, &mut Restated) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(Refusal { code, message, hint, .. }) => {
            Err(Error::Rejected { code, message, hint: hint.map(str::to_owned), position: None })
        }
    }
}

/// The tokens of a statement without the word ONLY before a table.
pub(super) fn without_only(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    const BEFORE: [&str; 5] = ["from", "update", "join", "using", "into"];
    if !tokens.iter().any(|token| is_word(token, "only")) {
        return tokens;
    }
    let solid: Vec<usize> = (0..tokens.len()).filter(|i| !matches!(tokens[*i].token, Token::Whitespace(_))).collect();
    let names = |token: &TokenWithSpan| match &token.token {
        Token::Word(Word { quote_style: None, keyword, .. }) => {
            *keyword != Keyword::AS && !RESERVED_FOR_TABLE_ALIAS.contains(keyword)
        }
        token => matches!(token, Token::Word(_)),
    };
    let says_nothing = |at: &[usize]| {
        let [before, only, table] = at else { return false };
        BEFORE.iter().any(|word| is_word(&tokens[*before], word))
            && is_word(&tokens[*only], "only")
            && names(&tokens[*table])
    };
    let gone: Vec<usize> = solid.windows(3).filter(|at| says_nothing(at)).map(|at| at[1]).collect();
    for i in gone.into_iter().rev() {
        tokens.remove(i);
    }
    tokens
}

fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    matches!(&token.token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
}

struct Restated;

impl VisitorMut for Restated {
    type Break = Refusal;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Refusal> {
        limited(query)
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Refusal> {
        let (TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. }) = factor else {
            return ControlFlow::Continue(());
        };
        ControlFlow::Break(Refusal {
            code: Code::Unsupported,
            message: "TABLESAMPLE is not supported".to_owned(),
            hint: Some("WHERE random() < 0.1 takes about a tenth of the rows"),
            span: factor.span(),
        })
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Refusal> {
        match expr {
            Expr::SimilarTo { negated, expr: of, pattern, escape_char } => {
                let span = pattern.span();
                match constant(pattern, escape_char.as_ref()) {
                    Ok(pattern) => {
                        let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
                        let right = Box::new(Expr::value(Value::SingleQuotedString(pattern)));
                        *expr = Expr::BinaryOp { left: of.clone(), op, right };
                        ControlFlow::Continue(())
                    }
                    Err((code, message)) => {
                        let hint =
                            Some("a pattern that is computed is matched as a regular expression: text ~ pattern");
                        let hint = hint.filter(|_| code == Code::Unsupported);
                        ControlFlow::Break(Refusal { code, message, hint, span })
                    }
                }
            }
            Expr::InSubquery { expr: of, .. } if matches!(of.as_ref(), Expr::Tuple(_)) => ControlFlow::Break(Refusal {
                code: Code::Unsupported,
                message: format!("{of} IN (query) is not supported: IN compares one column with a query's"),
                hint: Some(
                    "write EXISTS (SELECT 1 FROM … WHERE x = a AND y = b) in place of (a, b) IN (SELECT x, y FROM …)",
                ),
                span: of.span(),
            }),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Writes FETCH FIRST as LIMIT.
fn limited(query: &mut Query) -> ControlFlow<Refusal> {
    let Some(fetch) = query.fetch.take() else { return ControlFlow::Continue(()) };
    let span = fetch.quantity.as_ref().map_or(Span::empty(), Spanned::span);
    let refused =
        |code, message: &str, hint| ControlFlow::Break(Refusal { code, message: message.to_owned(), hint, span });
    if fetch.with_ties || fetch.percent {
        let hint =
            Some("FETCH FIRST n ROWS ONLY; or rank() OVER (ORDER BY …) in a query within, and a condition on it");
        return refused(Code::Unsupported, "FETCH FIRST … WITH TIES and … PERCENT are not supported", hint);
    }
    let rows = fetch.quantity.unwrap_or_else(|| Expr::value(Value::Number("1".to_owned(), false)));
    match &mut query.limit_clause {
        None => {
            query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: vec![] });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows),
        Some(_) => return refused(Code::SyntaxError, "LIMIT and FETCH FIRST say the same: write one of them", None),
    }
    ControlFlow::Continue(())
}

type Misfit = (Code, String);

/// The regular expression of a pattern that is spelled out.
fn constant(pattern: &Expr, escape: Option<&ValueWithSpan>) -> Result<String, Misfit> {
    let pattern = match pattern {
        Expr::Value(value) => text_of(&value.value),
        _ => None,
    };
    let Some(pattern) = pattern else {
        return Err((Code::Unsupported, "SIMILAR TO takes a pattern in quotes alone".to_owned()));
    };
    let mut given = match escape {
        None => "\\".chars(),
        Some(value) => text_of(&value.value).unwrap_or_default().chars(),
    };
    match (given.next(), given.next()) {
        (escape, None) => regex_of(pattern, escape),
        _ => Err((Code::InvalidValue, "ESCAPE takes one character, or '' for none".to_owned())),
    }
}

fn text_of(value: &Value) -> Option<&str> {
    match value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
        Value::DollarQuotedString(text) => Some(&text.value),
        _ => None,
    }
}

/// The regular expression that takes what a pattern of SIMILAR TO takes: the whole text, of any characters.
fn regex_of(pattern: &str, escape: Option<char>) -> Result<String, Misfit> {
    let wrong = |what: &str| (Code::InvalidValue, format!("the pattern {pattern:?} of SIMILAR TO {what}"));
    let mut regex = "(?s)^(?:".to_owned();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => {
                literal(chars.next().ok_or_else(|| wrong("ends with its escape character"))?, &mut regex);
            }
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '(' => regex.push_str("(?:"),
            ')' | '|' | '*' | '+' | '?' | '{' | '}' => regex.push(c),
            '[' => set(&mut chars, escape, &mut regex).ok_or_else(|| wrong("has a [ that is not closed"))?,
            c => literal(c, &mut regex),
        }
    }
    regex.push_str(")$");
    Ok(regex)
}

/// A set of characters, up to its `]`.
fn set(chars: &mut Peekable<Chars<'_>>, escape: Option<char>, regex: &mut String) -> Option<()> {
    regex.push('[');
    if let Some(not) = chars.next_if_eq(&'^') {
        regex.push(not);
    }
    // A ] that comes first is one of the characters.
    if chars.next_if_eq(&']').is_some() {
        regex.push_str("\\]");
    }
    loop {
        match chars.next()? {
            ']' => break,
            // A class as [:alpha:].
            '[' if chars.next_if_eq(&':').is_some() => {
                regex.push_str("[:");
                while let Some(c) = chars.next_if(|c| *c != ']') {
                    regex.push(c);
                }
                regex.push(chars.next()?);
            }
            c if Some(c) == escape => of_set(chars.next()?, regex),
            '-' => regex.push('-'),
            c => of_set(c, regex),
        }
    }
    regex.push(']');
    Some(())
}

fn of_set(c: char, regex: &mut String) {
    if r"\[]^-&~".contains(c) {
        regex.push('\\');
    }
    regex.push(c);
}

fn literal(c: char, regex: &mut String) {
    if r"\.+*?()|[]{}^$".contains(c) {
        regex.push('\\');
    }
    regex.push(c);
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    #[test]
    fn a_pattern_becomes_a_regular_expression_of_the_whole_text() {
        let regex = |pattern| regex_of(pattern, Some('\\')).unwrap();
        assert_eq!(regex("a%|_b"), "(?s)^(?:a.*|.b)$");
        assert_eq!(regex("(a.b)*x{2,3}$^"), "(?s)^(?:(?:a\\.b)*x{2,3}\\$\\^)$");
        assert_eq!(regex("\\%\\_[^]a-c[:digit:]&_%]"), "(?s)^(?:%_[^\\]a-c[:digit:]\\&_%])$");
        assert_eq!(regex_of("a\\%#%", Some('#')).unwrap(), "(?s)^(?:a\\\\.*%)$");
        let wrong = |pattern| regex_of(pattern, Some('\\')).unwrap_err().1;
        assert_eq!(wrong("a\\"), "the pattern \"a\\\\\" of SIMILAR TO ends with its escape character");
        assert_eq!(wrong("[a"), "the pattern \"[a\" of SIMILAR TO has a [ that is not closed");
    }

    #[test]
    fn only_before_a_table_says_nothing() {
        let without = |sql: &str| {
            let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location().unwrap();
            without_only(tokens).iter().map(ToString::to_string).collect::<String>().replace("  ", " ")
        };
        assert_eq!(without("DELETE FROM ONLY t"), "DELETE FROM t");
        assert_eq!(without("UPDATE only s.\"T\" SET a = 1"), "UPDATE s.\"T\" SET a = 1");
        for kept in [
            "SELECT * FROM only",
            "SELECT * FROM only WHERE a",
            "SELECT a FROM t FETCH FIRST ROW ONLY",
            "SELECT only FROM only AS o",
        ] {
            assert_eq!(without(kept), kept);
        }
    }
}
