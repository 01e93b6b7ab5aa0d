//! Where plugins take part in scheduling a pod. The traits carry the names of Kubernetes' extension points.
//!
//! ```text
//!  PreEnqueue ─▶ QueueSort ─▶ PreFilter ─▶ Filter (each node) ─▶ PreScore ─▶ Score (each node that is left)
//!                                 │            │                                     │
//!                                 └─ none left ┴─▶ PostFilter                        ▼
//!                                                                 Reserve ─▶ Permit ─▶ Bind
//! ```
//!
//! `PreFilter` and `PreScore` look at the pod once and hand back what looks at the nodes, or nothing when the pod
//! gives them nothing to do: a pod without host ports never meets the ports plugin again.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use xebec_controllers::runtime::error::ApiError;
use xebec_controllers::runtime::writer::Requests;

use crate::node::NodeInfo;
use crate::pod::PodInfo;
use crate::snapshot::ClusterSnapshot;

/// The pod that is being scheduled, and the cluster that it is scheduled into.
#[derive(Debug, Clone, Copy)]
pub struct Cycle<'a> {
    /// The pod.
    pub pod: &'a PodInfo,
    /// The cluster.
    pub snapshot: &'a ClusterSnapshot,
}

/// Why a node will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The plugin that says so.
    pub plugin: &'static str,
    /// In words, each as `FailedScheduling` counts them.
    pub reasons: Reasons,
    /// Whether evicting other pods could help.
    pub preemptible: bool,
}

/// One reason, mostly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reasons {
    /// One.
    One(Cow<'static, str>),
    /// Several.
    Many(Vec<Cow<'static, str>>),
}

impl Reasons {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let reasons = match self {
            Self::One(reason) => std::slice::from_ref(reason),
            Self::Many(reasons) => reasons,
        };
        reasons.iter().map(|reason| &**reason)
    }
}

/// What a plugin makes of a pod before it sees the nodes.
pub enum PreFilterVerdict<'a> {
    /// The plugin has nothing to say about this pod.
    Skip,
    /// This looks at each node.
    Filter(Box<dyn Filter + 'a>),
    /// Only these nodes can do, and this looks at each of them.
    Only(Vec<&'a str>, Box<dyn Filter + 'a>),
    /// No node can do.
    Reject(Rejection),
}

/// Prepares the filtering of nodes for one pod, and knows what could change its mind.
pub trait PreFilter: Send + Sync {
    /// The plugin's name.
    fn name(&self) -> &'static str;

    /// Looks at the pod.
    fn pre_filter<'a>(&'a self, cycle: &Cycle<'a>) -> PreFilterVerdict<'a>;

    /// Whether `event` could make a pod schedulable that this plugin has rejected.
    fn hint(&self, pod: &PodInfo, event: &ClusterEvent<'_>) -> Hint;
}

/// Looks at one node.
pub trait Filter {
    /// Whether the pod can run on `node`.
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection>;
}

/// Prepares the scoring of nodes for one pod.
pub trait PreScore: Send + Sync {
    /// The plugin's name.
    fn name(&self) -> &'static str;

    /// Looks at the pod; `None` when all nodes are the same to it.
    fn pre_score<'a>(&'a self, cycle: &Cycle<'a>) -> Option<Box<dyn Score + 'a>>;
}

/// The highest score.
pub const MAX_SCORE: i64 = 100;

/// Scores one node.
pub trait Score {
    /// The more the better.
    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings the scores of all nodes into `0..=MAX_SCORE`. They are there already unless this says otherwise.
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// Keeps pods out of the queue.
pub trait PreEnqueue: Send + Sync {
    /// Why the pod may not be scheduled yet.
    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Cow<'static, str>>;
}

/// Orders the queue.
pub trait QueueSort: Send + Sync {
    /// The place of a pod that was `nth` to come; smaller goes first.
    fn place(&self, pod: &PodInfo, nth: u64) -> (i64, u64);
}

/// Tries to make room when no node will do.
pub trait PostFilter: Send + Sync {
    /// The plugin's name.
    fn name(&self) -> &'static str;

    /// What it has found out, for the message to the user.
    fn post_filter(&self, cycle: &Cycle<'_>, rejections: &[(Arc<str>, Rejection)]) -> Option<String>;
}

/// Keeps books of its own about what is given out.
pub trait Reserve: Send + Sync {
    /// Books the pod on the node.
    fn reserve(&self, pod: &PodInfo, node: &str) -> Result<(), Rejection>;

    /// Takes the booking back: the pod was not bound after all.
    fn unreserve(&self, pod: &PodInfo, node: &str);
}

/// Has the last word before a pod is bound.
pub trait Permit: Send + Sync {
    /// Whether the pod may be bound to the node.
    fn permit(&self, pod: &PodInfo, node: &str) -> Result<(), Rejection>;
}

/// Binds a pod to its node.
pub trait Bind: Send + Sync {
    /// Tells the API.
    fn bind<'a>(
        &'a self,
        requests: &'a Requests,
        pod: &'a PodInfo,
        node: &'a str,
    ) -> BoxFuture<'a, Result<(), ApiError>>;
}

/// A change of the cluster that could make room.
#[derive(Debug, Clone, Copy)]
pub enum ClusterEvent<'a> {
    /// A node has come.
    NodeAdded(&'a NodeInfo),
    /// A node has changed in something that pods look at.
    NodeChanged(&'a NodeInfo),
    /// A pod no longer takes room on this node; the node is as it is without it.
    PodGone(&'a PodInfo, &'a NodeInfo),
}

impl<'a> ClusterEvent<'a> {
    /// The node that it is about, when it is about the node itself.
    pub fn node(&self) -> Option<&'a NodeInfo> {
        match self {
            Self::NodeAdded(node) | Self::NodeChanged(node) => Some(node),
            Self::PodGone(..) => None,
        }
    }
}

/// Whether to try a pod again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// It could help.
    Queue,
    /// It cannot.
    Skip,
}

impl From<bool> for Hint {
    fn from(helps: bool) -> Self {
        if helps { Self::Queue } else { Self::Skip }
    }
}

/// A set of plugins under the name that pods ask for.
pub struct Profile {
    /// `spec.schedulerName` of its pods.
    pub scheduler: Box<str>,
    /// Keep pods out of the queue.
    pub pre_enqueue: Vec<Box<dyn PreEnqueue>>,
    /// Orders the queue.
    pub queue_sort: Box<dyn QueueSort>,
    /// Look at nodes, cheap ones first.
    pub filters: Vec<Box<dyn PreFilter>>,
    /// Tried in order when no node will do.
    pub post_filters: Vec<Box<dyn PostFilter>>,
    /// Score nodes, each with its weight.
    pub scores: Vec<(Box<dyn PreScore>, i64)>,
    /// Keep books.
    pub reserve: Vec<Box<dyn Reserve>>,
    /// Have the last word.
    pub permit: Vec<Box<dyn Permit>>,
    /// Binds.
    pub bind: Box<dyn Bind>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters: Vec<_> = self.filters.iter().map(|plugin| plugin.name()).collect();
        f.debug_struct("Profile").field("scheduler", &self.scheduler).field("filters", &filters).finish()
    }
}
