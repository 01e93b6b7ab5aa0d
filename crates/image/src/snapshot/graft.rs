//! The merged style: completing a layer with what remains visible of the tree below it.
//!
//! Files are hard links to those below. That is safe because unpacking never changes an existing file, it replaces
//! it, and because overlayfs never writes to a lower directory.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, linkat, mkdirat};

use super::ExtractError;
use super::inode::{self, Attributes};
use super::path::LayerPath;
use super::whiteout::Whiteouts;

/// Adds to `upper` what `lower` shows and the layer neither has nor hides.
pub(super) fn graft(
    upper: BorrowedFd<'_>,
    lower: BorrowedFd<'_>,
    whiteouts: &Whiteouts,
) -> Result<(), ExtractError> {
    let root = LayerPath::default();
    if whiteouts.opaque.contains(&root) {
        return Ok(());
    }
    merge(upper, lower, &root, whiteouts)
}

fn merge(
    upper: BorrowedFd<'_>,
    lower: BorrowedFd<'_>,
    here: &LayerPath,
    whiteouts: &Whiteouts,
) -> Result<(), ExtractError> {
    for name in inode::list(lower, here)? {
        let path = here.join(&name);
        if whiteouts.hidden.contains(&path) {
            continue;
        }
        let fail = || ExtractError::io("merge", &path);
        let Some(below) = inode::stat(lower, &name).map_err(fail())? else { continue };
        let above = inode::stat(upper, &name).map_err(fail())?;
        match above {
            None if inode::is_dir(&below) => {
                mkdirat(upper, name.as_slice(), Mode::RWXU).map_err(fail())?;
                let made = inode::open_subdir(upper, &name).map_err(fail())?;
                let from = inode::open_subdir(lower, &name).map_err(fail())?;
                let attributes = Attributes::of(&below);
                attributes.apply(made.as_fd()).map_err(fail())?;
                if !whiteouts.opaque.contains(&path) {
                    merge(made.as_fd(), from.as_fd(), &path, whiteouts)?;
                }
                inode::set_times(upper, &name, attributes.mtime).map_err(fail())?;
            }
            None => {
                let name = name.as_slice();
                linkat(lower, name, upper, name, AtFlags::empty()).map_err(fail())?;
            }
            Some(above) if inode::is_dir(&above) && inode::is_dir(&below) => {
                if !whiteouts.opaque.contains(&path) {
                    let into = inode::open_subdir(upper, &name).map_err(fail())?;
                    let from = inode::open_subdir(lower, &name).map_err(fail())?;
                    merge(into.as_fd(), from.as_fd(), &path, whiteouts)?;
                }
            }
            Some(_) => {}
        }
    }
    Ok(())
}
