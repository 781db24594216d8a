//! `hippodrome keygen`.

use std::net::{SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, ensure};

use crate::cli::keygen::KeygenArgs;
use crate::cluster::NewCluster;
use crate::failure::Failure;
use crate::output;

/// Writes a cluster file and a key file for each node.
pub(crate) fn run(arguments: &KeygenArgs) -> Result<(), Failure> {
    let addresses = addresses(&arguments.listen, usize::from(arguments.replicas)).map_err(Failure::Usage)?;
    if arguments.clients < u32::from(arguments.client_nodes) {
        let allowed = format!("at least one for each of the {} client nodes", arguments.client_nodes);
        return Err(Failure::value("clients", arguments.clients, allowed));
    }
    let settings = arguments.cluster.settings();
    let cluster = NewCluster::generate(settings, &addresses, arguments.clients, arguments.client_nodes)
        .map_err(Failure::Usage)?;
    cluster.write(&arguments.out).map_err(Failure::Usage)?;
    let (replicas, nodes) = (arguments.replicas, arguments.client_nodes);
    let out = arguments.out.display();
    output::print(&format!("{out}: cluster.toml, keys of {replicas} replicas and {nodes} client nodes\n"));
    Ok(())
}

/// One address with consecutive ports, or as many addresses as replicas.
fn addresses(text: &str, replicas: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let listed: Vec<SocketAddr> = text.split(',').map(|one| resolve(one.trim())).collect::<anyhow::Result<_>>()?;
    if let [base] = listed[..] {
        return (0..replicas).map(|index| consecutive(base, index)).collect();
    }
    let given = listed.len();
    ensure!(
        given == replicas,
        "listen = {text}: {given} addresses; allowed: one, or one for each of {replicas} replicas"
    );
    for (index, address) in listed.iter().enumerate() {
        ensure!(!listed[..index].contains(address), "listen = {text}: {address} twice; allowed: different addresses");
    }
    Ok(listed)
}

fn consecutive(base: SocketAddr, index: usize) -> anyhow::Result<SocketAddr> {
    let port = u16::try_from(usize::from(base.port()) + index)
        .ok()
        .with_context(|| format!("listen = {base}: no port is left for replica {index}; allowed: ports up to 65535"))?;
    Ok(SocketAddr::new(base.ip(), port))
}

fn resolve(text: &str) -> anyhow::Result<SocketAddr> {
    let allowed =
        || format!("listen = {text}: allowed: HOST:PORT with a port from 1 to 65535, for example 127.0.0.1:7000");
    let found: Vec<SocketAddr> = text.to_socket_addrs().with_context(allowed)?.collect();
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
    address.copied().filter(|address| address.port() != 0).with_context(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_counts_up_and_a_list_must_fit() {
        let ports = |text, n| addresses(text, n).map(|all| all.iter().map(SocketAddr::port).collect::<Vec<_>>());
        assert_eq!(ports("127.0.0.1:7000", 4).unwrap(), [7000, 7001, 7002, 7003]);
        assert_eq!(ports("10.0.0.1:1,10.0.0.2:1, 10.0.0.3:5,[::1]:9", 4).unwrap(), [1, 1, 5, 9]);
        for (text, part) in [
            ("127.0.0.1:65534", "no port is left for replica 2"),
            ("127.0.0.1:1,127.0.0.1:2", "2 addresses; allowed: one, or one for each of 4 replicas"),
            ("127.0.0.1:1,127.0.0.1:2,127.0.0.1:3,127.0.0.1:1", "127.0.0.1:1 twice"),
            ("127.0.0.1:0", "a port from 1 to 65535"),
            ("127.0.0.1", "a port from 1 to 65535"),
            ("", "listen = :"),
        ] {
            let error = format!("{:#}", addresses(text, 4).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }
}
