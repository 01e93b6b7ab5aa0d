//! Tokens to a tree, by the grammar of cel-spec; macros are expanded where they are read.
//!
//! Messages and places of errors are those of cel-go's parser for one mistake in an expression; after a mistake that it would
//! not recover from within a few tokens, reading ends.

use std::sync::Arc;

use crate::ast::{Expr, FieldEntry, Id, Kind, Literal, MapEntry, Name, op};
use crate::issues::{Issues, Location, Source};
use crate::lexer::{Lexeme, Token, tokens};
use crate::limits::{MAX_DEPTH, MAX_EXPRESSION, MAX_NODES, MAX_TREE_DEPTH};
use crate::{macros, unescape};

/// A parsed expression: its tree, and where each of its nodes stands.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) root: Expr,
    pub(crate) source: Source,
    /// By id: the offset in the source.
    pub(crate) offsets: Vec<u32>,
    /// How deep the tree is.
    pub(crate) depth: usize,
}

impl Parsed {
    pub(crate) fn location(&self, id: Id) -> Location {
        self.source.location(self.offsets.get(id.0 as usize).map_or(0, |offset| *offset as usize))
    }
}

/// Parses an expression.
pub(crate) fn parse(text: &str) -> Result<Parsed, Issues> {
    let source = Source::new(text);
    let mut issues = Issues::new();
    if source.chars.len() > MAX_EXPRESSION {
        let size = source.chars.len();
        let message =
            format!("expression code point size exceeds limit: size: {size}, limit {MAX_EXPRESSION}");
        issues.report(&source, Location::NONE, message);
        return Err(issues);
    }
    let tokens = tokens(&source, &mut issues);
    let mut parser = Parser { source: &source, tokens, at: 0, offsets: Vec::new(), issues, depth: 0 };
    let root = parser.whole();
    let Parser { mut issues, offsets, .. } = parser;
    let mut depth = 0;
    if let Ok(root) = &root
        && issues.is_empty()
    {
        match bounded(root, offsets.len()) {
            Ok(found) => depth = found,
            Err(message) => issues.report(&source, Location::NONE, message),
        }
    }
    issues.into_result()?;
    match root {
        Ok(root) => Ok(Parsed { root, source, offsets, depth }),
        Err(Stop) => unreachable!("what stops the parser is reported"),
    }
}

/// How deep the tree is, if it is not too large.
fn bounded(root: &Expr, nodes: usize) -> Result<usize, String> {
    if nodes > MAX_NODES {
        return Err(format!("expression has more than {MAX_NODES} parts once its macros are expanded"));
    }
    let mut level = vec![root];
    let mut depth = 0;
    while !level.is_empty() {
        depth += 1;
        if depth > MAX_TREE_DEPTH {
            return Err(format!(
                "expression nests deeper than {MAX_TREE_DEPTH} once its macros are expanded"
            ));
        }
        let mut below = Vec::new();
        for expr in level {
            expr.children(&mut |child| below.push(child));
        }
        level = below;
    }
    Ok(depth)
}

/// Reading cannot go on; why is reported.
struct Stop;

/// A tree, and how deep operators, selections, calls and indexes nest in it.
struct Tree {
    expr: Expr,
    depth: usize,
}

pub(crate) struct Parser<'s> {
    source: &'s Source,
    tokens: Vec<Lexeme>,
    at: usize,
    offsets: Vec<u32>,
    issues: Issues,
    depth: usize,
}

const START: &str = "true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
/// How strongly `&&` binds, and what binds less.
const LOGIC: u8 = 1;
const BINARY: [(&str, &str, u8); 14] = [
    ("||", op::OR, 0),
    ("&&", op::AND, LOGIC),
    ("<", op::LESS, 2),
    ("<=", op::LESS_EQUALS, 2),
    (">=", op::GREATER_EQUALS, 2),
    (">", op::GREATER, 2),
    ("==", op::EQUALS, 2),
    ("!=", op::NOT_EQUALS, 2),
    ("in", op::IN, 2),
    ("+", op::ADD, 3),
    ("-", op::SUBTRACT, 3),
    ("*", op::MULTIPLY, 4),
    ("/", op::DIVIDE, 4),
    ("%", op::MODULO, 4),
];
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// What may stand where an operand begins, besides what begins every operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Besides {
    Nothing,
    Close,
    Question,
}

