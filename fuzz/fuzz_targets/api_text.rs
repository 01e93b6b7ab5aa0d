//! The small grammars: selectors, quantities, times, JSON paths, names. What is accepted is written so that it reads the same.
#![no_main]

use xebec_api::quantity::Quantity;
use xebec_api::selector::{FieldSelector, Selector};
use xebec_api::table::jsonpath::JsonPath;
use xebec_api::time::Timestamp;
use xebec_api::{FieldPath, json, names, table};
use xebec_fuzz::{choices, target};

const SEEDS: [&str; 14] = [
    "a=b,c!=d,e in (f,g),!h,i notin (j),k,l>1,m<2",
    "example.com/a in (,x)",
    "metadata.name=a,spec.nodeName!=b\\,c\\=d\\\\",
    "1Gi",
    "-1.5e3",
    "0.000000001n",
    "9223372036854775807Ei",
    "1E",
    "2026-01-31T09:00:00.123456789+01:30",
    "0000-01-01T00:00:00Z",
    "{.status.conditions[?(@.type==\"Ready\")].status}\n{\"status\":{\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}",
    ".a[0:2].b..c[*]['d','e'][-1:]\n{\"a\":[{\"b\":{\"c\":[1]}},{}]}",
    "{.a}{.b}{range .c[*]}{.d}{end}\n{}",
    "xn--a.example.com",
];

fn quantity(text: &str) {
    let Ok(read) = text.parse::<Quantity>() else { return };
    let written = read.to_string();
    let again: Quantity = written.parse().expect("a written quantity can be read");
    assert_eq!(again.to_string(), written, "{text}");
    assert_eq!(again, read, "{text} {written}");
    // Beyond this they saturate.
    if read.units().unsigned_abs() < 1 << 60 {
        assert_eq!(read.plus(read).minus(read), read, "{text}");
    }
}

fn time(text: &str) {
    let Some(read) = Timestamp::parse(text) else { return };
    let micro = read.micro().to_string();
    assert_eq!(Timestamp::parse(&micro), Some(read), "{text} {micro}");
    let seconds = read.to_string();
    assert_eq!(Timestamp::parse(&seconds).map(Timestamp::unix), Some(read.unix()), "{text}");
    drop(table::since(Some(text), Timestamp::from_unix(0)));
}

fn selectors(text: &str) {
    if let Ok(read) = Selector::parse(text) {
        let written = read.to_string();
        let again = Selector::parse(&written).expect("a written selector can be read");
        assert_eq!(again.to_string(), written, "{text}");
        let any = |_: &str| Some("b");
        assert_eq!(read.matches(any), again.matches(any), "{text}");
    }
    if let Ok(read) = FieldSelector::parse(text) {
        let same = read.requirements.iter().all(|r| (r.value == "a") == r.equal);
        assert_eq!(read.matches(|_| Some("a")), same, "{text}");
    }
    if let Ok(value) = json::from_slice(text.as_bytes()) {
        drop(Selector::from_object(&value, &FieldPath::root()));
    }
}

target!("api_text", SEEDS, |data| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    selectors(text);
    quantity(text);
    time(text);
    for rule in [
        names::dns_label,
        names::dns_1035_label,
        names::dns_subdomain,
        names::path_segment,
        names::qualified,
        names::label_value,
        names::config_key,
    ] {
        drop(rule(text));
    }
    let (path, object) = choices::halves(data, b'\n');
    let path = std::str::from_utf8(path).expect("a part of a text at a line's end");
    if let (Ok(path), Ok(object)) = (JsonPath::parse(path), json::from_slice(object)) {
        assert_eq!(path.first(&object), path.all(&object).first().copied());
    }
});
