//! Owns where statements end: at a `;` that is not inside a string, an identifier, a comment or a dollar quote.

/// What a text of SQL is made of.
#[derive(Debug, PartialEq, Eq)]
pub struct Split<'a> {
    /// The statements that a `;` ended, without it.
    pub complete: Vec<&'a str>,
    /// What follows the last `;`.
    pub rest: &'a str,
}

/// Splits a text into its statements. Those with nothing but comments in them are left out.
pub fn split(sql: &str) -> Split<'_> {
    let bytes = sql.as_bytes();
    let (mut complete, mut start, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        if bytes[at] == b';' {
            complete.push(&sql[start..at]);
            start = at + 1;
            at += 1;
        } else {
            at = after_token(sql, at);
        }
    }
    complete.retain(|s| !is_blank(s));
    Split { complete: complete.into_iter().map(str::trim).collect(), rest: &sql[start..] }
}

/// Every statement of a text; the last one needs no `;`.
pub fn statements(sql: &str) -> Vec<&str> {
    let Split { mut complete, rest } = split(sql);
    if !is_blank(rest) {
        complete.push(rest.trim());
    }
    complete
}

/// Whether a text holds nothing but space and comments.
pub fn is_blank(sql: &str) -> bool {
    let mut at = 0;
    while at < sql.len() {
        let next = after_token(sql, at);
        let token = &sql[at..next];
        let comment = token.starts_with("--") || token.starts_with("/*");
        if !comment && !token.trim().is_empty() {
            return false;
        }
        at = next;
    }
    true
}

/// The byte after the token at `at`: a quoted thing or comment whole, otherwise one character.
fn after_token(sql: &str, at: usize) -> usize {
    let rest = &sql[at..];
    let length = match rest.as_bytes() {
        [b'\'', ..] => quoted(rest, '\'', escapes_backslash(sql, at)),
        [b'"', ..] => quoted(rest, '"', false),
        [b'-', b'-', ..] => rest.find('\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => comment(rest),
        [b'$', ..] => dollar_quoted(sql, at),
        _ => rest.chars().next().map_or(1, char::len_utf8),
    };
    at + length
}

/// Whether the string at `at` is `E'…'`, in which a backslash escapes.
fn escapes_backslash(sql: &str, at: usize) -> bool {
    let mut before = sql[..at].chars().rev();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    matches!(before.next(), Some('e' | 'E')) && !before.next().is_some_and(is_word)
}

fn quoted(rest: &str, quote: char, backslash: bool) -> usize {
    let mut characters = rest.char_indices().skip(1);
    while let Some((i, c)) = characters.next() {
        if c == quote {
            // A doubled quote ends one string and begins another; what lies between is the same either way.
            return i + 1;
        }
        if c == '\\' && backslash {
            characters.next();
        }
    }
    rest.len()
}

fn comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn dollar_quoted(sql: &str, at: usize) -> usize {
    let rest = &sql[at..];
    let inside_word = sql[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let Some(end) = rest[1..].find('$').filter(|_| !inside_word) else {
        return 1;
    };
    let tag = &rest[..end + 2];
    let name = &tag[1..tag.len() - 1];
    if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return 1;
    }
    rest[tag.len()..].find(tag).map_or(rest.len(), |close| close + 2 * tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_inside_something_ends_nothing() {
        for sql in [
            "SELECT ';'",
            "SELECT 'it''s;'",
            "SELECT E'\\';'",
            "SELECT \"a;b\"",
            "SELECT 1 -- one; two",
            "SELECT 1 /* a; /* nested; */ b; */",
            "SELECT $$a;b$$",
            "SELECT $tag$a;$$;b$tag$",
        ] {
            assert_eq!(split(&format!("{sql}\n; SELECT 2")).complete, [sql], "{sql}");
        }
    }

    #[test]
    fn parameters_are_not_dollar_quotes() {
        assert_eq!(statements("SELECT $1; SELECT $2"), ["SELECT $1", "SELECT $2"]);
    }

    #[test]
    fn the_last_statement_needs_no_semicolon_and_blank_ones_do_not_count() {
        assert_eq!(statements("SELECT 1;; -- nothing\n; SELECT 'ü'"), ["SELECT 1", "SELECT 'ü'"]);
        assert_eq!(split("SELECT 1; SELECT").rest, " SELECT");
        assert!(is_blank(" /* x */ -- y"));
        assert!(statements("").is_empty());
    }

    #[test]
    fn what_is_never_closed_reaches_to_the_end() {
        for sql in ["SELECT 'a; b", "SELECT /* a; b", "SELECT $$a; b", "SELECT \"a; b"] {
            let split = split(sql);
            assert!(split.complete.is_empty(), "{sql}");
            assert_eq!(split.rest, sql);
        }
    }
}
