//! What happens where io_uring is refused, as Docker's default seccomp profile and old kernels do: refused for real, by
//! a filter. A filter can not be taken off again, so each runs in a process of its own, which is this test binary once
//! more.

use std::process::Command;

use hippodrome_engine::settings::options::TransportChoice;
use hippodrome_engine::transport::probe;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// What the filter answers, as a number, for the process that is put under it.
const ERRNO_VARIABLE: &str = "HIPPODROME_TEST_SECCOMP_ERRNO";

#[test]
fn what_auto_takes_works_where_rings_are_forbidden() {
    run_under_filter(libc::EPERM);
}

#[test]
fn what_auto_takes_works_where_rings_are_unknown() {
    run_under_filter(libc::ENOSYS);
}

fn run_under_filter(errno: i32) {
    let output = Command::new(std::env::current_exe().expect("tests have a path"))
        .args(["--exact", "under_the_filter", "--ignored", "--nocapture", "--test-threads=1"])
        .env(ERRNO_VARIABLE, errno.to_string())
        .output()
        .expect("the test binary starts once more");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "puts its process under a filter: started by the other tests"]
fn under_the_filter() {
    let errno: i32 = std::env::var(ERRNO_VARIABLE).expect("started by another test").parse().expect("a number");
    refuse_io_uring(errno);
    let reason = std::io::Error::from_raw_os_error(errno).to_string();
    assert_eq!(probe::probe().unwrap_err().raw_os_error(), Some(errno));

    let (mut transport, opened) = probe::open(TransportChoice::Auto).unwrap();
    assert_eq!(opened.kind, "epoll");
    transport.poll(Some(std::time::Duration::ZERO), &mut Vec::new()).unwrap();

    let Err(error) = probe::open(TransportChoice::TokioUring) else { panic!("io_uring was not refused") };
    assert_eq!(
        error.to_string(),
        format!("transport: 'tokio-uring' does not work here: io_uring is refused ({reason}); use 'epoll' or 'auto'")
    );
    let Err(error) = probe::open("io-uring".parse().unwrap()) else { panic!("io_uring was not refused") };
    assert_eq!(
        error.to_string(),
        format!("transport: 'io-uring' does not work here: io_uring is refused: {reason}; use 'epoll' or 'auto'")
    );
    assert_eq!(probe::open(TransportChoice::Epoll).unwrap().1.kind, "epoll");
}

fn refuse_io_uring(errno: i32) {
    let filter = SeccompFilter::new(
        [(libc::SYS_io_uring_setup, Vec::new())].into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().expect("an architecture that seccompiler knows"),
    );
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("the filter is well-formed");
    seccompiler::apply_filter(&program).expect("a process may restrict itself");
}
