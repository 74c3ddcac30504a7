//! Repetitions of one measurement, and how they are told: a line of JSON for programs, a few lines for people.

use serde_json::{Map, Value, json};

use crate::child::Usage;

/// Values of one quantity over the repetitions.
#[derive(Debug, Clone, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Adds one repetition.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle value; the mean of the two in the middle when their number is even. NaN when there is none.
    pub fn median(&self) -> f64 {
        match self.0.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => self.0[n / 2],
            n => (self.0[n / 2 - 1] + self.0[n / 2]) / 2.0,
        }
    }

    /// The smallest value that `share` (0..1) of all values do not exceed. NaN when there is none.
    pub fn percentile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.clamp(1, self.0.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
    }

    /// Smallest and largest.
    pub fn range(&self) -> (f64, f64) {
        (self.0.first().copied().unwrap_or(f64::NAN), self.0.last().copied().unwrap_or(f64::NAN))
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        let mut sample = Sample(values.into_iter().collect());
        sample.0.sort_by(f64::total_cmp);
        sample
    }
}

/// Median time of an epoch in the first and in the last tenth of a stream's epochs (at least one epoch each).
pub fn first_and_last_tenth(epochs_ms: &[f64]) -> (f64, f64) {
    let tenth = (epochs_ms.len() / 10).max(1).min(epochs_ms.len());
    let middle = |part: &[f64]| part.iter().copied().collect::<Sample>().median();
    (middle(&epochs_ms[..tenth]), middle(&epochs_ms[epochs_ms.len() - tenth..]))
}

/// What a bar says about one figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// The figure is at least this.
    AtLeast(f64),
    /// The figure is at most this.
    AtMost(f64),
}

impl Bar {
    /// Whether a figure meets it.
    pub fn met(self, figure: f64) -> bool {
        match self {
            Bar::AtLeast(limit) => figure >= limit,
            Bar::AtMost(limit) => figure <= limit,
        }
    }
}

/// Everything measured about one workload.
#[derive(Debug, Clone)]
pub struct Report {
    workload: &'static str,
    figures: Vec<(String, Sample, &'static str, Option<Bar>)>,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(workload: &'static str) -> Report {
        Report { workload, figures: Vec::new() }
    }

    /// Adds one repetition of a figure.
    pub fn add(&mut self, name: &str, value: f64, unit: &'static str) {
        match self.figures.iter_mut().find(|(known, ..)| known == name) {
            Some((_, sample, ..)) => sample.push(value),
            None => self.figures.push((name.into(), [value].into_iter().collect(), unit, None)),
        }
    }

    /// Adds the usual figures of one run over `rows` rows.
    pub fn add_run(&mut self, who: &str, rows: u64, usage: Usage) {
        self.add(&format!("{who} seconds"), usage.wall_s, "s");
        self.add(&format!("{who} rows per second"), rows as f64 / usage.wall_s, "rows/s");
        self.add(&format!("{who} CPU seconds"), usage.cpu_s, "s");
        self.add(&format!("{who} peak memory"), usage.peak_bytes as f64 / 1e6, "MB");
    }

    /// Adds the times of epochs of one run.
    pub fn add_epochs(&mut self, epochs_ms: &[f64]) {
        if epochs_ms.is_empty() {
            return;
        }
        let (first, last) = first_and_last_tenth(epochs_ms);
        self.add("epochs", epochs_ms.len() as f64, "");
        self.add("epoch, first tenth", first, "ms");
        self.add("epoch, last tenth", last, "ms");
        self.add("epoch, last tenth / first tenth", last / first, "×");
    }

    /// The values of a figure so far.
    pub fn sample(&self, name: &str) -> Sample {
        self.figures.iter().find(|(known, ..)| known == name).map(|(_, sample, ..)| sample.clone()).unwrap_or_default()
    }

    /// Sets the bar of a figure's median.
    pub fn bar(&mut self, name: &str, bar: Bar) {
        if let Some(figure) = self.figures.iter_mut().find(|(known, ..)| known == name) {
            figure.3 = Some(bar);
        }
    }

