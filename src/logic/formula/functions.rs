//! What a formula can call.

/// A function, by its row in [`FUNCTIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Function(usize);

/// Name, least and greatest number of arguments, and what it does.
type Row = (&'static str, usize, usize, fn(&[f64]) -> Option<f64>);

/// Most arguments of any function.
const MANY: usize = 16;

const FUNCTIONS: &[Row] = &[
    ("abs", 1, 1, |v| Some(v[0].abs())),
    ("abs_humidity", 2, 2, |v| Some(216.7 * vapour_pressure(v[0], v[1]) / (273.15 + v[0]))),
    ("atan", 1, 1, |v| Some(v[0].atan())),
    ("atan2", 2, 2, |v| Some(v[0].atan2(v[1]))),
    ("ceil", 1, 1, |v| Some(v[0].ceil())),
    ("clamp", 3, 3, |v| Some(v[0].max(v[1]).min(v[2]))),
    ("cos", 1, 1, |v| Some(v[0].cos())),
    ("dewpoint", 2, 2, |v| {
        let x = (vapour_pressure(v[0], v[1]) / 6.112).ln();
        Some(243.12 * x / (17.62 - x))
    }),
    ("exp", 1, 1, |v| Some(v[0].exp())),
    ("floor", 1, 1, |v| Some(v[0].floor())),
    ("ln", 1, 1, |v| Some(v[0].ln())),
    ("log10", 1, 1, |v| Some(v[0].log10())),
    ("max", 2, MANY, |v| v.iter().copied().reduce(f64::max)),
    ("min", 2, MANY, |v| v.iter().copied().reduce(f64::min)),
    ("pow", 2, 2, |v| Some(v[0].powf(v[1]))),
    ("round", 1, 2, |v| {
        let factor = 10_f64.powf(v.get(1).copied().unwrap_or(0.0).round());
        Some((v[0] * factor).round() / factor)
    }),
    ("sin", 1, 1, |v| Some(v[0].sin())),
    ("sqrt", 1, 1, |v| Some(v[0].sqrt())),
    ("tan", 1, 1, |v| Some(v[0].tan())),
];

/// Pressure of the water vapour in hPa, over water, for °C and % (Magnus with the coefficients of WMO-No. 8, annex 4.B).
fn vapour_pressure(celsius: f64, percent: f64) -> f64 {
    percent / 100.0 * 6.112 * (17.62 * celsius / (243.12 + celsius)).exp()
}

impl Function {
    /// The function of that name.
    pub(super) fn find(name: &str) -> Option<Self> {
        FUNCTIONS.iter().position(|row| row.0 == name).map(Self)
    }

    /// Every name.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        FUNCTIONS.iter().map(|row| row.0)
    }

    /// What is wrong with that number of arguments, if it is wrong.
    pub(super) fn refuses(self, count: usize) -> Option<String> {
        let (name, least, most, _) = FUNCTIONS[self.0];
        let wanted = match (least, most) {
            (least, most) if (least..=most).contains(&count) => return None,
            (1, 1) => "1 argument".to_owned(),
            (least, most) if least == most => format!("{least} arguments"),
            (least, most) => format!("{least} to {most} arguments"),
        };
        Some(format!("`{name}` takes {wanted}, not {count}"))
    }

    /// Its value; the number of arguments was checked when the formula was compiled.
    pub(super) fn value(self, arguments: &[f64]) -> Option<f64> {
        let (_, least, most, call) = FUNCTIONS[self.0];
        if (least..=most).contains(&arguments.len()) { call(arguments) } else { None }
    }
}
