use super::*;

/// A definition of two versions with these properties of `spec`, and a declaration.
fn definition(v1: &str, v2: &str, declaration: &str) -> Value {
    let text = format!(
        "metadata: {{name: as.x.io}}
spec:
  group: x.io
  scope: Namespaced
  names: {{plural: as, singular: a, kind: A, listKind: AList}}
  versions:
  - {{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {{{v1}}}}}}}}}}}}}
  - {{name: v2, served: true, storage: false, schema: {{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {{{v2}}}}}}}}}}}}}
"
    );
    let mut definition = yaml::parse(&text).expect("YAML").value;
    definition.set(&["metadata", "annotations", ANNOTATION], declaration);
    definition
}

fn read(v1: &str, v2: &str, rules: &str) -> Declaration {
    let text = format!("between: [{{versions: [v1, v2], {rules}}}]");
    Declaration::read(&definition(v1, v2, &text)).expect(rules).expect("there is one")
}

fn object_of(version: &str, spec: &str) -> Value {
    let spec = yaml::parse(spec).expect("YAML").value;
    object!({"apiVersion": (format!("x.io/{version}")), "kind": "A", "metadata": {"name": "a"}, "spec": (spec)})
}

/// That a `v1` is a `v2` so, and the other way round.
#[track_caller]
fn both(declaration: &Declaration, v1: &str, v2: &str) {
    let (first, second) = (object_of("v1", v1), object_of("v2", v2));
    assert_eq!(declaration.convert(first.clone(), "x.io/v2").as_ref(), Ok(&second));
    assert_eq!(declaration.convert(second, "x.io/v1"), Ok(first));
}

#[track_caller]
fn losses(declaration: &Declaration) -> Vec<String> {
    let proof = declaration.prove().expect("there are examples");
    assert!(proof.trips > 0);
    proof.losses.iter().map(ToString::to_string).collect()
}

#[test]
fn fields_move() {
    let declaration = read(
        "size: {type: integer}, same: {type: string}",
        "capacity: {type: object, properties: {size: {type: integer}}}, same: {type: string}",
        "rules: [{v1: spec.size, v2: spec.capacity.size}]",
    );
    both(&declaration, "{size: 3, same: x}", "{capacity: {size: 3}, same: x}");
    both(&declaration, "{same: x}", "{same: x}");
    assert_eq!(losses(&declaration), [""; 0]);
}

#[test]
fn values_have_other_names() {
    let declaration = read(
        "on: {type: boolean}",
        "mode: {type: string, enum: [Enabled, Disabled]}",
        "rules: [{v1: spec.on, v2: spec.mode, values: [[true, Enabled], [false, Disabled]]}]",
    );
    both(&declaration, "{on: true}", "{mode: Enabled}");
    both(&declaration, "{on: false}", "{mode: Disabled}");
    assert_eq!(losses(&declaration), [""; 0]);
    let error = declaration.convert(object_of("v2", "{mode: Other}"), "x.io/v1").expect_err("no counterpart");
    assert_eq!(
        error.to_string(),
        r#"spec.on of v1: the value "Other" has no counterpart among the rule's values"#
    );
}

#[test]
fn fields_are_split_and_joined() {
    let declaration = read(
        "hostPort: {type: string, pattern: '^[a-z]+:[0-9]+$'}",
        "host: {type: string, pattern: '^[a-z]+$'}, port: {type: string, pattern: '^[0-9]+$'}",
        "rules: [{v1: {spec.hostPort: \"self.spec.host + ':' + self.spec.port\"}, v2: {
           spec.host: \"self.spec.hostPort.split(':')[0]\", spec.port: \"self.spec.hostPort.split(':')[1]\"}}]",
    );
    both(&declaration, "{hostPort: 'a:80'}", "{host: a, port: '80'}");
    both(&declaration, "{}", "{}");
    let found = losses(&declaration);
    assert_eq!(
        found,
        ["an example of v2 cannot go to v1 and back: spec.hostPort of v1: no such key: port"],
        "half of it"
    );
}

