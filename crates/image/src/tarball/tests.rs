use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::process::Command;

use super::*;
use crate::testing::{Random, fix_tar_checksums, mutations};

fn bounds() -> Bounds {
    let limits = Limits { unpacked_entries: 1_000, sparse_segments: 100, ..Limits::default() };
    Bounds::layer(&limits)
}

/// Every entry with its whole file content, sparse files expanded.
fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut reader = Reader::new(bytes, bounds());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut stored = Vec::new();
        let mut buffer = [0; 1_000];
        loop {
            match reader.read_data(&mut buffer)? {
                0 => break,
                n => stored.extend_from_slice(&buffer[..n]),
            }
        }
        let content = match &entry.segments {
            Some(segments) if entry.size < 1 << 24 => expand(&stored, segments, entry.size),
            _ => stored,
        };
        entries.push((entry, content));
    }
    Ok(entries)
}

fn expand(mut stored: &[u8], segments: &[Segment], size: u64) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(size).expect("small")];
    for segment in segments {
        let (data, rest) = stored.split_at(usize::try_from(segment.length).expect("small"));
        let at = usize::try_from(segment.offset).expect("small");
        content[at..at + data.len()].copy_from_slice(data);
        stored = rest;
    }
    assert!(stored.is_empty());
    content
}

fn sample() -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    writer.directory("etc", Meta::new(0o755)).expect("memory");
    writer.file("etc/passwd", Meta { uid: 7, gid: 8, mtime: 9, mode: 0o4644 }, b"root").expect("memory");
    writer.symlink("etc/link", "../target").expect("memory");
    writer.hardlink("etc/hard", "etc/passwd").expect("memory");
    let long = format!("{}name", "long/".repeat(60));
    writer.file(&long, Meta::new(0o600), &[1; 512]).expect("memory");
    writer.symlink("to-long", &long).expect("memory");
    writer.finish().expect("memory")
}

#[test]
fn reads_what_the_writer_wrote() {
    let entries = read(&sample()).expect("well formed");
    let names: Vec<String> =
        entries.iter().map(|(e, _)| String::from_utf8_lossy(&e.path).into_owned()).collect();
    let long = format!("{}name", "long/".repeat(60));
    assert_eq!(names, ["etc/", "etc/passwd", "etc/link", "etc/hard", &long, "to-long"]);
    let (passwd, content) = &entries[1];
    assert_eq!((passwd.uid, passwd.gid, passwd.mtime, passwd.mode), (7, 8, (9, 0), 0o4644));
    assert_eq!(content, b"root");
    assert_eq!(entries[2].0.kind, Kind::Symlink(b"../target".to_vec()));
    assert_eq!(entries[3].0.kind, Kind::Hardlink(b"etc/passwd".to_vec()));
    assert_eq!(entries[5].0.kind, Kind::Symlink(long.into_bytes()));
}

#[test]
fn the_writer_is_read_by_the_tar_crate() {
    let bytes = sample();
    let mut archive = ::tar::Archive::new(bytes.as_slice());
    let entries = archive.entries().expect("an archive");
    let names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").path().expect("a path").to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.len(), 6);
    assert_eq!(names[4].len(), 304);
}

#[test]
fn reads_what_the_tar_crate_writes() {
    let mut builder = ::tar::Builder::new(Vec::new());
    let long = "d/".repeat(80) + "f";
    for (path, content) in [("a", "1"), (&long, "22")] {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(u64::try_from(content.len()).expect("small"));
        header.set_uid(3_000_000);
        builder.append_data(&mut header, path, content.as_bytes()).expect("memory");
    }
    builder
        .append_pax_extensions([
            ("SCHILY.xattr.user.a", &b"v=\n1"[..]),
            ("mtime", b"-1.25"),
            ("uid", b"70000"),
        ])
        .expect("memory");
    let mut header = ::tar::Header::new_ustar();
    header.set_size(0);
    builder.append_data(&mut header, "x", &b""[..]).expect("memory");
    let entries = read(&builder.into_inner().expect("memory")).expect("well formed");
    assert_eq!(entries[0].0.uid, 3_000_000);
    assert_eq!((entries[1].0.display(), entries[1].1.as_slice()), (long, &b"22"[..]));
    let x = &entries[2].0;
    assert_eq!(x.xattrs, [(b"user.a".to_vec(), b"v=\n1".to_vec())]);
    assert_eq!((x.mtime, x.uid), ((-2, 750_000_000), 70_000));
}

