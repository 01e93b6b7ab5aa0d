//! The pods' way out: a user-mode network stack between the node's namespace and the host's.
//!
//! `pasta` (from the `passt` project) or else `slirp4netns` gives the node's namespace a link, [`EGRESS_LINK`],
//! and turns what pods send there into ordinary sockets of the host. Service rules masquerade pods behind the
//! link's address, refuse what nobody asked for from outside, and refuse the ranges that pods may not reach.
//!
//! Both programs by default let the inside reach services of the host that listen on its loopback only, where
//! whole databases rely on nobody else being there. The arguments here turn off each of those ways; see the
//! comments beside them. Services that listen on all of the host's addresses are another matter: see
//! [`HostAddresses`].
//!
//! The program outlives the server, so that pods keep their connections while it restarts; it ends with the
//! namespaces.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::netlink::{NetlinkError, Watch};
use crate::netns::{Netns, NetnsError};
use crate::program;

/// The node's link to the world outside, while there is one.
pub const EGRESS_LINK: &str = "xout0";

const TUN: &str = "/dev/net/tun";
/// How long a program may take to make the link.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a program that was killed may take to be gone.
const KILLED: Duration = Duration::from_secs(2);
/// The pauses, in milliseconds, before a watch that broke off is opened again; it is lost when it breaks off after all of
/// them.
const PAUSES: [u64; 8] = [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600];
/// As much of a program's complaint as a reason repeats, in bytes.
const MAX_COMPLAINT: usize = 300;

/// The way out, or why there is none.
#[derive(Debug)]
pub enum Egress {
    /// Pods reach the outside.
    Available(WayOut),
    /// They don't.
    Unavailable {
        /// What is missing and what to do, in one sentence.
        reason: String,
    },
}

/// A working way out.
#[derive(Debug)]
pub struct WayOut {
    /// Who provides it.
    pub provider: Provider,
    node: Netns,
    /// Kept so that its end is noticed by the runtime.
    _process: Option<Child>,
}

/// Who provides a way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// `pasta`.
    Pasta,
    /// `slirp4netns`.
    Slirp4netns,
    /// It was there when this process started.
    Earlier,
}

impl Egress {
    /// Takes over the way out that is there, or starts one.
    pub async fn start(node: &Netns) -> Self {
        match connect(node).await {
            Ok(way) => Self::Available(way),
            Err(reason) => Self::Unavailable {
                reason: format!("pods can't reach anything outside the cluster: {reason}"),
            },
        }
    }
}

impl WayOut {
    /// Returns when the way out is gone: its program ended, whoever started it.
    pub async fn lost(&self) -> Result<(), EgressError> {
        let watch = self.node.watch_links().await?;
        Ok(watch.removed(EGRESS_LINK).await?)
    }
}

/// Why the way out can't be watched.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The node's namespace could not be used.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// The addresses of the host other than loopback and link-local ones, as they come and go. A service that listens on all
/// of the host's addresses is open to pods at these, past any firewall: put them into the blocked ranges of
/// [`crate::service::ruleset::RulesetConfig`] unless pods should reach the host.
pub struct HostAddresses {
    watch: Watch,
}

impl HostAddresses {
    /// Looks at the calling thread's network.
    pub fn open() -> Result<Self, EgressError> {
        Ok(Self { watch: Watch::addresses().map_err(NetlinkError::open)? })
    }

    /// What they are now.
    pub async fn now(&self) -> Result<Vec<IpAddr>, EgressError> {
        let mut addresses = self.watch.netlink().addresses().await?;
        addresses.retain(|ip| match ip {
            IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_link_local()),
            IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unicast_link_local()),
        });
        Ok(addresses)
    }

    /// Tells what they are now and whenever they change, until nobody listens. A watch that breaks off, as it does when
    /// news come faster than they are taken, is opened again in the calling thread's network, and all is listed anew.
    ///
    /// # Errors
    /// The watch has broken off several times in a row.
    pub async fn follow(self, tell: watch::Sender<Vec<IpAddr>>) -> Result<(), EgressError> {
        self.follow_over(tell, Self::open).await
    }

    async fn follow_over(
        mut self,
        tell: watch::Sender<Vec<IpAddr>>,
        open: impl Fn() -> Result<Self, EgressError>,
    ) -> Result<(), EgressError> {
        let following = async {
            let mut pauses = PAUSES.iter();
            loop {
                let Err(error) = self.pass_on(&tell, || pauses = PAUSES.iter()).await;
                let Some(pause) = pauses.next().copied().map(Duration::from_millis) else {
                    return Err(error);
                };
                tracing::warn!(%error, ?pause, "the host's addresses cannot be followed, they are listed anew");
                sleep(pause).await;
                match open() {
                    Ok(again) => self = again,
                    Err(error) => tracing::warn!(%error, "the host's addresses cannot be watched"),
                }
            }
        };
        tokio::select! {
            () = tell.closed() => Ok(()),
            lost = following => lost,
        }
    }

    /// Tells what they are now and whenever they change, until that fails; says `heard` of every change.
    async fn pass_on(
        &mut self,
        tell: &watch::Sender<Vec<IpAddr>>,
        mut heard: impl FnMut(),
    ) -> Result<Infallible, EgressError> {
        loop {
            let addresses = self.now().await?;
            tell.send_if_modified(|known| {
                let changed = *known != addresses;
                *known = addresses;
                changed
            });
            self.watch.changed().await?;
            heard();
        }
    }
}

