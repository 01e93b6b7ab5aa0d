//! Unpacking as the root of a user namespace (and, where root runs the tests, of the host): what an overlay mount of
//! the snapshots shows, and what hostile layers are told.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use xebec_image::archive::{Layer, LayerBuilder};
use xebec_image::compress::Compression;
use xebec_image::config::ImageConfig;
use xebec_image::limits::Limits;
use xebec_image::manifest::{Descriptor, Manifest};
use xebec_image::progress::{Event, Silent};
use xebec_image::snapshot::{
    DevicePolicy, IdShift, OwnerPolicy, SetIdPolicy, SnapshotError, Snapshots, UnpackPolicy, WhiteoutStyle,
    detached_overlay,
};
use xebec_image::store::{ContentStore, Expected};
use xebec_image::tarball::Meta;
use xebec_image::{Digest, media, snapshot};

const STYLES: [WhiteoutStyle; 3] = [WhiteoutStyle::Device, WhiteoutStyle::Xattr, WhiteoutStyle::Merged];

#[test]
fn in_a_user_namespace() {
    support::run_ignored_tests_in_user_namespace();
}

#[test]
fn as_root_of_the_host() {
    support::run_ignored_tests_as_root();
}

/// A store of its own.
struct Fixture {
    dir: tempfile::TempDir,
    store: ContentStore,
    snapshots: Snapshots,
}

impl Fixture {
    fn new(style: WhiteoutStyle) -> Self {
        Self::with(style, UnpackPolicy::default(), Limits::default())
    }

    fn with(style: WhiteoutStyle, policy: UnpackPolicy, limits: Limits) -> Self {
        let dir = support::temp_dir();
        let store = ContentStore::open(&dir.path().join("images"), limits).expect("opens");
        let snapshots = Snapshots::with_style(&store, policy, style).expect("opens");
        Self { dir, store, snapshots }
    }

    /// Puts layers into the store, lowest first, and makes the documents that go with them.
    fn image(&self, layers: &[Layer]) -> (Manifest, ImageConfig) {
        let mut config = ImageConfig::default();
        let mut descriptors = Vec::new();
        for layer in layers {
            let expected = Expected { digest: None, size: None, limit: "layer_bytes", max: 1 << 30 };
            self.store.put(layer.blob(), expected).expect("stored");
            config.rootfs.diff_ids.push(layer.diff_id().clone());
            descriptors.push(layer.descriptor());
        }
        let descriptor = Descriptor::new(media::OCI_CONFIG, Digest::sha256(b""), 0);
        (Manifest::new(descriptor, descriptors), config)
    }

    fn ensure(&self, layers: &[Layer]) -> Result<snapshot::Layers, SnapshotError> {
        let (manifest, config) = self.image(layers);
        self.snapshots.ensure(&manifest, &config, &Silent)
    }

    fn leftovers(&self) -> Vec<PathBuf> {
        let tmp = self.store.root().join("tmp");
        let snapshots = self.store.root().join("snapshots");
        [tmp, snapshots]
            .iter()
            .flat_map(|dir| fs::read_dir(dir).expect("a directory"))
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }
}

/// An overlay of directories and the paths in it.
struct Mounted(OwnedFd);

impl Mounted {
    fn new(fixture: &Fixture, layers: &snapshot::Layers) -> Self {
        // Overlayfs wants two lower directories when there is no upper one.
        let bottom = fixture.dir.path().join("bottom");
        fs::create_dir_all(&bottom).expect("made");
        let dirs: Vec<fs::File> = layers
            .lowerdirs
            .iter()
            .chain([&bottom])
            .map(|path| fs::File::open(path).expect("a lower directory"))
            .collect();
        let fds: Vec<_> = dirs.iter().map(AsFd::as_fd).collect();
        Self(detached_overlay(&fds).expect("the overlay mounts with userxattr"))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Every path with its kind, mode, owner and content. What a listing shows must also be there to look at.
    fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        let root = self.path();
        walk(&root.join("."), "", &mut tree);
        tree
    }
}

fn walk(dir: &Path, prefix: &str, tree: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let meta = entry.metadata().unwrap_or_else(|e| panic!("{name} is listed but not there: {e}"));
        let owner = format!("{:o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid());
        let text = if meta.is_symlink() {
            format!("-> {}", fs::read_link(entry.path()).expect("a link").display())
        } else if meta.is_dir() {
            walk(&entry.path(), &format!("{name}/"), tree);
            format!("d {owner}")
        } else if meta.is_file() {
            format!("f {owner} {}", String::from_utf8_lossy(&fs::read(entry.path()).expect("readable")))
        } else {
            format!("special {owner}")
        };
        tree.insert(name, text);
    }
}

