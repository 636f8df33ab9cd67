//! Owns the texts of the queries, q0 to q22.

/// One query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// 0 to 22.
    pub number: u8,
    /// A first line that says what it answers, then the SELECT, without a semicolon.
    pub sql: &'static str,
}

impl Query {
    /// `q5`, as it is known.
    pub fn name(&self) -> String {
        format!("q{}", self.number)
    }

    /// What it answers, in a sentence.
    pub fn question(&self) -> &'static str {
        self.sql.lines().next().unwrap_or_default().trim_start_matches("-- ")
    }

    /// The streams that it reads, of person, auction, bid and side_input.
    pub fn reads(&self) -> Vec<&'static str> {
        let mut words = self.sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '('));
        let mut read = Vec::new();
        while let Some(word) = words.next() {
            let called = word.split_once('(').filter(|(function, _)| ["TUMBLE", "HOP", "SESSION"].contains(function));
            let name = match (word, called) {
                ("FROM" | "JOIN", _) => words.clone().next().unwrap_or_default(),
                (_, Some((_, table))) => table,
                _ => continue,
            };
            if let Some(stream) = ["person", "auction", "bid", "side_input"].into_iter().find(|s| *s == name)
                && !read.contains(&stream)
            {
                read.push(stream);
            }
        }
        read
    }

    /// Whether it reads through TUMBLE, HOP or SESSION.
    pub fn has_windows(&self) -> bool {
        ["TUMBLE(", "HOP(", "SESSION("].iter().any(|function| self.sql.contains(function))
    }
}

/// The statements that make the four streams which the queries read, each ending in a semicolon.
pub const STREAMS: &str = include_str!("../streams.sql");

macro_rules! query {
    ($number:literal) => {
        Query { number: $number, sql: include_str!(concat!("../queries/q", $number, ".sql")) }
    };
}

/// All of them, in order.
pub const QUERIES: [Query; 23] = [
    query!(0),
    query!(1),
    query!(2),
    query!(3),
    query!(4),
    query!(5),
    query!(6),
    query!(7),
    query!(8),
    query!(9),
    query!(10),
    query!(11),
    query!(12),
    query!(13),
    query!(14),
    query!(15),
    query!(16),
    query!(17),
    query!(18),
    query!(19),
    query!(20),
    query!(21),
    query!(22),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_says_first_what_it_answers() {
        for (i, query) in QUERIES.iter().enumerate() {
            assert_eq!(usize::from(query.number), i);
            assert!(query.sql.starts_with("-- ") && query.question().ends_with('.'), "{}", query.name());
        }
    }

    #[test]
    fn queries_name_the_streams_that_they_read() {
        let reads: Vec<String> = QUERIES.iter().map(|q| q.reads().join(" ")).collect();
        for (number, query) in reads.iter().enumerate() {
            let expected = match number {
                3 | 8 => "person auction",
                4 | 6 | 9 => "auction bid",
                20 => "bid auction",
                13 => "bid side_input",
                _ => "bid",
            };
            let sorted = |text: &str| text.split(' ').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
            assert_eq!(sorted(query), sorted(expected), "q{number}");
        }
    }

    #[test]
    fn five_queries_read_through_windows() {
        let windowed: Vec<u8> = QUERIES.iter().filter(|q| q.has_windows()).map(|q| q.number).collect();
        assert_eq!(windowed, [5, 7, 8, 11, 12]);
    }
}
