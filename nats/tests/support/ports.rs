//! Ports that servers of tests keep, also while they are down.
//!
//! A server that was killed must find its port free when it comes back. The kernel gives connections any port of its own
//! range, so ours lie outside of it. And whoever takes one holds a name for it: an abstract socket, which exists once in a
//! network namespace, as a port does, and goes with its process, however that ends.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// Below lie the ports of well-known services.
const FIRST: u16 = 10_000;
/// How far apart two processes begin to look, so that a port is not taken again at once.
const STRIDE: u32 = 64;

/// A port on loopback that nobody else takes while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: UnixDatagram,
}

impl Port {
    /// Takes a port on which nobody listens.
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

    /// Its number.
    pub const fn number(&self) -> u16 {
        self.number
    }
}
