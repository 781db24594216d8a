//! The fuzzers' entry points as short property tests: every file of the corpus, files of the corpus with changes, and
//! bytes at random.
//!
//! The seeds are made from the engine's golden files: `HIPPODROME_BLESS=1 cargo test -p hippodrome-fuzz seeds`.

use std::fs;
use std::path::{Path, PathBuf};

use hippodrome_fuzz::{ENTRIES, Entry};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const CASES: u32 = 256;
const SEED_BYTES_MAX: usize = 4096;

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Random bytes, and seeds of which some bytes are others, some are gone and some are twice there.
fn bytes(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let seed = prop::sample::select(seeds);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 0..8);
    let changed = (seed, changes).prop_map(|(mut bytes, changes)| {
        for (index, value, change) in changes {
            let at = index.index(bytes.len() + 1).min(bytes.len().saturating_sub(1));
            match change {
                0 => bytes.truncate(at + 1),
                1 => bytes.extend_from_within(at..(at + usize::from(value)).min(bytes.len())),
                2 => bytes.insert(at, value),
                _ => bytes[at] ^= value,
            }
        }
        bytes
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..2048), changed]
}

fn check((name, entry): Entry) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name}: no seeds");
    for (path, bytes) in &corpus {
        eprintln!("{}", path.display());
        entry(bytes);
    }
    entry(&[]);
    let seeds: Vec<Vec<u8>> = corpus.into_iter().map(|(_, bytes)| bytes).filter(|bytes| !bytes.is_empty()).collect();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let holds = runner.run(&bytes(seeds), |bytes| {
        entry(&bytes);
        Ok(())
    });
    if let Err(error) = holds {
        panic!("{name}: {error}");
    }
}

#[test]
fn wire_holds() {
    check(ENTRIES[0]);
}

#[test]
fn protocol_holds() {
    check(ENTRIES[1]);
}

#[test]
fn log_holds() {
    check(ENTRIES[2]);
}

#[test]
fn config_holds() {
    check(ENTRIES[3]);
}

/// The seeds by name: what an entry point takes is described at its top.
fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for name in ["wire", "storage"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../engine/testdata").join(name);
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text: String = fs::read_to_string(&path).unwrap().split_whitespace().collect();
            seeds.extend(from_golden(name, &hex::decode(text).unwrap()));
        }
    }
    seeds.extend(configs());
    seeds.extend(protocols());
    seeds.sort();
    seeds
}

fn from_golden(name: String, golden: &[u8]) -> Option<(&'static str, String, Vec<u8>)> {
    let strategies = ["none", "mac", "ed25519"];
    let strategy = strategies.iter().position(|strategy| name.ends_with(&format!("-{strategy}")));
    if let Some(kind) = name.strip_prefix("record-") {
        // One record in a group of its own, damaged at its first byte.
        let kind = kind.split_once('-').unwrap().1;
        let kinds = ["pre-prepared", "prepared", "committed", "view-change", "new-view", "stable"];
        let kind = u8::try_from(kinds.iter().position(|known| *known == kind).unwrap()).unwrap();
        let [low, high, ..] = golden.len().to_le_bytes();
        return Some(("log", name, [&[1, 0, 0, 1, kind | 0x80, low, high], golden].concat()));
    }
    match (name.as_str(), strategy) {
        ("segment", _) => Some(("log", name, [&[0], golden].concat())),
        ("hello" | "welcome" | "proof" | "refusal", _) => Some(("wire", name, [&[1, 7], golden].concat())),
        // A few with proofs: where they are is the same in all.
        (_, Some(strategy))
            if strategy == 0 && name != "committed-none" || name.contains("re") && !name.starts_with("prepare") =>
        {
            // Behind a good frame's head: the kind's place in the list, the sender, the length.
            let kinds = [1, 2, 3, 4, 16, 17, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44];
            let kind = u8::try_from(kinds.iter().position(|kind| *kind == golden[7]).unwrap()).unwrap();
            let [low, high, ..] = (golden.len() - 16).to_le_bytes();
            let head = [u8::try_from(strategy).unwrap() | 0x10, 200, kind, golden[8], low, high];
            let seed = [&head, &golden[16..]].concat();
            (strategy != 1).then_some(("wire", name, seed))
        }
        _ => None,
    }
}

