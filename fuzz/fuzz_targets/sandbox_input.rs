//! Frames between shim and node, a container's `/etc/passwd` and `/etc/group`, seccomp profiles.
#![no_main]

use xebec_fuzz::{choices, target};
use xebec_sandbox::fuzzing;

const SEEDS: [&[u8]; 6] = [
    b"W\x03\x01\0\0\0\x06\"List\"\x03\0\0\0\x02hi\x04\0\0\0\0",
    b"W\x20\x01\0\0\0\x10{\"Start\":\"abc\"}  \x02\0\0\0\x06\"Done\"",
    b"Uroot:x:0:0:root:/root:/bin/sh\nweb:x:100:101::/srv/web:/bin/false\nseven:x:7:7::home\n\0root:x:0:\nweb:x:101:\nlogs:x:200:web,other\n",
    b"Uweb:::\nweb:x:-1:4294967296::\n\0web:x:65535:web\n",
    br#"S{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["read","write","nope"],"action":"SCMP_ACT_ALLOW"},{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":97,"args":[{"index":0,"value":16,"valueTwo":0,"op":"SCMP_CMP_EQ"}]}]}"#,
    br#"S{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["clone"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":1,"value":18446744073709551615,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"},{"index":5,"value":1,"op":"SCMP_CMP_GT"}]}]}"#,
];

target!("sandbox_input", SEEDS, |data| {
    match data.split_first() {
        Some((b'W', [step, bytes @ ..])) => fuzzing::frames(bytes, usize::from(*step) + 1),
        Some((b'U', files)) => {
            let (passwd, group) = choices::halves(files, 0);
            fuzzing::users(passwd, group);
        }
        Some((_, rest)) => {
            if let Ok(json) = std::str::from_utf8(rest) {
                fuzzing::seccomp(json);
            }
        }
        None => {}
    }
});
