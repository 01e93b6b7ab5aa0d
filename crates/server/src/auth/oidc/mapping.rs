//! What the claims of an issuer's tokens mean: who the user is, and whether the token is taken. Expressions are compiled once.

use std::collections::BTreeMap;
use std::sync::Arc;

use xebec_api::{Value, object};
use xebec_cel::schema::{Field, ObjectSchema, Schema, SchemaKind};
use xebec_cel::value::List;
use xebec_cel::{Budget, Env, Program, Type, Value as Cel};

use super::config::{ClaimMappings, JwtAuthenticator, PlainClaim, PrefixedClaim};
use crate::auth::User;

/// An error in the words of upstream, without its beginning.
pub(super) type Fault = String;

/// How a user is made of claims.
#[derive(Debug)]
pub(super) struct Mapping {
    username: Source,
    groups: Option<Source>,
    uid: Option<Source>,
    extra: Vec<(String, Program)>,
    claim_rules: Vec<ClaimRule>,
    user_rules: Vec<Rule>,
}

/// Where a text comes from.
#[derive(Debug)]
enum Source {
    Claim { name: String, prefix: String },
    Expression(Box<Program>),
}

#[derive(Debug)]
enum ClaimRule {
    /// A claim that must have a value.
    Value(String, String),
    Rule(Box<Rule>),
}

#[derive(Debug)]
struct Rule {
    text: String,
    message: String,
    program: Program,
}

/// The variables of expressions about claims.
fn claims_env() -> Env {
    Env::new().variable("claims", Type::map(Type::String, Type::Dyn))
}

/// The variables of expressions about the user.
fn user_env() -> Env {
    let field = |name: &str, schema: Schema| Field {
        name: name.into(),
        property: name.into(),
        schema,
        declared: true,
    };
    let texts = || Schema::list(Schema::new(SchemaKind::String));
    let user = ObjectSchema::new(
        "kubernetes.UserInfo",
        vec![
            field("username", Schema::new(SchemaKind::String)),
            field("uid", Schema::new(SchemaKind::String)),
            field("groups", texts()),
            field("extra", Schema::map(texts())),
        ],
    );
    Env::new().variable_of("user", &Arc::new(Schema::object(user)))
}

fn compile(env: &Env, text: &str, at: &str, wants: &[Type], faults: &mut Vec<String>) -> Option<Program> {
    match env.compile(text) {
        Ok(program) => {
            let result = program.result_type();
            if *result == Type::Dyn || wants.contains(result) {
                return Some(program);
            }
            faults.push(format!("{at}: Invalid value: {text:?}: must evaluate to {wants:?}"));
        }
        Err(error) => faults.push(format!("{at}: Invalid value: {text:?}: {error}")),
    }
    None
}

impl Mapping {
    /// Compiles what a configuration says; what is wrong with it goes to `faults`.
    pub(super) fn new(jwt: &JwtAuthenticator, at: &str, faults: &mut Vec<String>) -> Option<Self> {
        let before = faults.len();
        let (claims, user) = (claims_env(), user_env());
        let texts = [Type::String, Type::list(Type::String), Type::list(Type::Dyn)];
        let ClaimMappings { username, groups, uid, extra } = &jwt.claim_mappings;
        let at_mappings = format!("{at}.claimMappings");
        let mut source = |claim: &PrefixedClaim, name: &str, wants: &[Type]| {
            let at = format!("{at_mappings}.{name}.expression");
            match (claim.claim.as_str(), claim.expression.as_str()) {
                ("", "") => None,
                ("", text) => compile(&claims, text, &at, wants, faults)
                    .map(|program| Source::Expression(Box::new(program))),
                (name, _) => Some(Source::Claim {
                    name: name.to_owned(),
                    prefix: claim.prefix.clone().unwrap_or_default(),
                }),
            }
        };
        let username = source(username, "username", &texts[..1]);
        let groups = source(groups, "groups", &texts);
        let PlainClaim { claim, expression } = uid.clone();
        let uid = source(&PrefixedClaim { claim, prefix: None, expression }, "uid", &texts[..1]);
        let mut programs = Vec::new();
        for (i, mapping) in extra.iter().enumerate() {
            let at = format!("{at_mappings}.extra[{i}].valueExpression");
            let program = compile(&claims, &mapping.value_expression, &at, &texts, faults);
            programs.extend(program.map(|program| (mapping.key.clone(), program)));
        }
        let mut rule = |env: &Env, text: &str, message: &str, at: String| {
            let program = compile(env, text, &at, &[Type::Bool], faults)?;
            Some(Rule { text: text.to_owned(), message: message.to_owned(), program })
        };
        let mut claim_rules = Vec::new();
        for (i, wanted) in jwt.claim_validation_rules.iter().enumerate() {
            let at = format!("{at}.claimValidationRules[{i}].expression");
            claim_rules.extend(match wanted.claim.as_str() {
                "" => rule(&claims, &wanted.expression, &wanted.message, at)
                    .map(|rule| ClaimRule::Rule(Box::new(rule))),
                claim => Some(ClaimRule::Value(claim.to_owned(), wanted.required_value.clone())),
            });
        }
        let mut user_rules = Vec::new();
        for (i, wanted) in jwt.user_validation_rules.iter().enumerate() {
            let at = format!("{at}.userValidationRules[{i}].expression");
            user_rules.extend(rule(&user, &wanted.expression, &wanted.message, at));
        }
        if faults.len() > before {
            return None;
        }
        Some(Self { username: username?, groups, uid, extra: programs, claim_rules, user_rules })
    }

