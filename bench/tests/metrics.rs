//! Metrics of real processes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::common::{Run, hippodrome, outcome, wait_for};

mod common;

/// A row of ports that nobody has, for a moment at least: other tests take single ones out of the kernel's range.
fn free_ports(count: u16) -> u16 {
    let all_free = |first: u16| (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    (20_000..30_000).step_by(usize::from(count)).find(|first| all_free(*first)).expect("free ports")
}

/// The value of a sample on the page at a port, if there is one yet.
fn scrape(port: u16, sample: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    assert!(page.ends_with("# EOF\n"), "{page}");
    page.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

#[test]
fn every_process_of_a_run_serves_metrics() {
    let first = free_ports(5);
    let run = Run::start(&["--duration", "4s", "--metrics", &format!("127.0.0.1:{first}")]);
    for replica in 0..4 {
        wait_for("a replica's metrics", || {
            scrape(first + replica, "hippodrome_replica_operations_total ").filter(|operations| *operations > 0.0)
        });
        assert_eq!(scrape(first + replica, "hippodrome_replica_voting "), Some(1.0));
    }
    let counted = wait_for("the load generator's metrics", || {
        scrape(first + 4, "hippodrome_load_operations_total ").filter(|operations| *operations > 0.0)
    });
    let finished = run.finish();
    finished.expect_sound("a run that is watched");
    assert!(counted <= finished.report["audit"]["operations_completed"].as_f64().unwrap());
}

#[test]
fn addresses_that_can_not_be_had_are_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let run = |address: &str| {
        let arguments = ["run", "--duration", "1s", "--out", "out", "--metrics", address];
        outcome(&hippodrome(directory.path(), &arguments).output().unwrap())
    };
    let (code, _, stderr) = run("127.0.0.1:65533");
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("metrics = 127.0.0.1:65533: allowed: a port from 1 to 65531"), "{stderr}");
    let (code, _, stderr) = run(&address);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains(&format!("metrics = {address}: allowed: an address that is free here")), "{stderr}");
}
