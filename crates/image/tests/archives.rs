//! Importing archives: what the usual tools write, with skopeo as the judge of what is written here, and what hostile
//! archives are told.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Command;

use xebec_image::archive::{
    ANNOTATION_CONTAINERD_NAME, ANNOTATION_REF_NAME, Builder, Imported, Layer, LayerBuilder, Source, import,
};
use xebec_image::compress::Compression;
use xebec_image::config::ImageConfig;
use xebec_image::limits::Limits;
use xebec_image::manifest::{Descriptor, Index, Manifest};
use xebec_image::platform::Platform;
use xebec_image::store::ContentStore;
use xebec_image::tarball::{Meta, TarWriter};
use xebec_image::{Digest, Reference, media};

/// Names and contents of an archive.
type Files = Vec<(String, Vec<u8>)>;

fn layer(name: &str, compression: Compression) -> Layer {
    LayerBuilder::new().file(name, 0o644, name.as_bytes()).build(compression)
}

fn builder() -> Builder {
    Builder::new()
        .layer(layer("one", Compression::Gzip))
        .layer(layer("two", Compression::None))
        .entrypoint(["/bin/app"])
        .cmd(["--serve"])
        .env("PATH", "/bin")
        .workdir("/srv")
        .user("1000:1000")
        .configure(|config| {
            config.config.exposed_ports.push("80/tcp".to_owned());
            config.config.stop_signal = "SIGQUIT".to_owned();
            config.config.volumes.push("/data".to_owned());
            config.config.labels.insert("a".to_owned(), "b".to_owned());
        })
}

fn written(builder: &Builder) -> Vec<u8> {
    let mut archive = Vec::new();
    builder.write(&mut archive).expect("memory");
    archive
}

struct Fixture {
    dir: tempfile::TempDir,
    store: ContentStore,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = ContentStore::open(&dir.path().join("images"), limits).expect("opens");
        Self { dir, store }
    }

    fn import(&self, archive: &[u8]) -> Result<Vec<Imported>, String> {
        self.import_from(Source::Reader(Box::new(Cursor::new(archive.to_vec()))), None)
    }

    fn import_from(&self, source: Source, name: Option<&Reference>) -> Result<Vec<Imported>, String> {
        import(&self.store, source, name, &Platform::host()).map_err(|error| error.to_string())
    }

    /// The error of an import that must fail and leave nothing.
    fn refused(&self, archive: &[u8]) -> String {
        let error = self.import(archive).map(|images| images.len()).expect_err("must be refused");
        assert_eq!(self.files(), [""; 0], "{error}");
        error
    }

    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for dir in ["tmp", "blobs/sha256", "blobs/sha512"] {
            for entry in fs::read_dir(self.store.root().join(dir)).expect("there") {
                files.push(entry.expect("an entry").file_name().to_string_lossy().into_owned());
            }
        }
        files
    }
}

