//! Owns which formats of files there are, and how a file's name tells its format and compression.

use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use millstream_catalog::fault::Code;

use crate::{Error, Result};

/// The formats, for messages.
pub(crate) const FORMATS: &str = "parquet, csv, json (an object per line), arrow and avro";

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
    /// Apache Avro object container files.
    Avro,
}

impl Format {
    /// The format of that name.
    pub fn named(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "parquet" => Ok(Self::Parquet),
            "csv" | "tsv" => Ok(Self::Csv),
            "json" | "ndjson" | "jsonl" => Ok(Self::Json),
            "arrow" | "ipc" | "feather" | "arrows" => Ok(Self::Arrow),
            "avro" => Ok(Self::Avro),
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
            "avro" => Some(Self::Avro),
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
            Self::Avro => "avro",
        }
    }

    /// Whether it is packed piece by piece within the file, in a way that the file tells.
    pub fn is_compressed_inside(self) -> bool {
        matches!(self, Self::Parquet | Self::Avro)
    }
}

/// Whether a name says that its values are divided by tabs.
pub(super) fn has_tabs(name: &str) -> bool {
    uncompressed(name).to_ascii_lowercase().ends_with(".tsv")
}

/// What a file as a whole, or each piece of it, is compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    None,
    /// gzip, of any number of members.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Snappy, within files.
    Snappy,
    /// Deflate, within files.
    Deflate,
}

impl Compression {
    /// The compression of that name in a format.
    pub fn named(name: &str, format: Format) -> Result<Option<Self>> {
        match name.to_ascii_lowercase().as_str() {
            "auto" => Ok(None),
            "none" | "uncompressed" => Ok(Some(Self::None)),
            "gzip" | "gz" => Ok(Some(Self::Gzip)),
            "zstd" | "zst" | "zstandard" => Ok(Some(Self::Zstd)),
            "snappy" if format.is_compressed_inside() => Ok(Some(Self::Snappy)),
            "deflate" if format == Format::Avro => Ok(Some(Self::Deflate)),
            other => {
                let known = match format {
                    Format::Avro => "'deflate', 'snappy', 'zstd' or 'none'",
                    Format::Parquet => "'zstd', 'snappy', 'gzip' or 'none'",
                    _ => "'gzip', 'zstd', 'none' or 'auto'",
                };
                let message = format!("compression {other:?} is not known for {}; write {known}", format.name());
                Err(Error::rejected(Code::InvalidRequest, message))
            }
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
            Self::None | Self::Snappy | Self::Deflate => FileCompressionType::UNCOMPRESSED,
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
        assert_eq!(Format::of_name("a.avro"), Some(Format::Avro));
        assert_eq!(Format::of_name("a.orc"), None);
        assert_eq!(Compression::of_name("a.csv.GZ"), Compression::Gzip);
        assert_eq!(Compression::of_name("a.csv"), Compression::None);
        assert!(has_tabs("a.tsv.gz"));
    }

    #[test]
    fn a_format_that_is_not_there_is_refused_with_those_that_are() {
        let error = Format::named("orc").unwrap_err().to_string();
        assert!(error.contains("parquet, csv, json"), "{error}");
    }
}
