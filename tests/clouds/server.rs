//! Owns stores of other clouds for tests: `azure.py` with azurite, and `google.py`, on free loopback ports. They end with
//! the test binary, however that ends.
#![allow(dead_code, clippy::print_stdout, reason = "each test binary uses its own part, and tells what it skips")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Which cloud's store it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    Azure,
    Google,
}

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct CloudServer {
    child: Child,
    cloud: Cloud,
    address: String,
}

impl CloudServer {
    /// The server that the tests of this binary share, or `None`, said loudly, where its program is not installed.
    pub fn shared(cloud: Cloud, test: &str) -> Option<&'static CloudServer> {
        static AZURE: OnceLock<Option<CloudServer>> = OnceLock::new();
        static GOOGLE: OnceLock<Option<CloudServer>> = OnceLock::new();
        let (shared, name) = match cloud {
            Cloud::Azure => (&AZURE, "azurite-blob"),
            Cloud::Google => (&GOOGLE, "python3"),
        };
        shared.get_or_init(|| program(name).map(|program| Self::start(cloud, &program))).as_ref().or_else(|| {
            println!("SKIPPED: {test}: {name} is not installed; `make test` installs it where it can");
            None
        })
    }

    fn start(cloud: Cloud, program: &Path) -> CloudServer {
        let script = if cloud == Cloud::Azure { "azure.py" } else { "google.py" };
        let mut child = Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clouds").join(script))
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut address).expect("it can be read");
        assert!(address.starts_with("http://"), "the server of {cloud:?} did not start");
        CloudServer { child, cloud, address: address.trim().to_owned() }
    }

    /// A place that nobody else uses, as a URL.
    pub fn new_place(&self) -> String {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let scheme = if self.cloud == Cloud::Azure { "az" } else { "gs" };
        format!("{scheme}://lake/place-{}", LAST.fetch_add(1, Ordering::Relaxed))
    }

    /// What an object store is told.
    pub fn options(&self) -> BTreeMap<String, String> {
        const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
        // A service account that asks nobody for a token.
        let account = format!(
            r#"{{"gcs_base_url": "{}", "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}}"#,
            self.address
        );
        let options: &[(&str, &str)] = match self.cloud {
            Cloud::Azure => &[
                ("azure_storage_account_name", "devstoreaccount1"),
                ("azure_storage_account_key", KEY),
                ("azure_storage_endpoint", &self.address),
            ],
            Cloud::Google => &[("google_service_account_key", &account)],
        };
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }
}

impl Drop for CloudServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program of that name: beside the tests' Python, or on the PATH.
fn program(name: &str) -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../venv");
    let made = [venv.join("bin"), venv.join("node/node_modules/.bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = made.into_iter().chain(std::env::split_paths(&path));
    folders.find_map(|folder| Some(folder.join(name)).filter(|program| program.is_file()))
}
