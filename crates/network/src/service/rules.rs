//! Service rules in the kernel: applies what differs from what was applied last.
//!
//! The first time, and when the kernel refuses a difference, what differs is found by reading back what the
//! kernel has; if that is refused too, the table is made anew. Clients that stay with a backend are forgotten
//! only by the last.

use std::io;

use crate::cidr::Cidr;
use crate::netns::Netns;
use crate::service::ServiceSpec;
use crate::service::conntrack::{self, ConntrackError};
use crate::service::nft::{Nft, NftError};
use crate::service::ruleset::{Features, Ruleset, RulesetConfig};
use crate::service::transaction::{self, TABLE};

/// Why service rules are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The rules could not be changed; the old ones are in force.
    #[error("service addresses could not be updated: {0}")]
    Rules(#[from] NftError),
    /// The rules are in force, but some UDP clients still send to a backend that is gone.
    #[error("service addresses are updated, but UDP flows to former backends go on: {0}")]
    StaleFlows(#[from] ConntrackError),
}

/// What one [`ServiceRules::apply`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rules were changed.
    pub changed: bool,
    /// UDP flows to former backends that were ended.
    pub flows_ended: usize,
    /// What this kernel lacks and what is done instead; empty when all is well.
    pub fallbacks: Vec<&'static str>,
}

/// The owner of the service rules of one address family in the node's namespace.
#[derive(Debug)]
pub struct ServiceRules {
    nft: Nft,
    node: Netns,
    config: RulesetConfig,
    features: Features,
    /// What is in force; `None` when that is not known.
    applied: Option<Ruleset>,
}

impl ServiceRules {
    /// Finds what is needed; changes nothing yet.
    pub fn new(node: Netns, config: RulesetConfig) -> Result<Self, NftError> {
        let nft = Nft::find(node.clone())?;
        Ok(Self { nft, node, config, features: Features::default(), applied: None })
    }

    /// Changes where pods may not go by the way out; in force after the next [`ServiceRules::apply`], which is needed if
    /// this says so.
    pub fn block(&mut self, blocked: Vec<Cidr>) -> bool {
        let changed = self.config.blocked != blocked;
        if changed {
            self.config.blocked = blocked;
            self.applied = None;
        }
        changed
    }

    /// Makes `services` reachable and nothing else. After an error the next call tries everything again.
    pub async fn apply(&mut self, services: &[ServiceSpec]) -> Result<Applied, ServiceError> {
        let mut ruleset = Ruleset::render(&self.config, self.features, services);
        let old = self.applied.take();
        let mut changed = true;
        if let Some(old) = &old {
            let scripts = transaction::difference(&self.config, old, &ruleset);
            changed = !scripts.is_empty();
            if let Err(error) = self.run(scripts).await {
                tracing::warn!(%error, "a change of service rules was refused; comparing with what the kernel has");
                ruleset = self.replace(ruleset, services).await?;
            }
        } else {
            ruleset = self.replace(ruleset, services).await?;
        }
        let udp_changed = old.is_none_or(|old| old.udp != ruleset.udp);
        let flows_ended = if udp_changed { self.end_stale_flows(&ruleset).await? } else { 0 };
        self.applied = Some(ruleset);
        Ok(Applied { changed, flows_ended, fallbacks: fallbacks(self.features) })
    }

    async fn replace(&mut self, ruleset: Ruleset, services: &[ServiceSpec]) -> Result<Ruleset, NftError> {
        let listing = self.nft.list_table(self.config.family().keyword(), TABLE).await?;
        let observed = transaction::observe(&listing.unwrap_or_default(), &self.config);
        let scripts = transaction::replace(&self.config, &observed, &ruleset);
        let Err(first) = self.run(scripts).await else { return Ok(ruleset) };

        tracing::warn!(error = %first, "service rules were refused; making them anew with what the kernel has");
        self.features = self.nft.probe().await?;
        let ruleset = Ruleset::render(&self.config, self.features, services);
        self.run(transaction::recreate(&self.config, &ruleset)).await?;
        Ok(ruleset)
    }

    async fn run(&self, scripts: Vec<String>) -> Result<(), NftError> {
        for script in scripts {
            self.nft.apply(script).await?;
        }
        Ok(())
    }

    async fn end_stale_flows(&self, ruleset: &Ruleset) -> Result<usize, ConntrackError> {
        if ruleset.udp.is_empty() {
            return Ok(0);
        }
        let socket = self.node.run(conntrack::open).await.map_err(io::Error::other);
        let socket = socket.and_then(|opened| opened).map_err(ConntrackError::Open)?;
        let current = ruleset.udp.clone();
        let ended = tokio::task::spawn_blocking(move || conntrack::end_stale_udp(&socket, &current)).await;
        ended.map_err(|e| ConntrackError::Open(io::Error::other(e)))?
    }
}

fn fallbacks(features: Features) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !features.random {
        missing.push("no random choice (numgen): a connection's address and port choose its backend");
    }
    if !features.dynamic_sets {
        missing.push("no dynamic sets: client affinity is by a hash of the client's address and never ends");
    }
    missing
}