/// GNU tar, the foreign judge for its own formats.
fn gnu_tar(args: &[&str], dir: &std::path::Path) -> Vec<u8> {
    let output = Command::new("tar").args(args).current_dir(dir).output();
    let output = output.expect("GNU tar is needed by this test: install the package `tar`");
    assert!(output.status.success(), "tar {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn sparse_files_of_every_format() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut file = File::create(dir.path().join("holes")).expect("created");
    // More segments than fit a GNU header, so that continuation blocks are used.
    for i in 0..40_u64 {
        file.write_all_at(format!("segment {i}").as_bytes(), i * 65_536).expect("written");
    }
    file.seek(SeekFrom::Start(0)).expect("seeks");
    file.set_len(3_000_000).expect("extended");
    file.flush().expect("flushed");
    let expected = fs::read(dir.path().join("holes")).expect("read");
    let formats: [&[&str]; 4] = [
        &["--format=gnu", "-S"],
        &["--format=pax", "-S", "--sparse-version=0.0"],
        &["--format=pax", "-S", "--sparse-version=0.1"],
        &["--format=pax", "-S", "--sparse-version=1.0"],
    ];
    for format in formats {
        let bytes = gnu_tar(&[format, &["-cf", "-", "holes"]].concat(), dir.path());
        assert!(bytes.len() < 2_000_000, "{format:?} stores holes as holes");
        let entries = read(&bytes).unwrap_or_else(|e| panic!("{format:?}: {e}"));
        assert_eq!(entries.len(), 1, "{format:?}");
        for (entry, content) in entries {
            assert_eq!((entry.display().as_str(), entry.size), ("holes", 3_000_000), "{format:?}");
            assert!(entry.segments.is_some(), "{format:?}");
            assert!(content == expected, "{format:?}: content differs");
        }
        let mut few = bounds();
        few.sparse_segments = 30;
        let error = Reader::new(bytes.as_slice(), few).next_entry().expect_err("too many segments");
        assert!(error.to_string().contains("`sparse_segments` of 30"), "{error}");
    }
}

#[test]
fn old_and_odd_formats() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("d")).expect("made");
    fs::write(dir.path().join("d/f"), "x").expect("written");
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        let bytes =
            gnu_tar(&[&format!("--format={format}"), "--owner=big:70000", "-cf", "-", "d"], dir.path());
        let entries = read(&bytes).unwrap_or_else(|e| panic!("{format}: {e}"));
        let seen: Vec<_> = entries.iter().map(|(e, _)| (e.display(), e.kind.clone(), e.uid)).collect();
        let expected = [("d/".to_owned(), Kind::Directory, 70_000), ("d/f".to_owned(), Kind::File, 70_000)];
        assert_eq!(seen, expected, "{format}");
    }
}

