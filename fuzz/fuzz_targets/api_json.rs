//! JSON to a tree and back: writing is canonical, so that what was written reads as the same bytes.
#![no_main]

use xebec_api::json;
use xebec_fuzz::target;

const SEEDS: [&str; 8] = [
    r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"a":"b"}},"spec":{"containers":[{"name":"c"}]}}"#,
    r#"[1,-1,1.5,1e21,9223372036854775807,9223372036854775808,-0.0,1e-7,123456789012345678901234567890]"#,
    r#"{"a":1,"a":2,"b":{"c":[{"d":1,"d":2}]}}"#,
    r#""é\n\u0041\ud83d\ude00\u0000\/""#,
    r#"[[[[[[[[]]]]]]]]"#,
    " {\t\"a\" :\r\nnull } ",
    "1e308",
    "\"\u{7f}\u{2028}\"",
];

target!("api_json", SEEDS, |data| {
    let Ok(parsed) = json::parse(data) else { return };
    let written = json::to_vec(&parsed.value);
    let again = json::parse(&written).expect("what was written is JSON");
    assert!(again.duplicates.is_empty(), "{:?}", again.duplicates);
    assert_eq!(json::to_vec(&again.value), written);
});
