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

    /// Whether it reads through TUMBLE, HOP or SESSION.
    pub fn has_windows(&self) -> bool {
        ["TUMBLE(", "HOP(", "SESSION("].iter().any(|function| self.sql.contains(function))
    }
}

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
    fn five_queries_read_through_windows() {
        let windowed: Vec<u8> = QUERIES.iter().filter(|q| q.has_windows()).map(|q| q.number).collect();
        assert_eq!(windowed, [5, 7, 8, 11, 12]);
    }
}
