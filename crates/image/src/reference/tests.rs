use super::*;
use crate::testing::mutations;

const HEX: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

/// `text` → registry, repository, tag, whether it has a digest.
fn check(text: &str, registry: &str, repository: &str, tag: Option<&str>, digest: bool) {
    let parsed = Reference::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(
        (parsed.registry(), parsed.repository(), parsed.tag(), parsed.digest().is_some()),
        (registry, repository, tag, digest),
        "{text}"
    );
    let again = Reference::parse(&parsed.to_string()).expect("the canonical form parses");
    assert_eq!(again, parsed, "{text}: canonical form means the same");
    let again = Reference::parse(&parsed.familiar()).expect("the familiar form parses");
    assert_eq!(again, parsed, "{text}: familiar form means the same");
}

#[test]
fn grammar() {
    let digest = format!("@sha256:{HEX}");
    check("test_com", "docker.io", "library/test_com", Some("latest"), false);
    check("test.com:tag", "docker.io", "library/test.com", Some("tag"), false);
    check("test.com:5000", "docker.io", "library/test.com", Some("5000"), false);
    check("test.com/repo:tag", "test.com", "repo", Some("tag"), false);
    check("test:5000/repo", "test:5000", "repo", Some("latest"), false);
    check("test:5000/repo:tag", "test:5000", "repo", Some("tag"), false);
    check(&format!("test:5000/repo{digest}"), "test:5000", "repo", None, true);
    check(&format!("test:5000/repo:tag{digest}"), "test:5000", "repo", Some("tag"), true);
    check("lowercase:Uppercase", "docker.io", "library/lowercase", Some("Uppercase"), false);
    check("sub-dom1.foo.com/bar/baz/quux", "sub-dom1.foo.com", "bar/baz/quux", Some("latest"), false);
    check(
        "sub-dom1.foo.com/bar/baz/quux:some-long-tag",
        "sub-dom1.foo.com",
        "bar/baz/quux",
        Some("some-long-tag"),
        false,
    );
    check(
        "b.gcr.io/test.example.com/my-app:test.example.com",
        "b.gcr.io",
        "test.example.com/my-app",
        Some("test.example.com"),
        false,
    );
    check("xn--n3h.com/myimage:xn--n3h.com", "xn--n3h.com", "myimage", Some("xn--n3h.com"), false);
    check("foo_bar.com:8080", "docker.io", "library/foo_bar.com", Some("8080"), false);
    check("foo/foo_bar.com:8080", "docker.io", "foo/foo_bar.com", Some("8080"), false);
    check("192.168.1.1/repo", "192.168.1.1", "repo", Some("latest"), false);
    check("192.168.1.1:5000/repo:5050", "192.168.1.1:5000", "repo", Some("5050"), false);
    check("[2001:db8::1]:5000/repo", "[2001:db8::1]:5000", "repo", Some("latest"), false);
    check("[::1]/repo:t", "[::1]", "repo", Some("t"), false);
    check("Uppercase.com/lowercase:tag", "Uppercase.com", "lowercase", Some("tag"), false);
    check("Uppercase/lowercase:tag", "Uppercase", "lowercase", Some("tag"), false);
    check("a__b/c--d.e_f", "docker.io", "a__b/c--d.e_f", Some("latest"), false);
    check("a---b", "docker.io", "library/a---b", Some("latest"), false);
    let long = format!("{}a:tag-puts-this-over-max", "a/".repeat(127));
    check(
        &format!("h.io/{long}"),
        "h.io",
        &format!("{}a", "a/".repeat(127)),
        Some("tag-puts-this-over-max"),
        false,
    );
    check(&format!("a:{}", "t".repeat(128)), "docker.io", "library/a", Some(&"t".repeat(128)), false);
}