/// A raw header with a right checksum.
fn raw(edit: impl FnOnce(&mut [u8; BLOCK])) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    writer.file("name", Meta::new(0o644), b"").expect("memory");
    let mut bytes = writer.finish().expect("memory");
    let block: &mut [u8; BLOCK] = (&mut bytes[..BLOCK]).try_into().expect("a block");
    edit(block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

fn pax(records: &str, flag: u8) -> Vec<u8> {
    let mut bytes = raw(|block| {
        block[156] = b'x';
        block[124..136].copy_from_slice(format!("{:011o}\0", records.len()).as_bytes());
    });
    bytes.truncate(BLOCK);
    bytes.extend(records.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes.extend(raw(|block| block[156] = flag));
    bytes
}

#[test]
fn malformed_archives_get_precise_errors() {
    let check = |bytes: &[u8], expected: &str| {
        let error = read(bytes).map(|entries| format!("{entries:?}")).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    let good = sample();
    check(&good[..100], "truncated in a header");
    check(&good[..BLOCK * 2 + 2], "truncated in `etc/passwd`");
    let mut broken = good.clone();
    broken[3] ^= 1;
    check(&broken, "checksum does not match");
    check(
        b"PK\x03\x04 this is a zip file, which is not an archive of the kind that is wanted here"
            .repeat(9)
            .as_slice(),
        "at byte 0",
    );
    let mut lone = good[..BLOCK].to_vec();
    lone.extend([0; BLOCK]);
    lone.extend(&good[BLOCK..BLOCK * 2]);
    check(&lone, "lone zero block");
    check(&raw(|b| b[124..136].copy_from_slice(b"000000000x9\0")), "size: not an octal number");
    check(&raw(|b| b[124..136].copy_from_slice(&[0xff; 12])), "size is negative");
    check(&raw(|b| b[124] = 0x81), "size: too large");
    check(&raw(|b| b[124..136].copy_from_slice(b"77777777777\0")), "truncated in `name`");
    check(&raw(|b| b[156] = b'M'), "unsupported type 'M'");
    check(&raw(|b| b[156] = b'V'), "unsupported type 'V'");
    check(&raw(|b| b[156] = b'S'), "not GNU's");
    check(&pax("99 path=x\n", b'0'), "malformed PAX record");
    check(&pax("8 path=x\n", b'0'), "malformed PAX record");
    check(&pax("-9 path=x\n", b'0'), "malformed PAX record");
    check(&pax("10 path=\0\n", b'0'), "NUL byte");
    check(&pax("10 size=x\n", b'0'), "`size` is not a number");
    check(&pax("12 mtime=1e\n", b'0'), "`mtime` is not a time");
    let sparse = |map: &str, size: &str| {
        let record = |text: String| format!("{} {text}\n", text.len() + 4);
        pax(&(record(format!("GNU.sparse.map={map}")) + &record(format!("GNU.sparse.size={size}"))), b'0')
    };
    check(&sparse("0,5,3,5", "10"), "overlap");
    check(&sparse("5,0,9,0", "8"), "does not agree");
    check(&sparse("0,5", "10"), "does not agree");
    check(&sparse("18446744073709551615,9", "10"), "overflows");
    check(&sparse("1,2,3", "10"), "malformed sparse map");
}

#[test]
fn bounds_are_named() {
    let check = |bytes: &[u8], expected: &str| {
        let error = read(bytes).map(|entries| entries.len()).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    let mut writer = TarWriter::new(Vec::new());
    for i in 0..1_001 {
        writer.directory(&format!("d{i}"), Meta::new(0o755)).expect("memory");
    }
    check(&writer.finish().expect("memory"), "`unpacked_entries` of 1000");
    let mut writer = TarWriter::new(Vec::new());
    writer.file(&"n".repeat(5_000), Meta::new(0o644), b"").expect("memory");
    check(&writer.finish().expect("memory"), "`path_bytes` of 4095");
    let huge_name = raw(|b| {
        b[156] = b'L';
        b[124..136].copy_from_slice(b"00100000000\0");
    });
    check(&huge_name, "`header_bytes` of 1048576");
}

#[test]
fn any_bytes_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = File::create(dir.path().join("h")).expect("created");
    file.write_all_at(b"x", 100_000).expect("written");
    let gnu = gnu_tar(&["--format=gnu", "-Scf", "-", "h"], dir.path());
    let pax = gnu_tar(&["--format=pax", "-Scf", "-", "h"], dir.path());
    let seeds = [sample(), gnu[..4096].to_vec(), pax[..4096].to_vec()];
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let mut random = Random::new(11);
    let mut whole = 0;
    for mut bytes in mutations(&seeds, 10_000, 11) {
        if random.below(4) != 0 {
            fix_tar_checksums(&mut bytes);
        }
        whole += usize::from(read(&bytes).is_ok());
    }
    assert!(whole > 500, "{whole}");
}
