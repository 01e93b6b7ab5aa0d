//! Expressions of strangers: parsed, checked, costed, and evaluated on an object of strangers.
//!
//! What compiles is evaluated within its limit; a value of a boolean expression is a boolean; compiling and evaluating twice
//! give the same.
#![no_main]

use std::sync::{Arc, LazyLock};

use xebec_api::{Value, json};
use xebec_cel::schema::{Field, ListKind, ObjectSchema, SchemaKind};
use xebec_cel::{Env, Schema, Type, Value as CelValue};
use xebec_fuzz::{choices, target};

/// An expression, a line's end, an object.
const SEEDS: [&str; 12] = [
    "self.n + 1 > 2 && self.s.startsWith('a') || has(self.m.x)\n{\"n\":1,\"s\":\"ab\",\"m\":{}}",
    "self.l.all(x, x > 0) && self.l.exists_one(x, x == 2) && self.l.map(x, x * 2).filter(x, x > 2) == [4]\n{\"l\":[1,2]}",
    "x.?a[?0].orValue('b') + dyn(x)['c']\n{\"a\":[],\"c\":\"d\"}",
    "x.transformMap(k, v, v != null, string(v)).all(k, v, k == v)\n{\"a\":\"a\",\"b\":null}",
    "duration('1h') + timestamp('2026-01-31T09:00:00+01:00') > self.t && self.t.getHours('Europe/Oslo') == 3\n{\"t\":\"2026-01-31T09:00:00Z\"}",
    "'%s %d %.3f %e %x'.format([x, 1, 2.0, 3.0, b'\\xff'])\n[1,{\"a\":null}]",
    "[3, 1].sortBy(a, -a).sum() + lists.range(3).max() + [[1]].flatten().distinct().reverse()[0]\n{}",
    "quantity('1.5Gi').add(1).isGreaterThan(quantity('1e9')) && semver('1.2.3-rc.1').compareTo(semver('1.2.3')) < 0\n{}",
    "cidr('10.0.0.0/8').containsIP(ip('10.1.2.3')) && url('https://[::1]:80/a%20b?c=d&c=e').getQuery()['c'].size() == 2\n{}",
    "self.s.matches('^[a-z[:digit:]]+$') ? self.s.find('\\\\d{2}') : self.s.findAll('(?i)A|b', 2).join(',')\n{\"s\":\"aB1\"}",
    "optional.of(x).optMap(v, v.?a).optFlatMap(v, v).hasValue() && format.dns1123Label().validate('a').hasValue()\n{\"a\":1}",
    "self.k + self.k == self.k && sets.contains(self.l, [1, 1.0, 1u]) && type(self) == map\n{\"k\":[{\"id\":\"a\"}],\"l\":[1]}",
];

static SELF: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    let field = |name: &str, schema: Schema| Field {
        name: name.into(),
        property: name.into(),
        schema,
        declared: true,
    };
    let item = Schema::object(ObjectSchema::new("item", vec![field("id", Schema::new(SchemaKind::String))]));
    let keyed = SchemaKind::List(Arc::new(item), ListKind::Map(["id".into()].into()));
    Arc::new(Schema::object(ObjectSchema::new("selfType", vec![
        field("k", Schema::new(keyed)),
        field("l", Schema::list(Schema::new(SchemaKind::Int))),
        field("m", Schema::map(Schema::new(SchemaKind::String))),
        field("n", Schema::new(SchemaKind::Int)),
        field("s", Schema::new(SchemaKind::String)),
        field("t", Schema::new(SchemaKind::DateTime)),
    ])))
});

static ENV: LazyLock<Env> =
    LazyLock::new(|| Env::new().variable_of("self", &SELF).variable("x", Type::Dyn).with_mutations());

/// Less than the server allows, so that many are tried.
const LIMIT: u64 = 20_000;

fn check(expression: &str, object: &Value) {
    let program = match ENV.compile(expression) {
        Ok(program) => program,
        Err(error) => {
            assert_eq!(ENV.compile(expression).map(|_| ()).unwrap_err(), error, "{expression}");
            drop(error.to_string());
            return;
        }
    };
    let estimate = program.estimated_cost();
    assert!(estimate.min <= estimate.max, "{expression}: {estimate:?}");
    let Ok(declared) = CelValue::of_tree(object, Some(&SELF)) else { return };
    let values = [declared, CelValue::of_tree(object, None).expect("without a schema all can be read")];
    let (first, cost) = program.evaluate_within(&values, LIMIT);
    let shown = format!("{first:?}");
    if let (Ok(value), Type::Bool) = (&first, program.result_type()) {
        assert!(value.as_bool().is_some(), "{expression} is {shown}");
    }
    let (again, cost_again) = program.evaluate_within(&values, LIMIT);
    assert_eq!((format!("{again:?}"), cost_again), (shown, cost), "{expression}");
}

target!("cel", SEEDS, |data| {
    let (expression, object) = choices::halves(data, b'\n');
    let Ok(expression) = std::str::from_utf8(expression) else { return };
    let object = json::from_slice(object).unwrap_or_default();
    check(expression, &object);
});
