//! CustomResourceDefinitions as this controller sees them: without their schemas, which are most of their size.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Serialize};

use crate::runtime::kind::{Kind, Watched};
use crate::runtime::object::is_deleting;

/// What the controller reads of a CustomResourceDefinition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Definition {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What resource it makes.
    pub spec: Spec,
    /// What has become of it.
    pub status: Status,
}

/// What resource a definition makes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Its API group.
    pub group: String,
    /// `Namespaced` or `Cluster`.
    pub scope: String,
    /// What it is called.
    pub names: Names,
    /// Its versions.
    pub versions: Vec<Version>,
}

/// What a resource is called.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Names {
    /// In paths.
    pub plural: String,
    /// In objects.
    pub kind: String,
}

/// A version of a resource.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Version {
    /// `v1`.
    pub name: String,
    /// Whether the server speaks it.
    pub served: bool,
}

/// What has become of a definition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// `Established`, `Terminating` and the like.
    pub conditions: Vec<DefinitionCondition>,
}

/// A condition of a definition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DefinitionCondition {
    /// What it is about.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Since when, as the API writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// Which state of the definition it speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Resource for Definition {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind(&(): &()) -> Cow<'_, str> {
        "CustomResourceDefinition".into()
    }

    fn group(&(): &()) -> Cow<'_, str> {
        "apiextensions.k8s.io".into()
    }

    fn version(&(): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural(&(): &()) -> Cow<'_, str> {
        "customresourcedefinitions".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Watched for Definition {}

impl Kind for Definition {
    type Raw = Self;

    fn project(raw: &Arc<Self>) -> Arc<Self> {
        Arc::clone(raw)
    }

    fn is_deleting(&self) -> bool {
        is_deleting(&self.metadata)
    }
}
