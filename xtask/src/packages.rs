//! System packages: what Xebec needs of the machine, and how to get it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// A Debian package and a file by which to know that it is there.
struct Package {
    name: &'static str,
    proof: &'static str,
}

/// What running a cluster needs.
const RUN: [Package; 3] = [
    Package { name: "uidmap", proof: "/usr/bin/newuidmap" },
    Package { name: "nftables", proof: "/usr/sbin/nft" },
    Package { name: "passt", proof: "/usr/bin/pasta" },
];

/// What fetching kubectl and helm needs.
const CLIENTS: [Package; 2] =
    [Package { name: "npm", proof: "/usr/bin/npm" }, Package { name: "unzip", proof: "/usr/bin/unzip" }];

/// What the tests need besides; the first is what the demonstration's image is made of.
const TEST: [Package; 8] = [
    Package { name: "busybox-static", proof: "/var/lib/dpkg/info/busybox-static.list" },
    Package { name: "docker-registry", proof: "/usr/bin/docker-registry" },
    Package { name: "etcd-server", proof: "/usr/bin/etcd" },
    Package { name: "iproute2", proof: "/usr/sbin/ip" },
    Package { name: "python3-venv", proof: "/var/lib/dpkg/info/python3-venv.list" },
    Package { name: "runsc", proof: "/usr/bin/runsc" },
    Package { name: "skopeo", proof: "/usr/bin/skopeo" },
    Package { name: "slirp4netns", proof: "/usr/bin/slirp4netns" },
];

/// Makes sure that everything for running the demonstration is there.
///
/// # Errors
/// As [`for_tests`].
pub(crate) fn for_demo() -> Result<()> {
    ensure(&RUN.iter().chain(&TEST[..1]).chain(&CLIENTS).collect::<Vec<_>>())
}

/// Makes sure that everything for running and testing is there.
///
/// # Errors
/// Something is missing and cannot be installed: the message is the line to type.
pub(crate) fn for_tests() -> Result<()> {
    ensure(&RUN.iter().chain(&TEST).chain(&CLIENTS).collect::<Vec<_>>())
}

fn ensure(packages: &[&Package]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|p| !Path::new(p.proof).exists()).map(|p| p.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !command::is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!("these packages are missing; install them with:\n  sudo apt-get install {}", missing.join(" "));
    }
    command::run(Command::new("apt-get").args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing);
    command::run(install.env("DEBIAN_FRONTEND", "noninteractive"))
}
