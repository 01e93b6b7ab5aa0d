//! Options of the store: in the data directory, or in an etcd that several servers share.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use xebec_server::auth::keys::ClusterKeys;
use xebec_store::limits::Limits;
use xebec_store::{
    Embedded, EmbeddedOptions, Encryption, Etcd, EtcdAddress, EtcdOptions, Store, TlsFiles, TlsSettings,
};

use crate::layout::Layout;

/// How long an etcd that does not answer is waited for at the start: less than `up` waits for the whole.
const PATIENCE: Duration = Duration::from_secs(30);

/// Options of the store.
#[derive(Clone, Debug, Args)]
pub(crate) struct StoreOptions {
    /// Keep the cluster's data in an etcd, which several servers may share: etcd://HOST:PORT[,HOST:PORT...][/PREFIX]
    #[arg(long, value_name = "ADDRESS")]
    store: Option<EtcdAddress>,
    /// The authority of etcd's certificates, PEM; it is talked to by TLS then
    #[arg(long, value_name = "FILE", requires = "store")]
    store_ca: Option<PathBuf>,
    /// The certificate to show to etcd, PEM
    #[arg(long, value_name = "FILE", requires = "store_ca", requires = "store_key")]
    store_cert: Option<PathBuf>,
    /// The key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "store_cert")]
    store_key: Option<PathBuf>,
    /// Talk to an etcd on another machine without TLS: everybody on the way can read and change everything
    #[arg(long, requires = "store", conflicts_with = "store_ca")]
    danger_store_plaintext: bool,
    /// The cluster's keys and certificates; servers that share an etcd need the same [default: DATA/pki]
    #[arg(long, value_name = "DIR")]
    pki: Option<PathBuf>,
    /// What this server's node is called [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
}

impl StoreOptions {
    /// Whether other servers may use the store too.
    pub(crate) fn is_shared(&self) -> bool {
        self.store.is_some()
    }

    /// What the node is called, if that was said.
    pub(crate) fn node_name(&self) -> Option<&str> {
        self.node_name.as_deref()
    }

    /// Where the keys are.
    pub(crate) fn pki(&self, layout: &Layout) -> PathBuf {
        self.pki.clone().unwrap_or_else(|| layout.pki())
    }

