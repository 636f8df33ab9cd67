//! Owns the servers that tests start, each in a process of its own: an S3, and the stores of other clouds.
#![allow(
    dead_code,
    unused_imports,
    clippy::print_stdout,
    reason = "a test binary uses its part, and tells what it skips"
)]

mod clouds;
mod s3;

pub use clouds::{Cloud, CloudServer};
pub use s3::{KEY, S3Server, python};

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running server; stopped when dropped. It sees the end of its standard input when this process is gone, however that
/// ends.
#[derive(Debug)]
struct Server {
    child: Child,
    /// `http://127.0.0.1:port`, and perhaps a path.
    address: String,
}

impl Server {
    /// Runs a script of `tests/`, which says its address in the first line that it writes.
    fn start(python: &Path, script: &str, argument: &std::ffi::OsStr) -> Server {
        let mut child = Command::new(python)
            .arg(tests_folder().join(script))
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut address).expect("it can be read");
        assert!(address.starts_with("http://"), "{script} did not start");
        Server { child, address: address.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}

/// The Python environment that `scripts/test-env.sh` makes.
fn environment() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("../venv")
}