fn names(image: &Imported) -> Vec<String> {
    image.names.iter().map(ToString::to_string).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn the_builder_is_reproducible_and_imports() {
    let image = builder().name("demo:1").name("h.io/demo:1");
    let archive = written(&image);
    assert_eq!(archive, written(&image));
    let built = image.write(Vec::new()).expect("memory");
    for bytes in [archive.clone(), gzip(&archive), zstd::encode_all(archive.as_slice(), 1).expect("memory")] {
        let fixture = Fixture::new();
        let images = fixture.import(&bytes).expect("imported");
        assert_eq!(images.len(), 1, "two names of one image");
        assert_eq!(names(&images[0]), ["docker.io/library/demo:1", "h.io/demo:1"]);
        let image = &images[0].image;
        assert_eq!(
            (image.manifest.digest(), &image.id, &image.target),
            (&built.manifest, &built.id, &built.manifest)
        );
        let config = &image.config.config;
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1000:1000", "/srv"));
        assert_eq!(config.exposed_ports, ["80/tcp"]);
        assert_eq!(fixture.files().len(), 4, "two layers, manifest, configuration");
    }
}

#[test]
fn directories_and_files_and_names() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("image.tar");
    fs::write(&path, written(&builder())).expect("written");
    let name = Reference::parse("given:2").expect("a name");
    let from_file = fixture.import_from(Source::Path(path.clone()), Some(&name)).expect("imported");
    assert_eq!(names(&from_file[0]), ["docker.io/library/given:2"]);
    let unnamed = fixture.import_from(Source::Path(path.clone()), None).expect("imported");
    assert_eq!(names(&unnamed[0]), [""; 0]);

    let layout = fixture.dir.path().join("layout");
    fs::create_dir(&layout).expect("made");
    ::tar::Archive::new(fs::File::open(&path).expect("there")).unpack(&layout).expect("unpacked");
    let from_dir = fixture.import_from(Source::Path(layout.clone()), None).expect("imported");
    assert_eq!(from_dir[0].image.id, from_file[0].image.id);

    let dir_of_pipe = tempfile::tempdir().expect("a directory");
    let pipe = dir_of_pipe.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("runs").success());
    let error = fixture.import_from(Source::Path(pipe), None).map(|_| ()).expect_err("a pipe");
    assert!(error.contains("is neither a file nor a directory"), "{error}");
    let missing =
        fixture.import_from(Source::Path("/nowhere".into()), None).map(|_| ()).expect_err("missing");
    assert!(missing.contains("cannot read /nowhere: No such file"), "{missing}");
    let empty = tempfile::tempdir().expect("a directory");
    let error =
        fixture.import_from(Source::Path(empty.path().to_owned()), None).map(|_| ()).expect_err("empty");
    assert!(error.contains("neither `index.json` (OCI) nor `manifest.json`"), "{error}");
    // A link out of a layout directory is not followed.
    let blob = layout.join("blobs/sha256").join(from_dir[0].image.id.0.hex());
    let outside = fixture.dir.path().join("outside");
    fs::rename(&blob, &outside).expect("moved");
    std::os::unix::fs::symlink(&outside, &blob).expect("linked");
    let other = Fixture::new();
    let error = other.import_from(Source::Path(layout), None).map(|_| ()).expect_err("a link");
    assert!(error.contains("is or goes through a symbolic link"), "{error}");
    assert_eq!(other.files(), [""; 0]);
}

/// Runs skopeo in `dir`. To read an archive it insists on setting owners, so it needs to be some root.
fn skopeo(dir: &Path, args: &[&str]) -> String {
    let needs_root = args.iter().any(|arg| arg.starts_with("oci-archive:"));
    let mut command = if needs_root && !support::is_root() {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "skopeo"]);
        command
    } else {
        Command::new("skopeo")
    };
    let output = command
        .args(["--insecure-policy", "--tmpdir"])
        .arg(dir)
        .args(args)
        .current_dir(dir)
        .output()
        .expect("skopeo is needed by this test: install the package skopeo");
    assert!(output.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn skopeo_agrees() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("ours.tar"), written(&builder().name("demo:1"))).expect("written");
    let built = builder().write(Vec::new()).expect("memory");
    let config = skopeo(dir.path(), &["inspect", "--config", "--raw", "oci-archive:ours.tar"]);
    assert_eq!(Digest::sha256(config.as_bytes()), built.id.0, "skopeo reads the same configuration");
    assert!(ImageConfig::parse(config.as_bytes()).is_ok());
    let manifest = skopeo(dir.path(), &["inspect", "--raw", "oci-archive:ours.tar"]);
    assert_eq!(Digest::sha256(manifest.as_bytes()), built.manifest);

    let copies = [
        ("docker-archive:docker.tar:demo:2", "docker.tar", vec!["docker.io/library/demo:2"]),
        ("oci-archive:oci.tar:demo:3", "oci.tar", vec!["docker.io/library/demo:3"]),
        ("oci-archive:tagged.tar:onlytag", "tagged.tar", vec![]),
        ("oci:layout:h.io/demo:4", "layout", vec!["h.io/demo:4"]),
    ];
    for (target, path, expected) in copies {
        skopeo(dir.path(), &["copy", "-q", "oci-archive:ours.tar", target]);
        let fixture = Fixture::new();
        let images = fixture.import_from(Source::Path(dir.path().join(path)), None).expect(target);
        assert_eq!(images.len(), 1);
        assert_eq!(names(&images[0]), expected, "{target}");
        let config = &images[0].image.config;
        assert_eq!(config.config.entrypoint, ["/bin/app"]);
        let diff_ids = [layer("one", Compression::None), layer("two", Compression::None)];
        assert_eq!(config.rootfs.diff_ids, diff_ids.map(|layer| layer.diff_id().clone()), "{target}");
    }
}