async fn connect(node: &Netns) -> Result<WayOut, String> {
    let way = |provider, process| WayOut { provider, node: node.clone(), _process: process };
    let netlink = node.netlink().await.map_err(|e| e.to_string())?;
    if netlink.link(EGRESS_LINK).await.map_err(|e| e.to_string())?.is_some() {
        return Ok(way(Provider::Earlier, None));
    }
    check_tun()?;
    let mut reasons = Vec::new();
    match program::find("pasta") {
        Some(program) => match start_pasta(&program, node.path()).await {
            Ok(()) => return Ok(way(Provider::Pasta, None)),
            Err(reason) => reasons.push(format!("pasta failed: {reason}")),
        },
        None => reasons.push("pasta is not installed (Debian's package passt)".to_owned()),
    }
    match program::find("slirp4netns") {
        Some(program) => match start_slirp(&program, node.path()).await {
            Ok(process) => return Ok(way(Provider::Slirp4netns, Some(process))),
            Err(reason) => reasons.push(format!("slirp4netns failed: {reason}")),
        },
        None => reasons.push("slirp4netns is not installed either".to_owned()),
    }
    Err(reasons.join("; "))
}

fn check_tun() -> Result<(), String> {
    match OpenOptions::new().read(true).write(true).open(TUN) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("there is no {TUN}; an administrator can load the kernel's module tun"))
        }
        Err(error) => Err(format!(
            "{TUN} can't be opened ({error}); an administrator can allow it with: chmod 0666 {TUN}"
        )),
    }
}

/// Starts pasta, which goes into the background once the link is ready.
async fn start_pasta(program: &Path, netns: &Path) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(["--config-net", "--ipv4-only", "--ns-ifname", EGRESS_LINK]);
    // A link subnet of its own: not the host's addresses, which are the default.
    command.args(["--address", "10.41.0.2", "--netmask", "30", "--gateway", "10.41.0.1"]);
    // No port is forwarded, neither inwards nor, as is the default, from the inside to the host's loopback.
    command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
    // The gateway's address is not the host's loopback, which is the default.
    command.arg("--no-map-gw");
    // Names and addresses come from this crate.
    command.args(["--dns", "none", "--search", "none"]);
    command.args(["--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra"]);
    command.arg("--quiet").arg("--netns-only").arg("--netns").arg(netns);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.map_err(|_| slow())?.map_err(|e| e.to_string())?;
    if output.status.success() { Ok(()) } else { Err(complaint(&output.stderr)) }
}

/// Starts slirp4netns, which says on a descriptor when the link is ready.
async fn start_slirp(program: &Path, netns: &Path) -> Result<Child, String> {
    let mut command = Command::new(program);
    command.args(["--configure", "--mtu=65520", "--cidr=10.41.0.0/24", "--netns-type=path"]);
    // Without this its gateway's address is the host's loopback.
    command.arg("--disable-host-loopback");
    // Without this its third address asks the host's resolver, which may listen on the loopback.
    command.arg("--disable-dns");
    command.args(["--enable-sandbox", "--enable-seccomp", "--ready-fd=1"]).arg(netns).arg(EGRESS_LINK);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().map_err(|e| e.to_string())?;
    let mut ready = process.stdout.take().expect("stdout was asked for");
    if let Ok(Ok(_)) = timeout(PATIENCE, ready.read_u8()).await {
        return Ok(process);
    }
    if let Err(error) = process.start_kill() {
        tracing::debug!(%error, "slirp4netns had ended already");
    }
    // Whoever it has started may hold its output open.
    let output = timeout(KILLED, process.wait_with_output()).await.map_err(|_| slow())?;
    let output = output.map_err(|e| e.to_string())?;
    Err(if output.stderr.is_empty() { slow() } else { complaint(&output.stderr) })
}

fn slow() -> String {
    format!("it was not ready within {}s", PATIENCE.as_secs())
}

fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" / ").chars().take(MAX_COMPLAINT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::net::Ipv4Addr;

    /// One whose socket is closed, as after more news than it could hold.
    fn broken_off() -> HostAddresses {
        let host = HostAddresses::open().unwrap();
        host.watch.break_off();
        host
    }

    #[tokio::test]
    async fn a_watch_that_breaks_off_is_opened_again_and_all_is_listed_anew() {
        let real = HostAddresses::open().unwrap().now().await.unwrap();
        let (tell, mut told) = watch::channel(vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))]);
        let following = tokio::spawn(broken_off().follow(tell));
        timeout(PATIENCE, told.wait_for(|told| *told == real)).await.unwrap().unwrap();
        drop(told);
        timeout(PATIENCE, following).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_breaks_off_each_time_is_given_up() {
        let (tell, told) = watch::channel(Vec::new());
        let opened = Cell::new(0);
        let open = || {
            opened.set(opened.get() + 1);
            Ok(broken_off())
        };
        let lost = broken_off().follow_over(tell, open).await;
        assert!(matches!(lost, Err(EgressError::Netlink(_))), "{lost:?}");
        assert_eq!(opened.get(), PAUSES.len());
        drop(told);
    }

    #[tokio::test]
    async fn nobody_listens_from_the_beginning() {
        let (tell, _) = watch::channel(Vec::new());
        timeout(PATIENCE, broken_off().follow(tell)).await.unwrap().unwrap();
    }
}
