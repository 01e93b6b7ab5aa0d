//! Texts that the node reads: log files of containers, requests, references to variables.
//!
//! The last lines of a log are its end, and its first bytes its beginning.
#![no_main]

use std::cell::OnceCell;
use std::fs;

use tempfile::TempDir;
use xebec_fuzz::target;
use xebec_node::logs::{self, LogOptions, LogTime, StreamFilter};
use xebec_node::pod::env::expand;
use xebec_node::streams;

const SEEDS: [&str; 6] = [
    "2026-01-31T12:00:00.000000000Z stdout F one\n2026-01-31T12:00:01.000000000Z stdout P tw\n2026-01-31T12:00:02.000000000Z stderr F error\n2026-01-31T12:00:03.000000000Z stdout F o\nhalf a li\n",
    "2026-01-31T12:00:00Z stdout P:x a\n2026-01-31T12:00:00+02:00 stderr P b\n2026-01-31T12:00:00Z stdout F \n2026-01-31T12:00:01Z stderr P c\n2026",
    "/exec/ns/pod/container",
    "command=a&command=b&stdin=1&tty=true&tailLines=3&sinceTime=2026-01-31T12:00:00Z&sinceSeconds=1&limitBytes=5&ports=80,443",
    "$(A) $$(B) $(C $(A)) $",
    "1.5Gi",
];

thread_local! {
    static DIR: OnceCell<TempDir> = const { OnceCell::new() };
}

fn log(data: &[u8]) {
    let path = DIR.with(|dir| dir.get_or_init(|| tempfile::tempdir().expect("a directory")).path().join("0.log"));
    fs::write(&path, data).expect("a log can be written");
    for stream in [StreamFilter::All, StreamFilter::Stdout, StreamFilter::Stderr] {
        let all = LogOptions { stream, ..LogOptions::default() };
        let whole = logs::fuzzing::text(&path, &all);
        for bytes in [0, 1, 7, 100] {
            let first = logs::fuzzing::text(&path, &LogOptions { limit_bytes: Some(bytes), ..all.clone() });
            assert_eq!(first, whole[..whole.len().min(bytes as usize)]);
        }
        if stream != StreamFilter::All {
            for lines in [0, 1, 3] {
                let last = logs::fuzzing::text(&path, &LogOptions { tail_lines: Some(lines), ..all.clone() });
                assert!(whole.ends_with(&last), "{whole:?} {last:?}");
            }
        }
        let since = LogTime::parse("2026-01-31T12:00:01Z");
        drop(logs::fuzzing::text(&path, &LogOptions { since, timestamps: true, tail_lines: Some(2), ..all }));
    }
}

target!("node_text", SEEDS, |data| {
    log(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    streams::fuzzing::texts(text);
    assert_eq!(expand(text, |_| None).replace("$$", "$"), expand(text, |_| None).replace("$$", "$"));
    let expanded = expand(text, |name| (name.len() == 1).then(|| "value".to_owned()));
    assert!(expanded.len() <= text.len() * 5);
});
