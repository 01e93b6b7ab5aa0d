//! Who of several acts: a `Lease` (coordination.k8s.io/v1) in `kube-system`, as upstream's controllers hold one.
//!
//! ```text
//!  waiting ──the lease is free, or was not renewed for its duration──▶ leading
//!     ▲                                                                 │ renewed every two seconds
//!     └──── taken by another, or not renewed for two thirds of it ──────┘
//! ```
//!
//! Guarantees: two hold the lease at one time only if one of them does not stop within the third of the duration that is
//! left when it gives up. That holds whatever the clocks show: how old a renewal is counts from when it was seen, on the
//! clock of who waits. Caveat: who is stopped for longer than the duration, as with its machine, notices only afterwards.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::Instant;
use tracing::{info, warn};

use super::clock::{SharedClock, api_micro_time};

/// Where the leases are.
pub const LEASE_NAMESPACE: &str = "kube-system";

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long a lease counts after its last renewal. Shown in whole seconds.
    pub duration: Duration,
    /// How long a holder that cannot renew goes on.
    pub renew_within: Duration,
    /// How often the lease is looked at.
    pub retry: Duration,
}

impl Default for Timing {
    /// Upstream's.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_within: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// One candidate for one lease.
#[derive(Debug)]
pub struct Election {
    leases: Api<Lease>,
    name: &'static str,
    /// Tells this candidate from all others, those that it was before included.
    identity: String,
    clock: SharedClock,
    timing: Timing,
    seen: Option<Seen>,
}

/// The lease as it was seen last, and since when it is like that.
#[derive(Debug, Clone)]
struct Seen {
    lease: Lease,
    since: Instant,
}

/// What to do about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Take,
    Renew,
    Wait,
}

impl Election {
    /// A candidate. `identity` has to be another one for each process.
    pub fn new(
        client: Client,
        name: &'static str,
        identity: String,
        clock: SharedClock,
        timing: Timing,
    ) -> Self {
        let leases = Api::namespaced(client, LEASE_NAMESPACE);
        Self { leases, name, identity, clock, timing, seen: None }
    }

    /// Waits until the lease is this candidate's.
    pub async fn won(&mut self) {
        loop {
            match self.try_hold().await {
                Ok(true) => {
                    info!(lease = self.name, identity = self.identity, "leads now");
                    return;
                }
                Ok(false) => {}
                Err(error) => warn!(lease = self.name, %error, "the lease cannot be had"),
            }
            tokio::time::sleep(self.timing.retry).await;
        }
    }

    /// Renews the lease until it is lost.
    pub async fn lost(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.timing.retry).await;
            let begun = Instant::now();
            let left = (renewed + self.timing.renew_within).saturating_duration_since(begun);
            match tokio::time::timeout(left, self.try_hold()).await {
                Ok(Ok(true)) => renewed = begun,
                Ok(Ok(false)) => {
                    warn!(lease = self.name, "another leads now");
                    return;
                }
                Ok(Err(error)) => warn!(lease = self.name, %error, "the lease is not renewed"),
                Err(_) => {
                    warn!(lease = self.name, "the lease was not renewed in time");
                    return;
                }
            }
        }
    }

    /// Gives the lease up at once, if it is this candidate's. Called when everything that it allowed has stopped.
    pub async fn resign(&mut self) {
        let Some(Seen { lease, .. }) = self.seen.take() else { return };
        if holder(&lease) != self.identity {
            return;
        }
        let mut given = lease;
        let now = api_micro_time(self.clock.now());
        let spec = given.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(now);
        // Who does not hear of it waits until the lease has run out.
        if let Err(error) = self.leases.replace(self.name, &PostParams::default(), &given).await {
            warn!(lease = self.name, %error, "the lease is not given back");
        }
    }

    /// Makes, takes or renews the lease; whether it is this candidate's then.
    async fn try_hold(&mut self) -> Result<bool, kube::Error> {
        let found = self.leases.get_opt(self.name).await?;
        let now = Instant::now();
        self.see(found.as_ref(), now);
        let step = plan(self.seen.as_ref(), &self.identity, now);
        let written = match step {
            Step::Wait => return Ok(false),
            Step::Create => self.leases.create(&PostParams::default(), &self.lease(None)).await,
            Step::Take | Step::Renew => {
                let lease = self.lease(found.as_ref());
                self.leases.replace(self.name, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.seen = Some(Seen { lease, since: now });
                Ok(true)
            }
            // Somebody else was faster; the next look shows who.
            Err(kube::Error::Api(status)) if status.code == 409 && step != Step::Renew => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn see(&mut self, found: Option<&Lease>, now: Instant) {
        let same = |seen: &&Seen| found.is_some_and(|lease| lease.spec == seen.lease.spec);
        let since = self.seen.as_ref().filter(same).map_or(now, |seen| seen.since);
        self.seen = found.map(|lease| Seen { lease: lease.clone(), since });
    }

    /// The lease as this candidate's.
    fn lease(&self, found: Option<&Lease>) -> Lease {
        let now = api_micro_time(self.clock.now());
        let mut lease = found.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.to_owned()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        let own = holder(&lease) == self.identity;
        let old = lease.spec.take().unwrap_or_default();
        let transitions = old.lease_transitions.unwrap_or_default();
        let seconds = self.timing.duration.as_secs().max(1);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            acquire_time: if own { old.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if own || found.is_none() { transitions } else { transitions + 1 }),
            ..old
        });
        lease
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

fn plan(seen: Option<&Seen>, identity: &str, now: Instant) -> Step {
    let Some(Seen { lease, since }) = seen else { return Step::Create };
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    let counts_until = *since + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    match holder(lease) {
        "" => Step::Take,
        holder if holder == identity => Step::Renew,
        _ if now >= counts_until => Step::Take,
        _ => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(holder: &str, seconds: i32, since: Instant) -> Seen {
        let spec = LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        };
        Seen { lease: Lease { spec: Some(spec), ..Lease::default() }, since }
    }

    #[test]
    fn a_lease_is_taken_when_it_does_not_count() {
        let since = Instant::now();
        let after = |seconds| since + Duration::from_secs(seconds);
        assert_eq!(plan(None, "me", since), Step::Create);
        for (holder, seconds, now, step) in [
            ("me", 15, after(1), Step::Renew),
            ("me", 15, after(100), Step::Renew),
            ("other", 15, after(0), Step::Wait),
            ("other", 15, after(14), Step::Wait),
            ("other", 15, after(15), Step::Take),
            ("other", 60, after(15), Step::Wait),
            ("other", -1, after(0), Step::Take),
            ("", 15, after(0), Step::Take),
        ] {
            assert_eq!(plan(Some(&seen(holder, seconds, since)), "me", now), step, "{holder} {seconds}");
        }
    }
}
