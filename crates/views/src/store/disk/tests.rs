//! The store in files: against a map, with every end cut off, and with bytes turned.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::*;

const SMALL: DiskOptions = DiskOptions { segment_bytes: 40_000 };

type Map = BTreeMap<Vec<u8>, Bytes>;

fn key(n: u64) -> Vec<u8> {
    [b"k".as_slice(), &n.to_be_bytes()].concat()
}

fn value(random: &mut StdRng) -> Bytes {
    let length = [0, 1, 63, 64, 65, 500, 5000][random.random_range(0..7)];
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes.into()
}

/// Some changes, made to the map as well.
fn changes(random: &mut StdRng, map: &mut Map) -> Vec<Change> {
    let mut changes = Vec::new();
    for _ in 0..random.random_range(1..12) {
        let key = key(random.random_range(0..40));
        let value = random.random_bool(0.7).then(|| value(random));
        match &value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(&key),
        };
        changes.push((key, value));
    }
    changes
}

fn content(store: &DiskStore) -> Result<Map> {
    let keys = store.keys(b"")?;
    keys.into_iter().map(|key| Ok((key.clone(), store.get(&key)?.unwrap()))).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn copied(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in files(folder) {
        std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    copy
}

fn turn_a_bit(file: &Path, position: u64) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[position as usize] ^= 4;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn it_holds_what_a_map_holds_through_segments_moves_and_restarts() {
    for seed in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let mut random = StdRng::seed_from_u64(seed);
        let mut map = Map::new();
        let mut store = DiskStore::open(folder.path(), SMALL).unwrap();
        for _ in 0..200 {
            store.commit(changes(&mut random, &mut map)).unwrap();
            if random.random_bool(0.1) {
                store.sync().unwrap();
            }
            if random.random_bool(0.05) {
                store = DiskStore::open(folder.path(), SMALL).unwrap();
                assert_eq!(content(&store).unwrap(), map);
            }
        }
        assert_eq!(content(&store).unwrap(), map);
        let DiskUse { live_bytes, file_bytes, segments } = store.disk_use();
        assert!(file_bytes < 2 * live_bytes + 6 * SMALL.segment_bytes, "{live_bytes} {file_bytes} {segments}");
        assert_eq!(files(folder.path()).len(), segments);
    }
}

#[test]
fn a_commit_that_is_cut_anywhere_is_not_there_and_those_before_it_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut map = Map::new();
    let store = DiskStore::open(folder.path(), DiskOptions::default()).unwrap();
    let [file] = files(folder.path()).try_into().unwrap_or_else(|_| {
        store.commit(changes(&mut random, &mut map)).unwrap();
        files(folder.path()).try_into().unwrap()
    });
    let mut ends = vec![(std::fs::metadata(&file).unwrap().len(), map.clone())];
    for _ in 0..3 {
        store.commit(changes(&mut random, &mut map)).unwrap();
        ends.push((std::fs::metadata(&file).unwrap().len(), map.clone()));
    }
    for cut in (ends[0].0..ends[3].0).step_by(37) {
        let copy = copied(folder.path());
        let torn = files(copy.path()).remove(0);
        std::fs::OpenOptions::new().write(true).open(&torn).unwrap().set_len(cut).unwrap();
        let (_, expected) = ends.iter().rev().find(|(end, _)| *end <= cut).unwrap();
        let store = DiskStore::open(copy.path(), DiskOptions::default()).unwrap();
        assert_eq!(&content(&store).unwrap(), expected, "cut at {cut}");
        // It goes on behind the cut, and after another restart.
        let mut expected = expected.clone();
        store.commit(changes(&mut random, &mut expected)).unwrap();
        drop(store);
        let store = DiskStore::open(copy.path(), DiskOptions::default()).unwrap();
        assert_eq!(content(&store).unwrap(), expected, "cut at {cut}");
    }
}

/// A store of a few segments, all synced, and what is in it.
fn synced() -> (tempfile::TempDir, Map) {
    let folder = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(2);
    let mut map = Map::new();
    let store = DiskStore::open(folder.path(), SMALL).unwrap();
    while files(folder.path()).len() < 3 {
        store.commit(changes(&mut random, &mut map)).unwrap();
    }
    store.commit(changes(&mut random, &mut map)).unwrap();
    store.sync().unwrap();
    (folder, map)
}

