//! The UDP port the other nodes reach this one at: bound here, and what to tell them of it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The port of etcd's peers; ours is UDP.
pub const PEER_PORT_DEFAULT: u16 = 2380;

/// The peers' socket, and how to dial it.
#[derive(Debug)]
pub struct PeerPort {
    /// Bound.
    pub socket: UdpSocket,
    /// `host:port` each.
    pub advertise: Vec<String>,
}

impl PeerPort {
    /// Binds. Without an address it is the default port on all of them, IPv6 and IPv4 where the host has both.
    ///
    /// # Errors
    /// What the system says: most often that the port is taken.
    pub fn bind(listen: Option<SocketAddr>, advertise: &[String]) -> io::Result<PeerPort> {
        let socket = match listen {
            Some(address) => UdpSocket::bind(address)?,
            None => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PEER_PORT_DEFAULT))
                .or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PEER_PORT_DEFAULT)))?,
        };
        let advertise =
            if advertise.is_empty() { vec![derived(socket.local_addr()?)] } else { advertise.to_vec() };
        Ok(PeerPort { socket, advertise })
    }
}

/// What to advertise for a bound address: itself, or for "all addresses" the one this host would send from.
fn derived(bound: SocketAddr) -> String {
    let ip = if bound.ip().is_unspecified() { outgoing_ip() } else { bound.ip() };
    SocketAddr::new(ip, bound.port()).to_string()
}

/// The address packets to other networks leave from. Connecting a UDP socket sends nothing; the address is of
/// the block set aside for documentation (RFC 5737, RFC 3849). A host without routes has only itself.
fn outgoing_ip() -> IpAddr {
    let look = |local: IpAddr, far: IpAddr| {
        let socket = UdpSocket::bind((local, 0)).ok()?;
        socket.connect((far, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
    };
    let far_4 = Ipv4Addr::new(192, 0, 2, 1).into();
    let far_6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into();
    look(Ipv4Addr::UNSPECIFIED.into(), far_4)
        .or_else(|| look(Ipv6Addr::UNSPECIFIED.into(), far_6))
        .unwrap_or(Ipv4Addr::LOCALHOST.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_bound_is_advertised() {
        let port = PeerPort::bind(Some((Ipv4Addr::LOCALHOST, 0).into()), &[]).unwrap();
        assert_eq!(port.advertise, [port.socket.local_addr().unwrap().to_string()]);
        let port = PeerPort::bind(Some((Ipv4Addr::UNSPECIFIED, 0).into()), &[]).unwrap();
        assert!(!port.advertise[0].starts_with("0.0.0.0"), "nobody can dial {}", port.advertise[0]);
        let told = ["board:7".to_owned()];
        assert_eq!(PeerPort::bind(Some((Ipv4Addr::LOCALHOST, 0).into()), &told).unwrap().advertise, told);
    }
}
