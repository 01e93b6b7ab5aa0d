//! A definition that declares by anybody's text how its versions are converted, and an object of anybody's.
//!
//! Whatever is read is tried with examples; converting twice gives the same, and what cannot be converted says so.
#![no_main]

use std::sync::LazyLock;

use xebec_api::conversion::{ANNOTATION, DATA, Declaration};
use xebec_api::{Value, json, yaml};
use xebec_fuzz::{choices, target};

/// The example, whose declaration is replaced.
static DEFINITION: LazyLock<Value> = LazyLock::new(|| {
    yaml::parse(include_str!("../../examples/conversion/workers.yaml")).expect("it is YAML").value
});

/// A declaration, a zero, an object.
const SEEDS: [&str; 6] = [
    "between: [{versions: [v1alpha1, v1], rules: [{v1alpha1: spec.size, v1: spec.capacity.size}]}]\0{\"apiVersion\":\"example.com/v1\",\"spec\":{\"capacity\":{\"size\":1}}}",
    "between:\n- versions: [v1, v1alpha1]\n  preserve: {v1: [spec.images]}\n  rules:\n  - {v1alpha1: spec.image, v1: 'spec.images[0]'}\0{\"apiVersion\":\"example.com/v1\",\"spec\":{\"images\":[\"a\",\"b\"]}}",
    "between: [{versions: [v1alpha1, v1], rules: [{v1alpha1: {spec.timeout: \"string(self.spec.timeoutSeconds) + 's'\"}, v1: {spec.timeoutSeconds: \"int(self.spec.timeout.replace('s', ''))\"}}]}]\0{\"apiVersion\":\"example.com/v1alpha1\",\"spec\":{\"timeout\":\"90s\"}}",
    "between: [{versions: [v1alpha1, v1], rules: [{v1alpha1: spec.mounts, v1: spec.volumes, each: [{v1alpha1: dir, v1: path}]}]}]\0{\"apiVersion\":\"example.com/v1\",\"metadata\":{\"annotations\":{\"a\":\"b\"}},\"spec\":{\"volumes\":[{\"path\":\"/\"},1]}}",
    "between: [{versions: [v1alpha1, v1], preserve: {v1: [spec.labels]}, rules: [{v1: spec.replicas, default: 1}]}]\nacknowledgeLossy: [spec]\0{\"apiVersion\":\"example.com/v1alpha1\",\"metadata\":{\"annotations\":{\"xebec.dev/conversion-data\":\"{\\\"v1\\\":{\\\"spec.labels\\\":{}}}\"}}}",
    "between: [{versions: [v1alpha1, v1], rules: [{v1alpha1: spec.enabled, v1: spec.mode, values: [[true, Enabled], [false, Disabled]]}]}]\0{\"apiVersion\":\"example.com/v1\",\"spec\":{\"mode\":\"Enabled\"}}",
];

fn check(declaration: &Declaration, object: &Value) {
    for to in ["example.com/v1", "example.com/v1alpha1"] {
        let Ok(converted) = declaration.convert(object.clone(), to) else { continue };
        assert_eq!(declaration.convert(object.clone(), to).as_ref(), Ok(&converted), "another one the second time");
        assert_eq!(converted.str_at(&["apiVersion"]), Some(to));
        if converted.at(&["metadata", "annotations", DATA]).is_some() {
            drop(declaration.convert(converted.clone(), object.str_at(&["apiVersion"]).unwrap_or_default()));
        }
        json::from_slice(&json::to_vec(&converted)).expect("what is stored can be read");
    }
}

target!("api_conversion", SEEDS, |data| {
    let (text, object) = choices::halves(data, 0);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut definition = DEFINITION.clone();
    definition.set(&["metadata", "annotations", ANNOTATION], text);
    let Ok(Some(declaration)) = Declaration::read(&definition) else { return };
    drop(declaration.prove());
    if let Ok(object) = json::from_slice(object) {
        check(&declaration, &object);
    }
});
