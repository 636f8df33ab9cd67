//! Owns the data directory's two files beside the rooms' own: the lock, and the addresses a running node listens on.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use millstream_catalog::fault::Code;
use rustix::fs::{FlockOperation, flock};

use crate::failure::{Failure, Result};

/// The file that a running node holds locked; it has the process's number in it.
const LOCK_FILE: &str = "LOCK";
/// The file that says where a running node listens.
const ADDRESS_FILE: &str = "millstream.addr";

/// A data directory that this process alone uses, until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if need be and takes its lock.
    pub fn claim(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path)
            .map_err(|e| Failure::io(format_args!("create the data directory {}", path.display()), &e))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(|e| Failure::io(format_args!("open {}", path.join(LOCK_FILE).display()), &e))?;
        if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            return Err(refused(path, &mut lock, error.into()));
        }
        write_pid(&mut lock).map_err(|e| Failure::io(format_args!("write {}", path.join(LOCK_FILE).display()), &e))?;
        let dir = Self { path: path.to_owned(), _lock: lock };
        dir.remove_addresses();
        Ok(dir)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says where the node listens: `{"http": "127.0.0.1:7400", "pg": "127.0.0.1:7432", "pid": 1}`, whole or not at all.
    pub fn write_addresses(&self, http: SocketAddr, pg: SocketAddr) -> Result<()> {
        let file = self.path.join(ADDRESS_FILE);
        let new = self.path.join(format!("{ADDRESS_FILE}.new"));
        let text = serde_json::json!({ "http": http, "pg": pg, "pid": std::process::id() }).to_string();
        std::fs::write(&new, text + "\n")
            .and_then(|()| std::fs::rename(&new, &file))
            .map_err(|e| Failure::io(format_args!("write {}", file.display()), &e))
    }

    /// Takes the addresses back.
    pub fn remove_addresses(&self) {
        // A file that is not there is what is wanted; one that cannot be removed is replaced at the next start.
        let _ = std::fs::remove_file(self.path.join(ADDRESS_FILE));
    }
}

fn write_pid(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    writeln!(lock, "{}", std::process::id())
}

fn refused(path: &Path, lock: &mut File, error: std::io::Error) -> Failure {
    if error.kind() != ErrorKind::WouldBlock {
        return Failure::io(format_args!("lock {}", path.join(LOCK_FILE).display()), &error);
    }
    let mut pid = String::new();
    let holder = match lock.read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
        _ => "another process".to_owned(),
    };
    Failure::new(
        Code::Busy,
        format!(
            "the data directory {} is in use by {holder}; stop it, or give this one another directory with --data",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_claim_is_refused_and_names_the_process_that_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::claim(folder.path()).unwrap();
        let refusal = DataDir::claim(folder.path()).unwrap_err();
        assert!(refusal.message.contains(&format!("in use by process {}", std::process::id())), "{refusal}");
        drop(first);
        DataDir::claim(folder.path()).unwrap();
    }

    #[test]
    fn a_claim_removes_the_addresses_that_a_killed_node_left() {
        let folder = tempfile::tempdir().unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        DataDir::claim(folder.path()).unwrap().write_addresses(address, address).unwrap();
        assert!(folder.path().join(ADDRESS_FILE).exists());
        let _again = DataDir::claim(folder.path()).unwrap();
        assert!(!folder.path().join(ADDRESS_FILE).exists());
    }
}