impl Parser<'_> {
    // ---- making nodes ----

    /// A new node that stands at `offset`.
    pub(crate) fn node(&mut self, offset: usize, kind: Kind) -> Expr {
        Expr { id: self.id(offset), kind }
    }

    pub(crate) fn id(&mut self, offset: usize) -> Id {
        let id = Id(u32::try_from(self.offsets.len()).unwrap_or(u32::MAX));
        self.offsets.push(u32::try_from(offset).unwrap_or(u32::MAX));
        id
    }

    pub(crate) fn offset(&self, id: Id) -> usize {
        self.offsets.get(id.0 as usize).map_or(0, |offset| *offset as usize)
    }

    /// Whether the tree is larger than any may be.
    pub(crate) fn overflows(&self) -> bool {
        self.offsets.len() > MAX_NODES
    }

    fn report(&mut self, offset: usize, message: impl Into<String>) {
        self.issues.report(self.source, self.source.location(offset), message);
    }

    fn broken(&mut self, offset: usize, message: impl Into<String>) -> Expr {
        self.report(offset, message);
        self.node(offset, Kind::Broken)
    }

    /// A call, or what the macro of this name and number of arguments makes of it.
    fn call(&mut self, offset: usize, function: &str, target: Option<Expr>, args: Vec<Expr>) -> Expr {
        match macros::expand(self, offset, function, target, args) {
            Ok(expr) => expr,
            Err(macros::Refusal::Error(at, message)) => self.broken(at, message),
            Err(macros::Refusal::None(target, args)) => {
                let target = target.map(Box::new);
                self.node(offset, Kind::Call { function: function.into(), target, args })
            }
        }
    }

    // ---- tokens ----

    fn peek(&self) -> Token {
        self.tokens[self.at].token
    }

    fn ahead(&self, count: usize) -> Token {
        self.tokens.get(self.at + count).map_or(Token::End, |lexeme| lexeme.token)
    }

    fn start(&self) -> usize {
        self.tokens[self.at].start
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if found == symbol)
    }

    fn accept(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        if found {
            self.advance();
        }
        found
    }

    fn advance(&mut self) -> Lexeme {
        let lexeme = self.tokens[self.at];
        if lexeme.token != Token::End {
            self.at += 1;
        }
        lexeme
    }

    fn text(&self, lexeme: Lexeme) -> String {
        if lexeme.token == Token::End {
            return "<EOF>".to_owned();
        }
        self.source.chars[lexeme.start..lexeme.end].iter().collect()
    }

    fn syntax(&mut self, message: &str) {
        let offset = self.start();
        self.report(offset, format!("Syntax error: {message}"));
    }

    fn mismatched(&mut self, expected: &str) -> Stop {
        let found = self.text(self.tokens[self.at]);
        self.syntax(&format!("mismatched input '{found}' expecting {expected}"));
        Stop
    }

    fn extraneous(&mut self, expected: &str) {
        let found = self.text(self.tokens[self.at]);
        self.syntax(&format!("extraneous input '{found}' expecting {expected}"));
        self.advance();
    }

    /// Takes `symbol`. One token too many, or a missing one that what follows does not need, is reported and passed over.
    fn expect(&mut self, symbol: &str) -> Result<usize, Stop> {
        let shown = format!("'{symbol}'");
        if !self.is(symbol) {
            if self.peek() != Token::End && self.ahead(1) == Token::Symbol(find(symbol)) {
                self.extraneous(&shown);
            } else if self.goes_on_after(symbol) {
                let found = self.text(self.tokens[self.at]);
                self.syntax(&format!("missing {shown} at '{found}'"));
                return Ok(self.start());
            } else {
                return Err(self.mismatched(&shown));
            }
        }
        Ok(self.advance().start)
    }

    fn goes_on_after(&self, symbol: &str) -> bool {
        match symbol {
            ")" | "]" => match self.peek() {
                Token::End => true,
                Token::Symbol(found) => BINARY.iter().any(|(text, ..)| *text == found),
                _ => false,
            },
            _ => false,
        }
    }

    // ---- the grammar, from the top ----

    fn whole(&mut self) -> Result<Expr, Stop> {
        let tree = self.expr(Besides::Nothing)?;
        if self.peek() != Token::End {
            if self.ahead(1) == Token::End && !self.is(")") {
                self.extraneous("<EOF>");
            } else {
                return Err(self.mismatched("<EOF>"));
            }
        }
        if tree.depth > MAX_DEPTH {
            self.issues = Issues::new();
            self.issues.report(self.source, Location::NONE, "max recursion depth exceeded");
        }
        Ok(tree.expr)
    }

    fn expr(&mut self, besides: Besides) -> Result<Tree, Stop> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("expression recursion limit exceeded: {MAX_DEPTH}");
            self.issues.report(self.source, Location::NONE, message);
            return Err(Stop);
        }
        let condition = self.binary(0, besides)?;
        let tree = if self.is("?") { self.conditional(condition)? } else { condition };
        self.depth -= 1;
        Ok(tree)
    }

    fn conditional(&mut self, condition: Tree) -> Result<Tree, Stop> {
        let offset = self.advance().start;
        let yes = self.binary(0, Besides::Nothing)?;
        self.expect(":")?;
        let no = self.expr(Besides::Nothing)?;
        let depth = 1 + condition.depth.max(yes.depth).max(no.depth);
        let expr = self.call(offset, op::CONDITIONAL, None, vec![condition.expr, yes.expr, no.expr]);
        Ok(Tree { expr, depth })
    }

    /// Operators that bind at least as strongly as `strength`.
    fn binary(&mut self, strength: u8, besides: Besides) -> Result<Tree, Stop> {
        let mut left = self.unary(besides)?;
        while let Token::Symbol(symbol) = self.peek()
            && let Some((_, function, strong)) =
                BINARY.iter().find(|(text, _, strong)| *text == symbol && *strong >= strength)
        {
            left = if *strong <= LOGIC {
                self.chain(left, symbol, function, *strong)?
            } else {
                let offset = self.advance().start;
                let right = self.binary(strong + 1, Besides::Nothing)?;
                let depth = 1 + left.depth.max(right.depth);
                Tree { expr: self.call(offset, function, None, vec![left.expr, right.expr]), depth }
            };
        }
        Ok(left)
    }

    /// A chain of `||`, or of `&&`, as a balanced tree.
    fn chain(&mut self, first: Tree, symbol: &str, function: &str, strong: u8) -> Result<Tree, Stop> {
        let mut depth = first.depth;
        let mut terms = vec![first.expr];
        let mut offsets = Vec::new();
        while self.is(symbol) {
            offsets.push(self.advance().start);
            let term = self.binary(strong + 1, Besides::Nothing)?;
            depth = depth.max(term.depth);
            terms.push(term.expr);
        }
        Ok(Tree { expr: self.balanced(function, terms, &offsets), depth })
    }

    fn balanced(&mut self, function: &str, mut terms: Vec<Expr>, offsets: &[usize]) -> Expr {
        if terms.len() == 1 {
            return terms.remove(0);
        }
        let middle = offsets.len() / 2;
        let right = terms.split_off(middle + 1);
        let left = self.balanced(function, terms, &offsets[..middle]);
        let right = self.balanced(function, right, &offsets[middle + 1..]);
        self.node(
            offsets[middle],
            Kind::Call { function: function.into(), target: None, args: vec![left, right] },
        )
    }

    fn unary(&mut self, besides: Besides) -> Result<Tree, Stop> {
        let offset = self.start();
        let (symbol, function) = match self.peek() {
            Token::Symbol("!") => ("!", op::NOT),
            Token::Symbol("-") if !matches!(self.ahead(1), Token::Int | Token::Float) => ("-", op::NEGATE),
            _ => return self.member(besides),
        };
        let mut odd = false;
        while self.accept(symbol) {
            odd = !odd;
        }
        if symbol == "-" && self.is("!") {
            self.syntax("no viable alternative at input '-!'");
            return Err(Stop);
        }
        let operand = self.member(Besides::Nothing)?;
        if !odd {
            return Ok(operand);
        }
        Ok(Tree { expr: self.call(offset, function, None, vec![operand.expr]), depth: operand.depth })
    }

    fn member(&mut self, besides: Besides) -> Result<Tree, Stop> {
        let mut tree = self.primary(besides)?;
        loop {
            if self.is(".") {
                tree = self.selection(tree)?;
            } else if self.is("[") {
                let offset = self.advance().start;
                let optional = self.accept("?");
                let besides = if optional { Besides::Nothing } else { Besides::Question };
                let index = self.expr(besides)?;
                self.expect("]")?;
                let function = if optional { op::OPT_INDEX } else { op::INDEX };
                let depth = 1 + tree.depth.max(index.depth);
                tree = Tree { expr: self.call(offset, function, None, vec![tree.expr, index.expr]), depth };
            } else {
                return Ok(tree);
            }
        }
    }

    fn selection(&mut self, operand: Tree) -> Result<Tree, Stop> {
        let dot = self.advance().start;
        let optional = self.accept("?");
        let field = self.tokens[self.at];
        match field.token {
            Token::Ident | Token::Quoted => {
                self.advance();
            }
            Token::Symbol("true" | "false" | "null") => return Err(self.mismatched("IDENTIFIER")),
            _ if optional => return Err(self.mismatched("{IDENTIFIER, ESC_IDENTIFIER}")),
            _ => {
                let next = if field.token == Token::End { String::new() } else { self.text(field) };
                self.syntax(&format!("no viable alternative at input '.{next}'"));
                return Err(Stop);
            }
        }
        let name: Name = self.text(field).into();
        if field.token == Token::Quoted {
            self.report(field.start, "unsupported syntax: '`'");
        }
        let mut depth = 1 + operand.depth;
        if optional {
            let literal = self.node(field.start, Kind::Literal(Literal::String(name)));
            let args = vec![operand.expr, literal];
            let expr = self.node(dot, Kind::Call { function: op::OPT_SELECT.into(), target: None, args });
            return Ok(Tree { expr, depth: operand.depth });
        }
        if field.token == Token::Ident && self.is("(") {
            let offset = self.advance().start;
            let (args, deepest) = self.arguments()?;
            depth = depth.max(1 + deepest);
            let expr = self.call(offset, &name, Some(operand.expr), args);
            return Ok(Tree { expr, depth });
        }
        let kind = Kind::Select { operand: Box::new(operand.expr), field: name, test: false };
        Ok(Tree { expr: self.node(dot, kind), depth })
    }

    fn arguments(&mut self) -> Result<(Vec<Expr>, usize), Stop> {
        let mut args = Vec::new();
        let mut depth = 0;
        if self.accept(")") {
            return Ok((args, depth));
        }
        let mut besides = Besides::Close;
        loop {
            let tree = self.expr(besides)?;
            depth = depth.max(tree.depth);
            args.push(tree.expr);
            if !self.accept(",") {
                self.expect(")")?;
                return Ok((args, depth));
            }
            besides = Besides::Nothing;
        }
    }

    fn primary(&mut self, besides: Besides) -> Result<Tree, Stop> {
        let offset = self.start();
        let leaf = |expr| Ok(Tree { expr, depth: 0 });
        match self.peek() {
            Token::Symbol("(") => {
                self.advance();
                let inner = self.expr(Besides::Nothing)?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Symbol("[") => self.list(),
            Token::Symbol("{") => self.map(),
            Token::Symbol(".") => match self.ahead(1) {
                Token::Ident => {
                    self.advance();
                    self.name(".")
                }
                _ => {
                    self.advance();
                    Err(self.mismatched("IDENTIFIER"))
                }
            },
            Token::Ident => self.name(""),
            Token::Symbol(word @ ("true" | "false")) => {
                self.advance();
                leaf(self.node(offset, Kind::Literal(Literal::Bool(word == "true"))))
            }
            Token::Symbol("null") => {
                self.advance();
                leaf(self.node(offset, Kind::Literal(Literal::Null)))
            }
            Token::Symbol("-") if matches!(self.ahead(1), Token::Int | Token::Float) => {
                self.advance();
                leaf(self.literal(offset, "-"))
            }
            Token::Int | Token::Uint | Token::Float | Token::String | Token::Bytes => {
                leaf(self.literal(offset, ""))
            }
            _ => self.no_operand(besides),
        }
    }

    fn no_operand(&mut self, besides: Besides) -> Result<Tree, Stop> {
        let (close, question) = match besides {
            Besides::Nothing => ("", ""),
            Besides::Close => ("')', ", ""),
            Besides::Question => ("", "'?', "),
        };
        let expected = format!("{{'[', '{{', '(', {close}'.', '-', '!', {question}'{START}");
        let operand_follows = match self.ahead(1) {
            Token::End | Token::Quoted => false,
            Token::Symbol(symbol) => {
                ["(", "[", "{", ".", "-", "!", "true", "false", "null"].contains(&symbol)
            }
            _ => true,
        };
        if self.peek() == Token::End || !operand_follows {
            return Err(self.mismatched(&expected));
        }
        self.extraneous(&expected);
        self.unary(Besides::Nothing)
    }

    fn literal(&mut self, offset: usize, sign: &str) -> Expr {
        let lexeme = self.advance();
        let text = self.text(lexeme);
        let made = match lexeme.token {
            Token::Int => unescape::int(sign, &text).map(Literal::Int).ok_or("invalid int literal"),
            Token::Uint => unescape::uint(&text).map(Literal::Uint).ok_or("invalid uint literal"),
            Token::Float => match format!("{sign}{text}").parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(Literal::Double(value)),
                _ => Err("invalid double literal"),
            },
            Token::Bytes => unescape::bytes(&text).map(|bytes| Literal::Bytes(Arc::from(bytes))),
            _ => unescape::string(&text).map(|text| Literal::String(text.into())),
        };
        match made {
            Ok(literal) => self.node(offset, Kind::Literal(literal)),
            Err(message) => self.broken(offset, message),
        }
    }

    /// An identifier, a call by it, or an object of the type that it begins to name.
    fn name(&mut self, dot: &str) -> Result<Tree, Stop> {
        if self.names_type() {
            return self.object(dot);
        }
        let lexeme = self.advance();
        let text = self.text(lexeme);
        if RESERVED.contains(&text.as_str()) {
            let start = lexeme.start - dot.len();
            let expr = self.broken(start, format!("reserved identifier: {text}"));
            if self.accept("(") {
                self.arguments()?;
            }
            return Ok(Tree { expr, depth: 0 });
        }
        let name = format!("{dot}{text}");
        if !self.is("(") {
            return Ok(Tree { expr: self.node(lexeme.start, Kind::Ident(name.into())), depth: 0 });
        }
        let offset = self.advance().start;
        let (args, depth) = self.arguments()?;
        Ok(Tree { expr: self.call(offset, &name, None, args), depth })
    }

    fn names_type(&self) -> bool {
        let mut ahead = 1;
        while self.ahead(ahead) == Token::Symbol(".") && self.ahead(ahead + 1) == Token::Ident {
            ahead += 2;
        }
        self.ahead(ahead) == Token::Symbol("{")
    }

    fn object(&mut self, dot: &str) -> Result<Tree, Stop> {
        let mut name = dot.to_owned();
        while !self.is("{") {
            let lexeme = self.advance();
            name.push_str(&self.text(lexeme));
        }
        let offset = self.advance().start;
        let mut fields = Vec::new();
        let mut depth = 0;
        while !self.is("}") {
            if self.is(",") && (self.ahead(1) == Token::Symbol("}")) {
                self.advance();
                break;
            }
            let optional = self.accept("?");
            let lexeme = self.tokens[self.at];
            if !matches!(lexeme.token, Token::Ident | Token::Quoted) {
                let expected = if optional {
                    "{IDENTIFIER, ESC_IDENTIFIER}"
                } else {
                    "{'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}"
                };
                return Err(self.mismatched(expected));
            }
            self.advance();
            if lexeme.token == Token::Quoted {
                self.report(offset, "unsupported syntax: '`'");
            }
            let field: Name = self.text(lexeme).into();
            let colon = self.expect(":")?;
            let id = self.id(colon);
            let value = self.expr(Besides::Nothing)?;
            depth = depth.max(value.depth);
            fields.push(FieldEntry { id, name: field, value: value.expr, optional });
            if !self.accept(",") {
                break;
            }
        }
        self.close("}")?;
        Ok(Tree { expr: self.node(offset, Kind::Struct { name: name.into(), fields }), depth })
    }

    fn list(&mut self) -> Result<Tree, Stop> {
        let offset = self.advance().start;
        let mut elements = Vec::new();
        let mut optional = Vec::new();
        let mut depth = 0;
        if self.is(",") {
            self.advance();
            self.expect("]")?;
        } else {
            while !self.is("]") {
                if self.accept("?") {
                    optional.push(elements.len());
                } else if self.is(",") {
                    return Err(self.mismatched("']'"));
                }
                let element = self.expr(Besides::Nothing)?;
                depth = depth.max(element.depth);
                elements.push(element.expr);
                if !self.accept(",") {
                    break;
                }
            }
            self.close("]")?;
        }
        Ok(Tree { expr: self.node(offset, Kind::List { elements, optional }), depth })
    }

    fn map(&mut self) -> Result<Tree, Stop> {
        let offset = self.advance().start;
        let mut entries = Vec::new();
        let mut depth = 0;
        if self.is(",") {
            self.advance();
            self.expect("}")?;
        } else {
            while !self.is("}") {
                let optional = self.accept("?");
                let key = self.expr(Besides::Nothing)?;
                self.expect(":")?;
                let value = self.expr(Besides::Nothing)?;
                depth = depth.max(key.depth).max(value.depth);
                entries.push(MapEntry { key: key.expr, value: value.expr, optional });
                if !self.accept(",") {
                    break;
                }
            }
            self.close("}")?;
        }
        Ok(Tree { expr: self.node(offset, Kind::Map(entries)), depth })
    }

    fn close(&mut self, symbol: &str) -> Result<(), Stop> {
        if self.accept(symbol) {
            return Ok(());
        }
        Err(self.mismatched(&format!("{{'{symbol}', ','}}")))
    }
}

/// The symbol as the lexer knows it.
fn find(symbol: &str) -> &'static str {
    [")", "]", "}", ":"].into_iter().find(|known| *known == symbol).unwrap_or("")
}
