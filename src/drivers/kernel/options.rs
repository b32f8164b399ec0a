//! The keys that hwmon and IIO devices have in common: which device, and what of it is read.

use schemars::JsonSchema;
use toml::de::DeTable;

use crate::drivers::options::{Fields, Text};
use crate::drivers::{OptionsError, SampleError};

/// Which device of the kernel's, and what of it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    /// What its file `name` says.
    pub(super) name: String,
    /// What it hangs on, where that has to be said.
    pub(super) parent: Option<String>,
    /// What is read, in this order; empty for all.
    pub(super) inputs: Vec<String>,
}

impl Selection {
    /// What is to be read of all that is `there`, each with its name. `device` is what people call it.
    ///
    /// # Errors
    /// [`SampleError`] when an input that was asked for is not there, or nothing is.
    pub(super) fn choose<T: Clone>(
        &self,
        device: &str,
        there: Vec<T>,
        name: impl Fn(&T) -> &str,
    ) -> Result<Vec<T>, SampleError> {
        if there.is_empty() {
            return Err(SampleError::Device(format!("the {device} shows nothing that can be read")));
        }
        if self.inputs.is_empty() {
            return Ok(there);
        }
        let found = |input: &String| {
            there.iter().find(|item| name(item) == *input).cloned().ok_or_else(|| {
                let names: Vec<&str> = there.iter().map(&name).collect();
                SampleError::Device(format!("the {device} has no `{input}`; it has {}", names.join(", ")))
            })
        };
        self.inputs.iter().map(found).collect()
    }
}

/// Keys of a sensor with `driver = "hwmon"` or `driver = "iio"`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code)] // Read by the schema alone; decoding is by hand.
pub(super) struct Options {
    /// The device's name, as in its file `name`: `cpu_thermal`, `dht11@0`. `tidegate scan hwmon` and `tidegate scan iio` list them.
    chip: String,
    /// What it hangs on, where two devices have one name: `1-0048`.
    parent: Option<String>,
    /// The values to read, such as `["temp1", "in0"]` (hwmon) or `["temp", "voltage0"]` (IIO). Left out, all that the device has.
    inputs: Option<Vec<String>>,
}

/// Decodes the keys. `refusal` says what is wrong with an input, and what to write; `scan` is the word behind `tidegate scan`.
pub(super) fn decode(
    table: DeTable<'_>,
    scan: &str,
    refusal: impl Fn(&str) -> Option<(String, String)>,
) -> Result<Selection, Vec<OptionsError>> {
    let mut fields = Fields::new(table, &["chip", "parent", "inputs"]);
    if !fields.has("chip") {
        let help = format!("`chip = \"…\"`: `tidegate scan {scan}` lists what is there");
        fields.error(0..0, "missing key `chip`", Some(help));
    }
    let name = fields.text("chip").and_then(|word| plain(&mut fields, "chip", word));
    let parent = fields.text("parent").and_then(|word| plain(&mut fields, "parent", word));
    let mut inputs: Vec<String> = Vec::new();
    for word in fields.texts("inputs").unwrap_or_default() {
        if let Some((message, help)) = refusal(&word.content) {
            fields.error(word.span, message, Some(help));
        } else if inputs.contains(&word.content) {
            fields.error(word.span, format!("`{}` is read twice", word.content), None);
        } else {
            inputs.push(word.content);
        }
    }
    let errors = fields.finish();
    match name {
        Some(name) if errors.is_empty() => Ok(Selection { name, parent, inputs }),
        _ => Err(errors),
    }
}

/// A text that is compared with what the kernel says: neither empty nor a path.
fn plain(fields: &mut Fields<'_>, key: &str, word: Text) -> Option<String> {
    if word.content.is_empty() || word.content.contains('/') {
        fields.error(word.span, format!("`{key}` must be a name, not a path"), None);
        return None;
    }
    Some(word.content)
}
