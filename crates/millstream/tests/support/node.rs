//! Owns a running `millstream serve`: its folder, its ports, how it is started and ended.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Client;

/// How long a start or stop may take before the test fails: debug builds on busy machines are slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to start.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The data directory.
    pub data: PathBuf,
    /// Where the process's output is appended.
    pub output: PathBuf,
    /// `MILLSTREAM_*` variables.
    pub variables: Vec<(String, String)>,
}

impl Setup {
    /// A node whose data and output lie in `dir`.
    pub fn new(dir: &Path, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self { data: dir.join("data"), output: dir.join("node.log"), variables }
    }

    /// The same with one more variable.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The command line of `millstream serve`.
    pub fn command(&self) -> Command {
        let output = OpenOptions::new().create(true).append(true).open(&self.output).expect("the output opens");
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.arg("serve").arg("--data").arg(&self.data);
        command.args(["--listen", "127.0.0.1:0", "--pg-listen", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("the output is cloned")).stderr(output);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MILLSTREAM_")) {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(k, v)| (k, v)));
        command
    }

    /// What the process wrote since `from` bytes.
    fn output_since(&self, from: u64) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(&self.output) {
            let _ = file.seek(SeekFrom::Start(from));
            let _ = file.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Everything the process wrote, over all its starts.
    pub fn whole_output(&self) -> String {
        self.output_since(0)
    }
}

/// A running node; killed when dropped.
#[derive(Debug)]
pub struct Node {
    setup: Setup,
    child: Child,
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// Where the PostgreSQL wire is served.
    pub pg: SocketAddr,
    /// How long the start took until the addresses were known and `/readyz` said yes.
    pub started_in: Duration,
}

impl Node {
    /// Starts it and waits until it is ready.
    pub async fn start(setup: Setup) -> Node {
        let address_file = setup.data.join("millstream.addr");
        let _ = std::fs::remove_file(&address_file);
        let before = std::fs::metadata(&setup.output).map_or(0, |m| m.len());
        let began = Instant::now();
        let mut child = setup.command().spawn().expect("the binary starts");
        let (http, pg) = loop {
            if let Some(addresses) = read_addresses(&address_file) {
                break addresses;
            }
            if let Some(status) = child.try_wait().expect("the child is ours") {
                panic!("the node ended with {status} before it listened:\n{}", setup.output_since(before));
            }
            assert!(began.elapsed() < PATIENCE, "no address after {PATIENCE:?}:\n{}", setup.output_since(before));
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let mut node = Node { setup, child, http, pg, started_in: Duration::ZERO };
        while !node.client().is_ready().await {
            if let Some(status) = node.child.try_wait().expect("the child is ours") {
                panic!("the node ended with {status} before it was ready:\n{}", node.setup.output_since(before));
            }
            assert!(began.elapsed() < PATIENCE, "not ready after {PATIENCE:?}:\n{}", node.setup.output_since(before));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node.started_in = began.elapsed();
        node
    }

    /// An HTTP client of it.
    pub fn client(&self) -> Client {
        Client::new(self.http)
    }

    /// How it was started.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// `kill -9`, at once; gives back what is needed to start it again.
    pub fn kill9(mut self) -> Setup {
        self.child.kill().expect("the child is ours");
        let status = self.child.wait().expect("the child is ours");
        assert_eq!(status.signal(), Some(9), "it ended by itself with {status}:\n{}", self.tail());
        self.setup.clone()
    }

    /// Sends SIGTERM.
    pub fn signal_term(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("the child is ours");
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "still running after {PATIENCE:?}:\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGTERM, and the exit status.
    pub async fn terminate(mut self) -> (ExitStatus, Setup) {
        self.signal_term();
        let status = self.wait().await;
        (status, self.setup.clone())
    }

    /// Its resident memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1024
    }

    /// The end of its output.
    pub fn tail(&self) -> String {
        let text = self.setup.whole_output();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the node's last lines\n{}\n---", self.tail());
        }
    }
}

/// The two addresses in the file, HTTP first; `None` until both are there.
fn read_addresses(path: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut found = text
        .split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
        .filter_map(|word| word.trim_matches(':').parse::<SocketAddr>().ok());
    Some((found.next()?, found.next()?))
}

/// Whether the test may mount file systems and is not held back by file permissions.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
