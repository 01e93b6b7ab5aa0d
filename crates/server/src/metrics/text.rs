//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write as _};

/// The `Content-Type` of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What only grows.
    Counter,
    /// What goes up and down.
    Gauge,
    /// How values spread.
    Histogram,
}

/// A label and its value.
pub type Label<'a> = (&'a str, &'a str);

/// A document under way.
#[derive(Debug, Default)]
pub struct Text {
    out: String,
    family: &'static str,
}

impl Text {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.family = name;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A sample of the family.
    pub fn sample(&mut self, labels: &[Label<'_>], value: impl Display) {
        self.line("", labels, None, &value);
    }

    /// A histogram of the family: upper bounds with how many values are below each and above the one before, how many are
    /// above all, and the sum of all.
    pub fn histogram(&mut self, labels: &[Label<'_>], buckets: &[(f64, u64)], above: u64, sum: f64) {
        let mut count = 0;
        for (bound, values) in buckets {
            count += values;
            self.line("_bucket", labels, Some(&bound), &count);
        }
        count += above;
        self.line("_bucket", labels, Some(&"+Inf"), &count);
        self.line("_sum", labels, None, &sum);
        self.line("_count", labels, None, &count);
    }

    /// The document.
    #[must_use]
    pub fn finish(self) -> String {
        self.out
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], bound: Option<&dyn Display>, value: &dyn Display) {
        let family = self.family;
        self.write(format_args!("{family}{suffix}"));
        let mut separator = '{';
        for (name, value) in labels {
            self.write(format_args!("{separator}{name}=\""));
            self.escape(value);
            self.out.push('"');
            separator = ',';
        }
        if let Some(bound) = bound {
            self.write(format_args!("{separator}le=\"{bound}\""));
            separator = ',';
        }
        let end = if separator == '{' { "" } else { "}" };
        self.write(format_args!("{end} {value}\n"));
    }

    fn escape(&mut self, value: &str) {
        for c in value.chars() {
            match c {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                c => self.out.push(c),
            }
        }
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.write_fmt(text).expect("a string takes all text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_samples() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "What is counted");
        text.sample(&[], 3);
        text.sample(&[("b", "x"), ("c", "a\\b\"c\nd")], 1.5);
        text.family("d", Kind::Histogram, "Spread");
        text.histogram(&[("b", "x")], &[(0.5, 2), (1.0, 3)], 1, 4.25);
        text.histogram(&[], &[(2.0, 0)], 0, 0.0);
        let want = [
            "# HELP a_total What is counted",
            "# TYPE a_total counter",
            "a_total 3",
            r#"a_total{b="x",c="a\\b\"c\nd"} 1.5"#,
            "# HELP d Spread",
            "# TYPE d histogram",
            r#"d_bucket{b="x",le="0.5"} 2"#,
            r#"d_bucket{b="x",le="1"} 5"#,
            r#"d_bucket{b="x",le="+Inf"} 6"#,
            r#"d_sum{b="x"} 4.25"#,
            r#"d_count{b="x"} 6"#,
            r#"d_bucket{le="2"} 0"#,
            r#"d_bucket{le="+Inf"} 0"#,
            "d_sum 0",
            "d_count 0",
        ];
        assert_eq!(text.finish().lines().collect::<Vec<_>>(), want);
    }
}