fn layer() -> LayerBuilder {
    LayerBuilder::new()
}

fn gz(layer: LayerBuilder) -> Layer {
    layer.build(Compression::Gzip)
}

/// Unpacks in every style, and expects the same tree from each.
fn check(name: &str, layers: &[Layer], expected: &[(&str, &str)]) {
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    for style in STYLES {
        let fixture = Fixture::new(style);
        let unpacked = fixture.ensure(layers).unwrap_or_else(|e| panic!("{name} {style:?}: {e}"));
        assert_eq!(Mounted::new(&fixture, &unpacked).tree(), expected, "{name} {style:?}");
        assert_eq!(fixture.ensure(layers).expect("a second time"), unpacked);
    }
}

#[test]
#[ignore = "runs as root of a namespace"]
fn probing_finds_a_style_without_copies() {
    let dir = support::temp_dir();
    let store = ContentStore::open(dir.path(), Limits::default()).expect("opens");
    let style = WhiteoutStyle::probe(&store).expect("probed");
    assert_eq!(style, WhiteoutStyle::Device, "Linux 5.8 and later allow whiteout devices to everyone");
}

#[test]
#[ignore = "runs as root of a namespace"]
fn whiteouts_show_through() {
    let base = || {
        gz(layer()
            .directory("d", 0o755)
            .file("d/a", 0o644, b"a")
            .file("d/b", 0o644, b"b")
            .directory("d/sub", 0o755)
            .file("d/sub/x", 0o644, b"x")
            .file("top", 0o644, b"top"))
    };
    let d = ("d", "d 755 1:1");
    let a = ("d/a", "f 644 1:1 a");
    let b = ("d/b", "f 644 1:1 b");
    let sub = ("d/sub", "d 755 1:1");
    let x = ("d/sub/x", "f 644 1:1 x");
    let top = ("top", "f 644 1:1 top");
    let new = ("d/new", "f 600 1:1 n");

    check("nothing hidden", &[base()], &[d, a, b, sub, x, top]);
    check("a file", &[base(), gz(layer().whiteout("d/a"))], &[d, b, sub, x, top]);
    check("a directory", &[base(), gz(layer().whiteout("d"))], &[top]);
    check("a file at the top", &[base(), gz(layer().whiteout("top"))], &[d, a, b, sub, x]);
    check("all in a directory", &[base(), gz(layer().opaque("d"))], &[d, top]);
    check(
        "in a file's place",
        &[base(), gz(layer().whiteout("d").file("d", 0o644, b"f"))],
        &[("d", "f 644 1:1 f"), top],
    );
    let renewed = layer().whiteout("d").directory("d", 0o755).file("d/new", 0o600, b"n");
    check("a directory made anew", &[base(), gz(renewed)], &[d, new, top]);
    let late = layer().directory("d", 0o755).file("d/new", 0o600, b"n").whiteout("d");
    check("hidden after being made anew", &[base(), gz(late)], &[d, new, top]);
    let early = layer().opaque("d").file("d/new", 0o600, b"n");
    check("opaque before its entries", &[base(), gz(early)], &[d, new, top]);
    let late = layer().file("d/new", 0o600, b"n").file("d/a", 0o600, b"A").opaque("d");
    check("opaque after its entries", &[base(), gz(late)], &[d, ("d/a", "f 600 1:1 A"), new, top]);
    let both = layer().whiteout("d/a").opaque("d").whiteout("d/b").file("d/b", 0o600, b"B");
    check("hidden inside opaque", &[base(), gz(both)], &[d, ("d/b", "f 600 1:1 B"), top]);
    check("all of the root", &[base(), gz(layer().opaque("").file("d/new", 0o600, b"n"))], &[d, new]);
    let back = [base(), gz(layer().whiteout("d/a")), gz(layer().file("d/a", 0o600, b"again"))];
    check("hidden and back", &back, &[d, ("d/a", "f 600 1:1 again"), b, sub, x, top]);
    let twice = [base(), gz(layer().opaque("d")), gz(layer().whiteout("d/a").file("d/new", 0o600, b"n"))];
    check("hiding what was hidden", &twice, &[d, new, top]);
    // Overlayfs lists a whiteout in a directory that only one layer has.
    let nothing = layer().directory("e", 0o755).whiteout("e/ghost").whiteout("ghost");
    check("hiding what never was", &[base(), gz(nothing)], &[d, a, b, sub, x, ("e", "d 755 1:1"), top]);
    let typed = [base(), gz(layer().file("d", 0o644, b"f")), gz(layer().file("d/new", 0o600, b"n"))];
    check("a directory over a file over a directory", &typed, &[d, new, top]);
}

