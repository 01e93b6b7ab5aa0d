//! Schemas written as text, for tests and benches.
//!
//! ```text
//! type   := string | int | bool | time | quantity | any | atomic-any
//!         | { field, … } [+]          object; `+` keeps undeclared fields
//!         | atomic { field, … }       object that is owned as one
//!         | map(type) | atomic-map(type)
//!         | list(type) | set(type) | keyed(name …; type)
//!         | @name                     the type of an enclosing `name = type`
//!         | name = type
//! field  := name [? default] : type [/ strategy [merge key]]
//! ```
//! The strategies are those of a strategic merge patch: `merge`, `replace`, `retain`, `merge-retain`. A field without one
//! merges if it is an object or a map, and is replaced if it is a list.
//!
//! Benches include this file too: it names the crate only through `super`.

use std::borrow::Cow;

use super::Value;
use super::schema::{
    Constraints, DefaultValue, Merge, NO_CONSTRAINTS, NO_DOC, Node, NodeId, PatchStrategy, Property, Schema,
    SchemaRef, Type,
};

/// A schema and its root type.
pub(crate) struct TestSchema {
    schema: Schema,
    root: NodeId,
}

impl TestSchema {
    /// Reads a type.
    pub(crate) fn new(text: &str) -> Self {
        let mut parser = Parser {
            tokens: tokens(text),
            at: 0,
            nodes: vec![node(Type::Any)],
            props: Vec::new(),
            names: Vec::new(),
        };
        let root = parser.ty();
        assert_eq!(parser.at, parser.tokens.len(), "text behind the type");
        let schema = Schema {
            nodes: parser.nodes.into(),
            props: parser.props.into(),
            constraints: Vec::<Constraints>::new(),
        };
        Self { schema, root }
    }

    /// The root type.
    pub(crate) fn root(&self) -> SchemaRef<'_> {
        self.schema.at(self.root)
    }
}

fn node(ty: Type) -> Node {
    Node {
        name: Cow::Borrowed(""),
        ty,
        props_start: 0,
        props_len: 0,
        items: NodeId::ANY,
        merge: if ty == Type::List { Merge::Atomic } else { Merge::Granular },
        keys: Cow::Borrowed(&[]),
        preserve_unknown: false,
        embedded_resource: false,
        nullable: false,
        constraints: NO_CONSTRAINTS,
        doc: NO_DOC,
    }
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut joins = false;
    for c in text.chars() {
        let is_word = c.is_alphanumeric() || "-@\"./_".contains(c);
        match tokens.last_mut() {
            Some(word) if is_word && joins => word.push(c),
            _ if c.is_whitespace() => {}
            _ => tokens.push(c.to_string()),
        }
        joins = is_word;
    }
    tokens
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
    nodes: Vec<Node>,
    props: Vec<Property>,
    names: Vec<(String, NodeId)>,
}

impl Parser {
    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        self.at += 1;
        self.tokens[self.at - 1].clone()
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.peek() == token;
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, token: &str) {
        assert!(self.take(token), "expected {token} before {:?}", &self.tokens[self.at..]);
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(u32::try_from(self.nodes.len() - 1).expect("a small schema"))
    }

    fn ty(&mut self) -> NodeId {
        let word = self.next();
        match word.as_str() {
            "string" => self.add(node(Type::String)),
            "int" => self.add(node(Type::Int64)),
            "bool" => self.add(node(Type::Boolean)),
            "time" => self.add(node(Type::Time)),
            "quantity" => self.add(node(Type::Quantity)),
            "any" => NodeId::ANY,
            "atomic-any" => self.add(Node { merge: Merge::Atomic, ..node(Type::Any) }),
            "{" => self.object(node(Type::Object)),
            "atomic" => {
                self.expect("{");
                self.object(Node { merge: Merge::Atomic, ..node(Type::Object) })
            }
            "map" => self.of(node(Type::Map)),
            "atomic-map" => self.of(Node { merge: Merge::Atomic, ..node(Type::Map) }),
            "list" => self.of(node(Type::List)),
            "set" => self.of(Node { merge: Merge::Set, ..node(Type::List) }),
            "keyed" => self.of(Node { merge: Merge::Keyed, ..node(Type::List) }),
            "null" => {
                let id = self.ty();
                self.nodes[id.0 as usize].nullable = true;
                id
            }
            reference if reference.starts_with('@') => {
                let found = self.names.iter().rev().find(|(name, _)| *name == reference[1..]);
                found.unwrap_or_else(|| panic!("no type {reference}")).1
            }
            name => {
                self.expect("=");
                // The named type's place is known before its fields, which may name it.
                let id = self.add(node(Type::Any));
                self.names.push((name.to_owned(), id));
                let real = self.ty();
                self.nodes[id.0 as usize] = self.nodes[real.0 as usize].clone();
                id
            }
        }
    }

    fn of(&mut self, mut container: Node) -> NodeId {
        self.expect("(");
        if container.merge == Merge::Keyed {
            let mut keys = Vec::new();
            while !self.take(";") {
                keys.push(Cow::Owned(self.next()));
            }
            container.keys = keys.into();
        }
        container.items = self.ty();
        self.expect(")");
        self.add(container)
    }

    fn object(&mut self, mut object: Node) -> NodeId {
        let mut fields = Vec::new();
        while !self.take("}") {
            fields.push(self.field());
            self.take(",");
        }
        object.preserve_unknown = self.take("+");
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        object.props_start = u32::try_from(self.props.len()).expect("a small schema");
        object.props_len = u32::try_from(fields.len()).expect("a small schema");
        self.props.extend(fields);
        self.add(object)
    }

    fn field(&mut self) -> Property {
        let name = self.next();
        let default = self.take("?").then(|| {
            let text = self.next();
            DefaultValue::Value(super::json::from_slice(text.as_bytes()).expect("a default is JSON"))
        });
        self.expect(":");
        let node = self.ty();
        let is_list = self.nodes[node.0 as usize].ty == Type::List;
        let mut patch = if is_list { PatchStrategy::Replace } else { PatchStrategy::Merge };
        let mut merge_key = String::new();
        if self.take("/") {
            patch = match self.next().as_str() {
                "merge" => PatchStrategy::Merge,
                "replace" => PatchStrategy::Replace,
                "retain" => PatchStrategy::RetainKeys,
                "merge-retain" => PatchStrategy::MergeRetainKeys,
                other => panic!("no strategy {other}"),
            };
            if ![",", "}"].contains(&self.peek()) {
                merge_key = self.next();
            }
        }
        Property {
            name: name.into(),
            node,
            required: false,
            patch,
            merge_key: merge_key.into(),
            default,
            doc: NO_DOC,
        }
    }
}

/// A tree from JSON text.
pub(crate) fn tree(text: &str) -> Value {
    super::json::from_slice(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"))
}
