//! What fuzzing checks of what comes from containers, images and other processes; part of no other build.

use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::config::{ContainerUser, Principal, SeccompProfile};
use crate::seccomp::Filter;
use crate::wire::{Decoder, Frame, Request, Response, encode_bytes};

/// Takes frames out of `bytes`, as they are and in pieces of `step` bytes, and writes them again.
///
/// # Panics
/// `step` is 0.
pub fn frames(bytes: &[u8], step: usize) {
    let whole = decode(std::iter::once(bytes));
    assert_eq!(whole, decode(bytes.chunks(step)));
    let mut written = Vec::new();
    for frame in &whole.0 {
        encode_bytes(frame.tag, &frame.payload, &mut written).expect("a frame that was read can be written");
        drop(frame.parse::<Request>());
        drop(frame.parse::<Response>());
    }
    assert!(bytes.starts_with(&written));
}

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, String) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, error.to_string()),
            }
        }
    }
    (frames, String::new())
}

/// Looks users up in a container's files.
pub fn users(passwd: &[u8], group: &[u8]) {
    let file = |bytes: &[u8]| -> io::Result<OwnedFd> {
        let mut file = std::fs::File::from(memfd_create("file", MemfdFlags::CLOEXEC)?);
        file.write_all(bytes)?;
        file.rewind()?;
        Ok(file.into())
    };
    let open = |path: &Path| file(if path.ends_with("passwd") { passwd } else { group });
    let names = [Principal::Name("web".to_owned()), Principal::Id(0), Principal::Id(7)];
    for user in &names {
        for name in [None, Some(names[0].clone()), Some(names[2].clone())] {
            let user = ContainerUser { user: user.clone(), group: name, supplementary_groups: vec![5] };
            if let Ok(found) = crate::shim::user::resolve(&user, open) {
                assert!(found.home.starts_with('/') && found.groups.contains(&found.gid), "{found:?}");
            }
        }
    }
}

/// Compiles a seccomp profile.
pub fn seccomp(json: &str) {
    drop(Filter::of(&SeccompProfile::Localhost(json.into())));
}
