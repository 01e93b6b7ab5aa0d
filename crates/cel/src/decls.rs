//! The functions that Kubernetes 1.36 enables, as the checker sees them: the overloads of each, with cel-go's names for them.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::ast::op;
use crate::types::Type;

/// A way to call a function.
#[derive(Debug)]
pub(crate) struct Overload {
    pub(crate) id: &'static str,
    /// Whether it is called as `target.function(…)`; the target is the first of the arguments.
    pub(crate) member: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
    /// The names of the type's parameters.
    pub(crate) params: Vec<&'static str>,
}

/// A function and its overloads: `name (arguments) result`, members as `target.(arguments) result`.
type Row = (&'static str, &'static str);

#[rustfmt::skip]
static TABLE: [Row; 132] = [
    ("!_", "logical_not (bool) bool"),
    ("-_", "negate_double (double) double; negate_int64 (int) int"),
    ("@in", "in_list (A, list(A)) bool; in_map (A, map(A, B)) bool"),
    ("@not_strictly_false", "not_strictly_false (bool) bool"),
    ("_!=_", "not_equals (A, A) bool"),
    ("_%_", "modulo_int64 (int, int) int; modulo_uint64 (uint, uint) uint"),
    ("_&&_", "logical_and (bool, bool) bool"),
    (
        "_*_",
        "multiply_double (double, double) double; multiply_int64 (int, int) int; \
         multiply_uint64 (uint, uint) uint",
    ),
    (
        "_+_",
        "add_bytes (bytes, bytes) bytes; add_double (double, double) double; \
         add_duration_duration (duration, duration) duration; \
         add_duration_timestamp (duration, timestamp) timestamp; \
         add_timestamp_duration (timestamp, duration) timestamp; add_int64 (int, int) int; \
         add_list (list(A), list(A)) list(A); add_string (string, string) string; \
         add_uint64 (uint, uint) uint",
    ),
    (
        "_-_",
        "subtract_double (double, double) double; \
         subtract_duration_duration (duration, duration) duration; subtract_int64 (int, int) int; \
         subtract_timestamp_duration (timestamp, duration) timestamp; \
         subtract_timestamp_timestamp (timestamp, timestamp) duration; \
         subtract_uint64 (uint, uint) uint",
    ),
    (
        "_/_",
        "divide_double (double, double) double; divide_int64 (int, int) int; \
         divide_uint64 (uint, uint) uint",
    ),
    ("_==_", "equals (A, A) bool"),
    ("_?._", "select_optional_field (dyn, string) optional(V)"),
    ("_?_:_", "conditional (bool, A, A) A"),
    (
        "_[?_]",
        "list_optindex_optional_int (list(V), int) optional(V); \
         optional_list_optindex_optional_int (optional(list(V)), int) optional(V); \
         map_optindex_optional_value (map(K, V), K) optional(V); \
         optional_map_optindex_optional_value (optional(map(K, V)), K) optional(V)",
    ),
    (
        "_[_]",
        "index_list (list(A), int) A; index_map (map(A, B), A) B; \
         optional_list_index_int (optional(list(V)), int) optional(V); \
         optional_map_index_value (optional(map(K, V)), K) optional(V)",
    ),
    ("_||_", "logical_or (bool, bool) bool"),
    (
        "add",
        "quantity_add kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity; \
         quantity_add_int kubernetes.Quantity.(int) kubernetes.Quantity",
    ),
    ("allowed", "decision_allowed authz.Decision.() bool"),
    ("asApproximateFloat", "quantity_get_float kubernetes.Quantity.() double"),
    ("asInteger", "quantity_get_int kubernetes.Quantity.() int"),
    ("bool", "bool_to_bool (bool) bool; string_to_bool (string) bool"),
    ("bytes", "bytes_to_bytes (bytes) bytes; string_to_bytes (string) bytes"),
    (
        "cel.@mapInsert",
        "@mapInsert_map_key_value (map(K, V), K, V) map(K, V); \
         @mapInsert_map_map (map(K, V), map(K, V)) map(K, V)",
    ),
    ("charAt", "string_char_at_int string.(int) string"),
    (
        "check",
        "pathcheck_check authz.PathCheck.(string) authz.Decision; \
         resourcecheck_check authz.ResourceCheck.(string) authz.Decision",
    ),
    ("cidr", "string_to_cidr (string) net.CIDR"),
    (
        "compareTo",
        "quantity_compare_to kubernetes.Quantity.(kubernetes.Quantity) int; \
         semver_compare_to kubernetes.Semver.(kubernetes.Semver) int",
    ),
    ("contains", "contains_string string.(string) bool"),
    (
        "containsCIDR",
        "cidr_contains_cidr_string net.CIDR.(string) bool; \
         cidr_contains_cidr net.CIDR.(net.CIDR) bool",
    ),
    (
        "containsIP",
        "cidr_contains_ip_string net.CIDR.(string) bool; cidr_contains_ip_ip net.CIDR.(net.IP) bool",
    ),
    ("distinct", "list_distinct list(T).() list(T)"),
    (
        "double",
        "double_to_double (double) double; int64_to_double (int) double; \
         string_to_double (string) double; uint64_to_double (uint) double",
    ),
    (
        "duration",
        "duration_to_duration (duration) duration; int64_to_duration (int) duration; \
         string_to_duration (string) duration",
    ),
    ("dyn", "to_dyn (A) dyn"),
    ("endsWith", "ends_with_string string.(string) bool"),
    ("error", "decision_error authz.Decision.() string"),
    ("errored", "decision_errored authz.Decision.() bool"),
    ("family", "ip_family net.IP.() int"),
    ("fieldSelector", "authorizer_fieldselector authz.ResourceCheck.(string) authz.ResourceCheck"),
    ("find", "string_find_string string.(string) string"),
    (
        "findAll",
        "string_find_all_string string.(string) list(string); \
         string_find_all_string_int string.(string, int) list(string)",
    ),
    ("first", "list_first list(V).() optional(V)"),
    ("flatten", "list_flatten list(list(T)).() list(T); list_flatten_int list(dyn).(int) list(dyn)"),
    ("format", "string_format string.(list(dyn)) string"),
    ("format.named", "format-named (string) optional(kubernetes.NamedFormat)"),
    (
        "getDate",
        "timestamp_to_day_of_month_1_based timestamp.() int; \
         timestamp_to_day_of_month_1_based_with_tz timestamp.(string) int",
    ),
    (
        "getDayOfMonth",
        "timestamp_to_day_of_month timestamp.() int; \
         timestamp_to_day_of_month_with_tz timestamp.(string) int",
    ),
    (
        "getDayOfWeek",
        "timestamp_to_day_of_week timestamp.() int; \
         timestamp_to_day_of_week_with_tz timestamp.(string) int",
    ),
    (
        "getDayOfYear",
        "timestamp_to_day_of_year timestamp.() int; \
         timestamp_to_day_of_year_with_tz timestamp.(string) int",
    ),
    ("getEscapedPath", "url_get_escaped_path kubernetes.URL.() string"),
    ("getFullYear", "timestamp_to_year timestamp.() int; timestamp_to_year_with_tz timestamp.(string) int"),
    ("getHost", "url_get_host kubernetes.URL.() string"),
    ("getHostname", "url_get_hostname kubernetes.URL.() string"),
    (
        "getHours",
        "timestamp_to_hours timestamp.() int; timestamp_to_hours_with_tz timestamp.(string) int; \
         duration_to_hours duration.() int",
    ),
    (
        "getMilliseconds",
        "timestamp_to_milliseconds timestamp.() int; \
         timestamp_to_milliseconds_with_tz timestamp.(string) int; \
         duration_to_milliseconds duration.() int",
    ),
    (
        "getMinutes",
        "timestamp_to_minutes timestamp.() int; timestamp_to_minutes_with_tz timestamp.(string) int; \
         duration_to_minutes duration.() int",
    ),
    ("getMonth", "timestamp_to_month timestamp.() int; timestamp_to_month_with_tz timestamp.(string) int"),
    ("getPort", "url_get_port kubernetes.URL.() string"),
    ("getQuery", "url_get_query kubernetes.URL.() map(string, list(string))"),
    ("getScheme", "url_get_scheme kubernetes.URL.() string"),
    (
        "getSeconds",
        "timestamp_to_seconds timestamp.() int; timestamp_to_seconds_tz timestamp.(string) int; \
         duration_to_seconds duration.() int",
    ),
    ("group", "authorizer_group authz.Authorizer.(string) authz.GroupCheck"),
    ("hasValue", "optional_hasValue optional(V).() bool"),
    (
        "indexOf",
        "list_a_index_of_int list(A).(A) int; string_index_of_string string.(string) int; \
         string_index_of_string_int string.(string, int) int",
    ),
    (
        "int",
        "int64_to_int64 (int) int; double_to_int64 (double) int; duration_to_int64 (duration) int; \
         string_to_int64 (string) int; timestamp_to_int64 (timestamp) int; uint64_to_int64 (uint) int",
    ),
    ("ip", "string_to_ip (string) net.IP; cidr_ip net.CIDR.() net.IP"),
    ("ip.isCanonical", "ip_is_canonical (string) bool"),
    ("isCIDR", "is_cidr (string) bool"),
    ("isGlobalUnicast", "ip_is_global_unicast net.IP.() bool"),
    (
        "isGreaterThan",
        "quantity_is_greater_than kubernetes.Quantity.(kubernetes.Quantity) bool; \
         semver_is_greater_than kubernetes.Semver.(kubernetes.Semver) bool",
    ),
    ("isIP", "is_ip (string) bool"),
    ("isInteger", "quantity_is_integer kubernetes.Quantity.() bool"),
    (
        "isLessThan",
        "quantity_is_less_than kubernetes.Quantity.(kubernetes.Quantity) bool; \
         semver_is_less_than kubernetes.Semver.(kubernetes.Semver) bool",
    ),
    ("isLinkLocalMulticast", "ip_is_link_local_multicast net.IP.() bool"),
    ("isLinkLocalUnicast", "ip_is_link_local_unicast net.IP.() bool"),
    ("isLoopback", "ip_is_loopback net.IP.() bool"),
    ("isQuantity", "is_quantity_string (string) bool"),
    ("isSemver", "is_semver_string (string) bool; is_semver_string_bool (string, bool) bool"),
    ("isURL", "is_url_string (string) bool"),
    ("isUnspecified", "ip_is_unspecified net.IP.() bool"),
    ("join", "list_join list(string).() string; list_join_string list(string).(string) string"),
    ("labelSelector", "authorizer_labelselector authz.ResourceCheck.(string) authz.ResourceCheck"),
    ("last", "list_last list(V).() optional(V)"),
    (
        "lastIndexOf",
        "list_a_last_index_of_int list(A).(A) int; string_last_index_of_string string.(string) int; \
         string_last_index_of_string_int string.(string, int) int",
    ),
    ("lists.range", "lists_range (int) list(int)"),
    ("lowerAscii", "string_lower_ascii string.() string"),
    ("major", "semver_major kubernetes.Semver.() int"),
    ("masked", "cidr_masked net.CIDR.() net.CIDR"),
    ("matches", "matches (string, string) bool; matches_string string.(string) bool"),
    ("minor", "semver_minor kubernetes.Semver.() int"),
    ("name", "resourcecheck_name authz.ResourceCheck.(string) authz.ResourceCheck"),
    ("namespace", "resourcecheck_namespace authz.ResourceCheck.(string) authz.ResourceCheck"),
    ("optional.none", "optional_none () optional(V)"),
    ("optional.of", "optional_of (V) optional(V)"),
    ("optional.ofNonZeroValue", "optional_ofNonZeroValue (V) optional(V)"),
    ("optional.unwrap", "optional_unwrap (list(optional(V))) list(V)"),
    ("or", "optional_or_optional optional(V).(optional(V)) optional(V)"),
    ("orValue", "optional_orValue_value optional(V).(V) V"),
    ("patch", "semver_patch kubernetes.Semver.() int"),
    ("path", "authorizer_path authz.Authorizer.(string) authz.PathCheck"),
    ("prefixLength", "cidr_prefix_length net.CIDR.() int"),
    ("quantity", "string_to_quantity (string) kubernetes.Quantity"),
    ("reason", "decision_reason authz.Decision.() string"),
    (
        "replace",
        "string_replace_string_string string.(string, string) string; \
         string_replace_string_string_int string.(string, string, int) string",
    ),
    ("resource", "groupcheck_resource authz.GroupCheck.(string) authz.ResourceCheck"),
    ("reverse", "list_reverse list(T).() list(T)"),
    (
        "semver",
        "string_to_semver (string) kubernetes.Semver; \
         string_bool_to_semver (string, bool) kubernetes.Semver",
    ),
    ("serviceAccount", "authorizer_serviceaccount authz.Authorizer.(string, string) authz.Authorizer"),
    ("sets.contains", "list_sets_contains_list (list(T), list(T)) bool"),
    ("sets.equivalent", "list_sets_equivalent_list (list(T), list(T)) bool"),
    ("sets.intersects", "list_sets_intersects_list (list(T), list(T)) bool"),
    ("sign", "quantity_sign (kubernetes.Quantity) int"),
    (
        "size",
        "size_bytes (bytes) int; bytes_size bytes.() int; size_list (list(A)) int; \
         list_size list(A).() int; size_map (map(A, B)) int; map_size map(A, B).() int; \
         size_string (string) int; string_size string.() int",
    ),
    ("slice", "list_slice list(T).(int, int) list(T)"),
    (
        "split",
        "string_split_string string.(string) list(string); \
         string_split_string_int string.(string, int) list(string)",
    ),
    ("startsWith", "starts_with_string string.(string) bool"),
    (
        "string",
        "string_to_string (string) string; bool_to_string (bool) string; \
         bytes_to_string (bytes) string; double_to_string (double) string; \
         duration_to_string (duration) string; int64_to_string (int) string; \
         timestamp_to_string (timestamp) string; uint64_to_string (uint) string; \
         ip_to_string (net.IP) string; cidr_to_string (net.CIDR) string",
    ),
    ("strings.quote", "strings_quote (string) string"),
    (
        "sub",
        "quantity_sub kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity; \
         quantity_sub_int kubernetes.Quantity.(int) kubernetes.Quantity",
    ),
    ("subresource", "resourcecheck_subresource authz.ResourceCheck.(string) authz.ResourceCheck"),
    (
        "substring",
        "string_substring_int string.(int) string; string_substring_int_int string.(int, int) string",
    ),
    (
        "sum",
        "list_int_sum_int list(int).() int; list_uint_sum_uint list(uint).() uint; \
         list_double_sum_double list(double).() double; \
         list_duration_sum_duration list(duration).() duration",
    ),
    (
        "timestamp",
        "timestamp_to_timestamp (timestamp) timestamp; int64_to_timestamp (int) timestamp; \
         string_to_timestamp (string) timestamp",
    ),
    ("trim", "string_trim string.() string"),
    ("type", "type (A) type(A)"),
    (
        "uint",
        "uint64_to_uint64 (uint) uint; double_to_uint64 (double) uint; int64_to_uint64 (int) uint; \
         string_to_uint64 (string) uint",
    ),
    ("unwrapOpt", "optional_unwrapOpt list(optional(V)).() list(V)"),
    ("upperAscii", "string_upper_ascii string.() string"),
    ("url", "string_to_url (string) kubernetes.URL"),
    ("validate", "format-validate kubernetes.NamedFormat.(string) optional(list(string))"),
    ("value", "optional_value optional(V).() V"),
];

