//! Owns the way from a failing case to a small one: parts of the query, rows and steps are left out as long as it
//! fails in the same way.

use std::time::{Duration, Instant};

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::history::History;
use crate::outcome::{Outcome, outcome};

/// A failing case that gets smaller.
pub(crate) struct Shrinker {
    pub(crate) sql: String,
    pub(crate) history: History,
    pub(crate) failure: String,
    kind: &'static str,
    until: Instant,
}

impl Shrinker {
    pub(crate) fn new(sql: String, history: History, kind: &'static str, failure: String, patience: Duration) -> Self {
        Self { sql, history, failure, kind, until: Instant::now() + patience }
    }

    /// Makes it as small as time allows.
    pub(crate) async fn run(&mut self) {
        loop {
            let before = (self.sql.len(), self.history.lives.len(), self.history.steps);
            self.fewer_rows().await;
            self.fewer_steps().await;
            self.less_sql().await;
            self.rows_stay().await;
            if before == (self.sql.len(), self.history.lives.len(), self.history.steps) || self.late() {
                return;
            }
        }
    }

    /// As a line of `cases.rs`.
    pub(crate) fn pasted(&self) -> String {
        let rows: Vec<String> = self.history.write().iter().map(|row| format!("            r#\"{row}\"#,\n")).collect();
        format!("    case(\n        r#\"{}\"#,\n        &[\n{}        ],\n    )\n", self.sql, rows.concat())
    }

    fn late(&self) -> bool {
        Instant::now() > self.until
    }

    async fn try_case(&mut self, sql: &str, history: &History) -> bool {
        match outcome(sql, history, &|_| true).await {
            Outcome::Failed(kind, failure) if kind == self.kind && manner(&failure) == manner(&self.failure) => {
                self.sql = sql.to_owned();
                self.history = history.clone();
                self.failure = failure;
                true
            }
            _ => false,
        }
    }

    async fn fewer_rows(&mut self) {
        let mut len = self.history.lives.len().div_ceil(2);
        while len > 0 {
            let mut begin = 0;
            while begin < self.history.lives.len() && !self.late() {
                let mut fewer = self.history.clone();
                fewer.lives.drain(begin..(begin + len).min(fewer.lives.len()));
                if !self.try_case(&self.sql.clone(), &fewer).await {
                    begin += len;
                }
            }
            len /= 2;
        }
    }

    async fn fewer_steps(&mut self) {
        let mut step = 0;
        while step < self.history.steps && self.history.steps > 1 && !self.late() {
            let fewer = self.history.without_step(step);
            if !self.try_case(&self.sql.clone(), &fewer).await {
                step += 1;
            }
        }
    }

    async fn rows_stay(&mut self) {
        for i in 0..self.history.lives.len() {
            if self.history.lives[i].goes.is_some() && !self.late() {
                let mut stays = self.history.clone();
                stays.lives[i].goes = None;
                self.try_case(&self.sql.clone(), &stays).await;
            }
        }
    }

    async fn less_sql(&mut self) {
        let mut len = tokens(&self.sql).len().div_ceil(2);
        while len > 0 {
            let mut begin = 0;
            while begin < tokens(&self.sql).len() && !self.late() {
                let mut fewer = tokens(&self.sql);
                fewer.drain(begin..(begin + len).min(fewer.len()));
                if !balanced(&fewer) || !self.try_case(&joined(&fewer), &self.history.clone()).await {
                    begin += 1;
                }
            }
            len /= 2;
        }
        self.fewer_parentheses().await;
    }

    /// Leaves out pairs of parentheses, what is in them, and the name before them.
    async fn fewer_parentheses(&mut self) {
        let mut begin = 0;
        while begin < tokens(&self.sql).len() && !self.late() {
            let all = tokens(&self.sql);
            let Some(end) = closing(&all, begin) else {
                begin += 1;
                continue;
            };
            let inside = &all[begin + 1..end];
            let comma = inside.iter().position(|t| t == ",").unwrap_or(inside.len());
            let mut smaller = false;
            for (from, kept) in [
                (begin, &[] as &[String]),
                (begin, &["NULL".to_owned()]),
                (begin.saturating_sub(1), inside),
                (begin, inside),
                (begin.saturating_sub(1), &inside[..comma]),
                (begin.saturating_sub(1), &["1".to_owned()]),
            ] {
                let candidate = [&all[..from], kept, &all[end + 1..]].concat();
                if candidate.len() < all.len() && self.try_case(&joined(&candidate), &self.history.clone()).await {
                    smaller = true;
                    break;
                }
            }
            begin += usize::from(!smaller);
        }
    }
}

/// What failures of one cause have in common.
fn manner(failure: &str) -> String {
    let from = failure.find(": ").map_or(0, |i| i + 2);
    failure[from..].chars().take(30).filter(|c| !c.is_ascii_digit()).collect()
}

fn tokens(sql: &str) -> Vec<String> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default();
    tokens.iter().filter(|t| !matches!(t, Token::Whitespace(_))).map(|t| t.to_string()).collect()
}

fn joined(tokens: &[String]) -> String {
    let mut sql = String::new();
    for (i, token) in tokens.iter().enumerate() {
        let tight = [".", ")", ",", "]", "["].contains(&token.as_str());
        let behind = i > 0 && [".", "(", "["].contains(&tokens[i - 1].as_str());
        if i > 0 && !tight && !behind {
            sql.push(' ');
        }
        sql.push_str(token);
    }
    sql
}

fn balanced(tokens: &[String]) -> bool {
    let mut open = 0;
    for token in tokens {
        match token.as_str() {
            "(" => open += 1,
            ")" => open -= 1,
            _ => {}
        }
        if open < 0 {
            return false;
        }
    }
    open == 0
}

/// The parenthesis that closes the one at `begin`.
fn closing(tokens: &[String], begin: usize) -> Option<usize> {
    let mut open = 0;
    for (i, token) in tokens.iter().enumerate().skip(begin) {
        match token.as_str() {
            "(" => open += 1,
            ")" => open -= 1,
            _ => {}
        }
        if open == 0 {
            return (i > begin).then_some(i);
        }
    }
    None
}
