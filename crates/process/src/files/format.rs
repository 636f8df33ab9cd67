//! Owns which formats of files there are, and how a file's name tells its format and compression.

use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use millstream_catalog::fault::Code;

use crate::{Error, Result};

/// The formats, for messages.
pub(super) const FORMATS: &str = "parquet, csv, json (an object per line) and arrow";

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Delimited text with quotes.
    Csv,
    /// A JSON object per line.
    Json,
    /// Apache Arrow IPC, file or stream.
    Arrow,
}

impl Format {
    /// The format of that name.
    pub fn named(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "parquet" => Ok(Self::Parquet),
            "csv" | "tsv" => Ok(Self::Csv),
            "json" | "ndjson" | "jsonl" => Ok(Self::Json),
            "arrow" | "ipc" | "feather" | "arrows" => Ok(Self::Arrow),
            other => Err(Error::rejected(
                Code::Unsupported,
                format!("files of format {other:?} are not read or written; the formats are {FORMATS}"),
            )),
        }
    }

    /// The format that a file's name tells, whatever it is compressed with.
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, suffix) = uncompressed(name).rsplit_once('.')?;
        match suffix.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(Self::Parquet),
            "csv" | "tsv" | "txt" => Some(Self::Csv),
            "json" | "ndjson" | "jsonl" => Some(Self::Json),
            "arrow" | "arrows" | "ipc" | "feather" => Some(Self::Arrow),
            _ => None,
        }
    }

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Arrow => "arrow",
        }
    }

    /// Whether its compression is its own matter.
    pub fn is_compressed_inside(self) -> bool {
        matches!(self, Self::Parquet)
    }
}

/// Whether a name says that its values are divided by tabs.
pub(super) fn has_tabs(name: &str) -> bool {
    uncompressed(name).to_ascii_lowercase().ends_with(".tsv")
}

/// What a file as a whole is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    None,
    /// gzip, of any number of members.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The compression of that name.
    pub fn named(name: &str) -> Result<Option<Self>> {
        match name.to_ascii_lowercase().as_str() {
            "auto" => Ok(None),
            "none" | "uncompressed" => Ok(Some(Self::None)),
            "gzip" | "gz" => Ok(Some(Self::Gzip)),
            "zstd" | "zst" => Ok(Some(Self::Zstd)),
            other => Err(Error::rejected(
                Code::InvalidRequest,
                format!("compression {other:?} is not known; write 'gzip', 'zstd', 'none' or 'auto'"),
            )),
        }
    }

    /// What a file's name tells.
    pub fn of_name(name: &str) -> Self {
        match name.rsplit_once('.').map(|(_, suffix)| suffix.to_ascii_lowercase()).as_deref() {
            Some("gz" | "gzip") => Self::Gzip,
            Some("zst" | "zstd") => Self::Zstd,
            _ => Self::None,
        }
    }

    pub(super) fn coder(self) -> FileCompressionType {
        match self {
            Self::None => FileCompressionType::UNCOMPRESSED,
            Self::Gzip => FileCompressionType::GZIP,
            Self::Zstd => FileCompressionType::ZSTD,
        }
    }
}

fn uncompressed(name: &str) -> &str {
    match (Compression::of_name(name), name.rsplit_once('.')) {
        (Compression::None, _) | (_, None) => name,
        (_, Some((stem, _))) => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_format_and_compression() {
        assert_eq!(Format::of_name("a/B.PARQUET"), Some(Format::Parquet));
        assert_eq!(Format::of_name("s3://b/a.csv.gz"), Some(Format::Csv));
        assert_eq!(Format::of_name("a.jsonl.zst"), Some(Format::Json));
        assert_eq!(Format::of_name("a.avro"), None);
        assert_eq!(Compression::of_name("a.csv.GZ"), Compression::Gzip);
        assert_eq!(Compression::of_name("a.csv"), Compression::None);
        assert!(has_tabs("a.tsv.gz"));
    }

    #[test]
    fn a_format_that_is_not_there_is_refused_with_those_that_are() {
        let error = Format::named("avro").unwrap_err().to_string();
        assert!(error.contains("parquet, csv, json"), "{error}");
    }
}