#[test]
fn normalisation() {
    for text in [
        "nginx",
        "library/nginx",
        "docker.io/nginx",
        "docker.io/library/nginx:latest",
        "index.docker.io/nginx",
    ] {
        check(text, "docker.io", "library/nginx", Some("latest"), false);
    }
    for text in ["fooo/bar", "docker.io/fooo/bar", "index.docker.io/fooo/bar"] {
        check(text, "docker.io", "fooo/bar", Some("latest"), false);
    }
    check("localhost/bar", "localhost", "bar", Some("latest"), false);
    check("localhost:5000/library/bar", "localhost:5000", "library/bar", Some("latest"), false);
    check("127.0.0.1:5000/docker/docker", "127.0.0.1:5000", "docker/docker", Some("latest"), false);
    let familiar = |text: &str| Reference::parse(text).expect("a name").familiar();
    assert_eq!(familiar("docker.io/library/nginx:1.27"), "nginx:1.27");
    assert_eq!(familiar("docker.io/foo/bar"), "foo/bar:latest");
    assert_eq!(familiar("q.example/nginx"), "q.example/nginx:latest");
}

#[test]
fn refusals() {
    let check = |text: &str, expected: &str| {
        let error = Reference::parse(text).map(|r| r.to_string()).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    check("", "empty");
    check(":justtag", "empty");
    check(&format!("@sha256:{HEX}"), "empty");
    check("test.com/", "empty");
    check("repo@sha256:ffffff", "needs exactly 64");
    check(&format!("validname@invaliddigest:{HEX}"), "not supported");
    check(&format!("a@sha256:{HEX}@sha256:{HEX}"), "needs exactly 64");
    check("Uppercase:tag", "lower case");
    check("test:5000/Uppercase/lowercase:tag", "lower case");
    check(HEX, "image id");
    check(&format!("{}a:tag", "a/".repeat(128)), "longer than 255");
    check(&"a".repeat(4000), "longer than 1024");
    check("aa/asdf$$^/aa", "`asdf$$^`");
    check("aa//bb", "``");
    check("a/b/", "``");
    check("-foo/bar", "`-foo`");
    check("foo/bar-", "`bar-`");
    check("foo.", "`foo.`");
    check("foo..bar", "`foo..bar`");
    check("a___b", "`a___b`");
    check("a._b", "`a._b`");
    check("../etc", "`..` is not a registry host");
    check("a/../b", "`..`");
    check("-h.com/a", "registry host");
    check("h..com/a", "registry host");
    check(".h/a", "registry host");
    check("h.io:/a", "registry host");
    check("h.io:70000/a", "registry host");
    check("h.io:+80/a", "registry host");
    check("user@h.io/a", "not a digest");
    check("https://h.io/a", "registry host");
    check("[fe80::1%eth0]:5000/a", "registry host");
    check("[::1/a", "registry host");
    check("[::1]x/a", "registry host");
    check("a:", "is not a tag");
    check("a:.t", "is not a tag");
    check("a:-t", "is not a tag");
    check("a:t/b", "registry host");
    check("h.io/a:t/b", "is not a tag");
    check("a:t:u", "is not a tag");
    check("a b", "path component");
    check("a\n", "path component");
    check("nginx\u{200b}", "path component");
    check("h.io/ä", "path component");
    check(&format!("a:{}", "t".repeat(129)), "is not a tag");
}

#[test]
fn any_text_is_answered_and_what_parses_is_canonical() {
    let seeds = ["nginx:1.27", "h.io:5000/a/b__c-d.e:t@sha256:", "[::1]:5000/r:t", "localhost/a"];
    let mut parsed = 0;
    for bytes in mutations(&seeds.map(str::as_bytes), 20_000, 7) {
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(reference) = Reference::parse(&text) {
            parsed += 1;
            let canonical = reference.to_string();
            assert_eq!(Reference::parse(&canonical), Ok(reference), "{text}");
            assert!(!canonical.contains("/.") && canonical.is_ascii(), "{canonical}");
        }
    }
    assert!(parsed > 500, "mutations reach the accepting side: {parsed}");
}
