//! Expressions and what upstream's implementation makes of them: values, costs and messages, word for word.

use std::sync::Arc;

use crate::authz::{AccessRequest, AccessTarget, Authority, Authorizer, Decision};
use crate::schema::{Field, ListKind, ObjectSchema, SchemaKind};
use crate::{Budget, CompileError, Env, EvalError, Members, Opaque, Schema, Tree, Type, Value, View};

/// A tree of a host.
enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Text(&'static str),
    List(Vec<Json>),
    Map(Fields),
}

struct Fields(Vec<(&'static str, Json)>);

impl Tree for Json {
    fn view(&self) -> View<'_> {
        match self {
            Self::Null => View::Null,
            Self::Bool(value) => View::Bool(*value),
            Self::Int(value) => View::Int(*value),
            Self::Text(text) => View::String(text),
            Self::List(items) => View::List(items),
            Self::Map(members) => View::Map(members),
        }
    }
}

impl Members for Fields {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, key: &str) -> Option<&dyn Tree> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, value)| value as &dyn Tree)
    }

    fn at(&self, index: usize) -> Option<(&str, &dyn Tree)> {
        self.0.get(index).map(|(key, value)| (*key, value as &dyn Tree))
    }
}

fn map(members: Vec<(&'static str, Json)>) -> Json {
    Json::Map(Fields(members))
}

fn texts(list: &[&'static str]) -> Json {
    Json::List(list.iter().map(|text| Json::Text(text)).collect())
}

fn object(name: &str, fields: Vec<(&str, Schema)>) -> Schema {
    let fields = fields
        .into_iter()
        .map(|(property, schema)| Field {
            name: crate::schema::escape(property).expect("a name").into(),
            property: property.into(),
            schema,
            declared: true,
        })
        .collect();
    Schema::object(ObjectSchema::new(name, fields))
}

/// The value that an expression without variables has, as it would be written, and what it costs.
fn evaluated(expression: &str) -> (String, u64) {
    let program = match Env::new().compile(expression) {
        Ok(program) => program,
        Err(error) => return (error.to_string(), 0),
    };
    let (result, cost) = program.evaluate_within(&[] as &[Value<'_>], 1_000_000);
    (result.map_or_else(|error| error.to_string(), |value| format!("{value:?}")), cost)
}

#[track_caller]
fn check(expression: &str, want: &str) {
    assert_eq!(evaluated(expression).0, want, "{expression}");
}

#[test]
fn operators() {
    check("1 + 2 * 3 - 4 / 2 % 3", "5");
    check("-9223372036854775808 - 1", "integer overflow");
    check("1u - 2u", "unsigned integer overflow");
    check("1 / 0", "division by zero");
    check("1 % 0", "modulus by zero");
    check("1 / 0 == 1 || true", "true");
    check("1 / 0 == 1 && false", "false");
    check("1 / 0 == 1 && true", "division by zero");
    check("dyn(1) == 1u && dyn(1) == 1.0 && dyn('a') != 1", "true");
    check("1 < 2u && 2u < 2.5 && 2.5 < 3", "true");
    check("'a' + 'b' == 'ab' && b'a' + b'b' == b'ab' && [1] + [2] == [1, 2]", "true");
    check("true ? 1 : 2", "1");
    check("1 in [1, 2] && 'a' in {'a': 1} && !(3 in [1, 2])", "true");
    check("--5 == 5 && !!true", "true");
    check("{'a': [{'b': 1}, {'b': 2}]}.a[1].b", "2");
    check("{1: 'a'}[dyn(1u)]", "\"a\"");
    check("{'a': 1}.b", "no such key: b");
    check("[1][1]", "index out of bounds: 1");
    check("has({'a': 1}.a) && !has({'a': 1}.b)", "true");
}

#[test]
fn macros_go_over_lists_and_maps() {
    check("[1, 2, 3].all(x, x > 0) && [1, 2, 3].exists(x, x > 2) && [1, 2, 2].exists_one(x, x == 1)", "true");
    check("[1, 2, 3].filter(x, x > 1).map(x, x * 2)", "[4, 6]");
    check("[1, 2, 3].map(x, x > 1, x * 2)", "[4, 6]");
    check("[1, 0].all(x, 1 / x > 2)", "false");
    check("[1, 0].exists(x, 1 / x > 0)", "true");
    check("[0, 1].all(x, 1 / x > 0)", "division by zero");
    check("{'b': 1, 'a': 2}.map(k, k)", "[\"a\", \"b\"]");
    check("[[1, 2], [3]].map(l, l.map(x, x + 1))", "[[2, 3], [4]]");
    check("{'a': 1, 'b': 2}.all(k, v, v > 0) && ['x'].exists(i, v, i == 0 && v == 'x')", "true");
    check("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 2)", "{\"b\": 4}");
    check("['a', 'b'].transformMapEntry(i, v, {v: i})", "{\"a\": 0, \"b\": 1}");
    check("['a', 'a'].transformMapEntry(i, v, {v: i})", "insert failed: key a already exists");
    check("['a', 'b'].transformList(i, v, string(i) + v)", "[\"0a\", \"1b\"]");
    check("[3, 1, 2].sortBy(x, -x)", "[3, 2, 1]");
    check("optional.of(2).optMap(x, x + 1).orValue(0) + optional.none().optMap(x, x + 1).orValue(0)", "3");
    check("optional.of({'a': 1}).optFlatMap(m, m.?a).orValue(0)", "1");
}

#[test]
fn optional_values() {
    check("{'a': {'b': 1}}.?a.?b", "optional.of(1)");
    check("{'a': {'b': 1}}.?x.b.orValue(7)", "7");
    check("[1, 2][?5].hasValue()", "false");
    check("[?optional.of(1), ?optional.none()] == [1] && {?'a': optional.none()} == {}", "true");
    check("optional.ofNonZeroValue('').or(optional.of('x')).value()", "\"x\"");
    check("optional.none().value()", "optional.none() dereference");
    check("[optional.of(1), optional.none()].unwrapOpt() == [1] && [1, 2].last().value() == 2", "true");
}

#[test]
fn conversions_and_times() {
    check("int('42') + int(3.9) + int(2u)", "47");
    check("uint(-1.5)", "unsigned integer overflow");
    check("string(1.0) + string(1e300) + string(true) + string(b'x')", "\"11e+300truex\"");
    check("bool('T') && !bool('false')", "true");
    check("duration('1h30m').getMinutes()", "90");
    check("timestamp('2023-01-01T00:00:00Z') + duration('24h') == timestamp('2023-01-02T00:00:00Z')", "true");
    check("timestamp('2023-05-28T23:00:00Z').getDate('Europe/Oslo')", "29");
    check("timestamp('2023-05-28T00:00:00Z').getDayOfWeek()", "0");
    check("timestamp('2023-05-28T02:00:00+02:00').getHours()", "0");
    check("timestamp('9999-12-31T23:59:59Z') + duration('1s')", "timestamp overflow");
    check("type(1) == int && type([]) == list && type(type(1)) == type", "true");
}

#[test]
fn libraries() {
    check("'hello world'.split(' ').map(w, w.upperAscii()).join('-')", "\"HELLO-WORLD\"");
    check("'tacocat'.indexOf('c', 3) == 4 && 'tacocat'.lastIndexOf('a') == 5", "true");
    check("'héllo'.substring(1, 3) + 'héllo'.charAt(1) + ' x '.trim()", "\"éléx\"");
    check("'a'.substring(2)", "index out of range: 2");
    check("'%s %d %.2f %x %b'.format(['a', 1, 2.5, 255, 5])", "\"a 1 2.50 ff 101\"");
    check("'%s'.format([{'a': [1.5, true, 'x']}])", "\"{\\\"a\\\":[1.500000, true, \\\"x\\\"]}\"");
    check(
        "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && ['a', 'c'].max() == 'c' && [1, 1, 2].isSorted()",
        "true",
    );
    check("[].sum() == 0 || true", "true");
    check(
        "[1, [2, 3]].flatten() == [1, 2, 3] || true",
        "ERROR: <input>:1:5: expected type 'int' but found 'list(int)'\n | [1, [2, 3]].flatten() == [1, 2, 3] || true\n | ....^",
    );
    check("[[1], [2, 3]].flatten().reverse().distinct().slice(0, 2)", "[3, 2]");
    check("lists.range(3) + [3, 1, 2].sort()", "[0, 1, 2, 1, 2, 3]");
    check("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])", "true");
    check("'abc123def'.find('[0-9]+') + string('a1b2'.findAll('[0-9]').size())", "\"1232\"");
    check("quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1').add(2).asInteger() == 3", "true");
    check(
        "quantity('x')",
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    check(
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && ip('::1').isLoopback() && ip('1.2.3.4').family() == 4",
        "true",
    );
    check("cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')", "true");
    check(
        "url('https://a.io:80/x?b=c').getHostname() + url('https://a.io:80/x?b=c').getPort()",
        "\"a.io80\"",
    );
    check("url('https://a.io/p?b=1&b=2').getQuery()['b']", "[\"1\", \"2\"]");
    check("semver('1.2.3').isLessThan(semver('1.10.0')) && semver('v1.2', true).minor() == 2", "true");
    check("format.dns1123Label().validate('a-b').hasValue()", "false");
    check("format.named('uuid').value().validate('x').value()", "[\"does not match the UUID format\"]");
}

#[test]
fn mistakes_are_told_as_upstream_tells_them() {
    let check = |expression: &str, want: &str| {
        let error = Env::new().variable("s", Type::String).compile(expression).expect_err(expression);
        assert_eq!(error.to_string(), want, "{expression}");
    };
    check("foo", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo\n | ^");
    check(
        "1 + 'a'",
        "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
    );
    check(
        "s.startsWith(1)",
        "ERROR: <input>:1:13: found no matching overload for 'startsWith' applied to 'string.(int)'\n | s.startsWith(1)\n | ............^",
    );
    check("s.x", "ERROR: <input>:1:2: type 'string' does not support field selection\n | s.x\n | .^");
    check(
        "[1, 2",
        "ERROR: <input>:1:6: Syntax error: mismatched input '<EOF>' expecting {']', ','}\n | [1, 2\n | .....^",
    );
    check("a b", "ERROR: <input>:1:3: Syntax error: extraneous input 'b' expecting <EOF>\n | a b\n | ..^");
    check("if", "ERROR: <input>:1:1: reserved identifier: if\n | if\n | ^");
    check("has(s)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(s)\n | ....^");
    check("duration('x')", "ERROR: <input>:1:10: invalid duration argument\n | duration('x')\n | .........^");
    check(
        "s.matches('(')",
        "ERROR: <input>:1:11: invalid matches argument\n | s.matches('(')\n | ..........^",
    );
    check(
        "'%d'.format(['a'])",
        "ERROR: <input>:1:14: error during formatting: decimal clause can only be used on integers, was given string\n | '%d'.format(['a'])\n | .............^",
    );
    check("int('a')", "type conversion error from 'string' to 'int'");
    assert!(matches!(Env::new().compile("int('a')"), Err(CompileError::Program(_))));
}

#[test]
fn costs_are_upstream_s() {
    let check = |expression: &str, (min, max): (u64, u64), actual: u64| {
        let program = Env::new().compile(expression).expect(expression);
        let estimate = program.estimated_cost();
        assert_eq!((estimate.min, estimate.max), (min, max), "estimate of {expression}");
        assert_eq!(evaluated(expression).1, actual, "cost of {expression}");
    };
    check("[1,2].map(x, x*2) == [2,4]", (60, 60), 30);
    check("1u + 0x1Fu", (1, 1), 1);
    check("type(1) == int", (3, 1_844_674_407_370_955_266), 1);
    check("{'a': 1}.a == 1 && 'x'.startsWith('x')", (32, 33), 4);
    check("[1, 2, 3].all(x, x > 0)", (20, 26), 16);
    check("[3, 1, 2].sort().size() == 3", (41, 41), 31);
    check("quantity('12Mi').compareTo(quantity('1Gi')) < 0", (4, 4), 4);
}

/// Runs a test on the stack that threads have; frames of a debug build are several times as large.
fn on_a_thread(test: fn()) {
    let size = if cfg!(debug_assertions) { 16 << 20 } else { 1 << 20 };
    std::thread::Builder::new().stack_size(size).spawn(test).expect("a thread").join().expect("no panic");
}

#[test]
fn bounds_hold() {
    on_a_thread(expressions_are_bounded);
}

fn expressions_are_bounded() {
    let refused = |expression: &str, want: &str| {
        let error = Env::new().compile(expression).expect_err("it is too large").to_string();
        assert!(error.contains(want), "{error}");
    };
    refused(&"(".repeat(300), "expression recursion limit exceeded: 250");
    refused(&format!("1{}", " + 1".repeat(300)), "max recursion depth exceeded");
    refused(&" ".repeat(100_001), "expression code point size exceeds limit: size: 100001, limit 100000");
    let doubled = format!("optional.of(1){}", ".optMap(x, x)".repeat(40));
    refused(&doubled, "parts once its macros are expanded");
    refused(&format!("{}1{}", "[1].map(x, ".repeat(200), ")".repeat(200)), "once its macros are expanded");
    // A type that doubles at each step.
    let wide =
        (0..20).fold("[1]".to_owned(), |inner, n| format!("{inner}.map(x{n}, {{'a': {{'b': x{n}}}}})"));
    assert!(Env::new().compile(&wide).is_ok());
    let (result, _) = evaluated("lists.range(1000).all(a, lists.range(1000).all(b, a + b >= 0))");
    assert_eq!(result, EvalError::CostExceeded.to_string());
}

#[test]
fn deep_expressions_fit_the_stack() {
    on_a_thread(deep_expressions_are_evaluated);
}

fn deep_expressions_are_evaluated() {
    let nested = format!("{}1{} == dyn(1) || true", "[".repeat(240), "]".repeat(240));
    let sum = format!("1{} > 0", " + 1".repeat(240));
    let maps = format!("{}x{}", "[1].map(x, ".repeat(90), ")".repeat(90));
    for expression in [nested, sum, maps] {
        let program = Env::new().compile(&expression).unwrap_or_else(|error| panic!("{error}"));
        program.evaluate(&[] as &[Value<'_>], &mut Budget::per_object()).expect("a value");
    }
}

fn widget() -> Arc<Schema> {
    let mut tags = Schema::list(Schema::new(SchemaKind::String));
    if let SchemaKind::List(_, kind) = &mut tags.kind {
        *kind = ListKind::Set;
    }
    let port = object(
        "selfType.ports",
        vec![("name", Schema::new(SchemaKind::String)), ("port", Schema::new(SchemaKind::IntOrString))],
    );
    let mut ports = Schema::list(port);
    if let SchemaKind::List(_, kind) = &mut ports.kind {
        *kind = ListKind::Map(["name".into()].into());
    }
    let mut size = Schema::new(SchemaKind::Int);
    size.nullable = true;
    Arc::new(object(
        "selfType",
        vec![
            ("created-at", Schema::new(SchemaKind::DateTime)),
            ("namespace", Schema::new(SchemaKind::String)),
            ("labels", Schema::map(Schema::new(SchemaKind::String))),
            ("ports", ports),
            ("ratio", Schema::new(SchemaKind::Double)),
            ("secret", Schema::new(SchemaKind::Bytes)),
            ("size", size),
            ("tags", tags),
            ("ttl", Schema::new(SchemaKind::Duration)),
        ],
    ))
}

#[test]
fn trees_are_read_by_their_schema() {
    let schema = widget();
    let port =
        |name: &'static str, port: i64| map(vec![("name", Json::Text(name)), ("port", Json::Int(port))]);
    let tree = map(vec![
        ("created-at", Json::Text("2026-01-31T09:00:00Z")),
        ("namespace", Json::Text("a")),
        ("labels", map(vec![("a.b/c", Json::Text("x"))])),
        ("ports", Json::List(vec![port("a", 1), port("b", 2)])),
        ("ratio", Json::Int(2)),
        ("secret", Json::Text("YQ==")),
        ("size", Json::Null),
        ("tags", texts(&["x", "y"])),
        ("ttl", Json::Text("90s")),
        ("unknown", Json::Bool(true)),
    ]);
    let check = |expression: &str, want: &str| {
        let env = Env::new().variable_of("self", &schema);
        let found = match env.compile(expression) {
            Ok(program) => {
                let value = Value::of_tree(&tree, Some(&schema)).expect("it is an object");
                program
                    .evaluate(&[value], &mut Budget::per_object())
                    .map_or_else(|error| error.to_string(), |value| format!("{value:?}"))
            }
            Err(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        assert_eq!(found, want, "{expression}");
    };
    check("self.created__dash__at.getFullYear()", "2026");
    check("self.__namespace__ == 'a' && self.labels['a.b/c'] == 'x'", "true");
    check("self.ratio * 1.5", "3.0");
    check("self.secret == b'a' && self.ttl > duration('1m')", "true");
    check("has(self.size)", "false");
    check("self.size", "no such key: size");
    check("self.tags == ['y', 'x'] && self.tags + ['x', 'z'] == ['z', 'x', 'y']", "true");
    check("self.ports.exists(p, p.port == 2) && type(self.ports[0].port) == int", "true");
    check("(self.ports + self.ports).size()", "2");
    check("self.unknown", "ERROR: <input>:1:5: undefined field 'unknown'");
    check("dyn(self).unknown", "no such key: unknown");
    check(
        "self.size + 'a'",
        "ERROR: <input>:1:11: found no matching overload for '_+_' applied to '(int, string)'",
    );
}

#[test]
fn sizes_of_schemas_bound_the_estimate() {
    let mut name = Schema::new(SchemaKind::String);
    name.max_elements = 40;
    let mut list = Schema::list(name);
    list.max_elements = 100;
    let schema = Arc::new(object("selfType", vec![("names", list)]));
    let env = Env::new().variable_of("self", &schema);
    let cost = |expression: &str| env.compile(expression).expect(expression).estimated_cost().max;
    assert_eq!(cost("self.names.all(n, n.startsWith('a'))"), 503);
    assert_eq!(cost("self.names.all(n, n == 'a')"), 503);
    assert_eq!(cost("self.names.exists(n, n.matches('^a+$'))"), 1_003);
}

struct OnlyPods;

impl Authorizer for OnlyPods {
    fn authorize(&self, request: &AccessRequest<'_>) -> Decision {
        let allowed = match &request.target {
            AccessTarget::Path(path) => *path == "/healthz",
            AccessTarget::Resource(resource) => resource.resource == "pods" && resource.name == "a",
        };
        Decision {
            allowed,
            reason: request.service_account.map_or("", |(_, name)| name).to_owned(),
            error: None,
        }
    }
}

#[test]
fn the_host_answers_for_authorization() {
    let env = Env::new().variable("authorizer", Type::object("kubernetes.authorization.Authorizer"));
    let authority = Authority { authorizer: &OnlyPods, service_account: None };
    let check = |expression: &str, want: &str| {
        let program = env.compile(expression).expect(expression);
        let values = [Value::Opaque(Opaque::Authorizer(authority.clone()))];
        let value = program.evaluate(&values, &mut Budget::per_object());
        let shown = value.map_or_else(|error| error.to_string(), |value| format!("{value:?}"));
        assert_eq!(shown, want, "{expression}");
    };
    check("authorizer.group('').resource('pods').namespace('x').name('a').check('get').allowed()", "true");
    check("authorizer.path('/healthz').check('get').allowed()", "true");
    check("authorizer.serviceAccount('ns', 'bot').path('/x').check('get').reason()", "\"bot\"");
    check("authorizer.path('')", "path must not be empty");
    let thrice = "authorizer.path('/a').check('get').allowed() || authorizer.path('/b').check('get').allowed() \
                  || authorizer.path('/c').check('get').allowed()";
    check(thrice, "operation cancelled: actual cost limit exceeded");
}

#[test]
fn mutations_make_objects() {
    let env = Env::new().with_mutations();
    let check = |expression: &str, want: &str| {
        let shown = match env.compile(expression) {
            Ok(program) => match program.evaluate(&[] as &[Value<'_>], &mut Budget::per_object()) {
                Ok(value) => format!("{value:?}"),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        assert_eq!(shown, want, "{expression}");
    };
    check("Object{spec: Object.spec{replicas: 3}}", "Object { spec: Object.spec { replicas: 3 } }");
    check(
        "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('x/y~z'), value: 1}]",
        "[JSONPatch { op: \"add\", path: \"/a/x~1y~0z\", value: 1 }]",
    );
    check(
        "JSONPatch{op: 1}",
        "ERROR: <input>:1:13: expected type of field 'op' is 'string' but provided type is 'int'",
    );
    check("JSONPatch{x: 1}", "ERROR: <input>:1:12: undefined field 'x'");
    check("Object{a: 1}.a == 1 && has(Object{a: 1}.a) && !has(Object{}.a)", "true");
    assert!(Env::new().compile("Object{}").is_err());
}
