//! `hippodrome replica`.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hippodrome_engine::replica::{self, ReplicaOptions};
use hippodrome_engine::settings::{ClusterFile, Role};
use hippodrome_engine::transport;
use hippodrome_engine::types::{NodeId, ReplicaId};
use serde::{Deserialize, Serialize};

use crate::cli::replica::ReplicaArgs;
use crate::cluster::own_node;
use crate::failure::Failure;
use crate::{metrics, output, signals};

/// How long an address that is taken is asked for, and how often.
const BIND_PATIENCE: Duration = Duration::from_secs(2);
const BIND_TICK: Duration = Duration::from_millis(20);

/// The first line on stdout, once the replica is up: recovered, with its sockets open, and its control port answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Where it answers questions.
    pub(crate) control: SocketAddr,
    /// Where it listens for peers and clients.
    pub(crate) listen: SocketAddr,
}

/// Runs one replica until it is stopped.
pub(crate) fn run(arguments: ReplicaArgs) -> Result<(), Failure> {
    super::exit_with_parent(arguments.parent);
    let stop = signals::stop_flag()?;
    let cluster = ClusterFile::read(&arguments.cluster).map_err(Failure::usage)?;
    let (node, key) = own_node(&cluster, &arguments.key, Role::Voter).map_err(Failure::Usage)?;
    if let Some(id) = arguments.id.filter(|id| *id != node.0) {
        return Err(Failure::value("id", id, format!("{node}, whose key {} is", arguments.key.display())));
    }
    let address = cluster.nodes[usize::from(node.0)].address.context("a voter without an address")?;
    let network = arguments.transport.network(cluster.nodes.len())?;
    let listener = if arguments.listen_from_stdin {
        inherited().map_err(Failure::Usage)?
    } else {
        bind("listen", arguments.listen.unwrap_or(address))?
    };
    let control = bind("control", arguments.control)?;
    let ready = Ready {
        control: control.local_addr().context("control address")?,
        listen: listener.local_addr().context("listening address")?,
    };
    let (machine_replicas, machine_index) = place_on_machine(&cluster, node, address.ip());
    let asked = ready.control;
    let ready = serde_json::to_string(&ready).context("ready line")?;
    let options = ReplicaOptions {
        cluster,
        key,
        id: ReplicaId(node.0),
        listener,
        control,
        batching: arguments.tuning.batch,
        transport: arguments.transport.transport,
        placement: arguments.tuning.placement,
        wait: arguments.tuning.wait,
        data: arguments.data,
        durability: arguments.tuning.durability,
        on_corrupt_log: arguments.on_corrupt_log,
        snapshot_every_bytes: arguments.tuning.snapshot_every.0,
        network,
        machine_replicas,
        machine_index,
        wrong_from: arguments.wrong_from,
        burn_ns: arguments.tuning.burn_ns.unwrap_or(0),
        byzantine: arguments.byzantine,
        sampling: super::sampling(arguments.sample)?,
        stop,
    };
    if let Some(address) = arguments.metrics {
        metrics::serve(address, move || metrics::replica::page(asked))?;
    }
    replica::run(options, || output::print(&format!("{ready}\n"))).context("replica")?;
    Ok(())
}

/// How many replicas the machine with this address has, and which of them `node` is, from 0.
fn place_on_machine(cluster: &ClusterFile, node: NodeId, machine: IpAddr) -> (usize, usize) {
    let there = || cluster.voters().filter(|voter| voter.address.map(|address| address.ip()) == Some(machine));
    (there().count(), there().take_while(|voter| voter.id != node).count())
}

/// The listener that the launcher bound and passed as standard input: ports are chosen by the kernel and nobody can
/// take them in between.
fn inherited() -> anyhow::Result<TcpListener> {
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let listener = TcpListener::from(descriptor);
    listener.local_addr().context("standard input is not a listening socket")?;
    Ok(listener)
}

/// Listens at `address`. The kernel gives the port of a process that was just killed back a moment after its end where
/// its sockets were `io_uring`'s, so that one that is taken is asked for again for a while.
fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    let deadline = Instant::now() + BIND_PATIENCE;
    loop {
        match transport::listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(BIND_TICK);
            }
            Err(error) => {
                return Err(Failure::value(key, address, format!("an address that is free here ({error})")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hippodrome_engine::settings::ClusterSettings;

    use super::*;
    use crate::cluster::NewCluster;

    /// Replicas that alternate between two machines are the first and the second of each.
    #[test]
    fn a_replica_knows_its_place_on_its_machine_whatever_its_number_in_the_cluster() {
        let machines: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let addresses = [(0, 7000), (1, 7000), (0, 7001), (1, 7001)].map(|(at, port)| (machines[at], port).into());
        let cluster = NewCluster::with_shares(ClusterSettings::default(), &addresses, &[9]).unwrap().file;
        let places = [0, 1, 2, 3].map(|id| place_on_machine(&cluster, NodeId(id), machines[usize::from(id) % 2]));
        assert_eq!(places, [(2, 0), (2, 0), (2, 1), (2, 1)]);
    }
}