#[test]
fn skopeo_reads_what_was_pushed_and_we_what_it_pushed() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("ours.tar"), written(&builder().name("demo:1"))).expect("written");
    let registry = support::registry::Registry::start();
    let host = registry.authority();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let open = || {
        let dir = tempfile::tempdir().expect("a directory");
        let config = xebec_image::ServiceConfig::new(dir.path().join("images"));
        let service = runtime.block_on(xebec_image::ImageService::open(config)).expect("opens");
        (dir, service)
    };
    let progress = || std::sync::Arc::new(xebec_image::progress::Silent);
    let keyring = xebec_image::registry::Keyring::default();
    let (_ours, service) = open();
    runtime.block_on(async {
        let source = Source::Path(dir.path().join("ours.tar"));
        service.import(source, None).await.expect("imported");
        let to = Reference::parse(&format!("{host}/pushed:1")).expect("a name");
        service.push("demo:1", &to, &keyring, progress()).await.expect("pushed");
    });
    let address = format!("docker://{host}/pushed:1");
    let manifest = skopeo(dir.path(), &["inspect", "--tls-verify=false", "--raw", &address]);
    assert_eq!(Digest::sha256(manifest.as_bytes()), service.resolve("demo:1").expect("here").manifest);
    skopeo(dir.path(), &["copy", "-q", "--src-tls-verify=false", &address, "dir:checked"]);

    // The same image as Docker's own manifest, which skopeo converts on the way.
    let docker = format!("docker://{host}/docker:1");
    skopeo(
        dir.path(),
        &["copy", "-q", "--format=v2s2", "--dest-tls-verify=false", "oci-archive:ours.tar", &docker],
    );
    let (_theirs, service) = open();
    let name = Reference::parse(&format!("{host}/docker:1")).expect("a name");
    let pulled = runtime.block_on(service.pull(&name, &keyring, progress())).expect("pulled");
    let info = runtime.block_on(service.info(pulled.id.0.short())).expect("stored");
    assert_eq!(info.defaults.entrypoint, ["/bin/app"]);
    assert_eq!(info.platform, Platform::host());
}

/// An archive as `docker save` wrote it before version 25: a directory per layer.
fn docker_save(edit: impl FnOnce(&mut Files)) -> Vec<u8> {
    let (one, two) = (layer("one", Compression::None), layer("two", Compression::None));
    let mut config = ImageConfig {
        architecture: Platform::host().architecture,
        os: "linux".into(),
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids = vec![one.diff_id().clone(), two.diff_id().clone(), one.diff_id().clone()];
    config.config.cmd = vec!["sh".to_owned()];
    let config = serde_json::to_vec(&config).expect("encodes");
    let config_name = format!("{}.json", Digest::sha256(&config).hex());
    let manifest = format!(
        r#"[{{"Config":"{config_name}","RepoTags":["app:1","h.io/app:1"],"Layers":["a/layer.tar","b/layer.tar","c/layer.tar"]}}]"#
    );
    let mut files = vec![
        ("a/VERSION".to_owned(), b"1.0".to_vec()),
        ("a/json".to_owned(), b"{}".to_vec()),
        ("a/layer.tar".to_owned(), one.blob().to_vec()),
        ("b/layer.tar".to_owned(), two.blob().to_vec()),
        ("c/layer.tar".to_owned(), b"-> ../a/layer.tar".to_vec()),
        (config_name, config),
        ("repositories".to_owned(), b"{}".to_vec()),
        ("manifest.json".to_owned(), manifest.into_bytes()),
    ];
    edit(&mut files);
    archive_of(&files)
}

/// A content that starts with an arrow becomes a symbolic link.
fn archive_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (path, content) in files {
        match std::str::from_utf8(content).ok().and_then(|text| text.strip_prefix("-> ")) {
            Some(target) => tar.symlink(path, target).expect("memory"),
            None => tar.file(path, Meta::new(0o644), content).expect("memory"),
        }
    }
    tar.finish().expect("memory")
}

