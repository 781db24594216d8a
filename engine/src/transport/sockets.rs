//! How sockets of nodes are set up, whichever backend drives them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::sys;

/// How long bytes may stay unacknowledged, or a window closed, before a connection is given up: a host that lost its
/// power says nothing, and the kernel's own patience is a quarter of an hour.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// Connections that may wait to be accepted.
pub const BACKLOG: i32 = 128;
/// The congestion control that every kernel has and lets everybody use.
const PLAIN_CONGESTION_CONTROL: &[u8] = b"reno";

/// The window that a receiver on loopback begins with, bytes: some of the largest segments there, which have 65,483.
/// One that was sent little has a window of 56 KiB else, and of data that waits behind such a window Linux sends
/// nothing until a timer goes off, which each segment of the other direction sets anew. So a replica that began to send
/// replies to a busy load generator was seen to send none for as long as requests came.
const LOOPBACK_WINDOW_BYTES: i32 = 256 << 10;

/// Listens at `address`, with all that the connections which it accepts inherit.
///
/// # Errors
/// If the kernel refuses the address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = reserve(address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket that holds the port of `address` without listening: nobody else gets it, and who connects is refused. It
/// may listen later.
///
/// # Errors
/// If the kernel refuses the address.
pub fn reserve(address: SocketAddr) -> io::Result<Socket> {
    let socket = socket(address)?;
    // Connections of who had the port before may linger.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A socket that is to be connected to `address`, or bound to it.
///
/// # Errors
/// If there are no more sockets, or not of this kind of address.
pub(super) fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    set_options(&socket, address)?;
    if is_loopback(address) {
        sys::make_receive_room(socket.as_raw_fd(), LOOPBACK_WINDOW_BYTES);
    }
    Ok(socket)
}

/// Sets up a listener, whoever made it. Connections inherit what holds when their handshake begins. It has room to
/// receive only if it was made here: to make room sets a low-water mark for a moment, and a connection that inherits
/// that would not be said to be readable before so many bytes have come.
///
/// # Errors
/// If it is none.
pub(super) fn pass_on(listener: &TcpListener) -> io::Result<()> {
    set_options(&SockRef::from(listener), listener.local_addr()?)
}

fn set_options(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // A kernel that does not know the option keeps to its own patience.
    let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
    // On loopback, keeps TCP from pacing. Where the system's congestion control is BBR, a loopback stream was seen to
    // reach 1.2 GB/s instead of 6: there is no path to be fair on, and bursts wait for their turn. A connection that
    // began with BBR goes on pacing whatever it is given later, with a timer for each write, so this comes before there
    // is one: listeners are judged by their own address, so that one for all addresses keeps what the system has
    // chosen, as links between machines do. Failing costs speed only.
    if is_loopback(address) {
        let _ = socket.set_tcp_congestion(PLAIN_CONGESTION_CONTROL);
    }
    Ok(())
}

const fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    fn is_plain(socket: &Socket) -> bool {
        let name = socket.tcp_congestion().unwrap();
        name.split(|byte| *byte == 0).next() == Some(PLAIN_CONGESTION_CONTROL)
    }

    /// Connections that begin with a congestion control that paces go on pacing when they are given another.
    #[test]
    fn loopback_is_not_paced_from_the_first_byte_on() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(is_plain(&SockRef::from(&listener)));
        let address = listener.local_addr().unwrap();
        let socket = socket(address).unwrap();
        assert!(is_plain(&socket), "before it is connected");
        socket.connect(&address.into()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let restarted = reserve("127.0.0.1:0".parse().unwrap()).unwrap();
        restarted.listen(BACKLOG).unwrap();
        let _early = TcpStream::connect(restarted.local_addr().unwrap().as_socket().unwrap()).unwrap();
        let (waited, _) = restarted.accept().unwrap();
        for socket in [SockRef::from(&accepted), SockRef::from(&socket), SockRef::from(&waited)] {
            assert!(is_plain(&socket));
            assert!(i32::try_from(socket.recv_buffer_size().unwrap()).unwrap() > LOOPBACK_WINDOW_BYTES);
            assert!(socket.tcp_nodelay().unwrap());
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_MAX));
        }
    }

    /// Replicas connect while others are still being set up. One whose listener is not said to be readable for a few
    /// bytes does not answer until the handshake's time is up.
    #[test]
    fn whoever_connects_while_a_listener_is_set_up_is_heard() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    pass_on(&listener).unwrap();
                }
            });
            for _ in 0..2000 {
                let _stream = TcpStream::connect(address).unwrap();
                let (accepted, _) = listener.accept().unwrap();
                let mark = sys::low_water_mark(accepted.as_raw_fd());
                if mark != Some(1) {
                    done.store(true, Ordering::Relaxed);
                    panic!("low-water mark {mark:?}");
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn links_between_machines_keep_what_the_system_has_chosen() {
        let chosen = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        let socket = socket("192.0.2.1:1".parse().unwrap()).unwrap();
        assert_eq!(socket.tcp_congestion().unwrap(), chosen.tcp_congestion().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_MAX));
    }
}
