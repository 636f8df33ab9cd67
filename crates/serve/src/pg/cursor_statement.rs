//! Owns the statements about cursors, as text: DECLARE, FETCH, MOVE and CLOSE.

/// A statement about a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CursorStatement {
    /// `DECLARE name [BINARY] [NO SCROLL] CURSOR [WITH | WITHOUT HOLD] FOR query`.
    Declare(Declaration),
    /// `FETCH` and `MOVE`.
    Fetch {
        /// The cursor.
        name: String,
        /// Which rows.
        reach: Reach,
        /// Whether the rows are passed over instead of sent: `MOVE`.
        moves: bool,
    },
    /// `CLOSE name`; none for `ALL`.
    Close(Option<String>),
}

/// What DECLARE says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declaration {
    /// The cursor's name.
    pub(super) name: String,
    /// Whether rows are sent in the binary form to those who do not choose one.
    pub(super) binary: bool,
    /// Whether it outlives its transaction.
    pub(super) hold: bool,
    /// Where the query begins in the statement's text, in bytes.
    pub(super) query_start: usize,
}

/// Which rows FETCH and MOVE mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The next rows, this many.
    Next(u64),
    /// All that are left.
    All,
    /// The row this many further on alone.
    Relative(u64),
    /// The row with this number alone.
    Absolute(u64),
    /// A row that was passed already.
    Back,
}

impl CursorStatement {
    /// The statement about a cursor that a text is, if it is one alone.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = Words { text, at: 0 };
        match words.next()? {
            word if word.is("declare") => declare(words).map(Self::Declare),
            word if word.is("fetch") => fetch(words, false),
            word if word.is("move") => fetch(words, true),
            word if word.is("close") => {
                let name = words.next()?;
                let all = name.is("all");
                let name = name.into_name()?;
                words.at_end().then_some(Self::Close((!all).then_some(name)))
            }
            _ => None,
        }
    }

    /// The command tag, without its count.
    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Declare(_) => "DECLARE CURSOR",
            Self::Fetch { moves: false, .. } => "FETCH",
            Self::Fetch { moves: true, .. } => "MOVE",
            Self::Close(Some(_)) => "CLOSE CURSOR",
            Self::Close(None) => "CLOSE CURSOR ALL",
        }
    }
}

fn declare(mut words: Words<'_>) -> Option<Declaration> {
    let name = words.next()?.into_name()?;
    let (mut binary, mut hold) = (false, false);
    loop {
        match words.next()? {
            word if word.is("binary") => binary = true,
            word if ["asensitive", "insensitive", "no", "scroll"].iter().any(|known| word.is(known)) => {}
            word if word.is("cursor") => break,
            _ => return None,
        }
    }
    let mut word = words.next()?;
    if word.is("with") || word.is("without") {
        hold = word.is("with");
        if !words.next()?.is("hold") {
            return None;
        }
        word = words.next()?;
    }
    words.skip_blanks();
    word.is("for").then_some(Declaration { name, binary, hold, query_start: words.at })
}

fn fetch(mut words: Words<'_>, moves: bool) -> Option<CursorStatement> {
    let mut rest = words.collect_all()?;
    let name = rest.pop()?.into_name()?;
    if rest.last().is_some_and(|word| word.is("from") || word.is("in")) {
        rest.pop();
    }
    let rest: Vec<&str> = rest.iter().map(Word::plain).collect::<Option<_>>()?;
    let reach = match rest.as_slice() {
        [] | ["next" | "forward"] => Reach::Next(1),
        ["all"] | ["forward", "all"] => Reach::All,
        ["first"] => Reach::Absolute(1),
        ["prior" | "last" | "backward", ..] => Reach::Back,
        ["absolute", n] => n.parse().map_or(Reach::Back, Reach::Absolute),
        ["relative", n] => n.parse().map_or(Reach::Back, Reach::Relative),
        ["forward", n] | [n] => u64::try_from(n.parse::<i64>().ok()?).map_or(Reach::Back, Reach::Next),
        _ => return None,
    };
    Some(CursorStatement::Fetch { name, reach, moves })
}

/// A word of a statement.
#[derive(Debug)]
enum Word {
    /// Without quotes, in lower case; or a number with its sign.
    Plain(String),
    /// A quoted name.
    Quoted(String),
}

impl Word {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Plain(plain) if plain == word)
    }

    fn plain(&self) -> Option<&str> {
        match self {
            Self::Plain(plain) => Some(plain),
            Self::Quoted(_) => None,
        }
    }

    fn into_name(self) -> Option<String> {
        match self {
            Self::Plain(plain) => plain.starts_with(|c: char| c.is_alphabetic() || c == '_').then_some(plain),
            Self::Quoted(quoted) => Some(quoted),
        }
    }
}

