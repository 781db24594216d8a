//! The fuzzers' entry points as short property tests: every file of the corpus, files of the corpus with changes, and
//! bytes at random.
//!
//! Every seed of the corpus is listed here: made from the engine's golden files, written down as actions, or found by a
//! fuzzer. `HIPPODROME_BLESS=1 cargo test -p hippodrome-fuzz seeds` writes them all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hippodrome_engine::limits::FRAME_HEADER_BYTES;
use hippodrome_engine::settings::Authentication;
use hippodrome_engine::storage::record::Kind;
use hippodrome_engine::wire::FrameKind;
use hippodrome_fuzz::{ENTRIES, Entry, IN_GROUPS};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const CASES: u32 = 256;
const SEED_BYTES_MAX: usize = 4096;

/// Golden frames that become seeds: one of each kind without proofs, and five with signatures, for where these are is
/// the same in all others. A `committed` has the body of a `commit`.
const GOLDEN_FRAMES: [&str; 22] = [
    "body-none",
    "checkpoint-none",
    "commit-none",
    "digest-pre-prepare-none",
    "fetch-state-none",
    "forward-none",
    "new-view-none",
    "pre-prepare-ed25519",
    "pre-prepare-group-ed25519",
    "pre-prepare-none",
    "prepare-none",
    "read-replies-none",
    "reads-none",
    "replies-ed25519",
    "replies-none",
    "requests-ed25519",
    "requests-group-ed25519",
    "requests-none",
    "state-chunk-none",
    "state-wanted-none",
    "status-none",
    "view-change-none",
];
/// Golden frames of the handshake, which are streams as they are.
const GOLDEN_STREAMS: [&str; 4] = ["hello", "proof", "refusal", "welcome"];

/// What a fuzzer found: entry point, name, bytes in hex.
const FINDINGS: [(&str, &str, &str); 1] = [(
    // A new view assigned again what had been decided before it.
    "protocol",
    "decided-otherwise",
    "0c0003000000000000240b1487007f0000000000dd00507900411404232f100000290f000000000000002e0001000024343b24\
     5100000100009100001b00116943e18c1c4ca0800964934c6fdc510c2119e407cfc4e4e4265e99189eb8ad3132b81feed2640f",
)];

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
    seeds.extend(FINDINGS.map(|(entry, name, bytes)| (entry, name.to_owned(), hex::decode(bytes).unwrap())));
    seeds.sort();
    seeds
}

/// The seed that a golden file becomes, if it becomes one.
fn from_golden(name: String, golden: &[u8]) -> Option<(&'static str, String, Vec<u8>)> {
    if let Some(record) = name.strip_prefix("record-") {
        // One record in a group of its own, damaged at its first byte.
        let (_, kind) = record.split_once('-').unwrap();
        let kind = u8::try_from(Kind::ALL.iter().position(|known| known.name() == kind).unwrap()).unwrap();
        let [low, high, ..] = golden.len().to_le_bytes();
        return Some(("log", name, [&[1, 0, 0, 1, kind | 0x80, low, high], golden].concat()));
    }
    if name == "segment" {
        return Some(("log", name, [&[0], golden].concat()));
    }
    if GOLDEN_STREAMS.contains(&name.as_str()) {
        return Some(("wire", name, [&[1, 7], golden].concat()));
    }
    if !GOLDEN_FRAMES.contains(&name.as_str()) {
        return None;
    }
    // Behind a good frame's head: the kind's place in the list, the sender, the length.
    let preset = if name.ends_with("-ed25519") { "ed25519" } else { "none" };
    let place = if name.contains("-group-") {
        Authentication::presets().count() + IN_GROUPS.iter().position(|name| *name == preset).unwrap()
    } else {
        Authentication::presets().position(|name| name == preset).unwrap()
    };
    let strategy = u8::try_from(place).unwrap();
    let (head, body) = golden.split_at(FRAME_HEADER_BYTES);
    let kind = u8::try_from(FrameKind::ALL.iter().position(|kind| *kind as u8 == head[7]).unwrap()).unwrap();
    let [low, high, ..] = body.len().to_le_bytes();
    Some(("wire", name, [&[strategy | 0x10, 200, kind, head[8], low, high], body].concat()))
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
        // Requests of two clients, then proposals by digests, and late ones; bodies are waited for, and asked for.
        (
            "by-digests",
            [
                &[0x81, 4, 0, 1, 0, 0, 0, 1, 1, 0][..],
                &[1, 0x40, 0, 1, 4, 1, 0x40, 0, 2, 4, 1, 0x40, 0, 3, 4],
                &wait.repeat(2),
                &[0, 2, 2, 0, 3, 0, 0, 1, 0, 64, 5],
                change,
                &[1, 0x40, 0, 1, 5],
                &window,
            ]
            .concat(),
        ),
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

/// Whether a fuzzer added this file: it names what it adds by its SHA-1, and git ignores these.
fn is_hash(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.len() == 40 && name.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[test]
fn seeds_are_those_that_are_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let seeds: BTreeMap<PathBuf, Vec<u8>> =
        seeds().into_iter().map(|(entry, name, bytes)| (Path::new(entry).join(name), bytes)).collect();
    for name in GOLDEN_FRAMES.iter().chain(&GOLDEN_STREAMS) {
        assert!(seeds.contains_key(&Path::new("wire").join(name)), "{name}: there is no such golden file");
    }
    if std::env::var_os("HIPPODROME_BLESS").is_some() {
        for (path, bytes) in &seeds {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), bytes).unwrap();
        }
    }
    let stored: BTreeMap<PathBuf, Vec<u8>> = ENTRIES
        .iter()
        .flat_map(|(entry, _)| corpus(entry))
        .filter(|(path, _)| !is_hash(path))
        .map(|(path, bytes)| (path.strip_prefix(&root).unwrap().to_owned(), bytes))
        .collect();
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&stored), names(&seeds), "in the corpus, and listed in this file");
    for (path, bytes) in &seeds {
        assert!(bytes.len() <= SEED_BYTES_MAX, "{}: {} bytes", path.display(), bytes.len());
        assert!(stored[path] == *bytes, "{}: not what this file says, see its top", path.display());
    }
}
