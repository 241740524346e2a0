//! Figures, as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

/// All figures of a run.
#[derive(Default)]
pub struct Report(Vec<Figure>);

/// What was measured, and its raw counterpart.
struct Figure {
    what: String,
    unit: &'static str,
    ours: Spread,
    counterpart: &'static str,
    raw: Spread,
    ratio: f64,
}

/// The least and the middle one of some samples.
#[derive(Clone, Copy)]
struct Spread {
    min: f64,
    median: f64,
}

impl Spread {
    fn of(samples: &[f64]) -> Spread {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Spread { min: sorted.first().copied().unwrap_or(f64::NAN), median }
    }

    fn to_json(self) -> Value {
        json!({"min": self.min, "median": self.median})
    }
}

impl Report {
    /// Adds the samples of one thing and those of its counterpart, both in `unit`, each pair measured one after the other.
    pub fn add(&mut self, what: String, unit: &'static str, ours: &[f64], counterpart: &'static str, raw: &[f64]) {
        let ratios: Vec<_> = ours.iter().zip(raw).map(|(ours, raw)| ours / raw).collect();
        let ratio = Spread::of(&ratios).median;
        let figure = Figure { what, unit, ours: Spread::of(ours), counterpart, raw: Spread::of(raw), ratio };
        eprintln!("bench: {}: {}", figure.what, figure.cells()[2..].join("  "));
        self.0.push(figure);
    }

    /// A list of `{what, unit, ours: {min, median}, counterpart, raw: {min, median}, ratio}`. The ratio is the median
    /// of those of the pairs, and null where the counterpart took nothing that could be measured.
    pub fn to_json(&self) -> Value {
        let figure = |figure: &Figure| {
            json!({
                "what": figure.what, "unit": figure.unit, "ours": figure.ours.to_json(),
                "counterpart": figure.counterpart, "raw": figure.raw.to_json(), "ratio": figure.ratio,
            })
        };
        self.0.iter().map(figure).collect()
    }
}

const HEADINGS: [&str; 8] = ["what", "unit", "min", "median", "next to", "min", "median", "ratio"];

impl Figure {
    fn cells(&self) -> [String; 8] {
        let [min, median, raw_min, raw_median] =
            [self.ours.min, self.ours.median, self.raw.min, self.raw.median].map(number);
        let (what, unit, counterpart) = (self.what.clone(), self.unit.to_owned(), self.counterpart.to_owned());
        let ratio = if self.ratio.is_finite() { format!("{:.2}", self.ratio) } else { "-".to_owned() };
        [what, unit, min, median, counterpart, raw_min, raw_median, ratio]
    }
}

/// With three digits that count, or all that stand before the point.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = HEADINGS.map(str::to_owned).to_vec();
        let rows = std::iter::once(headings).chain(self.0.iter().map(|figure| figure.cells().to_vec()));
        f.write_str(&table(&rows.collect::<Vec<_>>(), &[0, 1, 4]))
    }
}

/// Rows in columns that are as wide as they must be, those of these numbers with their texts to the left.
pub fn table(rows: &[Vec<String>], left: &[usize]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut lines = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| match widths[column] {
            width if left.contains(&column) => format!("{cell:width$}"),
            width => format!("{cell:>width$}"),
        });
        lines += &cells.collect::<Vec<_>>().join("  ");
        lines.push('\n');
    }
    lines
}
