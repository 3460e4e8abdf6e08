//! A TUN device: what a host sends comes out of a file, what is written to the file the host receives.
//!
//! The one place of the tests that needs unsafe code: naming the device is a request that no safe crate makes.
#![allow(unsafe_code, reason = "TUNSETIFF is an ioctl without a safe form")]

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest packet: the devices keep the kernel's default of 1500 bytes.
pub(super) const PACKET_BYTES_MAX: usize = 2_048;

const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
const IFF_TUN: u16 = 0x0001;
/// Packets as they are, without a head of the device's own.
const IFF_NO_PI: u16 = 0x1000;
/// Never join a device that is there already.
const IFF_TUN_EXCL: u16 = 0x8000;
const NAME_BYTES: usize = 16;

/// `struct ifreq`, as far as this request reads it.
#[repr(C)]
struct Request {
    name: [u8; NAME_BYTES],
    flags: u16,
    unused: [u8; 22],
}

/// A device; it is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Tun {
    file: OwnedFd,
}

impl Tun {
    /// Makes a device of that name in the namespace of this process.
    ///
    /// # Errors
    /// If there is one already, or the system refuses.
    pub(super) fn new(name: &str) -> Result<Tun> {
        ensure!(name.len() < NAME_BYTES, "{name} is too long for a device");
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = open(super::DEVICE, flags, Mode::empty()).with_context(|| super::DEVICE.to_owned())?;
        let mut request =
            Request { name: [0; NAME_BYTES], flags: IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL, unused: [0; 22] };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        // SAFETY: TUNSETIFF takes a pointer to a `struct ifreq`: 40 bytes of which `Request` has the layout.
        let setter = unsafe { Setter::<TUNSETIFF, Request>::new(request) };
        // SAFETY: the request fits its code, and the file is a TUN file.
        unsafe { ioctl(&file, setter) }.with_context(|| format!("TUN device {name}"))?;
        Ok(Tun { file })
    }

    /// The next packet the host sent; none if there is none now.
    ///
    /// # Errors
    /// What the device says.
    pub(super) fn receive(&self, packet: &mut [u8; PACKET_BYTES_MAX]) -> Result<Option<usize>, Errno> {
        match rustix::io::read(&self.file, packet) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the host a packet. A host that is down or takes no more loses it, as on a wire.
    pub(super) fn send(&self, packet: &[u8]) -> bool {
        rustix::io::write(&self.file, packet).is_ok()
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

const _: () = assert!(size_of::<Request>() == 40);
