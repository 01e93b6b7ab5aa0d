//! System call filters: which calls a container's processes may make.
//!
//! Owns the default allow-list (`default`), the reading of OCI profiles
//! (`profile`), and their compilation. Architecture: calls by the machine's own
//! convention are judged by the rules; a process that makes a call by another
//! one (such as 32-bit x86) is killed, since the numbers mean something else there.

mod default;
mod names;
mod profile;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};

use crate::config::SeccompProfile;
use crate::sys;

/// Calls by name.
type Calls = &'static [(&'static str, i64)];

/// Rules for each call by number; a call without rules of its own is always meant.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Compiled filters, to be installed together; the kernel applies the strictest verdict.
#[derive(Clone, Default)]
pub(crate) struct Filter {
    programs: Rc<Vec<BpfProgram>>,
}

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    #[error("the seccomp profile is not JSON in the OCI format: {0}")]
    Format(#[from] serde_json::Error),
    #[error("the seccomp profile asks for `{0}`, which is not supported")]
    Unsupported(String),
    #[error("the seccomp profile cannot be compiled: {0}")]
    Compile(#[from] seccompiler::BackendError),
    #[error("seccomp filters are not supported on this processor architecture")]
    Architecture,
}

impl Filter {
    /// Compiles the filter of a profile; the default one only once.
    pub(crate) fn of(profile: &SeccompProfile) -> Result<Self, SeccompError> {
        thread_local! {
            static DEFAULT: OnceCell<Filter> = const { OnceCell::new() };
        }
        match profile {
            SeccompProfile::RuntimeDefault => DEFAULT.with(|known| match known.get() {
                Some(filter) => Ok(filter.clone()),
                None => default::filter().map(|filter| known.get_or_init(|| filter).clone()),
            }),
            SeccompProfile::Localhost(json) => profile::filter(json),
            SeccompProfile::DangerUnconfined => Ok(Self::default()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// Installs the filter on this process, for good.
    pub(crate) fn install(&self) -> io::Result<()> {
        self.programs.iter().try_for_each(|program| sys::install_filter(program))
    }

    /// Adds a filter that answers `matching` for calls that fit the rules, `otherwise` for the rest.
    fn push(
        &mut self,
        rules: Rules,
        matching: SeccompAction,
        otherwise: SeccompAction,
    ) -> Result<(), SeccompError> {
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| SeccompError::Architecture)?;
        let filter = SeccompFilter::new(rules, otherwise, matching, arch)?;
        Rc::make_mut(&mut self.programs).push(filter.try_into()?);
        Ok(())
    }
}
