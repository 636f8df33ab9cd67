//! Owns failures as a node tells them (RFC 9457), read back into the table of failures.

use std::time::Duration;

use millstream_catalog::fault::Code;
use reqwest::Response;
use serde::Deserialize;

use crate::failure::Failure;

/// What a node said went wrong.
#[derive(Debug, Clone, Default)]
pub struct Problem {
    /// Its row in the table of failures; `None` when something else than a node answered.
    pub code: Option<Code>,
    /// The HTTP status.
    pub status: u16,
    /// The message.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// A 1-based character position in the SQL text.
    pub position: Option<usize>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

#[derive(Debug, Deserialize)]
struct Body {
    code: Option<String>,
    detail: Option<String>,
    hint: Option<String>,
    position: Option<usize>,
}

impl Problem {
    /// Reads a response that is not a success.
    pub async fn read(response: Response) -> Self {
        let status = response.status().as_u16();
        let seconds = response.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        let text = response.text().await.unwrap_or_default();
        Self { retry_after, ..Self::parse(status, &text) }
    }

    /// Reads a problem's body.
    pub fn parse(status: u16, text: &str) -> Self {
        match serde_json::from_str::<Body>(text) {
            Ok(body) => Self {
                code: body.code.as_deref().and_then(code_named),
                status,
                detail: body.detail.unwrap_or_else(|| format!("HTTP status {status}")),
                hint: body.hint,
                position: body.position,
                retry_after: None,
            },
            Err(_) => {
                let start: String = text.chars().take(200).collect();
                Self { status, detail: format!("HTTP status {status}: {}", start.trim()), ..Self::default() }
            }
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self.status, 429 | 503) || self.retry_after.is_some()
    }

    /// The message for a person, with a caret under the place in `sql`.
    pub fn show(&self, sql: &str) -> String {
        let mut text = self.detail.clone();
        if let Some(position) = self.position {
            text = format!("{text}\n{}", caret(sql, position));
        }
        match &self.hint {
            Some(hint) => format!("{text}\nhint: {hint}"),
            None => text,
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let detail = match &problem.hint {
            Some(hint) => format!("{} ({hint})", problem.detail),
            None => problem.detail.clone(),
        };
        Self::new(problem.code.unwrap_or(Code::Internal), detail)
    }
}

fn code_named(name: &str) -> Option<Code> {
    Code::ALL.iter().copied().find(|code| code.name() == name)
}

/// The line of `sql` that has the 1-based character `position`, and a caret below it.
fn caret(sql: &str, position: usize) -> String {
    let before: String = sql.chars().take(position.saturating_sub(1)).collect();
    let number = before.matches('\n').count();
    let line = sql.lines().nth(number).unwrap_or_default().replace('\t', " ");
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let label = format!("line {}: ", number + 1);
    format!("{label}{line}\n{:width$}^", "", width = label.len() + column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_a_caret_under_its_place() {
        let text =
            r#"{"code": "undefined_column", "detail": "no column x", "hint": "did you mean y?", "position": 12}"#;
        let problem = Problem::parse(400, text);
        assert_eq!(problem.code, Some(Code::UndefinedColumn));
        assert_eq!(
            problem.show("SELECT\n  a, xä\nFROM t"),
            "no column x\nline 2:   a, xä\n            ^\nhint: did you mean y?"
        );
    }

    #[test]
    fn what_is_not_a_problem_is_shown_as_it_came() {
        let problem = Problem::parse(502, "<html>bad gateway</html>");
        assert_eq!(problem.detail, "HTTP status 502: <html>bad gateway</html>");
        assert!(!problem.is_transient());
    }
}
