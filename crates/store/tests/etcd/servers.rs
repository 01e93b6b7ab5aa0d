//! Several servers on one etcd, and strangers beside them.

use std::sync::Arc;

use xebec_store::{
    AesGcmSealer, CommitError, Condition, Encryption, Etcd, EtcdOpenError, EtcdOptions, Identity, Key,
    Revision, SealKeyId, Sealer, Store, StoreError, Txn, TxnError, Value, WatchError,
};

use super::{EtcdProcess, PATIENCE, below, events, key, open, options, put, until, within};

const ALL: &str = "/";

#[tokio::test]
async fn all_servers_see_one_order() {
    const WRITES: usize = 60;
    let cluster = EtcdProcess::start();
    let (one, two) = (open(&cluster.address()).await, open(&cluster.address()).await);
    let start = one.current_revision();
    let mut watches = [&one, &two].map(|store| store.watch(below(ALL), start).expect("watch"));
    let write = |store: Arc<dyn Store>, name: &'static str| async move {
        for round in 0..WRITES {
            put(&*store, &format!("/r/core/pods/{name}/{}", round % 7), "x").await;
        }
    };
    tokio::join!(write(one.clone(), "one"), write(two.clone(), "two"));
    let [first, second] = &mut watches;
    let (first, second) = (events(first, 2 * WRITES).await, events(second, 2 * WRITES).await);
    assert_eq!(first, second);
    assert!(first.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[tokio::test]
async fn the_newest_state_has_what_others_wrote() {
    let cluster = EtcdProcess::start();
    let (one, two) = (open(&cluster.address()).await, open(&cluster.address()).await);
    // Another cluster in the same etcd moves its revision on, and one's watch tells nothing of that.
    let stranger = open(&format!("{}/stranger", cluster.address())).await;
    for round in 0..20 {
        let written = put(&*two, "/r/core/pods/a/x", &round.to_string()).await;
        if round % 2 == 0 {
            put(&*stranger, "/r/core/pods/a/x", "not yours").await;
        }
        let newest = within("the newest state", one.newest().get()).await.expect("etcd answers");
        assert!(newest.revision() >= written);
        let read = newest.get(&key("/r/core/pods/a/x")).expect("the record");
        assert_eq!((read.mod_revision(), read.bytes()), (written, round.to_string().into()));
        let told = put(&*two, "/r/core/pods/a/y", "").await;
        let reached = one.reaching(told).get().await.expect("a state");
        assert!(reached.revision() >= told);
    }
    let readers = (0..64).map(|_| async { one.newest().get().await.expect("etcd answers").revision() });
    let written = put(&*two, "/r/core/pods/a/x", "last").await;
    for revision in futures(readers).await {
        assert!(revision >= written);
    }
    assert_eq!(stranger.snapshot().len(), 1, "each sees its own");
    let future = Revision::new(one.current_revision().get() + 1_000);
    assert!(one.reaching(future).get().await.expect("an older state").revision() < future);
}

async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut out = Vec::new();
    for one in &mut all {
        out.push(one.await);
    }
    out
}

#[tokio::test]
async fn revisions_of_strangers_are_states_too() {
    let cluster = EtcdProcess::start();
    let (own, stranger) = (open(&cluster.address()).await, open(&format!("{}/x", cluster.address())).await);
    let first = put(&*own, "/a/1", "").await;
    let between = put(&*stranger, "/a/1", "").await;
    let second = put(&*own, "/a/2", "").await;
    assert!(first < between && between < second);
    let seen = |revision| own.snapshot_at(revision).map(|state| (state.revision(), state.len()));
    assert_eq!(seen(between), Ok((between, 1)));
    assert_eq!(seen(second), Ok((second, 2)));
    own.compact(between).await.expect("compact");
    let error = StoreError::Compacted { requested: first, oldest: between };
    assert_eq!(own.snapshot_at(first).map(|state| state.len()), Err(error));
    assert_eq!(seen(between), Ok((between, 1)));
}