#[test]
fn what_may_be_missing_is_asked_for() {
    let declaration = read(
        "timeout: {type: string, pattern: '^(0|[1-9][0-9]{0,4})s$'}",
        "seconds: {type: integer, minimum: 0, maximum: 99999}",
        "rules: [{v1: {spec.timeout: \"string(self.spec.seconds) + 's'\"},
                  v2: {spec.seconds: \"int(self.spec.timeout.replace('s', ''))\"}}]",
    );
    both(&declaration, "{timeout: 90s}", "{seconds: 90}");
    assert_eq!(losses(&declaration), [""; 0]);
    let loose = read(
        "timeout: {type: string, pattern: '^[0-9]{2,3}s$'}",
        "seconds: {type: integer, minimum: 0, maximum: 99}",
        "rules: [{v1: {spec.timeout: \"string(self.spec.seconds) + 's'\"},
                  v2: {spec.seconds: \"int(self.spec.timeout.replace('s', ''))\"}}], preserve: {v1: [spec.timeout]}",
    );
    assert_eq!(losses(&loose), [""; 0], "another spelling is preserved");
    let kept = loose.convert(object_of("v1", "{timeout: 007s}"), "x.io/v2").expect("converted");
    assert_eq!(
        (kept.i64_at(&["spec", "seconds"]), meta::annotation(&kept, DATA)),
        (Some(7), Some(r#"{"v1":{"spec.timeout":"007s"}}"#))
    );
    let mut changed = kept.clone();
    assert_eq!(loose.convert(kept, "x.io/v1"), Ok(object_of("v1", "{timeout: 007s}")));
    changed.set(&["spec", "seconds"], 8);
    assert_eq!(loose.convert(changed, "x.io/v1"), Ok(object_of("v1", "{timeout: 8s}")), "the change counts");
}

#[test]
fn one_becomes_the_first_of_several() {
    let (v1, v2) = ("image: {type: string}", "images: {type: array, items: {type: string}}");
    let lossy = read(v1, v2, "rules: [{v1: spec.image, v2: 'spec.images[0]'}]");
    both(&lossy, "{image: a}", "{images: [a]}");
    let found = losses(&lossy);
    assert!(found[0].starts_with("spec.images of v2 is lost on the way to v1 and back: ["), "{found:?}");
    let declaration =
        read(v1, v2, "rules: [{v1: spec.image, v2: 'spec.images[0]'}], preserve: {v2: [spec.images]}");
    assert_eq!(losses(&declaration), [""; 0]);
    both(&declaration, "{image: a}", "{images: [a]}");
    let two = object_of("v2", "{images: [a, b]}");
    let one = declaration.convert(two.clone(), "x.io/v1").expect("converted");
    assert_eq!(one.str_at(&["spec", "image"]), Some("a"));
    assert_eq!(declaration.convert(one.clone(), "x.io/v2"), Ok(two));
    let mut other = one;
    other.set(&["spec", "image"], "c");
    assert_eq!(declaration.convert(other, "x.io/v2"), Ok(object_of("v2", "{images: [c]}")));
}

#[test]
fn what_one_version_has_alone() {
    let (v1, v2) = ("a: {type: string}", "a: {type: string}, b: {type: integer}, c: {type: string}");
    let lossy = read(v1, v2, "rules: [{v2: spec.b, default: 1}]");
    let found = losses(&lossy);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.iter().any(|f| f.starts_with("spec.c of v2 is lost on the way to v1 and back: ")),
        "{found:?}"
    );
    let declaration = read(v1, v2, "rules: [{v2: spec.b, default: 1}], preserve: {v2: [spec.b, spec.c]}");
    let first = object_of("v1", "{a: x}");
    assert_eq!(declaration.convert(first, "x.io/v2"), Ok(object_of("v2", "{a: x, b: 1}")));
    assert_eq!(losses(&declaration), [""; 0], "what is given by default is no loss");
    let text = "acknowledgeLossy: [spec.b]
between: [{versions: [v1, v2], rules: [{v2: spec.b, default: 1}], preserve: {v2: [spec.c]}}]";
    let declaration = Declaration::read(&definition(v1, v2, text)).expect("good").expect("there is one");
    assert_eq!(losses(&declaration), [""; 0]);
    assert!(faults(&definition(v1, v2, text), None).is_empty());
}

#[test]
fn elements_have_rules_of_their_own() {
    let list = |fields: &str| format!("type: array, items: {{type: object, properties: {{{fields}}}}}");
    let declaration = read(
        &format!("parts: {{{}}}", list("name: {type: string}, n: {type: integer}")),
        &format!("pieces: {{{}}}", list("title: {type: string}, n: {type: integer}")),
        "rules: [{v1: spec.parts, v2: spec.pieces, each: [{v1: name, v2: title}]}]",
    );
    both(&declaration, "{parts: [{name: a, n: 1}, {n: 2}]}", "{pieces: [{title: a, n: 1}, {n: 2}]}");
    assert_eq!(losses(&declaration), [""; 0]);
}

#[test]
fn several_bridges_are_one_way() {
    let mut definition = definition("a: {type: string}", "b: {type: string}", "");
    let third = "{name: v3, served: true, storage: false, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {c: {type: string}, d: {type: string}}}}}}}";
    let third = yaml::parse(third).expect("YAML").value;
    definition.make(&["spec", "versions"]).as_array_mut().expect("a list").push(third);
    let text = "between:
- {versions: [v1, v2], rules: [{v1: spec.a, v2: spec.b}]}
- {versions: [v3, v2], rules: [{v3: spec.c, v2: spec.b}], preserve: {v3: [spec.d]}}";
    definition.set(&["metadata", "annotations", ANNOTATION], text);
    let declaration = Declaration::read(&definition).expect("good").expect("there is one");
    let third = object_of("v3", "{c: x, d: y}");
    let first = declaration.convert(third.clone(), "x.io/v1").expect("converted");
    assert_eq!(first.str_at(&["spec", "a"]), Some("x"));
    assert_eq!(declaration.convert(first, "x.io/v3"), Ok(third));
    assert_eq!(losses(&declaration), [""; 0]);
}

#[test]
fn what_a_declaration_may_not_say() {
    let check = |declaration: &str, want: &str| {
        let (v1, v2) = (
            "a: {type: string}, n: {type: integer}",
            "b: {type: string}, l: {type: array, items: {type: string}}",
        );
        let found = Declaration::read(&definition(v1, v2, declaration)).expect_err(declaration);
        assert!(found.iter().any(|fault| fault.contains(want)), "{declaration}: {found:?}");
    };
    let rules = |rules: &str| format!("between: [{{versions: [v1, v2], rules: [{rules}]}}]");
    check("[", "it is no YAML: ");
    check("{a: 1}", r#"the declaration: there is no "a" here, but between, acknowledgeLossy"#);
    check("between: []", "between: must name at least two versions");
    check("between: [{versions: [v1]}]", "between[0].versions: must be the names of two versions");
    check("between: [{versions: [v1, v9]}]", r#"the definition has no version "v9""#);
    check("between: [{versions: [v1, v1]}]", "must be two");
    check("between: [{versions: [v1, v2]}, {versions: [v2, v1]}]", "the same two versions come twice");
    check("between: 1\nbetween: 2", "is said twice");
    check(
        &rules("{v1: spec.x, v2: spec.b}"),
        "between[0].rules[0].v1: spec.x: the schema of v1 has no such field",
    );
    check(&rules("{v1: metadata.name, v2: spec.b}"), "metadata are the same in all versions");
    check(&rules("{v1: 'spec..a', v2: spec.b}"), "is no path of a field");
    check(
        &rules("{v1: spec.a, v2: spec.b}, {v1: spec.a, v2: spec.l}"),
        "spec.a of v1, or what is around it, stands in two rules",
    );
    check(&rules("{default: 1}"), "names no field of v1 or v2");
    check(&rules("{v1: spec.a, v2: spec.b, each: []}"), "each wants a list in both versions");
    check(&rules("{v1: spec.a, v2: spec.b, values: [[x, y], [x, z]]}"), "a value of v1 comes twice");
    check(&rules("{v1: spec.a, v2: {spec.b: '1'}}"), "is either two paths");
    check(
        &rules("{v2: {spec.b: 'self.spec.n'}}"),
        "spec.b: the expression is of type int, but the field of type string",
    );
    check(&rules("{v2: {spec.b: 'self.spec.nothing'}}"), "undefined field 'nothing'");
    check(
        "between: [{versions: [v1, v2], preserve: {v1: [spec, spec.a]}}]",
        "and none within another one here",
    );
}

#[test]
fn a_webhook_and_a_declaration_exclude_each_other() {
    let mut definition =
        definition("a: {type: string}", "a: {type: string}", "between: [{versions: [v1, v2]}]");
    assert!(faults(&definition, None).is_empty());
    definition.set(&["spec", "conversion", "strategy"], "Webhook");
    let found = faults(&definition, None);
    assert!(found[0].message.contains("one or the other"), "{found:?}");
    assert!(faults(&definition, Some(&definition)).is_empty(), "what was so may stay");
}

#[test]
fn what_is_kept_of_strangers_is_looked_at() {
    let declaration =
        read("a: {type: string}", "a: {type: string}, b: {type: integer}", "preserve: {v2: [spec.b]}");
    let check = |data: &str, want: &str| {
        let mut first = object_of("v1", "{a: x}");
        first.set(&["metadata", "annotations", DATA], data);
        assert_eq!(declaration.convert(first, "x.io/v2"), Ok(object_of("v2", want)), "{data}");
    };
    check(r#"{"v2":{"spec.b":3}}"#, "{a: x, b: 3}");
    check(r#"{"v2":{"spec.a":"stranger","spec.c":1}}"#, "{a: x}");
    check("{nonsense", "{a: x}");
    check(r#"{"v2":7}"#, "{a: x}");
    check("[]", "{a: x}");
}

#[test]
fn the_example_loses_nothing() {
    let definition =
        yaml::parse(include_str!("../../../../examples/conversion/workers.yaml")).expect("YAML").value;
    let declaration = Declaration::read(&definition).expect("good").expect("there is one");
    assert_eq!(losses(&declaration), [""; 0]);
    let old = yaml::parse(include_str!("../../../../examples/conversion/worker.yaml")).expect("YAML").value;
    let new = declaration.convert(old.clone(), "example.com/v1").expect("converted");
    assert_eq!(new.at(&["spec", "volumes"]), Some(&object!([{"path": "/data", "readOnly": true}])));
    assert_eq!(declaration.convert(new, "example.com/v1alpha1"), Ok(old));
}
