//! Owns the spellings of table versions: `t FOR SYSTEM_TIME AS OF expr` and `t VERSION AS OF n`, which the library's
//! parser does not read in this dialect.

use datafusion::sql::sqlparser::ast::{FunctionArg, FunctionArgExpr, TableFactor, TableFunctionArgs, TableVersion};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::argument::name_of;

/// The names under which versions are arguments until they are parsed: no identifiers that a user would quote.
const TIME: &str = "for system_time as of";
const NUMBER: &str = "version as of";

/// Makes an argument of the table out of each version: `t FOR SYSTEM_TIME AS OF expr` becomes
/// `t("for system_time as of" => expr)`. All other tokens stay, and each keeps its place in the text.
pub(crate) fn respell(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|t| is_word(&t.token, "system_time") || is_word(&t.token, "version")) {
        return tokens;
    }
    let solid: Vec<usize> = (0..tokens.len()).filter(|i| !matches!(tokens[*i].token, Token::Whitespace(_))).collect();
    // RESTORE t TO VERSION …, CREATE TABLE t CLONE u VERSION … are no queries, and are read as they are written.
    let word = |nth: usize, word: &str| solid.get(nth).is_some_and(|i| is_word(&tokens[*i].token, word));
    if word(0, "restore") || (word(0, "create") && tokens.iter().any(|t| is_word(&t.token, "clone"))) {
        return tokens;
    }
    let mut respelt = Vec::with_capacity(tokens.len() + 8);
    let mut taken = 0;
    for nth in 1..solid.len() {
        if solid[nth] < taken {
            continue;
        }
        let Some((name, words)) = clause(&tokens, &solid[nth..]) else { continue };
        let Some(begin) = solid.get(nth + words).copied() else { continue };
        let Some(length) = expression(&tokens[begin..]) else { continue };
        respelt.extend_from_slice(&tokens[taken..solid[nth]]);
        let span = tokens[solid[nth]].span;
        let word = Word { value: name.to_owned(), quote_style: Some('"'), keyword: Keyword::NoKeyword };
        let put = [Token::LParen, Token::Word(word), Token::RArrow];
        respelt.extend(put.map(|token| TokenWithSpan { token, span }));
        respelt.extend_from_slice(&tokens[begin..begin + length]);
        respelt.push(TokenWithSpan { token: Token::RParen, span: tokens[begin + length - 1].span });
        taken = begin + length;
    }
    respelt.extend_from_slice(&tokens[taken..]);
    respelt
}

/// Which clause begins here, and how many words it has.
fn clause(tokens: &[TokenWithSpan], solid: &[usize]) -> Option<(&'static str, usize)> {
    let token = |nth: usize| solid.get(nth).map(|i| &tokens[*i].token);
    let begins = |words: &[&str]| {
        words.iter().enumerate().all(|(nth, word)| token(nth).is_some_and(|token| is_word(token, word)))
    };
    if begins(&["for", "system_time", "as", "of"]) {
        return Some((TIME, 4));
    }
    // A column may be called version.
    let number = begins(&["version", "as", "of"]) && matches!(token(3), Some(Token::Number(..)));
    number.then_some((NUMBER, 3))
}

/// How many tokens an expression has that begins here.
fn expression(tokens: &[TokenWithSpan]) -> Option<usize> {
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens.to_vec());
    parser.parse_expr().ok()?;
    let end = parser.index().min(tokens.len());
    let last = tokens[..end].iter().rposition(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF))?;
    Some(last + 1)
}

/// Makes a version again of an argument that [`respell`] made.
pub(crate) fn canonical(factor: &mut TableFactor) {
    let TableFactor::Table { args, version, .. } = factor else { return };
    let Some(TableFunctionArgs { args: given, .. }) = args else { return };
    let [arg] = given.as_slice() else { return };
    let (FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
    | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. }) = arg
    else {
        return;
    };
    let found = match name_of(arg).as_deref() {
        Some(TIME) => TableVersion::ForSystemTimeAsOf(expr.clone()),
        Some(NUMBER) => TableVersion::VersionAsOf(expr.clone()),
        _ => return,
    };
    (*version, *args) = (Some(found), None);
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::Statement;

    fn parsed(sql: &str) -> String {
        match crate::parse(sql) {
            Ok(Statement::Statement(statement)) => statement.to_string(),
            Ok(other) => other.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn versions_stand_between_a_table_and_its_alias() {
        // The library writes the alias first.
        let cases = [
            (
                "SELECT * FROM o JOIN r FOR SYSTEM_TIME AS OF PROCTIME() AS x ON o.k = x.k AND x.a > 1",
                "SELECT * FROM o JOIN r AS x FOR SYSTEM_TIME AS OF PROCTIME() ON o.k = x.k AND x.a > 1",
            ),
            (
                "SELECT * FROM o LEFT JOIN ops.r for system_time as of proctime() USING (k)",
                "SELECT * FROM o LEFT JOIN ops.r FOR SYSTEM_TIME AS OF proctime() USING(k)",
            ),
            (
                "SELECT * FROM t FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01' - INTERVAL '1 day' x WHERE a = 1",
                "SELECT * FROM t x FOR SYSTEM_TIME AS OF TIMESTAMP '2026-01-01' - INTERVAL '1 day' WHERE a = 1",
            ),
            (
                "SELECT * FROM (SELECT a FROM t VERSION AS OF 12) AS x, u FOR SYSTEM_TIME AS OF now()",
                "SELECT * FROM (SELECT a FROM t VERSION AS OF 12) AS x, u FOR SYSTEM_TIME AS OF now()",
            ),
            ("SELECT version AS of FROM t", "SELECT version AS of FROM t"),
        ];
        for (sql, expected) in cases {
            assert_eq!(parsed(sql), expected);
        }
    }

    #[test]
    fn a_version_without_its_time_is_a_syntax_error() {
        let error = parsed("SELECT * FROM t FOR SYSTEM_TIME AS OF");
        assert!(error.contains("SYSTEM_TIME"), "{error}");
    }
}