    /// Adds the ratio of two figures' medians, which has no range of its own.
    pub fn ratio(&mut self, name: &str, numerator: &str, denominator: &str, bar: Option<Bar>) {
        let value = self.sample(numerator).median() / self.sample(denominator).median();
        self.add(name, value, "×");
        if let Some(bar) = bar {
            self.bar(name, bar);
        }
    }

    /// Whether every bar is met.
    pub fn all_met(&self) -> bool {
        self.figures.iter().all(|(_, sample, _, bar)| bar.is_none_or(|bar| bar.met(sample.median())))
    }

    /// One object on one line.
    pub fn to_json(&self) -> Value {
        let mut figures = Map::new();
        for (name, sample, unit, bar) in &self.figures {
            let (least, most) = sample.range();
            let mut figure =
                json!({"median": sample.median(), "min": least, "max": most, "n": sample.len(), "unit": unit});
            if let Some(bar) = bar {
                let (kind, limit) = match bar {
                    Bar::AtLeast(limit) => ("at_least", limit),
                    Bar::AtMost(limit) => ("at_most", limit),
                };
                figure[kind] = json!(limit);
                figure["met"] = json!(bar.met(sample.median()));
            }
            figures.insert(name.clone(), figure);
        }
        json!({"workload": self.workload, "figures": figures})
    }

    /// A few aligned lines.
    pub fn to_text(&self) -> String {
        let width = self.figures.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
        let mut text = format!("{}\n", self.workload);
        for (name, sample, unit, bar) in &self.figures {
            let (least, most) = sample.range();
            text.push_str(&format!("  {name:<width$}  {:>12} {unit:<6}", rounded(sample.median())));
            if sample.len() > 1 {
                text.push_str(&format!("  {}–{}", rounded(least), rounded(most)));
            }
            if let Some(bar) = bar {
                let said = match bar {
                    Bar::AtLeast(limit) => format!("at least {}", rounded(*limit)),
                    Bar::AtMost(limit) => format!("at most {}", rounded(*limit)),
                };
                let verdict = if bar.met(sample.median()) { "met" } else { "MISSED" };
                text.push_str(&format!("  bar: {said}: {verdict}"));
            }
            text = text.trim_end().to_string() + "\n";
        }
        text
    }
}

/// Three significant digits below 1,000, whole numbers with separators above.
fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => {
            let digits = format!("{:.0}", value.abs());
            let groups: Vec<String> =
                digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned()).collect();
            format!("{}{}", if value < 0.0 { "-" } else { "" }, groups.join(","))
        }
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_percentiles_and_tenths() {
        let sample: Sample = [5.0, 1.0, 3.0].into_iter().collect();
        assert_eq!((sample.median(), sample.range()), (3.0, (1.0, 5.0)));
        let hundred: Sample = (1..=100).map(f64::from).collect();
        assert_eq!((hundred.percentile(0.5), hundred.percentile(0.99), hundred.percentile(1.0)), (50.0, 99.0, 100.0));
        assert!(Sample::default().median().is_nan() && Sample::default().percentile(0.5).is_nan());
        assert_eq!(first_and_last_tenth(&(1..=20).map(f64::from).collect::<Vec<_>>()), (1.5, 19.5));
        assert_eq!(first_and_last_tenth(&[4.0]), (4.0, 4.0));
    }

    #[test]
    fn numbers_are_short() {
        let cases = [(0.704, "0.70"), (12.34, "12.3"), (345.6, "346"), (1_234_567.0, "1,234,567"), (50.0, "50")];
        for (value, text) in cases {
            assert_eq!(rounded(value), text);
        }
    }

    #[test]
    fn a_missed_bar_is_said() {
        let mut report = Report::new("ingest");
        report.add("ratio", 0.5, "×");
        report.bar("ratio", Bar::AtLeast(0.7));
        assert!(!report.all_met());
        assert!(report.to_text().contains("at least 0.70: MISSED"));
        assert_eq!(report.to_json()["figures"]["ratio"]["met"], json!(false));
    }
}
