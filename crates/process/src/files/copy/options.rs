//! Owns the options of COPY: what they are called, what they mean, what they are when nothing is said.

use millstream_catalog::fault::Code;

use crate::files::arguments::yes;
use crate::files::decode::Reading;
use crate::files::dialect::{Dialect, Header, one_byte};
use crate::files::format::{Compression, FORMATS, Format, has_tabs};
use crate::{Error, Result, ddl};

const NAMES: &[&str] = &[
    "format",
    "header",
    "delimiter",
    "quote",
    "escape",
    "null",
    "compression",
    "on_error",
    "once",
    "encoding",
    "freeze",
];

/// How rows are written where they are copied from or to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    /// A file's format, or CSV of a client.
    File(Format),
    /// PostgreSQL's text.
    Text,
    /// PostgreSQL's binary form.
    Binary,
}

/// The options of a COPY, with what holds where nothing was said.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyOptions {
    /// The format.
    pub format: CopyFormat,
    /// How text is written.
    pub dialect: Dialect,
    /// What files are compressed with; `None` where their names tell.
    pub compression: Option<Compression>,
    /// Whether rows that do not fit go to `system.quarantine`.
    pub quarantine: bool,
    /// Whether a file that was loaded before adds nothing.
    pub once: bool,
}

impl CopyOptions {
    /// Reads options by name; `files` are the places, none for a client.
    pub fn read(given: &[(String, Option<String>)], files: &[String]) -> Result<Self> {
        let of = |name: &str| given.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_deref());
        let format = match of("format").flatten() {
            Some("text") => CopyFormat::Text,
            Some("binary") => CopyFormat::Binary,
            Some(name) => CopyFormat::File(Format::named(name)?),
            None => by_names(files)?,
        };
        let mut options =
            Self { format, dialect: dialect(format, files), compression: None, quarantine: false, once: false };
        for (name, value) in given {
            options.set(name, value.as_deref())?;
        }
        options.check(files)?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let text = value.unwrap_or("true");
        let delimited = matches!(self.format, CopyFormat::File(Format::Csv) | CopyFormat::Text);
        let csv = self.format == CopyFormat::File(Format::Csv);
        match name {
            "format" => {}
            "header" if delimited => {
                let headed = text.eq_ignore_ascii_case("match") || yes(name, text)?;
                self.dialect.header = if headed { Header::Yes } else { Header::No };
            }
            "delimiter" if delimited => self.dialect.delimiter = one_byte(name, text)?,
            "null" if delimited => self.dialect.null = text.to_owned(),
            "quote" if csv => {
                let same = self.dialect.quote == Some(self.dialect.escape);
                self.dialect.quote = Some(one_byte(name, text)?);
                if same {
                    self.dialect.escape = self.dialect.quote.unwrap_or(b'"');
                }
            }
            "escape" if csv => self.dialect.escape = one_byte(name, text)?,
            "compression" => {
                let format = if let CopyFormat::File(format) = self.format { format } else { Format::Csv };
                self.compression = Compression::named(text, format)?;
            }
            "on_error" => {
                self.quarantine = match text.to_ascii_lowercase().as_str() {
                    "quarantine" => true,
                    "stop" => false,
                    other => return Err(bad(format!("option on_error = {other:?} must be quarantine or stop"))),
                }
            }
            "once" => self.once = yes(name, text)?,
            "encoding" => {
                if !matches!(text.to_ascii_lowercase().as_str(), "utf8" | "utf-8" | "unicode") {
                    return Err(bad(format!("encoding {text:?} is not read: text is UTF-8")));
                }
            }
            "freeze" => {}
            _ if NAMES.contains(&name) => {
                return Err(bad(format!("option {name} does not belong to format {}", self.name())));
            }
            _ => {
                let advice = match ddl::nearest(name, NAMES.iter().copied()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("the options are {}", NAMES.join(", ")),
                };
                return Err(bad(format!("COPY has no option {name:?}: {advice}")));
            }
        }
        Ok(())
    }

    fn check(&self, files: &[String]) -> Result<()> {
        self.dialect.check()?;
        if self.once && files.is_empty() {
            return Err(bad("option once is for files: what a client sends has no name to know it by".to_owned()));
        }
        if self.format == CopyFormat::Binary && !files.is_empty() {
            return Err(bad("format binary is for STDIN and STDOUT".to_owned()));
        }
        let whole = matches!(self.format, CopyFormat::File(Format::Parquet | Format::Arrow | Format::Avro));
        if whole && files.is_empty() {
            let message = format!("format {} is for files: STDIN and STDOUT take text, csv and binary", self.name());
            return Err(bad(message));
        }
        Ok(())
    }

    /// The format's name in SQL.
    pub fn name(&self) -> &'static str {
        match self.format {
            CopyFormat::File(format) => format.name(),
            CopyFormat::Text => "text",
            CopyFormat::Binary => "binary",
        }
    }

    /// How files are read.
    pub(crate) fn reading(&self) -> Reading {
        let format = match self.format {
            CopyFormat::File(format) => format,
            CopyFormat::Text | CopyFormat::Binary => Format::Csv,
        };
        Reading { format, dialect: self.dialect.clone(), compression: self.compression }
    }
}

