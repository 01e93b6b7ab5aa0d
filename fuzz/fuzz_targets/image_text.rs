//! What registries and images say in text: names, digests, manifests, configurations, credentials, challenges.
//!
//! What is accepted is written so that it reads the same.
#![no_main]

use http::{HeaderMap, HeaderValue, header};
use xebec_fuzz::{choices, target};
use xebec_image::config::ImageConfig;
use xebec_image::limits::Limits;
use xebec_image::manifest::Document;
use xebec_image::platform::Platform;
use xebec_image::registry::{self, Keyring};
use xebec_image::rootfs::UserSpec;
use xebec_image::{Digest, Reference};

const SEEDS: [&str; 10] = [
    "registry.example.com:5000/a/b_c/d--e:v1.0@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "nginx",
    "[::1]:5000/x:y",
    "1000:web",
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":18446744073709551615}]}"#,
    r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1,"platform":{"os":"linux","architecture":"amd64","variant":"v8"}}]}"#,
    r#"{"architecture":"amd64","os":"linux","config":{"User":"1:2","Env":["A=b"],"Cmd":["x"],"ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}}},"rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"history":[{"empty_layer":true}]}"#,
    r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},"*.example.com/x":{"username":"u","password":"p"},"r":{"identitytoken":"t"}}}"#,
    "Bearer realm=\"https://auth.example.com/token\",service=\"r\\\"x\", scope=\"repository:a:pull,push\", Basic realm=x\nNegotiate",
    "sha512:",
];

fn names(text: &str) {
    if let Ok(reference) = Reference::parse(text) {
        let written = reference.to_string();
        assert_eq!(Reference::parse(&written).as_ref(), Ok(&reference), "{text} {written}");
    }
    if let Ok(digest) = Digest::parse(text) {
        assert_eq!(digest.as_str(), text);
    }
    drop(UserSpec::parse(text));
}

fn documents(data: &[u8]) {
    for media in [None, Some("application/vnd.oci.image.index.v1+json"), Some("text/plain")] {
        match Document::parse(data, media) {
            Ok(Document::Manifest(manifest)) => {
                drop(manifest.check_image(&Limits::default()));
                let _bytes: u64 = manifest.content_bytes();
            }
            Ok(Document::Index(index)) => {
                let host = Platform::host();
                if let Ok(picked) = index.pick(&host) {
                    assert!(index.manifests.contains(picked));
                }
            }
            Err(_) => {}
        }
    }
    if let Ok(config) = ImageConfig::parse(data) {
        drop(config.check_platform(&Platform::host()));
        assert_eq!(config.chain_ids().len(), config.rootfs.diff_ids.len());
        let written = serde_json::to_vec(&config).expect("a configuration can be written");
        let again = ImageConfig::parse(&written).expect("a written configuration can be read");
        assert_eq!(serde_json::to_vec(&again).ok(), Some(written));
    }
    drop(Keyring::parse(data));
}

target!("image_text", SEEDS, |data| {
    if let Ok(text) = std::str::from_utf8(data) {
        names(text);
    }
    documents(data);
    let mut headers = HeaderMap::new();
    for line in [choices::halves(data, b'\n').0, choices::halves(data, b'\n').1] {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(header::WWW_AUTHENTICATE, value);
        }
    }
    registry::fuzzing::challenge(&headers);
});
