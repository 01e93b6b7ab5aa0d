//! What expressions may ask of authorization, and who answers: the host.

use std::sync::Arc;

/// The host's authorization.
pub trait Authorizer: Sync {
    /// Whether `request` is allowed.
    fn authorize(&self, request: &AccessRequest<'_>) -> Decision;
}

/// Who asks, and whom.
#[derive(Clone)]
pub struct Authority<'a> {
    /// The host's authorization.
    pub authorizer: &'a dyn Authorizer,
    /// The service account to ask as, by namespace and name; otherwise whoever made the request.
    pub service_account: Option<(Arc<str>, Arc<str>)>,
}

/// A path to be asked about.
pub struct PathCheck<'a> {
    pub(crate) authority: Authority<'a>,
    pub(crate) path: Arc<str>,
}

/// A resource to be asked about.
#[derive(Clone)]
pub struct ResourceCheck<'a> {
    /// Who asks, and whom.
    pub authority: Authority<'a>,
    /// What is asked about.
    pub resource: Resource,
}

/// The resource of a question; what is not said is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// API group.
    pub group: String,
    /// Plural name.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Field selector, as text.
    pub field_selector: String,
    /// Label selector, as text.
    pub label_selector: String,
}

/// A question.
pub struct AccessRequest<'a> {
    /// The service account to ask as, by namespace and name; otherwise whoever made the request.
    pub service_account: Option<(&'a str, &'a str)>,
    /// The verb.
    pub verb: &'a str,
    /// What it is to be done to.
    pub target: AccessTarget<'a>,
}

/// What a question is about.
pub enum AccessTarget<'a> {
    /// A path of the server that is no resource.
    Path(&'a str),
    /// A resource.
    Resource(&'a Resource),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why, if that is said.
    pub reason: String,
    /// Why there is no good answer.
    pub error: Option<String>,
}