/// Functions that only mutating admission has.
static JSON_PATCH: [Row; 1] = [("jsonpatch.escapeKey", "string_jsonpatch_escapeKey_string (string) string")];

const COMPARABLE: [&str; 8] = ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];
const NUMBERS: [(&str, &str); 3] = [("int64", "int"), ("uint64", "uint"), ("double", "double")];
const FORMATS: [&str; 13] = [
    "byte",
    "date",
    "datetime",
    "dns1035Label",
    "dns1035LabelPrefix",
    "dns1123Label",
    "dns1123LabelPrefix",
    "dns1123Subdomain",
    "dns1123SubdomainPrefix",
    "labelValue",
    "qualifiedName",
    "uri",
    "uuid",
];

/// The functions by name, in the order of the table within each.
pub(crate) type Functions = HashMap<&'static str, Vec<Overload>>;

/// The functions of every expression.
pub(crate) static FUNCTIONS: LazyLock<Functions> = LazyLock::new(|| {
    let mut found = read(&TABLE);
    for (name, stem) in [
        (op::LESS, "less"),
        (op::LESS_EQUALS, "less_equals"),
        (op::GREATER, "greater"),
        (op::GREATER_EQUALS, "greater_equals"),
    ] {
        found.insert(name, orderings(stem));
    }
    for (name, id, result) in [
        ("isSorted", "list_{}_is_sorted_bool", "bool"),
        ("min", "list_{}_min_{}", "{}"),
        ("max", "list_{}_max_{}", "{}"),
        ("sort", "list_{full}_sort", "list({})"),
    ] {
        let row = |of: &str| format!("{} list({of}).() {}", fill(id, of), fill(result, of));
        found.insert(name, COMPARABLE.iter().map(|of| overload(leak(row(of)))).collect());
    }
    let by_keys = |of: &&str| {
        let id = fill("list_{full}_sortByAssociatedKeys", of);
        overload(leak(format!("{id} list(T).(list({of})) list(T)")))
    };
    found.insert(op::SORT_BY_KEYS, COMPARABLE.iter().map(by_keys).collect());
    for format in FORMATS {
        let name = leak(format!("format.{format}"));
        found.insert(name, vec![overload(leak(format!("{name} () kubernetes.NamedFormat")))]);
    }
    found
});

