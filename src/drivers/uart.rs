//! Anything that speaks in lines on a serial port.

use schemars::JsonSchema;
use serde::Deserialize;

use super::DriverSpec;

/// The row in the table of drivers.
pub const SPEC: DriverSpec = DriverSpec {
    name: "uart",
    summary: "Lines on a serial port, taken apart by a regular expression, JSON, CSV or key=value",
    example: "match = { json = true }\n",
    schema: || schemars::schema_for!(Options),
    build: |_| Err(Vec::new()),
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {}
