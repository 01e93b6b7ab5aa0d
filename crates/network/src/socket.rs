//! Sockets of the calling thread's network namespace, non-blocking and closed on exec.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt};
use tokio::net::TcpSocket;

/// Connections that the kernel keeps ready for `accept`.
const BACKLOG: i32 = 1024;

pub(crate) fn tcp_listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address, SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// A stream socket to be given to [`from_std`]: a connection is made on the runtime, not here.
pub(crate) fn tcp_unconnected(address: SocketAddr) -> io::Result<TcpStream> {
    Ok(open(address, SocketType::STREAM)?.into())
}

pub(crate) fn from_std(socket: TcpStream) -> TcpSocket {
    TcpSocket::from_std_stream(socket)
}

pub(crate) fn udp_bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(address, SocketType::DGRAM)?;
    bind(&socket, &address)?;
    Ok(socket.into())
}

pub(crate) fn udp_connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(address, SocketType::DGRAM)?;
    connect(&socket, &address)?;
    Ok(socket.into())
}

fn open(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?)
}
