//! Owns the spelling that the library's parser does not read: `columns = {'a': 'BIGINT', 'b': 'TEXT'}`.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Brings the columns of `read_csv` and its like into a form that the parser reads: `'"a" BIGINT, "b" TEXT'`. All other
/// tokens stay, and each keeps its place in the text.
pub(crate) fn respell(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|t| t.token == Token::LBrace) {
        return tokens;
    }
    let mut respelt = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        match written(&tokens[at..]) {
            Some((text, taken)) => {
                respelt.push(TokenWithSpan { token: Token::SingleQuotedString(text), span: tokens[at].span });
                at += taken;
            }
            None => {
                respelt.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    respelt
}

/// The columns between braces that tokens begin with, and how many tokens those are.
fn written(tokens: &[TokenWithSpan]) -> Option<(String, usize)> {
    let mut solid = tokens.iter().enumerate().filter(|(_, t)| !matches!(t.token, Token::Whitespace(_)));
    let mut next = || solid.next().map(|(at, t)| (at, &t.token));
    let Some((0, Token::LBrace)) = next() else { return None };
    let mut columns = Vec::new();
    loop {
        let name = match next()?.1 {
            Token::SingleQuotedString(name) => name.clone(),
            Token::Word(word) => word.value.clone(),
            _ => return None,
        };
        let (Token::Colon, (_, Token::SingleQuotedString(data_type))) = (next()?.1, next()?) else { return None };
        columns.push(format!("\"{}\" {data_type}", name.replace('"', "\"\"")));
        match next()? {
            (_, Token::Comma) => {}
            (at, Token::RBrace) => return Some((columns.join(", "), at + 1)),
            _ => return None,
        }
    }
}
