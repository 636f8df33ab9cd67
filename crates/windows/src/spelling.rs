//! Owns the spellings that the library's parser does not read: `TABLE t` and `t PARTITION BY k` as arguments.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use crate::Function;

/// The name under which the keys of `t PARTITION BY k, …` are an argument: no identifier that a user would quote.
pub(crate) const KEYS: &str = "partition by";

/// Brings the calls in a statement's tokens into a form that the parser reads: `TABLE t` becomes `t`, and
/// `t PARTITION BY k` becomes `t, "partition by" => k`. All other tokens stay, and each keeps its place in the text.
pub fn respell(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|t| named(&t.token)) {
        return tokens;
    }
    let solid: Vec<usize> = (0..tokens.len()).filter(|i| !matches!(tokens[*i].token, Token::Whitespace(_))).collect();
    let token = |nth: usize| solid.get(nth).map(|i| &tokens[*i].token);
    let mut changes = Vec::new();
    // One for each open parenthesis: whether it holds a call's arguments.
    let mut open: Vec<bool> = Vec::new();
    let mut begins = false;
    for nth in 0..solid.len() {
        let inside = open.last().copied().unwrap_or(false);
        let began = std::mem::take(&mut begins);
        match &tokens[solid[nth]].token {
            Token::LParen => {
                open.push(calls(nth.checked_sub(2).and_then(token), nth.checked_sub(1).and_then(token)));
                begins = true;
            }
            Token::RParen => _ = open.pop(),
            Token::Comma | Token::RArrow => begins = true,
            word if inside && began && keyword(word, Keyword::TABLE) => {
                if matches!(token(nth + 1), Some(Token::Word(_) | Token::LParen)) {
                    changes.push((solid[nth], Change::Leave));
                }
            }
            word if inside
                && !began
                && keyword(word, Keyword::PARTITION)
                && token(nth + 1).is_some_and(|next| keyword(next, Keyword::BY)) =>
            {
                changes.push((solid[nth], Change::Keys));
                changes.push((solid[nth + 1], Change::Leave));
            }
            _ => {}
        }
    }
    applied(tokens, &changes)
}

#[derive(Clone, Copy)]
enum Change {
    Leave,
    Keys,
}

fn applied(tokens: Vec<TokenWithSpan>, changes: &[(usize, Change)]) -> Vec<TokenWithSpan> {
    let mut changes = changes.iter().copied().peekable();
    let mut changed = Vec::with_capacity(tokens.len() + 2);
    for (i, token) in tokens.into_iter().enumerate() {
        match changes.next_if(|(at, _)| *at == i) {
            None => changed.push(token),
            Some((_, Change::Leave)) => {}
            Some((_, Change::Keys)) => {
                let word = Word { value: KEYS.to_owned(), quote_style: Some('"'), keyword: Keyword::NoKeyword };
                let put = [Token::Comma, Token::Word(word), Token::RArrow];
                changed.extend(put.map(|put| TokenWithSpan { token: put, span: token.span }));
            }
        }
    }
    changed
}

/// Whether `name` before a parenthesis is a call in a FROM, by what stands before it.
fn calls(before: Option<&Token>, name: Option<&Token>) -> bool {
    let place = match before {
        Some(Token::Comma | Token::LParen) => true,
        Some(token) => [Keyword::FROM, Keyword::JOIN, Keyword::LATERAL].iter().any(|word| keyword(token, *word)),
        None => false,
    };
    place && name.is_some_and(named)
}

fn named(token: &Token) -> bool {
    matches!(token, Token::Word(word) if Function::identified(&word.value, word.quote_style).is_some())
}

fn keyword(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword && word.quote_style.is_none())
}