#[test]
fn a_turned_bit_is_an_error_that_names_file_and_place_or_changes_nothing() {
    let (folder, map) = synced();
    for (n, file) in files(folder.path()).iter().enumerate() {
        let length = std::fs::metadata(file).unwrap().len();
        // The last record says that the others were synced; without it nobody knows, but they are whole.
        for position in (0..length).step_by(331) {
            let copy = copied(folder.path());
            let damaged = files(copy.path()).remove(n);
            turn_a_bit(&damaged, position);
            match DiskStore::open(copy.path(), SMALL).and_then(|store| content(&store)) {
                Ok(found) => assert_eq!(found, map, "byte {position} of {damaged:?}"),
                Err(Error::Damaged { path, position: at, .. }) => {
                    assert_eq!(path, damaged);
                    assert!(at <= position, "byte {position} is told as {at}");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let (folder, map) = synced();
    for n in 0..files(folder.path()).len() {
        let copy = copied(folder.path());
        let missing = files(copy.path()).remove(n);
        std::fs::remove_file(&missing).unwrap();
        match DiskStore::open(copy.path(), SMALL).and_then(|store| content(&store)) {
            // Only a file of which no value is alive is not missed.
            Ok(found) => assert_eq!(found, map),
            Err(error) => {
                assert!(error.to_string().contains(&missing.display().to_string()), "{error}");
                assert!(error.to_string().contains("missing"), "{error}");
            }
        }
    }
}

#[test]
fn the_newest_file_is_missed_after_a_restart_too() {
    let (folder, mut map) = synced();
    let store = DiskStore::open(folder.path(), SMALL).unwrap();
    store.commit(changes(&mut StdRng::seed_from_u64(3), &mut map)).unwrap();
    drop(store);
    let newest = files(folder.path()).pop().unwrap();
    std::fs::remove_file(&newest).unwrap();
    let error = DiskStore::open(folder.path(), SMALL).unwrap_err().to_string();
    assert!(error.contains(&newest.display().to_string()), "{error}");
}

#[test]
fn another_format_version_is_refused() {
    let (folder, _) = synced();
    let newest = files(folder.path()).pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes[54] = 9;
    std::fs::write(&newest, bytes).unwrap();
    let error = DiskStore::open(folder.path(), SMALL).unwrap_err().to_string();
    assert!(error.contains("format version is 9"), "{error}");
}

#[test]
fn a_segment_without_its_name_is_not_looked_at() {
    let (folder, map) = synced();
    std::fs::write(segment::path(folder.path(), 99).with_extension("new"), b"half").unwrap();
    let store = DiskStore::open(folder.path(), SMALL).unwrap();
    assert_eq!(content(&store).unwrap(), map);
    assert!(files(folder.path()).iter().all(|f| f.extension().unwrap() == "state"));
}

#[test]
fn commits_that_a_loss_of_power_damaged_are_gone_with_those_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStore::open(folder.path(), DiskOptions::default()).unwrap();
    let commit = |n: u64| store.commit(vec![(key(n), Some(Bytes::from(vec![n as u8; 1000])))]).unwrap();
    commit(1);
    store.sync().unwrap();
    commit(2);
    let end = store.disk_use().file_bytes;
    commit(3);
    commit(4);
    let file = files(folder.path()).remove(0);
    turn_a_bit(&file, end + 500);
    let store = DiskStore::open(folder.path(), DiskOptions::default()).unwrap();
    assert_eq!(store.keys(b"").unwrap(), [key(1), key(2)]);
    // Once synced it would be damage.
    turn_a_bit(&file, end + 500);
    let store = DiskStore::open(folder.path(), DiskOptions::default()).unwrap();
    store.commit(vec![(key(5), None)]).unwrap();
    drop(store);
    turn_a_bit(&file, end + 500);
    let store = DiskStore::open(folder.path(), DiskOptions::default()).unwrap();
    let error = store.get(&key(3)).unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()) && error.contains("checksum"), "{error}");
}

#[test]
fn parts_of_values_are_read_from_where_they_lie() {
    let mut random = StdRng::seed_from_u64(21);
    let folder = tempfile::tempdir().unwrap();
    let store = DiskStore::open(folder.path(), SMALL).unwrap();
    let mut value = vec![0; 700_000];
    random.fill_bytes(&mut value);
    store.commit(vec![(key(1), Some(Bytes::from(vec![7; 100]))), (key(2), Some(value.clone().into()))]).unwrap();
    for round in 0..60 {
        // Near ones and far ones, such that overlap, and empty ones.
        let mut begins: Vec<u64> = (0..random.random_range(0..200)).map(|_| random.random_range(0..690_000)).collect();
        begins.extend((0..50).map(|n| 1000 * round + n * 30));
        begins.sort_unstable();
        let parts: Vec<Part> =
            begins.iter().map(|begin| Part { begin: *begin, length: random.random_range(0..300) }).collect();
        let mut seen = Vec::new();
        let found = store.visit_parts(&key(2), &parts, &mut |n, bytes| seen.push((n, bytes.to_vec()))).unwrap();
        let expected = parts.iter().map(|part| value[part.begin as usize..][..part.length].to_vec()).enumerate();
        assert!(found && seen == expected.collect::<Vec<_>>(), "round {round}");
    }
    let beyond = [Part { begin: 0, length: 1 }, Part { begin: 699_999, length: 2 }];
    assert!(!store.visit_parts(&key(2), &beyond, &mut |_, _| {}).unwrap());
    assert!(!store.visit_parts(&key(3), &beyond, &mut |_, _| {}).unwrap());
}
