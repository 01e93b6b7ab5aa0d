//! Which standards hold in a namespace: its labels `pod-security.kubernetes.io/MODE` and `…/MODE-version`, of the modes
//! `enforce`, `audit` and `warn`.

use std::fmt;

use crate::{Cause, FieldPath, Map, Value};

/// What labels and annotations of Pod Security begin with.
pub const PREFIX: &str = "pod-security.kubernetes.io/";

/// How much a pod may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Privileged,
    /// What is known to let nobody out of a container.
    Baseline,
    /// What a hardened pod needs.
    Restricted,
}

impl Level {
    /// The level of a name.
    #[must_use]
    pub fn read(name: &str) -> Option<Self> {
        [Self::Privileged, Self::Baseline, Self::Restricted].into_iter().find(|level| level.as_str() == name)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The version of Kubernetes whose standards are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Version 1 of this minor number.
    Minor(u64),
    /// The newest that is known.
    Latest,
}

impl Version {
    fn read(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let digits = text.strip_prefix("v1.")?;
        let is_number =
            digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        is_number.then(|| digits.parse().ok()).flatten().map(Self::Minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minor(minor) => write!(f, "v1.{minor}"),
            Self::Latest => f.write_str("latest"),
        }
    }
}

/// A level in a version, `restricted:latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    /// The level.
    pub level: Level,
    /// The version.
    pub version: Version,
}

impl Standard {
    /// A level in its latest version.
    #[must_use]
    pub const fn latest(level: Level) -> Self {
        Self { level, version: Version::Latest }
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What holds in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What pods are held to.
    pub enforce: Standard,
    /// Whose violations the audit log tells of.
    pub audit: Standard,
    /// Of whose violations the client is warned.
    pub warn: Standard,
}

impl Policy {
    /// The levels in their latest version.
    #[must_use]
    pub const fn latest(enforce: Level, audit: Level, warn: Level) -> Self {
        Self {
            enforce: Standard::latest(enforce),
            audit: Standard::latest(audit),
            warn: Standard::latest(warn),
        }
    }

    /// What labels ask for, on top of what holds without any; and what is wrong with them. A level that cannot be read is
    /// the strictest for pods, and none for the audit log and warnings.
    #[must_use]
    pub fn of_labels(labels: Option<&Map>, default: Self) -> (Self, Vec<Cause>) {
        let mut reader = Reader { labels, causes: Vec::new() };
        let mut policy = default;
        let enforced = reader.standard("enforce", &mut policy.enforce, Level::Restricted);
        reader.standard("audit", &mut policy.audit, Level::Privileged);
        let warned = reader.standard("warn", &mut policy.warn, Level::Privileged);
        // Whoever raises the level of pods is warned by the same.
        let raised = policy.enforce.level > policy.warn.level;
        if enforced.level == Said::Well && warned.level == Said::Nothing && raised {
            policy.warn.level = policy.enforce.level;
            if warned.version == Said::Nothing {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, reader.causes)
    }

    /// Whether nothing is looked at.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|standard| standard.level == Level::Privileged)
    }

    /// Whether pods that are there may violate what is enforced now, and did not before.
    #[must_use]
    pub fn tightens(&self, before: &Self) -> bool {
        let (new, old) = (self.enforce, before.enforce);
        new != old && new.level != Level::Privileged && (new.version != old.version || new.level > old.level)
    }
}

/// What a label says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Well,
    Nonsense,
}

struct SaidOf {
    level: Said,
    version: Said,
}

struct Reader<'a> {
    labels: Option<&'a Map>,
    causes: Vec<Cause>,
}

impl<'a> Reader<'a> {
    fn standard(&mut self, mode: &str, standard: &mut Standard, otherwise: Level) -> SaidOf {
        let levels = "must be one of privileged, baseline, restricted";
        let level = self.label(mode, Level::read, levels);
        let versions = r#"must be "latest" or "v1.x""#;
        let version = self.label(&format!("{mode}-version"), Version::read, versions);
        if let Some(level) = &level {
            standard.level = level.unwrap_or(otherwise);
        }
        if let Some(version) = &version {
            standard.version = version.unwrap_or(Version::Latest);
        }
        SaidOf { level: said(level.as_ref()), version: said(version.as_ref()) }
    }

    /// What a label says, if it is there; the inner `None` is nonsense.
    fn label<T>(&mut self, name: &str, read: fn(&str) -> Option<T>, must: &str) -> Option<Option<T>> {
        let label = format!("{PREFIX}{name}");
        let text = self.labels?.get(&label).and_then(Value::as_str)?;
        let value = read(text);
        if value.is_none() {
            let path = FieldPath::new("metadata.labels").key(&label);
            self.causes.push(Cause::invalid(path, text, must));
        }
        Some(value)
    }
}

fn said<T>(label: Option<&Option<T>>) -> Said {
    match label {
        None => Said::Nothing,
        Some(None) => Said::Nonsense,
        Some(Some(_)) => Said::Well,
    }
}