fn configs() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut cluster = String::from(
        "[settings]\nprotocol = \"pbft\"\nauthentication = { clients = \"mac\", replicas = \"mac\", replies = \"none\" }\n\
         window = 256\ncheckpoint_interval = 128\nview_timeout_ms = 1000\napplication = \"kv\"\nreply_bytes = 0\n\
         records = 10\nvalue_bytes = 100\n",
    );
    for id in 0..5 {
        let (role, more) =
            if id < 4 { ("voter", format!("address = \"[::1]:{id}\"")) } else { ("client", "clients = 3".into()) };
        let key = hex::encode([id; 32]);
        cluster += &format!("[[node]]\nid = {id}\nrole = \"{role}\"\n{more}\npublic_key = \"{key}\"\n");
    }
    let network = "name = \"n\"\nlink = \"delay=1ms,loss=0.5%\"\nseed = 7\nregions = [\"a\", \"b\"]\n\
                   round_trip_ms = [[0.5, 20.25], [20.25, 1.0]]\nsymmetric = true\n\
                   [[override]]\nfrom = [0]\nto = [1, 2]\nlink = \"bandwidth=1Mbit,blocked=on\"\n";
    let line = "delay=20ms,jitter=1.5ms,distribution=uniform,loss=0.1%,bandwidth=2.5Gbit,reorder=on";
    [("cluster", 0, &*cluster), ("network", 1, network), ("line", 2 + 3 * 3, line)]
        .map(|(name, kind, text)| ("config", name.to_owned(), [&[kind], text.as_bytes()].concat()))
        .to_vec()
}

/// Actions of the protocol's entry point, see its `act`.
fn protocols() -> Vec<(&'static str, String, Vec<u8>)> {
    // A proposal of the primary, all votes, and its execution.
    let decide: &[u8] = &[1, 0, 0, 1, 0, 4, 0];
    let window = [&decide.repeat(8)[..], &[8, 0, 1, 0, 8, 0, 2, 0]].concat();
    // All leave for the next view with empty hands, and its primary starts it.
    let change: &[u8] = &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0];
    let far: &[u8] = &[8, 0, 6, 0];
    let wait: &[u8] = &[7, 255, 6, 7, 255, 6, 6];
    let list = [
        ("backup", [&[1, 4], &window[..], &window].concat()),
        ("primary", [&[0, 0], &[0, 1, 0, 0].repeat(4)[..], &decide.repeat(6), &window].concat()),
        ("view-changes", [&[3, 1], decide, change, decide, change, change, &window].concat()),
        ("restart", [&[2, 3], &window[..], decide, &[12, 0], decide, change, &[12, 0], &window].concat()),
        (
            "laggard",
            [&[1, 4], far, far, &wait.repeat(12), far, wait, far, &[13, 1, 1, 7].repeat(4), &[5], &window].concat(),
        ),
        ("timers", [&[1, 2], &[0, 1, 0, 0][..], &[11], &wait.repeat(20), decide].concat()),
        ("messages", [&[2, 4][..], &(0..=255).collect::<Vec<u8>>().repeat(2)].concat()),
    ];
    list.map(|(name, bytes)| ("protocol", name.to_owned(), bytes)).to_vec()
}

#[test]
fn seeds_are_those_of_the_golden_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let seeds = seeds();
    assert!(seeds.len() <= 40, "{} seeds", seeds.len());
    for (entry, name, bytes) in &seeds {
        assert!(bytes.len() <= SEED_BYTES_MAX, "{entry}/{name}: {} bytes", bytes.len());
        let path = root.join(entry).join(name);
        if std::env::var_os("HIPPODROME_BLESS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        let stored = fs::read(&path).unwrap_or_default();
        assert!(stored == *bytes, "{}: not what the golden files give, see the top of this file", path.display());
    }
}
