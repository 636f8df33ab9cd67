//! Owns stores of other clouds for tests: `tests/clouds/azure.py` with azurite, and `google.py`, on free loopback ports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Server, environment};

/// Which cloud's store it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    Azure,
    Google,
}

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct CloudServer {
    server: Server,
    cloud: Cloud,
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
        let script = if cloud == Cloud::Azure { "clouds/azure.py" } else { "clouds/google.py" };
        CloudServer { server: Server::start(Path::new("python3"), script, program.as_os_str()), cloud }
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
            self.server.address
        );
        let options: &[(&str, &str)] = match self.cloud {
            Cloud::Azure => &[
                ("azure_storage_account_name", "devstoreaccount1"),
                ("azure_storage_account_key", KEY),
                ("azure_storage_endpoint", &self.server.address),
            ],
            Cloud::Google => &[("google_service_account_key", &account)],
        };
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }
}

/// The program of that name: beside the tests' Python, or on the PATH.
fn program(name: &str) -> Option<PathBuf> {
    let venv = environment();
    let made = [venv.join("bin"), venv.join("node/node_modules/.bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = made.into_iter().chain(std::env::split_paths(&path));
    folders.find_map(|folder| Some(folder.join(name)).filter(|program| program.is_file()))
}