    /// The user of a token with these claims.
    ///
    /// # Errors
    /// A claim is missing or of another type, or a rule does not take it.
    pub(super) fn user(&self, claims: &Value) -> Result<User, Fault> {
        let mut budget = Budget::per_object();
        let username = self.username(claims, &mut budget)?;
        let groups = self.groups(claims, &mut budget)?;
        let uid = match &self.uid {
            None => String::new(),
            Some(Source::Claim { name, .. }) => {
                let claim = claims.str_at(&[name]);
                claim.ok_or_else(|| format!("oidc: parse uid claim {name:?}: claim not present"))?.to_owned()
            }
            Some(Source::Expression(program)) => one_text(program, claims, &mut budget)
                .map_err(|why| format!("oidc: error evaluating uid claim expression: {why}"))?,
        };
        let mut extra = BTreeMap::new();
        for (key, program) in &self.extra {
            let values = texts(program, claims, &mut budget)
                .map_err(|why| format!("oidc: error evaluating extra claim expression: {why}"))?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        for rule in &self.claim_rules {
            check_claim(rule, claims, &mut budget)?;
        }
        let user = User { uid, extra, ..User::authenticated(username, groups) };
        let info = object!({
            "username": (user.name.as_str()), "uid": (user.uid.as_str()),
            "groups": (user.groups.iter().map(String::as_str).collect::<Vec<_>>()),
            "extra": (user.to_value().get("extra").cloned().unwrap_or_else(Value::object))
        });
        for rule in &self.user_rules {
            holds(rule, &info, &mut budget)
                .map_err(|why| format!("oidc: error evaluating user info validation rule: {why}"))?;
        }
        Ok(user)
    }

    fn username(&self, claims: &Value, budget: &mut Budget) -> Result<String, Fault> {
        match &self.username {
            Source::Expression(program) => match one_text(program, claims, budget) {
                Ok(name) if name.is_empty() => {
                    Err("oidc: empty username via CEL expression is not allowed".to_owned())
                }
                Ok(name) => Ok(name),
                Err(why) => Err(format!("oidc: error evaluating username claim expression: {why}")),
            },
            Source::Claim { name, prefix } => {
                let claim = claims.str_at(&[name]);
                let text = claim
                    .ok_or_else(|| format!("oidc: parse username claims {name:?}: claim not present"))?;
                // An address counts if the issuer does not say that nobody has looked whether it is theirs.
                let verified = claims.get("email_verified");
                if name == "email" && verified.is_some_and(|verified| *verified != Value::Bool(true)) {
                    return Err("oidc: email not verified".to_owned());
                }
                Ok(format!("{prefix}{text}"))
            }
        }
    }

    fn groups(&self, claims: &Value, budget: &mut Budget) -> Result<Vec<String>, Fault> {
        match &self.groups {
            None => Ok(Vec::new()),
            Some(Source::Expression(program)) => texts(program, claims, budget)
                .map_err(|why| format!("oidc: error evaluating group claim expression: {why}")),
            Some(Source::Claim { name, prefix }) => {
                let wrong =
                    || format!("oidc: parse groups claim {name:?}: it is no text and no list of texts");
                let found: Vec<&str> = match claims.get(name) {
                    None | Some(Value::Null) => Vec::new(),
                    Some(Value::String(one)) => vec![one.as_str()],
                    Some(Value::Array(all)) => {
                        all.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(wrong)?
                    }
                    Some(_) => return Err(wrong()),
                };
                Ok(found.into_iter().map(|group| format!("{prefix}{group}")).collect())
            }
        }
    }
}

fn check_claim(rule: &ClaimRule, claims: &Value, budget: &mut Budget) -> Result<(), Fault> {
    match rule {
        ClaimRule::Value(name, wanted) => {
            let missing = || format!("oidc: required claim {name} not present in ID token");
            let found = claims.get(name).ok_or_else(missing)?;
            let found = found.as_str().ok_or_else(|| format!("oidc: parse claim {name}: it is no text"))?;
            if found != wanted {
                return Err(format!(
                    "oidc: required claim {name} value does not match. Got = {found}, want = {wanted}"
                ));
            }
            Ok(())
        }
        ClaimRule::Rule(rule) => holds(rule, claims, budget)
            .map_err(|why| format!("oidc: error evaluating claim validation expression: {why}")),
    }
}

fn evaluate<'a>(program: &'a Program, input: &'a Value, budget: &mut Budget) -> Result<Cel<'a>, Fault> {
    let input = Cel::of_tree(input, None).map_err(|error| error.to_string())?;
    program.evaluate(&[input], budget).map_err(|error| error.to_string())
}

fn holds(rule: &Rule, input: &Value, budget: &mut Budget) -> Result<(), Fault> {
    match evaluate(&rule.program, input, budget)?.as_bool() {
        Some(true) => Ok(()),
        Some(false) => {
            let (text, message) = (&rule.text, &rule.message);
            let message = if message.is_empty() {
                format!("validation expression '{text}' failed")
            } else {
                message.clone()
            };
            Err(format!("validation expression '{text}' failed: {message}"))
        }
        None => Err("validation expression must return a boolean".to_owned()),
    }
}

fn one_text(program: &Program, claims: &Value, budget: &mut Budget) -> Result<String, Fault> {
    let value = evaluate(program, claims, budget)?;
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| "expression must return a string".to_owned())
}

