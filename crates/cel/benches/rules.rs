//! What expressions cost: nanoseconds to compile a rule, and to evaluate it on an object.
//!
//! `cargo bench -p xebec-cel`. Each line is the median of 101 rounds.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xebec_cel::schema::{Field, ObjectSchema, SchemaKind};
use xebec_cel::{Budget, Env, Members, Schema, Tree, Value, View};

/// A tree as a host has it.
enum Json {
    Int(i64),
    Text(String),
    List(Vec<Json>),
    Map(Fields),
}

struct Fields(Vec<(String, Json)>);

impl Tree for Json {
    fn view(&self) -> View<'_> {
        match self {
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
        let at = self.0.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value as &dyn Tree)
    }

    fn at(&self, index: usize) -> Option<(&str, &dyn Tree)> {
        self.0.get(index).map(|(key, value)| (key.as_str(), value as &dyn Tree))
    }
}

fn object(name: &str, fields: Vec<(&str, Schema)>) -> Schema {
    let fields = fields
        .into_iter()
        .map(|(name, schema)| Field { name: name.into(), property: name.into(), schema, declared: true })
        .collect();
    Schema::object(ObjectSchema::new(name, fields))
}

fn schema() -> Arc<Schema> {
    let port = object(
        "selfType.ports",
        vec![("name", Schema::new(SchemaKind::String)), ("port", Schema::new(SchemaKind::Int))],
    );
    Arc::new(object(
        "selfType",
        vec![
            ("image", Schema::new(SchemaKind::String)),
            ("maxReplicas", Schema::new(SchemaKind::Int)),
            ("minReplicas", Schema::new(SchemaKind::Int)),
            ("ports", Schema::list(port)),
            ("replicas", Schema::new(SchemaKind::Int)),
        ],
    ))
}

fn instance() -> Json {
    let map = |members: Vec<(&str, Json)>| {
        Json::Map(Fields(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()))
    };
    let ports = (0..10)
        .map(|n| map(vec![("name", Json::Text(format!("port-{n}"))), ("port", Json::Int(8000 + n))]))
        .collect();
    map(vec![
        ("image", Json::Text("registry.example.com/shop/front:1.27.3".to_owned())),
        ("maxReplicas", Json::Int(10)),
        ("minReplicas", Json::Int(1)),
        ("ports", Json::List(ports)),
        ("replicas", Json::Int(3)),
    ])
}

const RULES: [(&str, &str); 5] = [
    ("fields", "self.minReplicas <= self.replicas && self.replicas <= self.maxReplicas"),
    ("all of 10", "self.ports.all(p, p.port > 0 && p.port < 65536)"),
    ("unique of 10", "self.ports.all(p, self.ports.exists_one(q, q.port == p.port))"),
    ("pattern", "self.image.matches('^[a-z0-9./-]+:[0-9.]+$')"),
    ("map of 10", "self.ports.map(p, p.name + ':' + string(p.port)).join(',').size() > 10"),
];

fn median(mut round: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..101).map(|_| round()).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let env = Env::new().variable_of("self", &schema());
    let schema = schema();
    let tree = instance();
    for (name, rule) in RULES {
        let compile = median(|| {
            let start = Instant::now();
            black_box(env.compile(black_box(rule)).expect(rule));
            start.elapsed()
        });
        let program = env.compile(rule).expect(rule);
        let evaluate = median(|| {
            let start = Instant::now();
            for _ in 0..100 {
                let value = Value::of_tree(&tree, Some(&schema)).expect("it has the schema");
                let mut budget = Budget::per_object();
                black_box(program.evaluate(&[value], &mut budget).expect(rule));
            }
            start.elapsed() / 100
        });
        println!("{name:14} compile {:>7} ns   evaluate {:>7} ns", compile.as_nanos(), evaluate.as_nanos());
    }
}
