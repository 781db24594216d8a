//! Cluster files and emulated networks.
//!
//! The first byte says what the rest is: a cluster file, a network's file, or the values of a network in one line.

use std::path::Path;

use hippodrome_engine::emulation::spec::presets;
use hippodrome_engine::emulation::{LinkModel, NetworkSpec};
use hippodrome_engine::settings::ClusterFile;
use hippodrome_engine::types::{ClientId, NodeId};

/// Nodes of the cluster that a network is applied to.
const NODES: usize = 6;

/// What is read and written again reads the same; what is refused is named; what is accepted can be used.
///
/// # Panics
/// If one of these does not hold.
pub fn config(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    match kind % 3 {
        0 => cluster_file(&text),
        1 => network_file(&text),
        _ => network_line(&text, usize::from(kind / 3)),
    }
}

fn cluster_file(text: &str) {
    let path = Path::new("cluster.toml");
    let file = match ClusterFile::parse(text, path) {
        Ok(file) => file,
        Err(error) => return named(&error.to_string(), "cluster.toml"),
    };
    let again = ClusterFile::parse(&file.to_toml(), path).expect("what was written can be read");
    assert_eq!(again, file, "written and read again");
    assert_eq!(again.fingerprint(), file.fingerprint());
    assert!(file.quorums().n() == file.voters().count());
    let mut next = 0;
    for (node, clients) in file.client_nodes() {
        assert!(clients.start == next && !clients.is_empty(), "the ranges of clients follow each other");
        next = clients.end;
        for client in [clients.start, clients.end - 1] {
            assert_eq!(file.owner(ClientId(client)), Some(node));
        }
    }
    assert_eq!((next, file.owner(ClientId(next))), (file.clients(), None));
}

fn network_file(text: &str) {
    let path = Path::new("network.toml");
    match NetworkSpec::parse(text, path) {
        Ok(spec) => usable(&spec),
        Err(error) => named(&error.to_string(), "network.toml"),
    }
}

fn network_line(text: &str, preset: usize) {
    match text.parse::<LinkModel>() {
        Ok(link) => {
            let again: LinkModel = link.to_string().parse().expect("what was written can be read");
            assert_eq!(again, link, "written and read again");
        }
        Err(error) => named(&error.to_string(), "network"),
    }
    let presets = presets();
    match NetworkSpec::open(&format!("{},{text}", presets[preset % presets.len()])) {
        Ok(spec) => usable(&spec),
        Err(error) => named(&error.to_string(), "network"),
    }
}

fn usable(spec: &NetworkSpec) {
    let again = NetworkSpec::parse(&spec.to_toml(), Path::new("network.toml")).expect("what was written can be read");
    assert_eq!(&again, spec, "written and read again");
    assert!(!spec.to_string().is_empty());
    if let Err(error) = spec.check(NODES) {
        return named(&error.to_string(), "override");
    }
    for from in (0..).take(NODES).map(NodeId) {
        assert_eq!(spec.links(from, NODES, 1).models.len(), NODES);
    }
}

/// An error names what it is about.
fn named(error: &str, what: &str) {
    assert!(error.contains(what) && error.len() > what.len() + 2, "{what} is not named: {error}");
}