#[test]
fn docker_save_of_old() {
    let fixture = Fixture::new();
    let images = fixture.import(&docker_save(|_| {})).expect("imported");
    assert_eq!(names(&images[0]), ["docker.io/library/app:1", "h.io/app:1"]);
    let image = &images[0].image;
    assert_eq!(image.config.config.cmd, ["sh"]);
    let layers: Vec<&Digest> = image.manifest.value().layers.iter().map(|layer| &layer.digest).collect();
    assert_eq!(layers[0], layers[2], "a link to another layer");
    assert_eq!(fixture.files().len(), 4);
    let again = fixture.import(&docker_save(|_| {})).expect("imported again");
    assert_eq!(again[0].image.manifest.digest(), image.manifest.digest());

    // Compressed layers are allowed, too; whether they are the right ones is seen when they are unpacked.
    let compressed = docker_save(|files| files[3].1 = gzip(&files[3].1));
    let images = Fixture::new().import(&compressed).expect("imported");
    assert_eq!(images[0].image.manifest.value().layers[1].media_type, media::OCI_LAYER_GZIP);

    let check = |edit: &dyn Fn(&mut Files), expected: &str| {
        let error = Fixture::new().refused(&docker_save(|files| edit(files)));
        assert!(error.contains(expected), "{error}");
    };
    check(&|files| files[2].1.push(0), "layer `a/layer.tar` has digest");
    check(&|files| drop(files.remove(3)), "`b/layer.tar` is missing");
    check(&|files| drop(files.remove(5)), ".json` is missing");
    check(&|files| files[5].1.push(b' '), "content mismatch");
    check(&|files| files[4].1 = b"-> ../../../etc/passwd".to_vec(), "climbs out of the archive");
    check(&|files| files[4].1 = b"-> /etc/passwd".to_vec(), "is the absolute target of a link");
    check(&|files| files[4].1 = b"-> layer.tar".to_vec(), "is a link that leads nowhere");
    check(&|files| files[4].1 = b"-> ../nothing".to_vec(), "`c/layer.tar` is missing");
    check(&|files| files[7].1 = b"[{\"Config\":1}]".to_vec(), "manifest.json is malformed");
    check(&|files| files[7].1 = b"[]".to_vec(), "has no image for linux/");
    check(
        &|files| files[7].1 = String::from_utf8_lossy(&files[7].1).replace("app:1\"", "App:1\"").into_bytes(),
        "must be lower case",
    );
}

#[test]
fn archives_that_are_both_layouts() {
    // As docker save of version 25 writes them: blobs by digest, an OCI index, and manifest.json beside it.
    let built = builder().write(Vec::new()).expect("memory");
    let mut files = files_of(&written(&builder()));
    let manifest =
        format!(r#"[{{"Config":"blobs/sha256/{}","RepoTags":["both:1"],"Layers":[]}}]"#, built.id.0.hex());
    files.push(("manifest.json".to_owned(), manifest.into_bytes()));
    let images = Fixture::new().import(&archive_of(&files)).expect("imported");
    assert_eq!(names(&images[0]), ["docker.io/library/both:1"], "names of both are taken");
    assert_eq!(images[0].image.manifest.digest(), &built.manifest, "the manifest is the original one");
}

fn files_of(archive: &[u8]) -> Files {
    let mut archive = ::tar::Archive::new(archive);
    let mut files = Vec::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("readable");
        files.push((path, content));
    }
    files
}

/// A layout with any index; `blobs` are stored under their digests.
fn layout(index: &[u8], blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut files = vec![("index.json".to_owned(), index.to_vec())];
    for blob in blobs {
        files.push((format!("blobs/sha256/{}", Digest::sha256(blob).hex()), blob.clone()));
    }
    archive_of(&files)
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, Digest::sha256(bytes), u64::try_from(bytes.len()).expect("small"))
}

