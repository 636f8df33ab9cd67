//! Owns what MERGE says and the library's parser does not read: `DO NOTHING` and `INSERT DEFAULT VALUES`.
//!
//! Both are spelled as clauses over a column whose name no column has, before the statement is parsed.

use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// The column that a clause names which does nothing.
pub(super) const NOTHING: &str = "do nothing\0";
/// The column that an insert names which gives no column a value.
pub(super) const ALL_DEFAULTS: &str = "default values\0";

/// The tokens of a statement as the library's parser reads them; only those of a MERGE change.
pub(crate) fn respell_merge(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(token, "merge")) {
        return tokens;
    }
    let solid: Vec<&TokenWithSpan> = tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
    let mut out = Vec::with_capacity(tokens.len());
    let mut inserts = false;
    let (mut parentheses, mut cases) = (0_usize, 0_usize);
    let mut i = 0;
    while let Some(token) = solid.get(i) {
        let next = |n: usize, word: &str| solid.get(i + n).is_some_and(|token| is_word(token, word));
        match &token.token {
            Token::LParen => parentheses += 1,
            Token::RParen => parentheses = parentheses.saturating_sub(1),
            _ => {}
        }
        // A column may be called so behind the name of its table.
        let named = i > 0 && solid[i - 1].token == Token::Period;
        if parentheses == 0 && !named && is_word(token, "case") {
            cases += 1;
        } else if parentheses == 0 && !named && is_word(token, "end") {
            cases = cases.saturating_sub(1);
        }
        // The WHEN of a CASE is no clause.
        let clause = parentheses == 0 && cases == 0 && !named;
        if clause && is_word(token, "when") {
            inserts = next(1, "not") && next(2, "matched") && !(next(3, "by") && next(4, "source"));
        }
        if is_word(token, "then") && next(1, "do") && next(2, "nothing") {
            out.push((*token).clone());
            let spelled = if inserts { insert(NOTHING) } else { update() };
            out.extend(spelled.into_iter().map(|word| TokenWithSpan::new(word, solid[i + 1].span)));
            i += 3;
        } else if is_word(token, "then") && next(1, "insert") && next(2, "default") && next(3, "values") {
            out.push((*token).clone());
            out.extend(insert(ALL_DEFAULTS).into_iter().map(|word| TokenWithSpan::new(word, solid[i + 1].span)));
            i += 4;
        } else {
            out.push((*token).clone());
            i += 1;
        }
    }
    out
}

fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    matches!(&token.token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
}

/// `INSERT ("column") VALUES (NULL)`.
fn insert(column: &str) -> Vec<Token> {
    let word = |word: &str| Token::make_keyword(word);
    let column = Token::make_word(column, Some('"'));
    let (open, close) = (Token::LParen, Token::RParen);
    vec![word("INSERT"), open.clone(), column, close.clone(), word("VALUES"), open, word("NULL"), close]
}

/// `UPDATE SET "column" = NULL`.
fn update() -> Vec<Token> {
    let column = Token::make_word(&Ident::new(NOTHING).value, Some('"'));
    vec![Token::make_keyword("UPDATE"), Token::make_keyword("SET"), column, Token::Eq, Token::make_keyword("NULL")]
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn parsed(sql: &str) -> String {
        let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location().unwrap();
        let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(respell_merge(tokens));
        parser.parse_statement().unwrap().to_string().replace('\0', "")
    }

    #[test]
    fn clauses_that_do_nothing_are_read() {
        let sql = "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED AND s.b THEN DO NOTHING WHEN NOT MATCHED THEN DO \
                   NOTHING WHEN NOT MATCHED BY SOURCE THEN DO NOTHING";
        assert_eq!(
            parsed(sql),
            "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED AND s.b THEN UPDATE SET \"do nothing\" = NULL WHEN NOT \
             MATCHED THEN INSERT (\"do nothing\") VALUES (NULL) WHEN NOT MATCHED BY SOURCE THEN UPDATE SET \
             \"do nothing\" = NULL"
        );
    }

    #[test]
    fn the_when_of_a_case_is_no_clause() {
        let sql = "MERGE INTO t USING s ON t.a = s.a WHEN NOT MATCHED AND CASE WHEN s.b THEN true ELSE s.end END THEN \
                   DO NOTHING WHEN NOT MATCHED AND (CASE WHEN s.c THEN true END) THEN DO NOTHING";
        assert_eq!(parsed(sql).matches("THEN INSERT (\"do nothing\") VALUES (NULL)").count(), 2);
    }

    #[test]
    fn an_insert_of_defaults_is_read() {
        let sql = "MERGE INTO t USING s ON t.a = s.a WHEN NOT MATCHED THEN INSERT DEFAULT VALUES";
        assert!(parsed(sql).ends_with("THEN INSERT (\"default values\") VALUES (NULL)"));
    }
}