/// Reads a text word by word.
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl Words<'_> {
    fn next(&mut self) -> Option<Word> {
        self.skip_blanks();
        let rest = &self.text[self.at..];
        if let Some(quoted) = rest.strip_prefix('"') {
            return self.quoted(quoted);
        }
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-' | '+');
        let length = rest.find(|c: char| !inside(c)).unwrap_or(rest.len());
        self.at += length;
        (length > 0).then(|| Word::Plain(rest[..length].to_lowercase()))
    }

    fn quoted(&mut self, rest: &str) -> Option<Word> {
        let mut name = String::new();
        let mut chars = rest.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c != '"' {
                name.push(c);
            } else if chars.next_if(|(_, next)| *next == '"').is_some() {
                name.push('"');
            } else {
                self.at += 1 + at + 1;
                return Some(Word::Quoted(name));
            }
        }
        None
    }

    fn collect_all(&mut self) -> Option<Vec<Word>> {
        let mut all = Vec::new();
        while !self.at_end() {
            all.push(self.next()?);
        }
        Some(all)
    }

    fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.text[self.at..].trim_end_matches(|c: char| c == ';' || c.is_whitespace()).is_empty()
    }

    /// Passes over white space and comments.
    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let skipped = if rest.starts_with("--") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                rest.find("*/").map_or(rest.len(), |end| end + 2)
            } else {
                rest.len() - rest.trim_start().len()
            };
            if skipped == 0 {
                return;
            }
            self.at += skipped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch_of(text: &str) -> Option<(String, Reach)> {
        match CursorStatement::parse(text)? {
            CursorStatement::Fetch { name, reach, moves: false } => Some((name, reach)),
            _ => None,
        }
    }

    #[test]
    fn declare_tells_its_name_its_options_and_its_query() {
        let text = "DECLARE \"a \"\"b\"\"\" NO SCROLL CURSOR WITH HOLD FOR SELECT ';'";
        let Some(CursorStatement::Declare(declared)) = CursorStatement::parse(text) else { panic!("{text}") };
        assert_eq!((declared.name.as_str(), declared.hold, declared.binary), ("a \"b\"", true, false));
        assert_eq!(&text[declared.query_start..], "SELECT ';'");
        let text = "declare /* why */ C binary insensitive cursor without hold for\nselect 1";
        let Some(CursorStatement::Declare(declared)) = CursorStatement::parse(text) else { panic!("{text}") };
        assert_eq!((declared.name.as_str(), declared.hold, declared.binary), ("c", false, true));
    }

    #[test]
    fn fetch_knows_all_of_its_spellings() {
        let next = |n| Some(("c".to_owned(), Reach::Next(n)));
        for text in ["FETCH c", "fetch next from C;", "FETCH FROM c", "FETCH IN \"c\"", "FETCH FORWARD c", "FETCH 1 c"]
        {
            assert_eq!(fetch_of(text), next(1), "{text}");
        }
        assert_eq!(fetch_of("FETCH FORWARD 100 FROM c"), next(100));
        assert_eq!(fetch_of("FETCH ALL c"), Some(("c".into(), Reach::All)));
        assert_eq!(fetch_of("FETCH FORWARD ALL IN c"), Some(("c".into(), Reach::All)));
        assert_eq!(fetch_of("FETCH RELATIVE 3 FROM c"), Some(("c".into(), Reach::Relative(3))));
        assert_eq!(fetch_of("FETCH ABSOLUTE 3 FROM c"), Some(("c".into(), Reach::Absolute(3))));
        for text in
            ["FETCH PRIOR c", "FETCH LAST c", "FETCH BACKWARD 2 FROM c", "FETCH -1 FROM c", "FETCH RELATIVE -1 c"]
        {
            assert_eq!(fetch_of(text), Some(("c".into(), Reach::Back)), "{text}");
        }
        let moved = CursorStatement::parse("MOVE FORWARD 5 IN c");
        assert_eq!(moved, Some(CursorStatement::Fetch { name: "c".into(), reach: Reach::Next(5), moves: true }));
    }

    #[test]
    fn other_statements_are_none() {
        assert_eq!(CursorStatement::parse("CLOSE ALL"), Some(CursorStatement::Close(None)));
        assert_eq!(CursorStatement::parse("CLOSE \"all\""), Some(CursorStatement::Close(Some("all".into()))));
        for text in ["SELECT 1", "", "FETCH c; FETCH c", "DECLARE c FOR SELECT 1", "CLOSE a b", "FETCH"] {
            assert_eq!(CursorStatement::parse(text), None, "{text}");
        }
    }
}