/// The functions that mutating admission has besides.
pub(crate) static PATCH_FUNCTIONS: LazyLock<Functions> = LazyLock::new(|| read(&JSON_PATCH));

/// The table is made once and kept as long as the program runs.
fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn fill(template: &str, of: &str) -> String {
    let full = match of {
        "duration" => "google.protobuf.Duration",
        "timestamp" => "google.protobuf.Timestamp",
        of => of,
    };
    template.replace("{full}", full).replace("{}", of)
}

fn orderings(stem: &str) -> Vec<Overload> {
    let row = |id: &str, a: &str, b: &str| overload(leak(format!("{stem}_{id} ({a}, {b}) bool")));
    let mut found = vec![row("bool", "bool", "bool")];
    for (a, left) in NUMBERS {
        found.push(row(a, left, left));
        for (b, right) in NUMBERS.into_iter().filter(|(b, _)| *b != a) {
            found.push(row(&format!("{a}_{b}"), left, right));
        }
    }
    found.extend(["string", "bytes", "timestamp", "duration"].map(|of| row(of, of, of)));
    found
}

fn read(table: &'static [Row]) -> Functions {
    table.iter().map(|(name, overloads)| (*name, overloads.split("; ").map(overload).collect())).collect()
}

fn overload(text: &'static str) -> Overload {
    let (id, signature) =
        text.split_once(' ').unwrap_or_else(|| panic!("an overload without a signature: {text}"));
    let mut reader = Reader { rest: signature, params: Vec::new() };
    let mut args = Vec::new();
    let member = !reader.take("(");
    if member {
        args.push(reader.ty());
        assert!(reader.take(".("), "an overload without arguments: {text}");
    }
    while !reader.take(")") {
        args.push(reader.ty());
        let _more = reader.take(", ");
    }
    assert!(reader.take(" "), "an overload without a result: {text}");
    let result = reader.ty();
    Overload { id, member, args, result, params: reader.params }
}