/// One text or several, without those that are empty.
fn texts(program: &Program, claims: &Value, budget: &mut Budget) -> Result<Vec<String>, Fault> {
    let wrong = || "expression must return a string or a list of strings".to_owned();
    let found = match evaluate(program, claims, budget)? {
        Cel::Null => Vec::new(),
        Cel::List(list) => list_texts(&list).ok_or_else(wrong)?,
        one => vec![one.as_str().ok_or_else(wrong)?.to_owned()],
    };
    Ok(found.into_iter().filter(|text| !text.is_empty()).collect())
}

fn list_texts(list: &List<'_>) -> Option<Vec<String>> {
    list.iter().map(|item| item.ok()?.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(text: &str) -> Result<Mapping, Vec<String>> {
        let jwt = format!("{{issuer: {{url: 'https://a.example', audiences: [a]}}, {text}}}");
        let jwt: JwtAuthenticator = serde_saphyr::from_str(&jwt).expect("a configuration");
        let mut faults = Vec::new();
        Mapping::new(&jwt, "jwt[0]", &mut faults).ok_or(faults)
    }

    #[test]
    fn users_are_made_of_claims() {
        let check = |text: &str, claims: &str, want: Result<&str, &str>| {
            let mapping = mapping(text).expect("good");
            let claims: Value = serde_saphyr::from_str(claims).expect("claims");
            let found = mapping.user(&claims);
            let found =
                found.map(|user| String::from_utf8(xebec_api::json::to_vec(&user.to_value())).expect("JSON"));
            assert_eq!(found.as_deref().map_err(String::as_str), want, "{text} {claims:?}");
        };
        let plain =
            "claimMappings: {username: {claim: sub, prefix: 'a:'}, groups: {claim: groups, prefix: 'g:'}}";
        check(
            plain,
            "{sub: jane, groups: [p, q]}",
            Ok(r#"{"groups":["g:p","g:q","system:authenticated"],"username":"a:jane"}"#),
        );
        check(
            plain,
            "{sub: jane, groups: x}",
            Ok(r#"{"groups":["g:x","system:authenticated"],"username":"a:jane"}"#),
        );
        check(plain, "{groups: x}", Err(r#"oidc: parse username claims "sub": claim not present"#));
        check(
            plain,
            "{sub: jane, groups: [1]}",
            Err(r#"oidc: parse groups claim "groups": it is no text and no list of texts"#),
        );
        let email = "claimMappings: {username: {claim: email, prefix: ''}}";
        check(
            email,
            "{email: j@a.example}",
            Ok(r#"{"groups":["system:authenticated"],"username":"j@a.example"}"#),
        );
        check(email, "{email: j@a.example, email_verified: false}", Err("oidc: email not verified"));
        let all = "claimMappings: {username: {expression: 'claims.name + \"!\"'}, groups: {expression: claims.roles}, \
             uid: {expression: claims.id}, extra: [{key: a.example/b, valueExpression: 'claims.?b.orValue(\"\")'}]}";
        check(
            all,
            "{name: jane, roles: [x], id: '7', b: c}",
            Ok(
                r#"{"extra":{"a.example/b":["c"]},"groups":["x","system:authenticated"],"uid":"7","username":"jane!"}"#,
            ),
        );
        check(
            all,
            "{name: '', roles: [], id: '7'}",
            Ok(r#"{"groups":["system:authenticated"],"uid":"7","username":"!"}"#),
        );
        check(
            all,
            "{name: jane, roles: 7, id: '7'}",
            Err(
                "oidc: error evaluating group claim expression: expression must return a string or a list of strings",
            ),
        );
    }

    #[test]
    fn rules_are_kept() {
        let check = |rules: &str, claims: &str, want: Result<(), &str>| {
            let mapping =
                mapping(&format!("claimMappings: {{username: {{claim: sub, prefix: ''}}}}, {rules}"));
            let claims: Value = serde_saphyr::from_str(claims).expect("claims");
            let found = mapping.expect("good").user(&claims).map(drop);
            assert_eq!(
                found.as_ref().map_err(String::as_str),
                want.as_ref().map_err(|text| *text),
                "{rules}"
            );
        };
        let value = "claimValidationRules: [{claim: hd, requiredValue: a}]";
        check(value, "{sub: jane, hd: a}", Ok(()));
        check(
            value,
            "{sub: jane, hd: b}",
            Err("oidc: required claim hd value does not match. Got = b, want = a"),
        );
        check(value, "{sub: jane}", Err("oidc: required claim hd not present in ID token"));
        let rule =
            "claimValidationRules: [{expression: 'claims.exp - claims.nbf <= 86400', message: too long}]";
        check(rule, "{sub: jane, exp: 10, nbf: 0}", Ok(()));
        check(
            rule,
            "{sub: jane, exp: 100000, nbf: 0}",
            Err(
                "oidc: error evaluating claim validation expression: validation expression 'claims.exp - claims.nbf <= 86400' failed: too long",
            ),
        );
        let user = "userValidationRules: [{expression: \"!user.username.startsWith('system:')\", message: reserved}]";
        check(user, "{sub: jane}", Ok(()));
        check(
            user,
            "{sub: 'system:admin'}",
            Err(
                "oidc: error evaluating user info validation rule: validation expression '!user.username.startsWith('system:')' failed: reserved",
            ),
        );
    }

    #[test]
    fn expressions_are_checked_when_they_are_read() {
        let faults = mapping(
            "claimMappings: {username: {expression: '1'}, groups: {expression: 'claims.'}}, \
             userValidationRules: [{expression: user.nonsense}]",
        )
        .expect_err("bad");
        let fields: Vec<&str> = faults.iter().filter_map(|fault| fault.split(": ").next()).collect();
        assert_eq!(
            fields,
            [
                "jwt[0].claimMappings.username.expression",
                "jwt[0].claimMappings.groups.expression",
                "jwt[0].userValidationRules[0].expression"
            ],
            "{faults:?}"
        );
    }
}
