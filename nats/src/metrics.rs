//! Metrics for Prometheus: what a metric is, a set of samples, and the endpoint that serves them.
//!
//! A program looks at itself every few seconds and puts what it found on a [`Page`]. A scrape only copies that page, so it
//! never waits for a database, a disk or a lock, however often somebody asks. See `docs/adr/0076-a-scrape-copies-a-page.md`.

pub mod disks;
pub mod endpoint;
pub mod process;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, encoding::prometheus_text, metrics::MetricType,
    metrics::exemplar::Exemplar, registry::Registry,
};
use serde::Deserialize;

pub use endpoint::{Page, serve};

/// The most series of one metric. The rest is left out, and counted.
const MAX_SERIES: usize = 5_000;

/// The `[metrics]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The address and port of the endpoint, such as `127.0.0.1:9464`.
    pub listen: String,
    /// The seconds between two looks at what is shown.
    #[serde(default = "ten")]
    pub period_secs: u64,
}

const fn ten() -> u64 {
    10
}

/// A metric that a program can show.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The names of its labels. No label holds a sector's number or free text, so that there are never many series.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A count that only rises. Its name ends in `_total`.
    Counter,
}

/// Declares metrics, each with the sentence that Prometheus and the documentation show, and the list `ALL` of them.
#[macro_export]
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $name:ident: $kind:ident $text:literal [$($label:ident),*];)*) => {
        $($(#[doc = $help])+ pub static $name: $crate::metrics::Metric = $crate::metrics::Metric {
            name: $text,
            kind: $crate::metrics::Kind::$kind,
            labels: &[$(stringify!($label)),*],
            help: concat!($($help),+),
        };)*

        /// All of them, in the order of the documentation.
        #[allow(dead_code, reason = "tests declare metrics of their own, and list them nowhere")]
        pub static ALL: &[&$crate::metrics::Metric] = &[$(&$name),*];
    };
}

/// What was found, as values of metrics.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    found: BTreeMap<&'static str, (&'static Metric, Vec<Sample>)>,
    left_out: u64,
}

#[derive(Clone, Debug)]
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: f64,
}

impl Settings {
    /// The address, if all values are good. Otherwise the field and what to do about it.
    pub fn check(&self) -> Result<SocketAddr, (&'static str, String)> {
        if !(1..=300).contains(&self.period_secs) {
            return Err(("metrics.period_secs", format!("{} is not 1 to 300", self.period_secs)));
        }
        match self.listen.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(address),
            _ => Err((
                "metrics.listen",
                format!("`{}` is not an IP address with a port, such as 127.0.0.1:9464 or [::]:9464", self.listen),
            )),
        }
    }

    /// The time between two looks.
    #[must_use]
    pub const fn period(&self) -> Duration {
        Duration::from_secs(self.period_secs)
    }
}

impl Samples {
    /// Sets the value of a series. `labels` are the values of the metric's labels, in their order.
    pub fn set(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), metric.labels.len(), "the labels of {}", metric.name);
        let (_, samples) = self.found.entry(metric.name).or_insert_with(|| (metric, Vec::new()));
        if samples.len() == MAX_SERIES {
            self.left_out += 1;
            return;
        }
        let labels = metric.labels.iter().copied().zip(labels.iter().map(|value| (*value).to_owned())).collect();
        samples.push(Sample { labels, value });
    }

    /// Adds other samples.
    pub fn extend(&mut self, other: Samples) {
        self.left_out += other.left_out;
        for (name, (metric, samples)) in other.found {
            self.found.entry(name).or_insert_with(|| (metric, Vec::new())).1.extend(samples);
        }
    }

    /// How many series there were too many.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How many series there are.
    #[must_use]
    pub fn series(&self) -> usize {
        self.found.values().map(|(_, samples)| samples.len()).sum()
    }

    /// The samples in the text format of Prometheus.
    #[must_use]
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_text::encode(&mut text, &registry);
        text
    }
}

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (metric, samples) in self.found.values() {
            let (name, kind) = match metric.kind {
                Kind::Gauge => (metric.name, MetricType::Gauge),
                // The library appends the suffix.
                Kind::Counter => (metric.name.trim_end_matches("_total"), MetricType::Counter),
            };
            let mut family = encoder.encode_descriptor(name, metric.help.trim(), None, kind)?;
            for Sample { labels, value } in samples {
                let mut series = family.encode_family(labels)?;
                match metric.kind {
                    Kind::Gauge => series.encode_gauge(value)?,
                    Kind::Counter => series.encode_counter(value, None::<&Exemplar<[(&str, &str); 0], f64>>)?,
                }
            }
        }
        Ok(())
    }
}

/// The metrics as a table of the documentation.
#[must_use]
pub fn table(all: &[&Metric]) -> String {
    let mut text = "| metric | labels | meaning |\n|---|---|---|\n".to_owned();
    for Metric { name, labels, help, .. } in all {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        text.push_str(&format!("| `{name}` | {} | {} |\n", labels.join(", "), help.trim()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    metrics! {
        /// How many there are.
        THINGS: Gauge "sealbus_test_things" [kind];
        /// How often it was done.
        DONE: Counter "sealbus_test_done_total" [];
    }

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut samples = Samples::default();
        samples.set(&THINGS, &["a\"b\n"], 2.0);
        samples.set(&THINGS, &["c"], 0.5);
        samples.set(&DONE, &[], 7.0);
        let text = samples.text();
        for line in [
            "# HELP sealbus_test_things How many there are.",
            "# TYPE sealbus_test_things gauge",
            "sealbus_test_things{kind=\"a\\\"b\\n\"} 2.0",
            "sealbus_test_things{kind=\"c\"} 0.5",
            "# TYPE sealbus_test_done_total counter",
            "sealbus_test_done_total 7.0",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}: {text}");
        }
    }

    #[test]
    fn a_metric_has_only_so_many_series() {
        let mut samples = Samples::default();
        for number in 0..MAX_SERIES + 3 {
            samples.set(&THINGS, &[&number.to_string()], 1.0);
        }
        assert_eq!((samples.series(), samples.left_out()), (MAX_SERIES, 3));
    }

    #[test]
    fn an_address_that_cannot_be_listened_on_is_refused_with_its_field() {
        let at = |listen: &str, period_secs| Settings { listen: listen.to_owned(), period_secs };
        for listen in ["127.0.0.1:9464", "0.0.0.0:9464", "[::1]:9464"] {
            at(listen, 10).check().unwrap_or_else(|(field, problem)| panic!("{field}: {problem}"));
        }
        for listen in ["", "9464", "localhost:9464", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999"] {
            let (field, problem) = at(listen, 10).check().expect_err(listen);
            assert!(field == "metrics.listen" && problem.contains("127.0.0.1:9464"), "{problem}");
        }
        assert_eq!(at("127.0.0.1:9464", 0).check().expect_err("too often").0, "metrics.period_secs");
    }
}