#[test]
fn several_images_and_nested_indexes() {
    let image = |name: &str| {
        let layer = layer(name, Compression::Gzip);
        let mut config = ImageConfig {
            architecture: Platform::host().architecture,
            os: "linux".into(),
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids.push(layer.diff_id().clone());
        let config = serde_json::to_vec(&config).expect("encodes");
        let manifest = Manifest::new(descriptor(media::OCI_CONFIG, &config), vec![layer.descriptor()]);
        let manifest = serde_json::to_vec(&manifest).expect("encodes");
        (descriptor(media::OCI_MANIFEST, &manifest), vec![layer.blob().to_vec(), config, manifest])
    };
    let (first, mut blobs) = image("first");
    let (mut second, more) = image("second");
    blobs.extend(more);
    second.annotations.insert(ANNOTATION_REF_NAME.to_owned(), "h.io/second:2".to_owned());
    second.annotations.insert(ANNOTATION_CONTAINERD_NAME.to_owned(), "h.io/whole:2".to_owned());
    // What build tools put beside images: attestations for no platform, and artifacts.
    let mut attestation = first.clone();
    attestation.digest = Digest::sha256(b"not in the archive");
    attestation.platform =
        Some(Platform { os: "unknown".into(), architecture: "unknown".into(), variant: String::new() });
    let artifact = Manifest::new(descriptor("application/vnd.example.sbom", b"{}"), Vec::new());
    let artifact = serde_json::to_vec(&artifact).expect("encodes");
    blobs.push(artifact.clone());
    blobs.push(b"{}".to_vec());
    let mut entry = first.clone();
    entry.platform = Some(Platform::host());
    let inner = serde_json::to_vec(&Index::new(vec![attestation.clone(), entry])).expect("encodes");
    let mut nested = descriptor(media::OCI_INDEX, &inner);
    nested.annotations.insert(ANNOTATION_REF_NAME.to_owned(), "first:1".to_owned());
    blobs.push(inner.clone());
    let artifact = descriptor(media::OCI_MANIFEST, &artifact);
    let index = Index::new(vec![nested.clone(), attestation, artifact, second.clone()]);
    let archive = layout(&serde_json::to_vec(&index).expect("encodes"), &blobs);

    let fixture = Fixture::new();
    let images = fixture.import(&archive).expect("imported");
    let all: BTreeSet<String> = images.iter().flat_map(names).collect();
    let expected = ["docker.io/library/first:1", "h.io/whole:2"].map(str::to_owned);
    assert_eq!(all, BTreeSet::from(expected));
    let nested_image =
        images.iter().find(|image| image.image.target == nested.digest).expect("the nested one");
    assert_eq!(nested_image.image.manifest.digest(), &first.digest);
    assert_eq!(fixture.store.size(&nested.digest).expect("readable"), Some(nested.size), "its index is kept");

    let name = Reference::parse("given").expect("a name");
    let source = Source::Reader(Box::new(Cursor::new(archive)));
    let error = Fixture::new().import_from(source, Some(&name)).map(|_| ()).expect_err("two images");
    assert!(error.contains("has 2 images; a name can be given only"), "{error}");

    let mut outer = inner;
    for _ in 0..5 {
        outer = serde_json::to_vec(&Index::new(vec![descriptor(media::OCI_INDEX, &outer)])).expect("encodes");
        blobs.push(outer.clone());
    }
    let error = Fixture::new().refused(&layout(&outer, &blobs));
    assert!(error.contains("nested too deeply"), "{error}");
}

#[test]
fn hostile_archives_get_precise_errors_and_leave_nothing() {
    let good = || files_of(&written(&builder()));
    let check = |archive: &[u8], expected: &str| {
        let limits = Limits {
            archive_entries: 100,
            archive_bytes: 1 << 20,
            layer_bytes: 100_000,
            ..Limits::default()
        };
        let error = Fixture::with(limits).refused(archive);
        assert!(error.contains(expected), "{error}");
    };
    let with = |name: &str, content: &[u8]| {
        let mut files = good();
        files.push((name.to_owned(), content.to_vec()));
        archive_of(&files)
    };
    check(&with("../evil", b"x"), "climbs out of the archive by `..`");
    check(&with("a/../b", b"x"), "climbs out of the archive by `..`");
    check(&with("/etc/cron.d/evil", b"x"), "has an absolute name");
    check(&with("link", b"-> /etc/passwd"), "is the absolute target of a link");
    check(&with("link", b"-> ../x"), "climbs out");
    check(&with("index.json", b"{}"), "`index.json` appears twice with different content");
    check(&with("big", &vec![0; 200_000]), "`layer_bytes` of 100000");
    check(
        &with("blobs/sha256/0000000000000000000000000000000000000000000000000000000000000000", b"x"),
        "content mismatch",
    );
    let many: Files = (0..101).map(|i| (format!("f{i}"), Vec::new())).collect();
    check(&archive_of(&many), "`archive_entries` of 100");
    let large: Files = (0..12).map(|i| (format!("f{i}"), vec![0; 99_000])).collect();
    check(&gzip(&archive_of(&large)), "`archive_bytes` of 1048576");
    for kind in [::tar::EntryType::Char, ::tar::EntryType::Fifo] {
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut header = ::tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_data(&mut header, "device", &b""[..]).expect("memory");
        check(&builder.into_inner().expect("memory"), "`device` is a device or pipe");
    }
    let whole = written(&builder());
    check(&whole[..whole.len() / 2], "truncated in");
    check(&gzip(&whole)[..500], "cannot read the archive");
    check(
        b"this is not an archive, it is only text of some length".repeat(20).as_slice(),
        "not a tar archive",
    );
    check(b"", "neither `index.json`");
    check(b"BZh91AY&SY", "bzip2 is not supported");
}

#[test]
fn inconsistent_archives_get_precise_errors_and_leave_nothing() {
    let good = || files_of(&written(&builder()));
    let check = |archive: &[u8], expected: &str| {
        let error = Fixture::new().refused(archive);
        assert!(error.contains(expected), "{error}");
    };
    let tampered = |index: usize| {
        let mut files = good();
        let content = &mut files[index].1;
        let middle = content.len() / 2;
        content[middle] ^= 1;
        archive_of(&files)
    };
    for index in 2..6 {
        check(&tampered(index), "content mismatch: expected sha256:");
    }
    let mut files = good();
    let missing = files.remove(2).0;
    check(&archive_of(&files), &format!("the archive is incomplete: `{missing}` is missing"));
    let index = |edit: &dyn Fn(&mut Index)| {
        let mut files = good();
        let mut index: Index = serde_json::from_slice(&files[1].1).expect("an index");
        edit(&mut index);
        files[1].1 = serde_json::to_vec(&index).expect("encodes");
        archive_of(&files)
    };
    check(&index(&|index| index.manifests[0].size += 1), "has the wrong size");
    check(
        &index(&|index| index.manifests[0].media_type = media::OCI_INDEX.into()),
        "Content-Type says otherwise",
    );
    check(&index(&|index| index.manifests.clear()), "has no image for linux/");
    check(
        &index(&|index| {
            let platform = Platform { os: "plan9".into(), ..Platform::host() };
            index.manifests[0].platform = Some(platform);
        }),
        "has no image for linux/",
    );
    check(
        &index(&|index| {
            let annotations = &mut index.manifests[0].annotations;
            annotations.insert(ANNOTATION_CONTAINERD_NAME.to_owned(), "../x:y".to_owned());
        }),
        "names an image wrongly",
    );
    let other = Builder::new().configure(|config| config.architecture = "sparc".to_owned());
    let mut files = files_of(&written(&other));
    let mut parsed: Index = serde_json::from_slice(&files[1].1).expect("an index");
    parsed.manifests[0].platform = None;
    files[1].1 = serde_json::to_vec(&parsed).expect("encodes");
    check(&archive_of(&files), "the image is for linux/sparc");
}

#[test]
fn a_failed_import_does_not_touch_what_is_there() {
    let fixture = Fixture::new();
    let images = fixture.import(&written(&builder())).expect("imported");
    let before = fixture.files();
    let mut archive = files_of(&written(&builder().layer(layer("three", Compression::Gzip))));
    archive.pop();
    assert!(fixture.import(&archive_of(&archive)).is_err());
    assert_eq!(fixture.files(), before);
    // An archive without a layer that is in the store is complete.
    let mut thin = files_of(&written(&builder()));
    let layer = &images[0].image.manifest.value().layers[0].digest;
    thin.retain(|(path, _)| !path.ends_with(layer.hex()));
    assert_eq!(thin.len(), 5);
    assert!(fixture.import(&archive_of(&thin)).is_ok());
}

#[test]
fn any_archive_ends_and_leaves_all_or_nothing() {
    let seeds = [written(&builder().name("a:1")), docker_save(|_| {})];
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let mut imported = 0;
    let fixture = Fixture::new();
    for mut bytes in support::testing::mutations(&seeds, 300, 29) {
        support::testing::fix_tar_checksums(&mut bytes);
        imported += usize::from(fixture.import(&bytes).is_ok());
        assert!(fixture.files().len() <= 4 + 4, "only whole images of the seeds");
    }
    assert!((50..300).contains(&imported), "{imported} of 300 were acceptable");
}
