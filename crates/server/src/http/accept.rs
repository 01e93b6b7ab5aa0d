//! Content negotiation: in which form an answer is wanted.

use http::HeaderMap;
use http::header::ACCEPT;
use xebec_api::Status;

/// The encoding of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    #[default]
    Json,
    /// YAML.
    Yaml,
}

impl Encoding {
    /// The `Content-Type` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

/// What an object is turned into before it is encoded (`as=` in `Accept`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The object itself.
    #[default]
    Whole,
    /// `Table` of meta.k8s.io/v1.
    Table,
    /// `PartialObjectMetadata` of meta.k8s.io/v1.
    Metadata,
}

/// An answer's form and encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// What the object is turned into.
    pub form: Form,
    /// How it is encoded.
    pub encoding: Encoding,
}

const SUPPORTED: [&str; 2] = ["application/json", "application/yaml"];

impl Accept {
    /// The first of the wanted types that can be given. Weights are not looked at, as upstream does not.
    ///
    /// # Errors
    /// 406 if none can be given.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Status> {
        let mut wanted = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).peekable();
        if wanted.peek().is_none() {
            return Ok(Self::default());
        }
        let ranges = wanted.flat_map(|header| header.split(','));
        ranges.filter_map(read_range).next().ok_or_else(|| Status::not_acceptable(&SUPPORTED))
    }
}

fn read_range(range: &str) -> Option<Accept> {
    let mut parts = range.split(';').map(str::trim);
    let encoding = match parts.next()? {
        "application/json" | "application/*" | "*/*" | "" => Encoding::Json,
        "application/yaml" | "text/yaml" => Encoding::Yaml,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "meta.k8s.io", "v1");
    for (name, value) in parts.filter_map(|p| p.split_once('=')) {
        match name {
            "as" => kind = value,
            "g" => group = value,
            "v" => version = value,
            _ => {}
        }
    }
    let form = match (kind, group, version) {
        ("", ..) => Form::Whole,
        ("Table", "meta.k8s.io", "v1") => Form::Table,
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Form::Metadata,
        _ => return None,
    };
    Some(Accept { form, encoding })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_can_be_given() {
        let check = |header: &str, want: Option<(Form, Encoding)>| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, header.parse().expect("a header"));
            let got = Accept::from_headers(&headers).ok().map(|a| (a.form, a.encoding));
            assert_eq!(got, want, "{header}");
        };
        check("application/json", Some((Form::Whole, Encoding::Json)));
        check("*/*", Some((Form::Whole, Encoding::Json)));
        check("application/yaml", Some((Form::Whole, Encoding::Yaml)));
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Some((Form::Table, Encoding::Json)),
        );
        check(
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Some((Form::Whole, Encoding::Json)),
        );
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            Some((Form::Metadata, Encoding::Json)),
        );
        check("application/vnd.kubernetes.protobuf", None);
        check("text/html", None);
        assert_eq!(Accept::from_headers(&HeaderMap::new()).ok(), Some(Accept::default()));
    }
}
