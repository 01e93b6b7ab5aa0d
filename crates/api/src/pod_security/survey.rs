//! What the pods of a namespace would be refused for under a new standard: those who tighten it are told.

use std::collections::BTreeMap;

use super::{Standard, evaluate};
use crate::{Value, meta};

/// Pods that violate a standard, by what they do.
#[derive(Debug)]
pub struct Survey {
    standard: Standard,
    checked: usize,
    /// The first name, and how many there are, by the reasons.
    found: BTreeMap<String, (String, usize)>,
}

impl Survey {
    /// Nothing has been looked at yet.
    #[must_use]
    pub fn new(standard: Standard) -> Self {
        Self { standard, checked: 0, found: BTreeMap::new() }
    }

    /// How many pods have been looked at.
    #[must_use]
    pub fn checked(&self) -> usize {
        self.checked
    }

    /// Looks at a pod.
    pub fn add(&mut self, pod: &Value) {
        self.checked += 1;
        let violations = evaluate(self.standard, pod);
        if violations.is_empty() {
            return;
        }
        let reasons: Vec<String> = violations.into_iter().map(|violation| violation.reason).collect();
        let name = meta::name(pod);
        let (first, count) = self.found.entry(reasons.join(", ")).or_insert_with(|| (name.to_owned(), 0));
        *count += 1;
        if name < first.as_str() {
            name.clone_into(first);
        }
    }

    /// What to tell of the pods of a namespace that has `total`.
    #[must_use]
    pub fn warnings(self, namespace: &str, total: usize) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.checked < total {
            let checked = self.checked;
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
            ));
        }
        if !self.found.is_empty() {
            let standard = self.standard;
            warnings.push(format!(
                "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
            ));
        }
        let mut pods: Vec<String> = self
            .found
            .into_iter()
            .map(|(reasons, (name, count))| match count {
                1 => format!("{name}: {reasons}"),
                2 => format!("{name} (and 1 other pod): {reasons}"),
                more => format!("{name} (and {} other pods): {reasons}", more - 1),
            })
            .collect();
        pods.sort();
        warnings.extend(pods);
        warnings
    }
}
