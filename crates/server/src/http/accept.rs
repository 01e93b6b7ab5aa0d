//! Content negotiation: in which form an answer is wanted.
//!
//! Whether an object can be given as protobuf depends on the resource, which is not known yet when the header is read. So
//! the first choice is kept together with the one that is taken when there is no protobuf ([`Accept::settle`]).

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
    /// Protobuf in Kubernetes' envelope.
    Protobuf,
}

impl Encoding {
    /// The `Content-Type` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => PROTOBUF,
        }
    }
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What an object is turned into before it is encoded (`as=` in `Accept`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The object itself.
    #[default]
    Whole,
    /// `Table` of meta.k8s.io/v1.
    Table(Rows),
    /// `PartialObjectMetadata` of meta.k8s.io/v1.
    Metadata,
}

/// What of each object stands in its row of a table (`includeObject=` in the query).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
    /// Nothing.
    Nothing,
}

impl Rows {
    /// Reads the parameter.
    ///
    /// # Errors
    /// 400 if it is none of the three.
    pub fn read(text: &str) -> Result<Self, Status> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            "None" => Ok(Self::Nothing),
            other => Err(Status::bad_request(format!(
                "includeObject {other:?} is none of Metadata, Object and None"
            ))),
        }
    }
}

/// An answer's form and encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// What the object is turned into.
    pub form: Form,
    /// How it is encoded.
    pub encoding: Encoding,
    /// What is taken in the place of whole objects as protobuf, if they are the first choice.
    otherwise: Option<(Form, Encoding)>,
    /// The encoding of whole objects, if they are wanted at all.
    plain: Option<Encoding>,
}

impl Default for Accept {
    fn default() -> Self {
        let encoding = Encoding::default();
        Self { form: Form::Whole, encoding, otherwise: None, plain: Some(encoding) }
    }
}

const SUPPORTED: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];

impl Accept {
    /// The first of the wanted types that can be given: by weight, then what is named before what a `*` stands for, then
    /// as they come.
    ///
    /// # Errors
    /// 406 if none can be given.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Status> {
        let mut wanted = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).peekable();
        if wanted.peek().is_none() {
            return Ok(Self::default());
        }
        let mut ranges: Vec<Range> =
            wanted.flat_map(|header| header.split(',')).filter_map(Range::read).collect();
        ranges.sort_by_key(|range| (std::cmp::Reverse(range.weight), range.stars));
        let mut choices = ranges.iter().map(|range| range.choice);
        let plain = choices.clone().find(|(form, _)| *form == Form::Whole).map(|(_, encoding)| encoding);
        let first = choices.next().ok_or_else(|| Status::not_acceptable(&SUPPORTED))?;
        let otherwise = match first {
            WHOLE_PROTOBUF => choices.find(|choice| *choice != WHOLE_PROTOBUF),
            _ => None,
        };
        Ok(Self { form: first.0, encoding: first.1, otherwise, plain })
    }

    /// The same with this in the rows of a table, if it is one.
    #[must_use]
    pub fn with_rows(mut self, rows: Rows) -> Self {
        if let Form::Table(own) = &mut self.form {
            *own = rows;
        }
        if let Some((Form::Table(own), _)) = &mut self.otherwise {
            *own = rows;
        }
        self
    }

    /// What can be given of a resource, whose objects have a protobuf form or have none.
    ///
    /// # Errors
    /// 406 if only protobuf is wanted, and there is none.
    pub fn settle(self, protobuf: bool) -> Result<Self, Status> {
        if protobuf || (self.form, self.encoding) != WHOLE_PROTOBUF {
            return Ok(self);
        }
        let (form, encoding) = self.otherwise.ok_or_else(|| Status::not_acceptable(&SUPPORTED[..2]))?;
        Ok(Self { form, encoding, otherwise: None, ..self })
    }

    /// What can be given of a resource whose objects are not kept: neither tables nor metadata.
    ///
    /// # Errors
    /// 406 if only those are wanted.
    pub fn only_whole(self) -> Result<Self, Status> {
        if self.form == Form::Whole {
            return Ok(self);
        }
        let encoding = self.plain.ok_or_else(|| Status::not_acceptable(&SUPPORTED))?;
        Ok(Self { form: Form::Whole, encoding, ..self })
    }

    /// Whether it is JSON of whole objects, which is how they are stored.
    #[must_use]
    pub fn is_as_stored(self) -> bool {
        (self.form, self.encoding) == (Form::Whole, Encoding::Json)
    }

    /// The same encoding, of a document that has one form only.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { form: Form::Whole, ..self }
    }
}