    /// Refuses what cannot work, before anything is started.
    ///
    /// # Errors
    /// It says what to do.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(name) = &self.node_name
            && !is_node_name(name)
        {
            bail!(
                "--node-name {name} cannot be a node's name: use lower-case letters, digits, - and ., at most 253, \
                 letters and digits at both ends"
            );
        }
        let Some(address) = &self.store else { return Ok(()) };
        if self.store_ca.is_none() && !self.danger_store_plaintext && !address.is_loopback() {
            bail!(
                "{address} is on another machine, and everybody on the way could read and change everything: give \
                 the authority of its certificates with --store-ca"
            );
        }
        self.tls().map(drop)
    }

    fn tls(&self) -> Result<Option<TlsSettings>> {
        let Some(ca) = &self.store_ca else { return Ok(None) };
        let ca = read(ca)?;
        let identity = match (&self.store_cert, &self.store_key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            _ => None,
        };
        let identity = identity.as_ref().map(|(certificate, key)| (&certificate[..], &key[..]));
        Ok(Some(TlsSettings::new(TlsFiles { ca: &ca, identity })?))
    }

    /// Opens the store.
    ///
    /// # Errors
    /// It cannot be used, or belongs to a cluster with other keys.
    pub(crate) async fn open(
        &self,
        layout: &Layout,
        keys: &ClusterKeys,
        encryption: Encryption,
    ) -> Result<Arc<dyn Store>> {
        let encryption = Some(encryption);
        let Some(address) = &self.store else {
            let options = EmbeddedOptions { encryption, ..EmbeddedOptions::default() };
            return Ok(Arc::new(Embedded::open(&layout.store(), options)?));
        };
        let options = EtcdOptions {
            address: address.clone(),
            tls: self.tls()?,
            limits: Limits::default(),
            encryption,
            identity: keys.identity(),
            patience: PATIENCE,
        };
        let pki = self.pki(layout);
        let store = Etcd::open(options).await.with_context(|| {
            format!("opening the store; this server's keys are in {} (see --pki)", pki.display())
        })?;
        Ok(Arc::new(store))
    }

    /// The same options for the server.
    ///
    /// # Errors
    /// Nobody knows in which directory this is.
    pub(crate) fn arguments(&self) -> Result<Vec<OsString>> {
        let mut arguments = Vec::new();
        let mut add = |name: &str, value: OsString| arguments.extend([OsString::from(name), value]);
        if let Some(address) = &self.store {
            add("--store", address.to_string().into());
        }
        let files = [
            ("--store-ca", &self.store_ca),
            ("--store-cert", &self.store_cert),
            ("--store-key", &self.store_key),
        ];
        for (name, path) in files.into_iter().chain([("--pki", &self.pki)]) {
            if let Some(path) = path {
                let path =
                    std::path::absolute(path).with_context(|| format!("finding {}", path.display()))?;
                add(name, path.into());
            }
        }
        if let Some(name) = &self.node_name {
            add("--node-name", name.into());
        }
        arguments.extend(self.danger_store_plaintext.then(|| OsString::from("--danger-store-plaintext")));
        Ok(arguments)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// A name as DNS has them (RFC 1123).
fn is_node_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{StoreOptions, is_node_name};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: StoreOptions,
    }

    fn read(line: &str) -> Result<StoreOptions, String> {
        let words = std::iter::once("up").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.options).map_err(|error| error.to_string())
    }

    #[test]
    fn options_reach_the_server() {
        for (line, want) in [
            ("", ""),
            ("--store etcd://127.0.0.1:1", "--store etcd://127.0.0.1:1/xebec"),
            (
                "--store etcd://h:1/p --danger-store-plaintext",
                "--store etcd://h:1/p --danger-store-plaintext",
            ),
            ("--pki /keys --node-name a.b", "--pki /keys --node-name a.b"),
            (
                "--store etcd://h:1/p --store-ca /c --store-cert /d --store-key /e",
                "--store etcd://h:1/p --store-ca /c --store-cert /d --store-key /e",
            ),
        ] {
            let options = read(line).expect(line);
            let arguments = options.arguments().expect("absolute paths");
            let text: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
            assert_eq!(text.join(" "), want);
            let again = read(&text.join(" ")).expect("what the server gets");
            assert_eq!(again.arguments().expect("absolute paths"), arguments);
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (line, want) in [
            ("--store http://h:1", "no address of a store"),
            ("--store-ca /c", "--store"),
            ("--store etcd://h:1 --store-key /c", "--store-cert"),
            ("--store etcd://h:1 --store-ca /c --danger-store-plaintext", "cannot be used with"),
        ] {
            let error = read(line).expect_err(line);
            assert!(error.contains(want), "{line}: {error}");
        }
        for (line, want) in [
            ("--store etcd://10.0.0.1:1", "--store-ca"),
            ("--node-name Upper", "lower-case"),
            ("--store etcd://127.0.0.1:1 --store-ca /nowhere/ca.crt", "/nowhere/ca.crt"),
        ] {
            let error = format!("{:#}", read(line).expect(line).check().expect_err(line));
            assert!(error.contains(want), "{line}: {error}");
        }
        read("--store etcd://127.0.0.1:1").expect("read").check().expect("on this machine");
        read("--store etcd://10.0.0.1:1 --danger-store-plaintext").expect("read").check().expect("as wanted");
    }

    #[test]
    fn node_names_are_names() {
        for (name, good) in
            [("a", true), ("a-1.b", true), ("", false), ("-a", false), ("a.", false), ("A", false)]
        {
            assert_eq!(is_node_name(name), good, "{name}");
        }
    }
}