fn by_names(files: &[String]) -> Result<CopyFormat> {
    let Some(first) = files.first() else { return Ok(CopyFormat::Text) };
    let format = Format::of_name(first).ok_or_else(|| {
        bad(format!("the format of file {first:?} is not known by its name: add (FORMAT …), which is one of {FORMATS}"))
    })?;
    match files.iter().find(|file| Format::of_name(file) != Some(format)) {
        None => Ok(CopyFormat::File(format)),
        Some(other) => {
            Err(bad(format!("files {first:?} and {other:?} are of two formats: copy them one after the other")))
        }
    }
}

fn dialect(format: CopyFormat, files: &[String]) -> Dialect {
    // What comes in binary form is made into text on the way.
    if matches!(format, CopyFormat::Text | CopyFormat::Binary) {
        return Dialect::text();
    }
    let mut dialect = Dialect::csv();
    // A client's CSV is as PostgreSQL has it; a file's first record is a header when it reads like one.
    dialect.header = if files.is_empty() { Header::No } else { Header::IfItNamesColumns };
    if !files.is_empty() && files.iter().all(|file| has_tabs(file)) {
        dialect.delimiter = b'\t';
    }
    dialect
}

fn bad(message: String) -> Error {
    Error::rejected(Code::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)], files: &[&str]) -> Result<CopyOptions> {
        let given: Vec<_> = given.iter().map(|(n, v)| ((*n).to_owned(), Some((*v).to_owned()))).collect();
        CopyOptions::read(&given, &files.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_not_said_follows_from_the_place() {
        let stdin = read(&[], &[]).unwrap();
        assert_eq!((stdin.format, stdin.dialect.null.as_str()), (CopyFormat::Text, "\\N"));
        let file = read(&[], &["a.tsv.gz"]).unwrap();
        assert_eq!((file.dialect.delimiter, file.dialect.header), (b'\t', Header::IfItNamesColumns));
        let csv = read(&[("format", "csv"), ("quote", "'")], &[]).unwrap();
        assert_eq!((csv.dialect.quote, csv.dialect.escape, csv.dialect.header), (Some(b'\''), b'\'', Header::No));
    }

    #[test]
    fn options_that_do_not_fit_are_refused_with_what_does() {
        let message = |given: &[(&str, &str)], files: &[&str]| read(given, files).unwrap_err().to_string();
        assert!(message(&[("formt", "csv")], &[]).contains("did you mean format?"));
        assert!(message(&[("format", "orc")], &[]).contains("parquet, csv, json"));
        assert!(message(&[("format", "avro")], &[]).contains("is for files"));
        assert!(message(&[("compression", "snappy")], &["a.csv"]).contains("not known for csv; write 'gzip'"));
        assert!(message(&[("compression", "bzip2")], &["a.avro"]).contains("'deflate', 'snappy', 'zstd'"));
        assert!(message(&[("once", "true")], &[]).contains("for files"));
        assert!(message(&[("quote", "'")], &["a.json"]).contains("does not belong to format json"));
        assert!(message(&[("delimiter", "::")], &["a.csv"]).contains("one ASCII character"));
        assert!(message(&[], &["a.csv", "b.json"]).contains("two formats"));
        assert!(message(&[], &["a"]).contains("FORMAT"));
    }
}