/// Who loses a race reads the winner's write and wins the next: nobody spins on an old state.
#[tokio::test]
async fn a_conflict_is_seen_before_it_is_told() {
    let cluster = EtcdProcess::start();
    let stores = [open(&cluster.address()).await, open(&cluster.address()).await];
    put(&*stores[0], "/a/counter", "0").await;
    stores[1].newest().get().await.expect("etcd answers");
    let count = |store: Arc<dyn Store>| async move {
        let mut conflicts = 0;
        for _ in 0..50 {
            loop {
                let record = store.snapshot().get(&key("/a/counter")).cloned().expect("the counter");
                let number: u32 =
                    std::str::from_utf8(record.as_slice()).expect("text").parse().expect("a number");
                let value = Value::opaque((number + 1).to_string());
                match store.commit(Txn::update(key("/a/counter"), record.mod_revision(), value)).await {
                    Ok(_) => break,
                    Err(CommitError::Conflict(conflict)) => {
                        let current = conflict.current.expect("never deleted").mod_revision();
                        let seen = store.snapshot().get(&key("/a/counter")).expect("it").mod_revision();
                        assert!(current > record.mod_revision() && seen >= current);
                        conflicts += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        conflicts
    };
    let (one, two) = tokio::join!(count(stores[0].clone()), count(stores[1].clone()));
    let newest = stores[0].newest().get().await.expect("etcd answers");
    assert_eq!(newest.get(&key("/a/counter")).expect("the counter").bytes(), "100");
    assert!(one + two > 0, "there was no race");
}

/// etcd's own limits are told in words, and nothing is written.
#[tokio::test]
async fn what_etcd_does_not_take_is_refused() {
    let cluster = EtcdProcess::with(&["--max-txn-ops", "16"]);
    let store = open(&cluster.address()).await;
    for bytes in [1 << 20, (1 << 20) + (400 << 10)] {
        let txn = Txn::default().put(key("/a/fits"), Value::opaque(vec![b'x'; bytes]));
        store.commit(txn).await.expect("it fits");
    }
    for bytes in [(1 << 20) + (600 << 10), 3 << 20] {
        let txn = Txn::default().put(key("/a/large"), Value::opaque(vec![b'x'; bytes]));
        let error = store.commit(txn).await.expect_err("too large");
        assert!(matches!(error, CommitError::Invalid(TxnError::LargerThanEtcdTakes { .. })), "{error}");
        assert!(error.to_string().contains("--max-request-bytes"), "{error}");
    }
    let many = (0..17).fold(Txn::default(), |txn, n| txn.put(key(&format!("/a/{n}")), Value::opaque("")));
    let error = store.commit(many).await.expect_err("too many");
    assert!(matches!(error, CommitError::Invalid(TxnError::MoreThanEtcdTakes { count: 17 })), "{error}");
    let checks = (0..129).fold(Txn::default().put(key("/a"), Value::opaque("")), |txn, n| {
        txn.when(Condition::Absent(key(&format!("/b/{n}"))))
    });
    assert!(matches!(
        store.commit(checks).await,
        Err(CommitError::Invalid(TxnError::TooManyOps { count: 129 }))
    ));
    assert_eq!(store.newest().get().await.expect("etcd answers").len(), 1);
}

fn encryption(secret: u8) -> Encryption {
    let sealer: Arc<dyn Sealer> = Arc::new(AesGcmSealer::new(SealKeyId(1), &[secret; 32]));
    Encryption { sealer, covers: Arc::new(|key: &Key| key.as_str().starts_with("/secret/")) }
}

#[tokio::test]
async fn secrets_are_sealed_and_keys_must_be_the_same() {
    let cluster = EtcdProcess::start();
    let identity = |current: &str, former: &[&str]| {
        let former = former.iter().map(|text| (*text).to_owned()).collect();
        vec![Identity { name: "encryption key", current: current.into(), former }]
    };
    let options = |secret: u8, identity| EtcdOptions {
        encryption: Some(encryption(secret)),
        identity,
        ..options(&cluster.address())
    };
    let store = Etcd::open(options(1, identity("one", &[]))).await.expect("open");
    put(&store, "/secret/a", "hidden").await;
    put(&store, "/open/a", "shown").await;
    store.shutdown().await;
    let again = Etcd::open(options(1, identity("one", &[]))).await.expect("open");
    assert_eq!(again.snapshot().get(&key("/secret/a")).expect("it").bytes(), "hidden");
    let other = Etcd::open(options(1, identity("two", &[]))).await.err().expect("other keys");
    let text = other.to_string();
    assert!(
        matches!(other, EtcdOpenError::OtherKeys { .. }) && text.contains("another encryption key"),
        "{text}"
    );
    Etcd::open(options(1, identity("two", &["one"]))).await.expect("the key was replaced");
    Etcd::open(options(1, identity("one", &[]))).await.err().expect("it is the former one now");
    let wrong = Etcd::open(options(2, Vec::new())).await.err().expect("another key");
    assert!(matches!(wrong, EtcdOpenError::Data { .. }), "{wrong}");
    assert!(wrong.to_string().contains("the key is wrong"), "{wrong}");
}

/// One server's compaction is another's lost past only where it did not follow.
#[tokio::test]
async fn servers_take_turns_to_compact() {
    let cluster = EtcdProcess::start();
    let (one, two) = (open(&cluster.address()).await, open(&cluster.address()).await);
    let mut watch = two.watch(below(ALL), two.current_revision()).expect("watch");
    let start = two.current_revision();
    for round in 0..3 {
        let revision = put(&*one, "/a/b", &round.to_string()).await;
        two.newest().get().await.expect("etcd answers");
        for store in [&one, &two] {
            store.compact(revision).await.expect("compact");
        }
    }
    assert_eq!(watch.next().await.map(|batch| batch.events.len()).ok(), None, "its log was cut");
    assert!(matches!(two.watch(below(ALL), start), Err(StoreError::Compacted { .. })));
    let late = open(&cluster.address()).await;
    assert_eq!(late.snapshot().get(&key("/a/b")).expect("it").bytes(), "2");
}

#[tokio::test]
async fn the_end_is_an_end() {
    let cluster = EtcdProcess::start();
    let store = open(&cluster.address()).await;
    let mut watch = store.watch(below(ALL), store.current_revision()).expect("watch");
    store.shutdown().await;
    assert_eq!(within("the end", watch.next()).await.map(|_| ()), Err(WatchError::Closed));
    assert_eq!(store.newest().get().await.map(|_| ()), Err(StoreError::Closed));
    let refused = store.commit(Txn::create(key("/a"), Value::opaque(""))).await;
    assert!(matches!(refused, Err(CommitError::Closed)));
}

#[tokio::test]
async fn tls_shows_both_sides() {
    let certificates = tls::Certificates::make();
    let files = certificates.files();
    let cluster = EtcdProcess::with(&[
        "--cert-file",
        &files.server_cert,
        "--key-file",
        &files.server_key,
        "--client-cert-auth",
        "--trusted-ca-file",
        &files.ca,
    ]);
    let with = |tls| EtcdOptions { tls: Some(tls), ..options(&cluster.address()) };
    let store = Etcd::open(with(certificates.settings(true))).await.expect("open");
    put(&store, "/a", "x").await;
    until("the mirror", || store.snapshot().len() == 1).await;
    let patience = std::time::Duration::ZERO;
    for (tls, what) in [(Some(certificates.settings(false)), "no certificate"), (None, "no TLS")] {
        let refused = Etcd::open(EtcdOptions { tls, patience, ..options(&cluster.address()) }).await;
        assert!(matches!(refused, Err(EtcdOpenError::Unreachable { .. })), "{what}");
    }
    let other = tls::Certificates::make().settings(true);
    let refused = Etcd::open(EtcdOptions { tls: Some(other), patience, ..options(&cluster.address()) }).await;
    let text = refused.err().expect("another authority").to_string();
    assert!(text.contains("certificate"), "{text}");
    assert!(PATIENCE > patience);
}

mod tls {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
    use tempfile::TempDir;
    use xebec_store::{TlsFiles, TlsSettings};

    pub(crate) struct Certificates {
        directory: TempDir,
        ca: String,
        /// Certificate and key, for the server and the client.
        leaf: (String, String),
    }

    pub(crate) struct Paths {
        pub(crate) ca: String,
        pub(crate) server_cert: String,
        pub(crate) server_key: String,
    }

    impl Certificates {
        pub(crate) fn make() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            let ca = params.self_signed(&key).expect("signed").pem();
            let issuer = Issuer::new(params, key);
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())];
            let key = KeyPair::generate().expect("a key");
            let leaf = params.signed_by(&key, &issuer).expect("signed").pem();
            let directory = tempfile::tempdir().expect("directory");
            // Another user reads them when the tests run as root.
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
            Self { directory, ca, leaf: (leaf, key.serialize_pem()) }
        }

        pub(crate) fn files(&self) -> Paths {
            let write = |name: &str, text: &str| {
                let path = self.directory.path().join(name);
                fs::write(&path, text).expect("write");
                path.to_string_lossy().into_owned()
            };
            Paths {
                ca: write("ca.crt", &self.ca),
                server_cert: write("server.crt", &self.leaf.0),
                server_key: write("server.key", &self.leaf.1),
            }
        }

        pub(crate) fn settings(&self, identity: bool) -> TlsSettings {
            let identity = identity.then_some((self.leaf.0.as_bytes(), self.leaf.1.as_bytes()));
            TlsSettings::new(TlsFiles { ca: self.ca.as_bytes(), identity }).expect("usable")
        }
    }
}
