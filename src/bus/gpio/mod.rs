//! GPIO lines behind one trait. Two backends speak to the kernel: `gpiocdev` where it offers version 2 of its interface (Linux 5.10 and
//! later), `gpio-cdev` where it has only version 1. A third is a chip inside the process.
//!
//! | | version 2 | version 1 |
//! |---|---|---|
//! | edges the kernel keeps | [`GPIO_KERNEL_EDGES`](crate::limits::GPIO_KERNEL_EDGES), the oldest are dropped | 16, the newest are dropped |
//! | dropped edges | counted by their sequence numbers | seen only where two edges in a row go the same way |
//! | stamps | CLOCK_MONOTONIC | CLOCK_MONOTONIC, before Linux 5.7 CLOCK_REALTIME: then the time of reading stands for them |
//!
//! A line is released when its value is dropped. What becomes of a released output is the driver's business: most chips leave it as it is,
//! some turn it into an input. Where that matters a resistor must hold the level.

mod error;
mod generator;
mod kernel;
mod lookup;
pub mod port;
pub mod simulated;
mod v1;
mod v2;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

pub use self::error::{GpioError, Version};
pub use self::kernel::{BoardGpio, KernelGpio};
pub use self::port::{LineEvent, LinePort};
pub use self::simulated::SimulatedGpio;
use crate::model::Moment;

/// Settings of all lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GpioSettings {
    /// Which version of the kernel's interface is spoken.
    pub backend: Backend,
}

/// Which version of the kernel's interface is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Version 2 where the kernel offers it, else version 1. Looked at each time a line is opened.
    #[default]
    Auto,
    /// Version 2, by `gpiocdev`.
    V2,
    /// Version 1, by `gpio-cdev`.
    V1,
    /// No chip: every line is inside the process.
    Simulated,
}

/// Which line. Never a chip's number: it changes from kernel to kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LineRef {
    /// By the name that the device tree or the firmware gave it.
    Named(String),
    /// By its chip's label and its offset there.
    Offset {
        /// Label of the chip, such as `pinctrl-rp1`.
        chip: String,
        /// Offset of the line, from 0.
        offset: u32,
    },
    /// A line inside the process, by the name of a generator or any other (demo and tests).
    Simulated(String),
}

/// For people: `GPIO17`, `pinctrl-rp1 17`, `sim:button`.
impl fmt::Display for LineRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineRef::Named(name) => f.write_str(name),
            LineRef::Offset { chip, offset } => write!(f, "{chip} {offset}"),
            LineRef::Simulated(name) => write!(f, "sim:{name}"),
        }
    }
}

/// What pulls at a line that nobody drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bias {
    /// Left as it is: the chip's own default, or what the device tree says.
    #[default]
    AsIs,
    /// Nothing.
    Disabled,
    /// A resistor to the supply, inside the chip.
    PullUp,
    /// A resistor to ground, inside the chip.
    PullDown,
}

/// How an output drives its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Drive {
    /// Both ways.
    #[default]
    PushPull,
    /// To ground only.
    OpenDrain,
    /// To the supply only.
    OpenSource,
}

/// Which edges the kernel tells. In the words of the line's own logic: with `active_low`, rising is the voltage falling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edges {
    /// Becoming active.
    Rising,
    /// Becoming inactive.
    Falling,
    /// Both.
    #[default]
    Both,
}

/// How an input is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputRequest {
    /// Which line.
    pub line: LineRef,
    /// Whether the line is active while its voltage is low.
    pub active_low: bool,
    /// What pulls at it.
    pub bias: Bias,
    /// Which edges are told.
    pub edges: Edges,
    /// Who holds it, as others see it (`gpioinfo`). The kernel keeps 31 bytes.
    pub consumer: String,
}