#[test]
#[ignore = "runs as root of a namespace"]
fn hard_links_reach_the_layers_below() {
    let base = || {
        let meta = Meta { mode: 0o640, uid: 3, gid: 4, mtime: 5 };
        gz(layer().directory("d", 0o755).file_as("d/f", meta, b"f").symlink("s", "d").symlink("d/l", "f"))
    };
    let (d, f, l, s) = (("d", "d 755 1:1"), ("d/f", "f 640 4:5 f"), ("d/l", "-> f"), ("s", "-> d"));
    let h = ("h", "f 640 4:5 f");
    check("in the root", &[base(), gz(layer().hardlink("h", "d/f"))], &[d, f, l, h, s]);
    check("beside it", &[base(), gz(layer().hardlink("d/h", "d/f"))], &[d, f, ("d/h", h.1), l, s]);
    check("to a symbolic link", &[base(), gz(layer().hardlink("h", "d/l"))], &[d, f, l, ("h", "-> f"), s]);
    check("to its own name", &[base(), gz(layer().hardlink("d/f", "d/f"))], &[d, f, l, s]);
    let two = [base(), gz(layer().file("x", 0o600, b"x")), gz(layer().hardlink("h", "d/f"))];
    check("two layers below", &two, &[d, f, l, h, s, ("x", "f 600 1:1 x")]);
    let over = gz(layer().file("d/f", 0o600, b"new").hardlink("h", "d/f"));
    check(
        "to what the layer itself has",
        &[base(), over],
        &[d, ("d/f", "f 600 1:1 new"), l, ("h", "f 600 1:1 new"), s],
    );
    check(
        "to what is hidden here",
        &[base(), gz(layer().whiteout("d/f").hardlink("h", "d/f"))],
        &[d, l, h, s],
    );
    let way = gz(layer().symlink("way", "d").hardlink("h", "way/f"));
    check("by a link of this layer", &[base(), way], &[d, f, l, h, s, ("way", "-> d")]);

    let refuse = |layers: &[Layer], expected: &str| {
        for style in STYLES {
            let error = Fixture::new(style).ensure(layers).map(|_| ()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{style:?}: {error}");
        }
    };
    let nothing = "there is no such file in this layer or below it";
    refuse(&[base(), gz(layer().hardlink("h", "d/none"))], nothing);
    refuse(&[base(), gz(layer().hardlink("h", "s/f"))], nothing);
    refuse(&[base(), gz(layer().hardlink("h", "d/f/x"))], nothing);
    refuse(&[base(), gz(layer().whiteout("d/f")), gz(layer().hardlink("h", "d/f"))], nothing);
    refuse(&[base(), gz(layer().opaque("d")), gz(layer().hardlink("h", "d/f"))], nothing);
    refuse(&[base(), gz(layer().hardlink("h", "d"))], nothing);
    let out = gz(layer().symlink("out", "../../../../../../etc").symlink("etc", "/etc"));
    refuse(&[out.clone(), gz(layer().hardlink("h", "out/passwd"))], nothing);
    refuse(&[out, gz(layer().hardlink("h", "etc/passwd"))], nothing);
}

#[test]
#[ignore = "runs as root of a namespace"]
fn implied_directories_look_like_those_below() {
    let base = gz(layer()
        .directory_as(".", Meta { mode: 0o711, uid: 3, gid: 4, mtime: 5 })
        .directory_as("tmp", Meta { mode: 0o1777, uid: 7, gid: 8, mtime: 9 })
        .symlink("run", "var/run"));
    let upper = gz(layer().file("tmp/deep/file", 0o644, b"f").whiteout("tmp/nothing"));
    for style in STYLES {
        let fixture = Fixture::new(style);
        let unpacked = fixture.ensure(&[base.clone(), upper.clone()]).expect("unpacks");
        let mounted = Mounted::new(&fixture, &unpacked);
        let tree = mounted.tree();
        assert_eq!(tree["tmp"], "d 1777 8:9", "{style:?}");
        assert_eq!(tree["tmp/deep"], "d 755 1:1");
        assert_eq!(tree["run"], "-> var/run");
        let root = fs::metadata(mounted.path().join(".")).expect("the root");
        assert_eq!((root.mode() & 0o7777, root.uid(), root.gid(), root.mtime()), (0o711, 4, 5, 5));
        let tmp = fs::metadata(mounted.path().join("tmp")).expect("a directory");
        assert_eq!(tmp.mtime(), 9, "{style:?}");
    }
}

#[test]
#[ignore = "runs as root of a namespace"]
fn everything_an_entry_carries() {
    let long = "long-".repeat(40);
    let tar = layer()
        .file_as("plain", Meta { mode: 0o640, uid: 1_000, gid: 65_534, mtime: 1_234_567 }, b"data")
        .file("su", 0o4755, b"program")
        .hardlink("su2", "su")
        .symlink("link", "plain")
        .symlink("absolute", "/etc/passwd")
        .symlink("out", "../../../../etc/passwd")
        .directory("d", 0o2770)
        .file(&format!("{long}/{long}"), 0o644, b"l")
        .file("twice", 0o644, b"first")
        .file("twice", 0o600, b"second")
        .symlink("was-link", "plain")
        .file("was-link", 0o644, b"file now")
        .directory("was-dir/full/of", 0o755)
        .file("was-dir", 0o644, b"file now")
        .file("was-file", 0o644, b"")
        .directory("was-file", 0o700)
        .symlink("sub", "d")
        .file("sub/through", 0o644, b"t");
    let expected = [
        ("absolute", "-> /etc/passwd"),
        ("d", "d 2770 1:1"),
        ("d/through", "f 644 1:1 t"),
        ("link", "-> plain"),
        (&long, "d 755 1:1"),
        (&format!("{long}/{long}"), "f 644 1:1 l"),
        ("out", "-> ../../../../etc/passwd"),
        ("plain", "f 640 1001:65535 data"),
        ("su", "f 4755 1:1 program"),
        ("su2", "f 4755 1:1 program"),
        ("sub", "-> d"),
        ("twice", "f 600 1:1 second"),
        ("was-dir", "f 644 1:1 file now"),
        ("was-file", "d 700 1:1"),
        ("was-link", "f 644 1:1 file now"),
    ];
    let tar = gz(tar);
    check("entries", std::slice::from_ref(&tar), &expected);
    let fixture = Fixture::new(WhiteoutStyle::Device);
    let unpacked = fixture.ensure(&[tar]).expect("unpacks");
    let root = &unpacked.lowerdirs[0];
    assert_eq!(fs::metadata(root.join("plain")).expect("there").mtime(), 1_234_567);
    let ino = |name: &str| fs::metadata(root.join(name)).expect("there").ino();
    assert_eq!(ino("su"), ino("su2"));
    assert_eq!(fs::symlink_metadata(root.join("link")).expect("there").uid(), 1);
    let mode = fs::metadata(fixture.store.root()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "nobody else looks into the store");
}

#[test]
#[ignore = "runs as root of a namespace"]
fn links_lead_nowhere_but_inside() {
    let victim = support::temp_dir();
    fs::write(victim.path().join("file"), "untouched").expect("written");
    let outside = victim.path().display().to_string();
    let inside = outside.trim_start_matches('/');
    let tar = layer()
        .symlink("absolute", &outside)
        .file("absolute/file", 0o644, b"absolute")
        .symlink("climb", "../../../../../../../../../..")
        .file(&format!("climb/{inside}/climbed"), 0o644, b"climbed")
        .symlink("chain", "absolute/../../..")
        .file("chain/chained", 0o644, b"chained")
        .symlink("dangling", "made/on/demand")
        .file("dangling/file", 0o644, b"d")
        .file("/leading/slash", 0o644, b"s");
    let fixture = Fixture::new(WhiteoutStyle::Device);
    let unpacked = fixture.ensure(&[gz(tar)]).expect("unpacks");
    let root = &unpacked.lowerdirs[0];
    let read = |path: &str| fs::read_to_string(root.join(path)).expect(path);
    assert_eq!(read(&format!("{inside}/file")), "absolute");
    assert_eq!(read(&format!("{inside}/climbed")), "climbed");
    assert_eq!(read("chained"), "chained");
    assert_eq!(read("made/on/demand/file"), "d");
    assert_eq!(read("leading/slash"), "s");
    assert_eq!(fs::read_to_string(victim.path().join("file")).expect("there"), "untouched");
    assert_eq!(fs::read_dir(victim.path()).expect("there").count(), 1, "nothing was written outside");
}

/// A layer made with the `tar` crate, for entries that no sane builder makes.
fn raw(edit: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Layer {
    let mut builder = tar::Builder::new(Vec::new());
    edit(&mut builder);
    Layer::from_tar(builder.into_inner().expect("memory"), Compression::Zstd)
}

fn special(builder: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    header.set_device_major(1).expect("fits");
    header.set_device_minor(3).expect("fits");
    builder.append_data(&mut header, path, &b""[..]).expect("memory");
}

#[test]
#[ignore = "runs as root of a namespace"]
fn doubtful_entries_are_dropped_with_a_warning() {
    let tar = raw(|builder| {
        special(builder, "null", tar::EntryType::Char);
        special(builder, "sda", tar::EntryType::Block);
        special(builder, "pipe", tar::EntryType::Fifo);
        let xattrs = [
            ("SCHILY.xattr.security.capability", &b"\x01\0\0\x02"[..]),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.whiteout", b""),
            ("SCHILY.xattr.user.overlaynot", b"kept"),
            ("SCHILY.xattr.user.mine", b"kept"),
        ];
        builder.append_pax_extensions(xattrs).expect("memory");
        special(builder, "file", tar::EntryType::Regular);
        builder.append_pax_extensions([("uid", &b"70000"[..]), ("gid", b"1")]).expect("memory");
        special(builder, "foreign", tar::EntryType::Regular);
        special(builder, ".wh..wh.plnk/1.2", tar::EntryType::Regular);
        special(builder, ".wh..wh.aufs", tar::EntryType::Regular);
    });
    let fixture = Fixture::new(WhiteoutStyle::Device);
    let unpacked = fixture.ensure(std::slice::from_ref(&tar)).expect("unpacks");
    let root = &unpacked.lowerdirs[0];
    let names: Vec<String> = Mounted::new(&fixture, &unpacked).tree().into_keys().collect();
    assert_eq!(names, ["file", "foreign", "pipe"]);
    let foreign = fs::metadata(root.join("foreign")).expect("there");
    assert_eq!((foreign.uid(), foreign.gid()), (65_535, 2));
    let file = fs::File::open(root.join("file")).expect("there");
    let mut names = vec![0; 256];
    let n = rustix::fs::flistxattr(&file, &mut names).expect("listed");
    let mut names: Vec<&[u8]> = names[..n].split(|b| *b == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    assert_eq!(names, [&b"user.mine"[..], b"user.overlaynot"]);
    let expected = [
        "left out the device node `null`",
        "left out the device node `sda`",
        "left out the attribute `security.capability` of `file`",
        "left out the attribute `trusted.overlay.opaque` of `file`",
        "left out the attribute `user.overlay.opaque` of `file`",
        "left out the attribute `user.overlay.whiteout` of `file`",
        "`foreign` belongs to id 70000, which does not exist here; it belongs to nobody now",
        "left out `.wh..wh.aufs`, which only aufs understands",
    ];
    assert_eq!(unpacked.warnings, expected);
    assert_eq!(fixture.ensure(&[tar]).expect("again").warnings, expected, "warnings are remembered");
}

#[test]
#[ignore = "runs as root of a namespace"]
fn policies() {
    let device = raw(|builder| special(builder, "null", tar::EntryType::Char));
    let foreign = gz(layer().file_as("f", Meta { uid: 65_535, ..Meta::new(0o644) }, b""));
    let fail = |policy: UnpackPolicy, layer: &Layer, expected: &str| {
        let fixture = Fixture::with(WhiteoutStyle::Device, policy, Limits::default());
        let error = fixture.ensure(std::slice::from_ref(layer)).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(fixture.leftovers(), [""; 0].map(PathBuf::from));
    };
    let refuse = UnpackPolicy { devices: DevicePolicy::Refuse, ..UnpackPolicy::default() };
    fail(refuse, &device, "refusing the device node `null`");
    let refuse = UnpackPolicy { owners: OwnerPolicy::Refuse, ..UnpackPolicy::default() };
    fail(refuse, &foreign, "`f` belongs to id 65535, which has no place");

    let policy = UnpackPolicy {
        set_id: SetIdPolicy::Strip,
        shift: IdShift { by: 100, highest: 65_535 },
        ..UnpackPolicy::default()
    };
    let fixture = Fixture::with(WhiteoutStyle::Device, policy, Limits::default());
    let tar = gz(layer().file("su", 0o6755, b"").directory("d", 0o2755));
    let unpacked = fixture.ensure(&[tar]).expect("unpacks");
    let tree = Mounted::new(&fixture, &unpacked).tree();
    assert_eq!((tree["su"].as_str(), tree["d"].as_str()), ("f 755 100:100 ", "d 2755 100:100"));
    assert_eq!(unpacked.warnings, ["cleared the set-id bits of `su`"]);
}

#[test]
#[ignore = "runs as root of a namespace"]
fn hostile_layers_get_precise_errors_and_leave_nothing() {
    let limits = Limits {
        unpacked_bytes: 1 << 20,
        unpacked_entries: 500,
        path_depth: 20,
        path_bytes: 300,
        deferred_bytes: 20_000,
        compression_ratio: 100,
        ..Limits::default()
    };
    let check = |tar: Layer, expected: &str| {
        let fixture = Fixture::with(WhiteoutStyle::Device, UnpackPolicy::default(), limits.clone());
        let error = fixture.ensure(&[tar]).map(|_| ()).expect_err(expected).to_string();
        assert!(error.starts_with("cannot unpack layer sha256:"), "{error}");
        assert!(error.contains(expected), "{error}");
        assert_eq!(fixture.leftovers(), [""; 0].map(PathBuf::from), "{expected}");
    };
    let file = |path: &str| gz(layer().file(path, 0o644, b"x"));
    check(file("../escape"), "`../escape`: its name climbs out by `..`");
    check(file("a/../../escape"), "climbs out by `..`");
    check(file("/.."), "climbs out by `..`");
    check(file("a/.wh.b/c"), "is inside a whiteout");
    check(file(".wh."), "is a whiteout of nothing");
    check(file("a/.wh..."), "is a whiteout of nothing");
    check(gz(layer().symlink("", "x")), "is the root, but no directory");
    check(gz(layer().file("f", 0o644, b"").file("f/g", 0o644, b"")), "`f` is not a directory");
    check(gz(layer().symlink("a", "b").symlink("b", "a").file("a/x", 0o644, b"")), "too many symbolic links");
    check(gz(layer().hardlink("h", "missing")), "there is no such file in this layer");
    check(gz(layer().hardlink("h", "../../etc/passwd")), "climbs out by `..`");
    check(gz(layer().hardlink("h", "/etc/passwd")), "there is no such file in this layer or below");
    check(gz(layer().symlink("etc", "/etc").hardlink("h", "etc/passwd")), "too many symbolic links");
    check(
        gz(layer().symlink("up", "/usr").hardlink("h", "up/f")),
        "there is no such file in this layer or below",
    );
    check(gz(layer().directory("d", 0o755).hardlink("h", "d")), "that is a directory");
    check(gz(layer().hardlink("h", "/")), "that is the root");
    check(gz(layer().file("h", 0o644, b"").hardlink("h", "h")), "that is itself");
    check(gz(layer().file("big", 0o644, &vec![7; 2 << 20])), "`unpacked_bytes` of 1048576");
    check(file(&"d/".repeat(30)), "`path_depth` of 20");
    check(file(&"n".repeat(301)), "`path_bytes` of 300");
    let many = (0..600).fold(layer(), |layer, i| layer.file(&i.to_string(), 0o644, b""));
    check(gz(many), "`unpacked_entries` of 500");
    let many = (0..400).fold(layer(), |layer, i| layer.whiteout(&format!("some-long-name-{i:050}")));
    check(gz(many), "`deferred_bytes` of 20000");
    let deep = (0..4).fold(layer(), |layer, i| {
        let (here, link) = (format!("l{i}/{}", "d/".repeat(10)), format!("l{}", i + 1));
        layer.directory(&here, 0o755).symlink(&link, here.trim_end_matches('/'))
    });
    check(gz(deep), "`path_depth` of 20");
    let sparse = raw(|builder| {
        let records = [("GNU.sparse.map", &b"0,0"[..]), ("GNU.sparse.size", b"4611686018427387904")];
        builder.append_pax_extensions(records).expect("memory");
        special(builder, "sparse", tar::EntryType::Regular);
    });
    check(sparse, "`unpacked_bytes` of 1048576");
    check(
        Layer::from_tar(b"not a tar archive at all".repeat(100), Compression::None),
        "this is not a tar archive",
    );
    let whole = layer().file("f", 0o644, &[7; 4096]);
    let cut = whole.build(Compression::None).blob()[..2_000].to_vec();
    check(Layer::from_tar(cut, Compression::None), "truncated in `f`");
}

#[test]
#[ignore = "runs as root of a namespace"]
fn bombs_stop_early() {
    let limits = Limits { compression_ratio: 50, ..Limits::default() };
    let fixture = Fixture::with(WhiteoutStyle::Device, UnpackPolicy::default(), limits);
    let bomb = layer().file("zeros", 0o644, &vec![0; 80 << 20]).build(Compression::Zstd);
    assert!(bomb.blob().len() < 1 << 20);
    let error = fixture.ensure(&[bomb]).expect_err("a bomb").to_string();
    assert!(error.contains("`compression_ratio` of 50"), "{error}");
    assert_eq!(fixture.leftovers(), [""; 0].map(PathBuf::from));
}

#[test]
#[ignore = "runs as root of a namespace"]
fn many_small_bombs_are_a_large_one() {
    let limits = Limits { unpacked_image_bytes: 2_500, ..Limits::default() };
    let fixture = Fixture::with(WhiteoutStyle::Device, UnpackPolicy::default(), limits);
    let layers = ["a", "b", "c"].map(|name| gz(layer().file(name, 0o644, &[0; 1_000])));
    fixture.ensure(&layers[..2]).expect("within the limit");
    let published = fixture.leftovers().len();
    // Layers that are there already count too.
    let error = fixture.ensure(&layers).expect_err("beyond it").to_string();
    assert!(
        error.contains("what the image's layers hold exceeds the limit `unpacked_image_bytes` of 2500"),
        "{error}"
    );
    assert_eq!(fixture.leftovers().len(), published, "nothing of the third layer stays");
}

#[test]
#[ignore = "runs as root of a namespace"]
fn digests_decide() {
    let good = gz(layer().file("f", 0o644, b"good"));
    let other = gz(layer().file("f", 0o644, b"other"));
    let fixture = Fixture::new(WhiteoutStyle::Device);
    let (manifest, mut config) = fixture.image(std::slice::from_ref(&good));
    config.rootfs.diff_ids = vec![other.diff_id().clone()];
    let error = fixture.snapshots.ensure(&manifest, &config, &Silent).expect_err("another layer").to_string();
    assert!(error.contains(&format!("unpacks to {}, but the image says", good.diff_id())), "{error}");

    // A blob that was changed on the disk is found, and blamed, whatever the change does to the archive.
    let (manifest, config) = fixture.image(std::slice::from_ref(&good));
    let path = fixture.store.blob_path(&manifest.layers[0].digest);
    let mut bytes = fs::read(&path).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&path, bytes).expect("tampered");
    let error = fixture.snapshots.ensure(&manifest, &config, &Silent).expect_err("damaged").to_string();
    assert!(error.contains("is damaged and was removed; pull or import the image again"), "{error}");
    assert_eq!(fixture.leftovers(), [""; 0].map(PathBuf::from));

    // Bytes behind the end of the archive count, too.
    let mut tar = layer().file("f", 0o644, b"good").build(Compression::None).blob().to_vec();
    tar.extend([0; 10_000]);
    assert!(fixture.ensure(&[Layer::from_tar(tar, Compression::Gzip)]).is_ok());

    let (mut manifest, config) = fixture.image(std::slice::from_ref(&other));
    manifest.layers.clear();
    let error = fixture.snapshots.ensure(&manifest, &config, &Silent).expect_err("no layers").to_string();
    assert!(error.contains("the manifest has 0 layers, the image configuration 1"), "{error}");
}

#[test]
#[ignore = "runs as root of a namespace"]
fn layers_are_shared_and_made_once() {
    let fixture = Fixture::new(WhiteoutStyle::Device);
    let base = gz(layer().file("base", 0o644, b"b"));
    let (left, right) = (gz(layer().file("left", 0o644, b"l")), gz(layer().file("right", 0o644, b"r")));
    let images = [fixture.image(&[base.clone(), left]), fixture.image(&[base, right])];
    let unpacked = std::sync::Mutex::new(Vec::new());
    let progress = |event: Event<'_>| {
        if let Event::Unpacking { layer } = event {
            unpacked.lock().expect("not poisoned").push(layer.clone());
        }
    };
    let results: Vec<snapshot::Layers> = std::thread::scope(|scope| {
        let ensure = |index: usize| {
            let (manifest, config) = &images[index % 2];
            fixture.snapshots.ensure(manifest, config, &progress).expect("unpacks")
        };
        let threads: Vec<_> = (0..8).map(|index| scope.spawn(move || ensure(index))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(unpacked.lock().expect("not poisoned").len(), 3, "each layer once");
    assert_eq!(results[0].lowerdirs[1], results[1].lowerdirs[1], "the base is shared");
    assert_ne!(results[0].lowerdirs[0], results[1].lowerdirs[0]);
    assert_eq!(fs::read_dir(fixture.store.root().join("snapshots")).expect("there").count(), 3);

    let keep = images[0].1.chain_ids().iter().map(|chain| chain.digest().clone()).collect();
    let pruned = fixture.snapshots.prune(|| Ok::<_, xebec_image::store::StoreError>(keep)).expect("pruned");
    assert_eq!(pruned.count, 1);
    assert!(results[0].lowerdirs.iter().all(|dir| dir.is_dir()));
    assert!(!results[1].lowerdirs[0].exists());
}

#[test]
#[ignore = "runs as root of a namespace"]
fn images_without_layers_and_compressions() {
    let fixture = Fixture::new(WhiteoutStyle::Device);
    let empty = fixture.ensure(&[]).expect("nothing to do");
    assert_eq!(empty.lowerdirs.len(), 1);
    assert!(Mounted::new(&fixture, &empty).tree().is_empty());
    let keep = || Ok::<_, xebec_image::store::StoreError>(std::collections::BTreeSet::new());
    assert_eq!(fixture.snapshots.prune(keep).expect("pruned").count, 0);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let built = layer().file("f", 0o644, format!("{compression:?}").as_bytes()).build(compression);
        let unpacked = fixture.ensure(&[built]).expect("unpacks");
        let content = fs::read_to_string(unpacked.lowerdirs[0].join("f")).expect("there");
        assert_eq!(content, format!("{compression:?}"));
    }
}

#[test]
#[ignore = "runs as root of a namespace"]
fn sparse_files_keep_their_holes() {
    let dir = support::temp_dir();
    let file = fs::File::create(dir.path().join("holes")).expect("created");
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", 50_000_000).expect("written");
    let output = std::process::Command::new("tar")
        .args(["--format=pax", "-Scf", "-", "holes"])
        .current_dir(dir.path())
        .output()
        .expect("GNU tar is needed by this test: install the package `tar`");
    let fixture = Fixture::new(WhiteoutStyle::Device);
    let unpacked = fixture.ensure(&[Layer::from_tar(output.stdout, Compression::Gzip)]).expect("unpacks");
    let meta = fs::metadata(unpacked.lowerdirs[0].join("holes")).expect("there");
    assert_eq!(meta.len(), 50_000_003);
    assert!(meta.blocks() * 512 < 1_000_000, "{} blocks", meta.blocks());
}

/// Archives with everything that needs care in them.
fn careful() -> Vec<Vec<u8>> {
    let long = "x/".repeat(70);
    let links = layer()
        .directory("a/b", 0o755)
        .symlink("a/l", "../..")
        .file("a/l/f", 0o644, b"f")
        .symlink("r", "/a")
        .hardlink("h", "a/l/f")
        .file("r/b", 0o600, b"again")
        .file(&long, 0o644, b"deep");
    let whiteouts = layer()
        .whiteout("base")
        .opaque("d")
        .file("d/e/f", 0o644, b"new")
        .whiteout("d/e")
        .whiteout("a/b/c")
        .directory("base", 0o700)
        .opaque("");
    [links, whiteouts].map(|layer| layer.build(Compression::None).blob().to_vec()).into()
}

#[test]
#[ignore = "runs as root of a namespace"]
fn any_layer_ends_and_stays_inside() {
    let dir = support::temp_dir();
    rustix::mount::mount("tmpfs", dir.path(), "tmpfs", rustix::mount::MountFlags::empty(), None)
        .expect("a file system that is fast to sync");
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).expect("made");
    let base = gz(layer().file("base", 0o644, b"b").directory("d/e", 0o755).file("a/b/c", 0o644, b"c"));
    let seeds = careful();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let mut unpacked = 0;
    for (round, mut bytes) in support::testing::mutations(&seeds, 600, 23).enumerate() {
        support::testing::fix_tar_checksums(&mut bytes);
        let root = dir.path().join(format!("images-{round}"));
        let store = ContentStore::open(&root, Limits::default()).expect("opens");
        let snapshots =
            Snapshots::with_style(&store, UnpackPolicy::default(), STYLES[round % 3]).expect("opens");
        let fixture = Fixture { dir: tempfile::tempdir_in(&outside).expect("a directory"), store, snapshots };
        unpacked +=
            usize::from(fixture.ensure(&[base.clone(), Layer::from_tar(bytes, Compression::None)]).is_ok());
        assert_eq!(fs::read_dir(root.join("tmp")).expect("there").count(), 0, "round {round}");
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 2, "round {round}");
        assert_eq!(fs::read_dir(fixture.dir.path()).expect("there").count(), 0, "round {round}");
        drop(fixture);
        fs::remove_dir_all(&root).expect("removable");
    }
    assert!(unpacked > 100, "{unpacked} of 600 were acceptable");
    rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::empty()).expect("unmounted");
}
