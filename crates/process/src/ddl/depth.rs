//! Owns the limit on how deep a statement's tree may be: what plans it goes down to its leaves on a thread's stack.
//!
//! Parentheses nest, which the library's parser counts; operators nest without them, `a + b + c` as `(a + b) + c`.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use millstream_catalog::fault::Code;

use crate::{Error, Result};

/// Operators that may follow each other. A thread's stack ([`crate::STACK_BYTES`]) bears several times as many; without
/// optimization a level takes ten times as much of it.
const MOST_OPERATORS: usize = if cfg!(debug_assertions) { 500 } else { 5_000 };

/// Refuses a statement whose operators follow each other too often.
pub(super) fn refuse_deep(tokens: &[TokenWithSpan]) -> Result<()> {
    let depth = depth(tokens.iter().map(|token| &token.token));
    if depth <= MOST_OPERATORS {
        return Ok(());
    }
    Err(Error::Rejected {
        code: Code::TooLarge,
        message: format!("the statement has {depth} operators one behind the other, of {MOST_OPERATORS} at the most"),
        hint: Some("write x IN (…) for x = … OR x = …, or join with a table that has the values".to_owned()),
        position: None,
    })
}

/// A list between parentheses, or a statement.
#[derive(Default)]
struct Level {
    /// Operators of the element that is being read.
    chain: usize,
    /// The deepest of what stands in parentheses in it.
    within: usize,
    /// The deepest element before.
    before: usize,
}

impl Level {
    fn end_element(&mut self) {
        let depth = std::mem::take(&mut self.chain) + std::mem::take(&mut self.within);
        self.before = self.before.max(depth);
    }
}

/// The depth that a statement's tree has at the most, but for its parentheses.
fn depth<'a>(tokens: impl Iterator<Item = &'a Token>) -> usize {
    let mut levels = vec![Level::default()];
    for token in tokens {
        let open = levels.len();
        let Some(level) = levels.last_mut() else { break };
        match token {
            Token::LParen | Token::LBracket => levels.push(Level::default()),
            Token::RParen | Token::RBracket if open > 1 => {
                level.end_element();
                let depth = level.before;
                levels.pop();
                if let Some(around) = levels.last_mut() {
                    around.within = around.within.max(depth);
                }
            }
            Token::Comma => level.end_element(),
            token if nests(token) => level.chain += 1,
            _ => {}
        }
    }
    levels.iter_mut().rev().fold(0, |within, level| {
        level.within = level.within.max(within);
        level.end_element();
        level.before
    })
}

/// Whether what stands before is within what comes of it.
fn nests(token: &Token) -> bool {
    const WORDS: [&str; 9] = ["and", "or", "not", "union", "intersect", "except", "join", "case", "with"];
    match token {
        Token::Word(word) => {
            word.quote_style.is_none() && WORDS.iter().any(|known| word.value.eq_ignore_ascii_case(known))
        }
        Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Mod | Token::Caret => true,
        Token::StringConcat | Token::DoubleColon | Token::Arrow | Token::LongArrow => true,
        Token::HashArrow | Token::HashLongArrow => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::split::tokens;
    use super::*;

    fn depth_of(sql: &str) -> usize {
        depth(tokens(sql).unwrap().iter().map(|t| &t.token))
    }

    #[test]
    fn operators_nest_and_lists_do_not() {
        assert_eq!(depth_of("SELECT 1"), 0);
        assert_eq!(depth_of("SELECT a + b + c, d + e FROM t"), 2);
        assert_eq!(depth_of("SELECT f(a + b + c) + d FROM t WHERE x OR y"), 2 + 2);
        assert_eq!(depth_of("INSERT INTO t VALUES (-1, -2), (-3, -4), (-5, 1 - 6)"), 1);
        assert_eq!(depth_of("SELECT a FROM t WHERE a IN (1, 2, 3) OR b IN (SELECT 1 UNION SELECT 2)"), 1 + 1);
        assert_eq!(depth_of("SELECT ((((1 + 2"), 1);
        assert_eq!(depth_of(") + ("), 1);
    }

    #[test]
    fn long_lists_pass_and_long_chains_do_not() {
        let list: Vec<String> = (0..20_000).map(|i| format!("(-{i}, 'a' || 'b')")).collect();
        refuse_deep(&tokens(&format!("INSERT INTO t VALUES {}", list.join(", "))).unwrap()).unwrap();
        let chain = vec!["a"; MOST_OPERATORS + 2].join(" OR ");
        let error = refuse_deep(&tokens(&format!("SELECT {chain}")).unwrap()).unwrap_err().to_string();
        assert!(error.contains("operators one behind the other"), "{error}");
    }
}
