//! Fills the disk under the real binary: writes are refused with the reason, reads go on, nothing acknowledged is lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Client, LOG_ONLY, Node, Setup, block_on, is_root, poll};

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one, or says why not.
    fn mount(at: &Path, mebibytes: u32) -> Result<Self, String> {
        if !is_root() {
            return Err("mounting a small file system needs root".to_owned());
        }
        std::fs::create_dir_all(at).expect("a folder is made");
        let size = format!("size={mebibytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        match mount {
            Ok(done) if done.status.success() => Ok(Self(at.to_owned())),
            Ok(done) => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount: {error}")),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path().join("small");
    let _disk = match SmallDisk::mount(&at, 40) {
        Ok(disk) => disk,
        Err(why) => {
            println!("SKIPPED a_full_disk_refuses_writes_serves_reads_and_loses_nothing: {why}");
            return;
        }
    };
    block_on(fill_and_free(&at, dir.path()));
}

async fn fill_and_free(disk: &Path, outside: &Path) {
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![0; 12 << 20]).expect("the ballast fits");
    let setup = Setup { output: outside.join("node.log"), ..Setup::new(disk, LOG_ONLY) };
    let node = Node::start(setup).await;
    let client = node.client();
    client.sql("CREATE STREAM filling (seq BIGINT NOT NULL, noise TEXT)").await;

    let mut acknowledged = 0;
    let refusal = loop {
        let reply = client.ingest("filling", noisy_rows(acknowledged, 1000), &[]).await;
        if reply.status != 200 {
            break reply;
        }
        acknowledged += reply.count("accepted");
        assert!(acknowledged < 1_000_000, "the disk never fills");
    };
    assert!(acknowledged > 0, "nothing was taken before the disk was full");
    let reason = refusal.text();
    assert!(
        [507, 503].contains(&refusal.status) && (reason.contains("space") || reason.contains("disk")),
        "answered {}: {reason}",
        refusal.status
    );
    expect_rows(&client, acknowledged).await;

    std::fs::remove_file(&ballast).expect("the ballast goes");
    let setup = node.kill9();
    let node = Node::start(setup).await;
    let client = node.client();
    expect_rows(&client, acknowledged).await;
    let body = noisy_rows(acknowledged, 10);
    let taken = poll("writes to be taken after space returned", 20, || async {
        let reply = client.ingest("filling", body.clone(), &[]).await;
        (reply.status == 200).then(|| reply.count("accepted"))
    });
    acknowledged += taken.await;
    expect_rows(&client, acknowledged).await;
    let setup = node.kill9();
    let node = Node::start(setup).await;
    expect_rows(&node.client(), acknowledged).await;
}

async fn expect_rows(client: &Client, acknowledged: u64) {
    let found = client.sql("SELECT count(*), count(DISTINCT seq), max(seq) FROM filling").await.ints();
    let n = acknowledged as i64;
    assert_eq!(found, [vec![n, n, n - 1]], "rows that were acknowledged are missing, or refused ones are there");
}

/// Rows that do not compress.
fn noisy_rows(first: u64, rows: u64) -> String {
    use rand::Rng;
    let mut random = rand::rng();
    let row = |seq| {
        format!("{{\"seq\":{seq},\"noise\":\"{:032x}{:032x}\"}}\n", random.random::<u128>(), random.random::<u128>())
    };
    (first..first + rows).map(row).collect()
}
