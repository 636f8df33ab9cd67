//! Owns which formats results come in, and how a client's `Accept` header chooses one.

/// A format of `POST /v1/sql`'s answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `{"columns": […], "rows": [[…], …]}`; the default.
    Json,
    /// An object per row and line.
    NdJson,
    /// RFC 4180, with a header.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// Every format, the preferred first.
    pub(super) const ALL: [Format; 5] = [Self::Json, Self::NdJson, Self::Csv, Self::Arrow, Self::Parquet];

    /// The media type it is asked for and answered with.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// The `Content-Type` of an answer.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            other => other.media_type(),
        }
    }

    /// The format that an `Accept` header likes best; none when it takes none of them.
    pub(super) fn negotiate(accept: Option<&str>) -> Option<Format> {
        let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
            return Some(Self::Json);
        };
        let mut best: Option<(f32, Format)> = None;
        for range in accept.split(',') {
            let (range, quality) = range_and_quality(range);
            let Some(format) = Self::ALL.into_iter().find(|format| matches(range, format.media_type())) else {
                continue;
            };
            if quality > 0.0 && best.is_none_or(|(quality_before, _)| quality > quality_before) {
                best = Some((quality, format));
            }
        }
        best.map(|(_, format)| format)
    }
}

fn range_and_quality(range: &str) -> (&str, f32) {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q=")).and_then(|q| q.parse().ok()).unwrap_or(1.0);
    (name, quality)
}

fn matches(range: &str, media_type: &str) -> bool {
    let range = range.to_ascii_lowercase();
    match range.strip_suffix("/*") {
        Some("*") => true,
        Some(main) => media_type.split('/').next() == Some(main),
        None => range == media_type || (range == "application/ndjson" && media_type == "application/x-ndjson"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_default() {
        assert_eq!(Format::negotiate(None), Some(Format::Json));
        assert_eq!(Format::negotiate(Some("*/*")), Some(Format::Json));
        assert_eq!(Format::negotiate(Some("application/*;q=0.5")), Some(Format::Json));
    }

    #[test]
    fn the_best_liked_format_wins() {
        assert_eq!(Format::negotiate(Some("text/html, text/csv;q=0.9, */*;q=0.1")), Some(Format::Csv));
        assert_eq!(Format::negotiate(Some("application/x-ndjson, application/json")), Some(Format::NdJson));
        assert_eq!(Format::negotiate(Some("text/csv;q=0, application/json;q=0.2")), Some(Format::Json));
    }

    #[test]
    fn an_unknown_format_is_not_acceptable() {
        assert_eq!(Format::negotiate(Some("image/png")), None);
    }
}