/// How an output is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRequest {
    /// Which line.
    pub line: LineRef,
    /// Whether the line is active while its voltage is low.
    pub active_low: bool,
    /// How it is driven.
    pub drive: Drive,
    /// What pulls at it while it is not driven.
    pub bias: Bias,
    /// Whether it is active from the moment it is an output: set together with the request, so that nothing clicks.
    pub initial: bool,
    /// Who holds it, as others see it. The kernel keeps 31 bytes.
    pub consumer: String,
}

/// An edge of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineEdge {
    /// Whether the line was active after it, as the kernel saw it. Of a very short pulse both edges may say the same.
    pub active: bool,
    /// When it happened, by the kernel's stamp.
    pub at: Moment,
    /// Edges between the one before and this one that happened and are not told: the kernel had no room for them. Since the line was opened
    /// where this is the first. With version 1 of the interface at best a lower bound.
    pub lost: u32,
}

/// A chip as others see it, for people who look for a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChipInfo {
    /// Path of its device. Changes from kernel to kernel.
    pub path: PathBuf,
    /// Its label, which does not.
    pub label: String,
    /// Its lines, by their offset.
    pub lines: Vec<LineInfo>,
}

/// A line as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineInfo {
    /// Offset in its chip.
    pub offset: u32,
    /// Its name; empty where it has none.
    pub name: String,
    /// Who holds it; empty where nobody does or the holder gave no name.
    pub consumer: String,
    /// Whether it cannot be had: a program, a kernel driver or the pin's other function holds it.
    pub used: bool,
    /// Whether it is an output.
    pub output: bool,
}

/// Lines of the board, or of a board that does not exist.
///
/// What opens or reads a line may block for as long as the chip's driver does: microseconds on the board's own chip, the length of a
/// transfer (or its timeout) on an I2C expander. A caller on the runtime uses a blocking thread.
pub trait Gpio: Send + Sync {
    /// Takes a line as an input. Must be called within a tokio runtime (a blocking thread of it will do).
    ///
    /// # Errors
    /// [`GpioError`]: every one is worth another try later.
    fn input(&self, request: &InputRequest) -> Result<Box<dyn InputLine>, GpioError>;

    /// Takes a line as an output, at its initial level from the first moment.
    ///
    /// # Errors
    /// [`GpioError`]: every one is worth another try later.
    fn output(&self, request: &OutputRequest) -> Result<Box<dyn OutputLine>, GpioError>;

    /// All chips and their lines.
    ///
    /// # Errors
    /// [`GpioError`] when a chip cannot be opened or asked.
    fn list(&self) -> Result<Vec<ChipInfo>, GpioError>;
}

/// The edges of a line: resolves when some came.
pub type EdgesComing<'a> = Pin<Box<dyn Future<Output = Result<(), GpioError>> + Send + 'a>>;

/// An input that is held.
pub trait InputLine: Send {
    /// Whether the line is active, as the hardware says.
    ///
    /// # Errors
    /// [`GpioError`] when the chip does not answer or went away: the line is to be opened again.
    fn active(&self) -> Result<bool, GpioError>;

    /// Waits until there are edges and pushes them in their order, at least one and at most [`GPIO_EDGES_AT_ONCE`](crate::limits::GPIO_EDGES_AT_ONCE).
    /// Cancel safe: what was not pushed is still there.
    ///
    /// # Errors
    /// [`GpioError`] when the chip went away: the line is to be opened again.
    fn edges<'a>(&'a mut self, out: &'a mut Vec<LineEdge>) -> EdgesComing<'a>;
}

/// An output that is held.
pub trait OutputLine: Send {
    /// Makes it active or inactive.
    ///
    /// # Errors
    /// [`GpioError`] when the chip does not answer or went away: the level is not known.
    fn set(&mut self, active: bool) -> Result<(), GpioError>;

    /// Whether it is active, as the hardware says. Of an open drain that somebody else pulls, this is what they make of it.
    ///
    /// # Errors
    /// [`GpioError`] when the chip does not answer or went away.
    fn active(&self) -> Result<bool, GpioError>;
}
