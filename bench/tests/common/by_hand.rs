//! A cluster whose processes are started one by one, as on several machines.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use hippodrome_engine::auth::{Keyring, NodeKey};
use hippodrome_engine::settings::ClusterFile;
use serde_json::Value;
use tempfile::TempDir;

use super::{Captured, Guard, hippodrome, outcome, track, wait_for};

/// Longest that one answer of a control port is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Ports are free when they are chosen; another process may take one before the replica does.
const ATTEMPTS: usize = 5;

/// Four replicas from `hippodrome keygen`, stopped when this is dropped.
pub(crate) struct Cluster {
    pub(crate) replicas: Vec<Replica>,
    directory: TempDir,
    _track: MutexGuard<'static, ()>,
}

/// One replica.
pub(crate) struct Replica {
    process: Guard,
    /// Where it listens for peers and clients.
    pub(crate) listen: SocketAddr,
    /// Its control port.
    pub(crate) control: SocketAddr,
    pub(crate) stderr: Captured,
}

impl Cluster {
    /// Makes keys for 40 clients (unless `keygen` says how many) of two client nodes and starts the replicas. `keygen`
    /// and `replica` are more options of these commands, `{id}` in the latter stands for the replica's; replica 3 gets
    /// its cluster file through
    /// `rewrite`.
    pub(crate) fn start(keygen: &[&str], replica: &[&str], rewrite: impl Fn(String) -> String) -> Self {
        let track = track();
        for _ in 0..ATTEMPTS {
            let directory = tempfile::tempdir().unwrap();
            let listen: Vec<String> = free_addresses(4).iter().map(SocketAddr::to_string).collect();
            let listen = listen.join(",");
            let mut keys = [&["keygen", "--client-nodes", "2", "--listen", &listen, "--out", "race"], keygen].concat();
            if !keygen.contains(&"--clients") {
                keys.extend(["--clients", "40"]);
            }
            let (code, _, stderr) = outcome(&hippodrome(directory.path(), &keys).output().unwrap());
            assert_eq!(code, Some(0), "{stderr}");
            let common = fs::read_to_string(directory.path().join("race/cluster.toml")).unwrap();
            fs::write(directory.path().join("race/cluster-3.toml"), rewrite(common)).unwrap();
            let replicas: Option<Vec<Replica>> =
                (0..4).map(|id| Replica::start(directory.path(), id, replica)).collect();
            if let Some(replicas) = replicas {
                return Self { replicas, directory, _track: track };
            }
        }
        panic!("no free ports in {ATTEMPTS} attempts");
    }

    /// Kills a replica as a power cut would, and starts it again with these options.
    pub(crate) fn restart(&mut self, id: usize, arguments: &[&str]) {
        self.replicas[id].kill();
        let again = Replica::start(self.directory.path(), id, arguments);
        self.replicas[id] = again.expect("nobody else takes the port of a replica that was just killed");
    }

    /// The command of replica `id` with these options.
    pub(crate) fn command(&self, id: usize, arguments: &[&str]) -> Command {
        command(self.directory.path(), id, arguments)
    }

    /// Where all files are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A file that `keygen` wrote.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("race").join(name)
    }

    /// What a node that has this key knows.
    pub(crate) fn keyring(&self, key: &str) -> Arc<Keyring> {
        let file = ClusterFile::read(&self.file("cluster.toml")).unwrap();
        let (node, key) = NodeKey::read(&self.file(key)).unwrap();
        Keyring::new(&file, node, &key).unwrap()
    }

    /// Runs `hippodrome load` without a warm-up with the key of a client node; its results go to a directory of that
    /// name.
    pub(crate) fn load(&self, client: &str, cluster: &str, arguments: &[&str]) -> Output {
        self.load_command(client, cluster, arguments).output().unwrap()
    }

    /// The command that does so.
    pub(crate) fn load_command(&self, client: &str, cluster: &str, arguments: &[&str]) -> Command {
        let (key, cluster) = (format!("race/{client}.key"), format!("race/{cluster}.toml"));
        let base = ["load", "--cluster", &cluster, "--key", &key, "--out", client, "--warmup", "0s"];
        hippodrome(self.directory.path(), &[&base, arguments].concat())
    }

    /// Runs a load for a second and expects that every operation was answered; its `load.json`.
    pub(crate) fn expect_load(&self, client: &str) -> Value {
        self.expect_load_with(client, &["--duration", "1s"])
    }

    /// The same with other options.
    pub(crate) fn expect_load_with(&self, client: &str, arguments: &[&str]) -> Value {
        let (code, stdout, stderr) = outcome(&self.load(client, "cluster", arguments));
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains(" s; results in "), "{stdout}");
        let load = fs::read_to_string(self.directory.path().join(client).join("load.json")).unwrap();
        let load: Value = serde_json::from_str(&load).unwrap();
        assert!(load["operations"].as_u64().unwrap() > 0, "{load}");
        for count in ["unanswered", "timeouts", "bad_replies", "wrong_results"] {
            assert_eq!(load[count], 0, "{count}: {load}");
        }
        load
    }

    /// Expects that all replicas live and, soon, that they have executed the same.
    pub(crate) fn expect_agreement(&mut self) {
        for replica in &mut self.replicas {
            assert!(replica.process.is_alive(), "a replica died: {}", replica.stderr.text());
        }
        wait_for("replicas that agree", || {
            let states: Vec<Value> = self.replicas.iter().map(Replica::status).collect();
            let same = |name: &str| states.iter().all(|state| state[name] == states[0][name]);
            (same("executed_sequence") && same("executed_ops") && same("ledger_digest")).then_some(())
        });
    }
}

impl Replica {
    /// Starts replica `id`; `None` if its port was taken.
    fn start(directory: &Path, id: usize, arguments: &[&str]) -> Option<Self> {
        let mut command = command(directory, id, arguments);
        let mut process = Guard(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let stderr = Captured::of(process.0.stderr.take().unwrap());
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            process.wait("a replica that does not come up");
            let stderr = wait_for("why a replica does not come up", || {
                let text = stderr.text();
                (!text.is_empty()).then_some(text)
            });
            assert!(stderr.contains("an address that is free here"), "{stderr}");
            return None;
        }
        let ready: Value = serde_json::from_str(&line).unwrap();
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        Some(Self { process, listen: address("listen"), control: address("control"), stderr })
    }

    /// Kills it if it lives, and reaps it.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.0.kill();
        self.process.0.wait().unwrap();
    }

    /// Its state and counters, from its control port.
    pub(crate) fn status(&self) -> Value {
        self.ask("status")
    }

    /// Its answer to a question without parameters.
    pub(crate) fn ask(&self, question: &str) -> Value {
        let stream = TcpStream::connect_timeout(&self.control, ANSWER_TIMEOUT).unwrap();
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).unwrap();
        writeln!(&stream, "{{\"ask\":\"{question}\"}}").unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: '{line}': {}", self.stderr.text()))
    }

    /// How often it refused or ignored something for this reason.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        self.status()["ignored"][reason].as_u64().unwrap_or(0)
    }
}

fn command(directory: &Path, id: usize, arguments: &[&str]) -> Command {
    let cluster = if id == 3 { "race/cluster-3.toml" } else { "race/cluster.toml" };
    let key = format!("race/replica-{id}.key");
    let arguments: Vec<String> = arguments.iter().map(|text| text.replace("{id}", &id.to_string())).collect();
    let mut command = hippodrome(directory, &["replica", "--cluster", cluster, "--key", &key]);
    command.args(arguments);
    command
}

fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
}