/// Reads types as the table writes them.
struct Reader {
    rest: &'static str,
    params: Vec<&'static str>,
}

impl Reader {
    fn take(&mut self, text: &str) -> bool {
        let found = self.rest.strip_prefix(text);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn ty(&mut self) -> Type {
        let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let mut end = self.rest.find(|c| !named(c)).unwrap_or(self.rest.len());
        // The dot before the arguments is not part of the name.
        if self.rest[..end].ends_with('.') {
            end -= 1;
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        let mut parts = Vec::new();
        if !matches!(name, "") && !self.rest.starts_with(".(") && self.take("(") {
            while !self.take(")") {
                parts.push(self.ty());
                let _more = self.take(", ");
            }
        }
        self.make(name, parts)
    }

    fn make(&mut self, name: &'static str, mut parts: Vec<Type>) -> Type {
        use crate::types::Param;
        match name {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "duration" => Type::Duration,
            "timestamp" => Type::Timestamp,
            "dyn" => Type::Dyn,
            "list" => Type::list(parts.remove(0)),
            "map" => {
                let value = parts.remove(1);
                Type::map(parts.remove(0), value)
            }
            "type" => Type::type_of(parts.remove(0)),
            "optional" => Type::optional(parts.remove(0)),
            "net.IP" | "net.CIDR" => Type::opaque(name, Vec::new()),
            _ if name.len() == 1 => {
                if !self.params.contains(&name) {
                    self.params.push(name);
                }
                Type::Param(Param::Declared(name))
            }
            _ => match name.strip_prefix("authz.") {
                Some(rest) => Type::object(format!("kubernetes.authorization.{rest}")),
                None => Type::object(name),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declared_function_is_there() {
        let own = [
            op::AND,
            op::OR,
            op::CONDITIONAL,
            op::EQUALS,
            op::NOT_EQUALS,
            op::INDEX,
            op::OPT_INDEX,
            op::OPT_SELECT,
            op::NOT_STRICTLY_FALSE,
            "or",
            "orValue",
        ];
        for name in FUNCTIONS.keys().chain(PATCH_FUNCTIONS.keys()) {
            let found = crate::functions::lookup(name).is_some()
                || own.contains(name)
                || crate::functions::named::constant_value(name).is_some();
            assert!(found, "{name} is declared, but does nothing");
        }
    }

    #[test]
    fn overloads_are_read() {
        let check = |name: &str, id: &str, want: &str| {
            let found = FUNCTIONS[name].iter().find(|overload| overload.id == id).expect(id);
            let args: Vec<String> = found.args.iter().map(ToString::to_string).collect();
            assert_eq!(format!("{} {}", args.join(" "), found.result), want, "{id}");
        };
        check("@in", "in_map", "A map(A, B) bool");
        check("_[?_]", "optional_map_optindex_optional_value", "optional_type(map(K, V)) K optional_type(V)");
        check("containsIP", "cidr_contains_ip_ip", "net.CIDR net.IP bool");
        check("allowed", "decision_allowed", "kubernetes.authorization.Decision bool");
        check("_<_", "less_int64_uint64", "int uint bool");
        check("sort", "list_google.protobuf.Duration_sort", "list(duration) list(duration)");
        check("getHours", "timestamp_to_hours_with_tz", "timestamp string int");
    }
}
