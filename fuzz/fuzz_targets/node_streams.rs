//! The streams of `exec`, `attach` and port forwarding, over WebSocket and SPDY; the first byte says how they are cut.
#![no_main]

use std::io::Write as _;

use flate2::{Compress, Compression, FlushCompress};
use xebec_fuzz::target;
use xebec_node::streams::fuzzing;

/// A client's frame, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.write_all(payload).expect("memory");
    frame
}

/// Control frames of SPDY that open streams; the headers are stored without compression.
fn spdy(kinds: &[(&str, &str)]) -> Vec<u8> {
    let mut zlib = Compress::new(Compression::fast(), true);
    let mut all = Vec::new();
    for (number, (kind, port)) in kinds.iter().enumerate() {
        let mut block = 3_u32.to_be_bytes().to_vec();
        for text in ["streamtype", *kind, "port", *port, "requestid", "0"] {
            block.extend((text.len() as u32).to_be_bytes());
            block.extend(text.as_bytes());
        }
        let mut packed = Vec::with_capacity(block.len() + 64);
        zlib.compress_vec(&block, &mut packed, FlushCompress::Sync).expect("memory");
        all.extend([0x80, 3, 0, 1, 0, 0, 0, 10 + packed.len() as u8]);
        all.extend((2 * number as u32 + 1).to_be_bytes());
        all.extend([0; 6]);
        all.extend(packed);
    }
    all.extend([0, 0, 0, 3, 1, 0, 0, 2, b'h', b'i']);
    all.extend([0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]);
    all.extend([0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5]);
    all.extend([0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 0]);
    all
}

fn seeds() -> Vec<Vec<u8>> {
    let socket = [
        frame(0x82, b"\0hello"),
        frame(0x02, b"\0he"),
        frame(0x89, b"ping"),
        frame(0x80, b"llo"),
        frame(0x82, b"\x04{\"Width\":80,\"Height\":24}"),
        frame(0x82, b"\xff\0"),
        frame(0x88, &[3, 232]),
    ];
    let command = spdy(&[("error", "1"), ("stdin", "1"), ("stdout", "1"), ("stderr", "1"), ("resize", "1")]);
    let ports = spdy(&[("error", "80"), ("data", "80"), ("error", "443"), ("data", "443")]);
    let wrapped: Vec<u8> = ports.chunks(100).flat_map(|piece| frame(0x82, piece)).collect();
    [socket.concat(), command, ports, wrapped].map(|seed| [&[3][..], &seed].concat()).to_vec()
}

target!("node_streams", seeds(), |data| {
    let Some((step, bytes)) = data.split_first() else { return };
    fuzzing::connection(bytes, usize::from(*step) + 1);
});