const WHOLE_PROTOBUF: (Form, Encoding) = (Form::Whole, Encoding::Protobuf);

/// One media range of the header that can be given.
#[derive(Clone, Copy, Debug)]
struct Range {
    choice: (Form, Encoding),
    /// Thousandths.
    weight: u32,
    /// How much of it a `*` stands for.
    stars: usize,
}

impl Range {
    fn read(range: &str) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next()?;
        let encoding = match media {
            "application/json" | "application/*" | "*/*" | "" => Encoding::Json,
            "application/yaml" | "text/yaml" => Encoding::Yaml,
            PROTOBUF => Encoding::Protobuf,
            _ => return None,
        };
        let (mut kind, mut group, mut version, mut weight) = ("", "meta.k8s.io", "v1", 1000);
        for (name, value) in parts.filter_map(|p| p.split_once('=')) {
            match name {
                "as" => kind = value,
                "g" => group = value,
                "v" => version = value,
                "q" => weight = thousandths(value)?,
                _ => {}
            }
        }
        let form = match (kind, group, version) {
            ("", ..) => Form::Whole,
            // A table has no protobuf form.
            ("Table", "meta.k8s.io", "v1") if encoding != Encoding::Protobuf => Form::Table(Rows::default()),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Form::Metadata,
            _ => return None,
        };
        Some(Self { choice: (form, encoding), weight, stars: media.matches('*').count() })
    }
}

/// A weight from `0` to `1` with at most three decimals; `None` for 0, which is not wanted, and for what is no weight.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
fn thousandths(weight: &str) -> Option<u32> {
    let weight: f32 = weight.parse().ok()?;
    Some((weight.clamp(0.0, 1.0) * 1000.0) as u32).filter(|weight| *weight > 0)
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
            Some((Form::Table(Rows::Metadata), Encoding::Json)),
        );
        check(
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Some((Form::Whole, Encoding::Json)),
        );
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            Some((Form::Metadata, Encoding::Protobuf)),
        );
        check(
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json",
            Some((Form::Whole, Encoding::Json)),
        );
        check("application/vnd.kubernetes.protobuf", Some((Form::Whole, Encoding::Protobuf)));
        check("application/vnd.kubernetes.protobuf;stream=watch", Some((Form::Whole, Encoding::Protobuf)));
        check("text/html", None);
        check("text/html, application/json;q=0.5, application/yaml", Some((Form::Whole, Encoding::Yaml)));
        check("application/yaml;q=0.5, */*;q=0.6", Some((Form::Whole, Encoding::Json)));
        check("*/*, application/yaml", Some((Form::Whole, Encoding::Yaml)));
        check("application/json;q=0, application/yaml;q=0.001", Some((Form::Whole, Encoding::Yaml)));
        check("application/json;q=x", None);
        assert_eq!(Accept::from_headers(&HeaderMap::new()).ok(), Some(Accept::default()));
    }

    #[test]
    fn what_is_not_kept_has_one_form() {
        let check = |header: &str, want: Option<Encoding>| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, header.parse().expect("a header"));
            let accept = Accept::from_headers(&headers).expect("something can be given");
            let got = accept.only_whole().ok();
            assert_eq!(got.map(|a| (a.form, a.encoding)), want.map(|e| (Form::Whole, e)), "{header}");
        };
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        check(table, None);
        check(&format!("{table},application/yaml"), Some(Encoding::Yaml));
        check("application/vnd.kubernetes.protobuf", Some(Encoding::Protobuf));
    }

    #[test]
    fn what_has_no_protobuf_is_given_as_the_next_type() {
        let check = |header: &str, want: Option<(Form, Encoding)>| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, header.parse().expect("a header"));
            let accept = Accept::from_headers(&headers).expect("something can be given");
            assert_eq!(accept.settle(true), Ok(accept), "{header}");
            let got = accept.settle(false).ok().map(|a| (a.form, a.encoding));
            assert_eq!(got, want, "{header}");
        };
        check("application/vnd.kubernetes.protobuf,application/json", Some((Form::Whole, Encoding::Json)));
        check("application/vnd.kubernetes.protobuf, */*", Some((Form::Whole, Encoding::Json)));
        check("application/yaml,application/vnd.kubernetes.protobuf", Some((Form::Whole, Encoding::Yaml)));
        check("application/vnd.kubernetes.protobuf", None);
        check("application/vnd.kubernetes.protobuf,text/html", None);
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            Some((Form::Metadata, Encoding::Protobuf)),
        );
    }
}
