//! Ports for test servers, reserved even while a server is down.
//!
//! A killed server must find its port free when it comes back. The kernel gives outgoing connections any port of its
//! ephemeral range, so ours are outside of it. To reserve a port, a process holds an abstract socket named after it:
//! like a port, the name is unique in the network namespace, and it disappears with the process, however that ends.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// Lower ports belong to well-known services.
const FIRST: u16 = 10_000;
/// How far apart the searches of two processes start, so that a port is not reused at once.
const STRIDE: u32 = 64;

/// A port on loopback that is reserved while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: UnixDatagram,
}

impl Port {
    /// Reserves a port on which nobody listens.
    pub fn hold() -> io::Result<Port> {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
        let mut limits = range.split_whitespace().filter_map(|limit| limit.parse::<u16>().ok());
        let (low, high) = (limits.next().unwrap_or_default(), limits.next().unwrap_or(u16::MAX));
        let ours: Vec<u16> = (FIRST..=u16::MAX).filter(|port| !(low..=high).contains(port)).collect();
        let start = (std::process::id() * STRIDE) as usize % ours.len().max(1);
        for number in ours[start..].iter().chain(&ours[..start]) {
            let name = SocketAddr::from_abstract_name(format!("sealbus-test-port-{number}"))?;
            let Ok(held) = UnixDatagram::bind_addr(&name) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, *number)).is_ok() {
                return Ok(Port { number: *number, _held: held });
            }
        }
        Err(io::Error::other(format!("no port is free outside of net.ipv4.ip_local_port_range ({})", range.trim())))
    }

    /// The port's number.
    pub const fn number(&self) -> u16 {
        self.number
    }
}
