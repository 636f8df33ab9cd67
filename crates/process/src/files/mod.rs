//! Files in SQL: `read_parquet`, `read_csv`, `read_json`, `read_arrow` and `read_avro` in any FROM, and COPY (`copy`).
//!
//! ```text
//! FROM read_csv('data/2026-*.csv.gz', header = true, delimiter = ';')      FROM 'data/orders.parquet'
//! ```
//!
//! Calls are found in a statement before it is planned, since files must be listed and looked into to know their
//! columns; the planner then meets a table. Files are listed anew whenever the statement runs.
//!
//! Text is cut into records whose cells are text (`records`), then whole columns of cells become values (`cast`): so
//! every format has the same casts, and a value that does not fit is told with its file, line and column.

mod access;
mod arguments;
mod bytes;
mod calls;
mod cast;
mod copy;
mod decode;
mod dialect;
mod failure;
mod format;
mod infer;
mod records;
mod sample;
mod scan;
mod spelling;
mod table;
mod written;

pub use access::{FileAccess, PlainHttp};
pub(crate) use access::{check_folder, folder};
pub(crate) use calls::Calls;
pub use copy::{CopyFormat, CopyIn, CopyOptions};
pub(crate) use copy::{CopyJob, copy_to};
pub use dialect::{Dialect, Header};
pub(crate) use failure::explained;
pub(crate) use format::FORMATS;
pub use format::{Compression, Format};
pub(crate) use sample::sample_columns;
pub(crate) use spelling::respell;
pub use written::put_record;
