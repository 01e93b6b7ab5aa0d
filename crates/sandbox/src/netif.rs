//! Turning a network interface on, in the network namespace of this process.

use std::ffi::CStr;
use std::io;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Sets the interface up. Needs the right to administrate its network namespace.
pub(crate) fn set_up(name: &CStr) -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    crate::sys::interface_up(&socket, name)
}
