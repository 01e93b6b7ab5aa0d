//! What a cache holds: resources that are watched, and projections of them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use kube::Resource;
use kube::runtime::watcher;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A resource that is listed and watched once for the whole process.
pub trait Watched:
    Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static
{
    /// Which of its objects are watched. Restrict only kinds whose objects are many or large and of which nobody
    /// in the process needs the rest.
    fn restriction() -> Restriction {
        Restriction::default()
    }
}

/// Which objects of a resource are watched.
#[derive(Debug, Clone, Copy, Default)]
pub enum Restriction {
    /// All of them.
    #[default]
    None,
    /// What this field selector picks.
    Fields(&'static str),
}

impl Restriction {
    pub(crate) fn watcher_config(self) -> watcher::Config {
        match self {
            Self::None => watcher::Config::default(),
            Self::Fields(fields) => watcher::Config::default().fields(fields),
        }
    }
}

/// What a cache keeps of each object of a resource: the object itself, or a smaller projection of it.
pub trait Kind: fmt::Debug + Send + Sync + Sized + 'static {
    /// The resource behind it.
    type Raw: Watched;

    /// Makes the cached form. `raw` comes without managed fields and without the last-applied annotation.
    fn project(raw: &Arc<Self::Raw>) -> Arc<Self>;

    /// Whether deletion of the object has begun.
    fn is_deleting(&self) -> bool;

    /// The indexes that the cache keeps.
    fn indexes() -> &'static [Index] {
        &[]
    }

    /// Where the object stands in one of [`Kind::indexes`]; `None` leaves it out.
    fn index_value(&self, index: Index) -> Option<Cow<'_, str>> {
        match index {
            Index::Controller | Index::Orphan | Index::Node | Index::Service => None,
        }
    }
}

/// Ways to find objects other than by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// By the uid of the controlling owner.
    Controller,
    /// Objects without a controlling owner, by namespace.
    Orphan,
    /// By node name.
    Node,
    /// By `namespace/name` of the Service that they belong to.
    Service,
}
