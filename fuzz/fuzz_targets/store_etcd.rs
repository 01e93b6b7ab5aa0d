//! Bytes from an etcd: answers, events of a watch, stored values.
#![no_main]

use xebec_fuzz::target;
use xebec_store::etcd_fuzzing;

/// A field with a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("seeds are short");
    [&[number << 3 | 2, length], content].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("seeds are short");
    [&[0][..], &length.to_be_bytes(), message].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let value = [1, 0, 1, 0, 0, 0, b'{', b'}'];
    let record = |name: &[u8], revision: u8| {
        let key = field(1, name);
        [&key[..], &[2 << 3, 6, 3 << 3, revision, 4 << 3, 1], &field(5, &value)].concat()
    };
    let header = field(1, &[3 << 3, 9]);
    let event = |deleted: u8, name: &[u8], revision: u8| {
        field(11, &[&[1 << 3, deleted][..], &field(2, &record(name, revision))].concat())
    };
    let watch = [&header[..], &event(0, b"/x/a", 6), &event(0, b"/x/b", 6), &event(1, b"/x/a", 8)].concat();
    let range = [&header[..], &field(2, &record(b"/x/a", 6)), &[3 << 3, 1]].concat();
    let txn = [&header[..], &[2 << 3, 0], &field(3, &field(1, &range))].concat();
    let stream = [framed(&watch), framed(&header), framed(&range)].concat();
    [(b'S', stream), (b'S', framed(&txn)), (b'S', framed(&field(2, b"3.4.23"))), (b'V', value.to_vec())]
        .map(|(kind, bytes)| [&[kind][..], &bytes].concat())
        .to_vec()
}

target!("store_etcd", seeds(), |data| {
    match data.split_first() {
        Some((b'V', bytes)) => etcd_fuzzing::value(bytes),
        Some((_, bytes)) => etcd_fuzzing::stream(bytes),
        None => {}
    }
});
