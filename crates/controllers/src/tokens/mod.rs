//! Tokens in secrets: those of service accounts, and those by which nodes make themselves known.
//!
//! Owns: what is in secrets of the type `kubernetes.io/service-account-token`; the signatures in the ConfigMap `cluster-info` of
//! `kube-public`, by which whoever holds a bootstrap token knows the cluster; the deletion of bootstrap tokens that have expired.
//! Guarantees: a token of a service account goes with the account; a signature goes with its token.
//! Caveats: the key that signs tokens of service accounts is not here. Whoever runs the controllers gives them a [`Minter`];
//! without one, these secrets stay empty. A ServiceAccount keeps references to secrets that are gone.
//!
//! Behaviour follows Kubernetes 1.36.

mod account;
mod bootstrap;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Serialize};

pub use account::{ACCOUNT_TOKEN_ROLE, AccountTokens, Minter};
pub use bootstrap::{BOOTSTRAP_SIGNER_ROLE, BootstrapSigner, TOKEN_CLEANER_ROLE, TokenCleaner};

use crate::runtime::kind::{Kind, Restriction, Watched};
use crate::runtime::object::is_deleting;

/// The objects of a resource that these controllers watch, and no others.
macro_rules! watched_part {
    ($(#[$doc:meta])* $name:ident of $whole:ty where $fields:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $whole);

        impl Resource for $name {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind(_: &()) -> Cow<'_, str> {
                <$whole as Resource>::kind(&())
            }

            fn group(_: &()) -> Cow<'_, str> {
                <$whole as Resource>::group(&())
            }

            fn version(_: &()) -> Cow<'_, str> {
                <$whole as Resource>::version(&())
            }

            fn plural(_: &()) -> Cow<'_, str> {
                <$whole as Resource>::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self.0.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.0.metadata
            }
        }

        impl Watched for $name {
            fn restriction() -> Restriction {
                Restriction::Fields($fields)
            }
        }

        impl Kind for $name {
            type Raw = Self;

            fn project(raw: &Arc<Self>) -> Arc<Self> {
                Arc::clone(raw)
            }

            fn is_deleting(&self) -> bool {
                is_deleting(&self.0.metadata)
            }
        }
    };
}

watched_part! {
    /// A secret with a token of a service account.
    AccountSecret of Secret where "type=kubernetes.io/service-account-token"
}
watched_part! {
    /// A secret with a bootstrap token.
    BootstrapSecret of Secret where "type=bootstrap.kubernetes.io/token,metadata.namespace=kube-system"
}
watched_part! {
    /// What everybody may know of the cluster.
    ClusterInfo of ConfigMap where "metadata.name=cluster-info,metadata.namespace=kube-public"
}

/// A text in the data of a secret.
fn text<'a>(data: Option<&'a BTreeMap<String, ByteString>>, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&data?.get(key)?.0).ok().filter(|text| !text.is_empty())
}
