//! Which chip and offset a config means.

use super::{ChipInfo, GpioError, LineRef};
use crate::limits::GPIO_NEAR_NAMES;

/// Labels of the chips behind the header of a Raspberry Pi. Where other chips have lines of the same name (an expander that was given the
/// header's names, the firmware's own chip), these are meant.
const HEADERS: [&str; 4] = ["pinctrl-rp1", "pinctrl-bcm2712", "pinctrl-bcm2711", "pinctrl-bcm2835"];

/// The chip, and the offset of the line in it.
pub(super) fn find<'a>(chips: &'a [ChipInfo], line: &LineRef) -> Result<(&'a ChipInfo, u32), GpioError> {
    if chips.is_empty() {
        return Err(GpioError::NoChips);
    }
    match line {
        LineRef::Offset { chip, offset } => by_offset(chips, chip, *offset),
        LineRef::Named(name) | LineRef::Simulated(name) => by_name(chips, name),
    }
}

fn by_offset<'a>(chips: &'a [ChipInfo], label: &str, offset: u32) -> Result<(&'a ChipInfo, u32), GpioError> {
    let found: Vec<_> = chips.iter().filter(|chip| chip.label == label).collect();
    match found[..] {
        [] => {
            let mut known: Vec<_> = chips.iter().map(|chip| chip.label.clone()).collect();
            known.sort_unstable();
            known.dedup();
            Err(GpioError::NoChip { label: label.to_owned(), known })
        }
        [chip] if chip.lines.iter().any(|line| line.offset == offset) => Ok((chip, offset)),
        [chip] => {
            let lines = u32::try_from(chip.lines.len()).unwrap_or(u32::MAX);
            Err(GpioError::NoOffset { chip: label.to_owned(), lines })
        }
        _ => {
            let paths = found.iter().map(|chip| chip.path.display().to_string()).collect();
            Err(GpioError::SeveralChips { label: label.to_owned(), paths })
        }
    }
}

fn by_name<'a>(chips: &'a [ChipInfo], name: &str) -> Result<(&'a ChipInfo, u32), GpioError> {
    let lines = || chips.iter().flat_map(|chip| chip.lines.iter().map(move |line| (chip, line)));
    let mut found: Vec<_> =
        lines().filter(|(_, line)| line.name == name).map(|(chip, line)| (chip, line.offset)).collect();
    if found.len() > 1
        && let Some(header) = HEADERS.iter().find_map(|label| found.iter().position(|(chip, _)| chip.label == *label))
        && found.iter().filter(|(chip, _)| chip.label == found[header].0.label).count() == 1
    {
        found = vec![found[header]];
    }
    match found[..] {
        [] => {
            let mut near: Vec<(usize, &str)> = lines()
                .map(|(_, line)| line.name.as_str())
                .filter(|known| !known.is_empty())
                .map(|known| (distance(name, known), known))
                .filter(|(far, _)| *far <= 2)
                .collect();
            near.sort_unstable();
            near.dedup();
            let near = near.into_iter().take(GPIO_NEAR_NAMES).map(|(_, known)| known.to_owned()).collect();
            Err(GpioError::NoLine { name: name.to_owned(), near })
        }
        [line] => Ok(line),
        _ => {
            let mut labels: Vec<_> = found.iter().map(|(chip, _)| chip.label.clone()).collect();
            labels.dedup();
            Err(GpioError::SeveralLines { name: name.to_owned(), chips: labels })
        }
    }
}

/// How many letters must be changed, added or taken away to make one name of the other, in any case of letters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase().into_bytes(), b.to_ascii_lowercase().into_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::LineInfo;
    use super::*;

    fn chip(path: &str, label: &str, names: &[&str]) -> ChipInfo {
        let lines = names.iter().zip(0..).map(|(name, offset)| LineInfo {
            offset,
            name: (*name).to_owned(),
            consumer: String::new(),
            used: false,
            output: false,
        });
        ChipInfo { path: path.into(), label: label.into(), lines: lines.collect() }
    }

    fn board() -> Vec<ChipInfo> {
        vec![
            chip("/dev/gpiochip0", "gpio-brcmstb", &["", "", "GPIO4"]),
            chip("/dev/gpiochip10", "pinctrl-rp1", &["ID_SD", "GPIO4", "GPIO17", "GPIO27", "READY"]),
            chip("/dev/gpiochip11", "pcf8575", &["READY", "P1"]),
            chip("/dev/gpiochip12", "pcf8574", &["P1"]),
            chip("/dev/gpiochip13", "pcf8574", &["P2"]),
        ]
    }

    fn named(name: &str) -> Result<(String, u32), GpioError> {
        find(&board(), &LineRef::Named(name.into())).map(|(chip, offset)| (chip.label.clone(), offset))
    }

    fn at(label: &str, offset: u32) -> Result<(String, u32), GpioError> {
        let line = LineRef::Offset { chip: label.into(), offset };
        find(&board(), &line).map(|(chip, offset)| (chip.path.display().to_string(), offset))
    }

    #[test]
    fn a_line_is_found_by_its_name_and_by_label_and_offset() {
        assert_eq!(named("GPIO17"), Ok(("pinctrl-rp1".into(), 2)));
        assert_eq!(at("pinctrl-rp1", 2), Ok(("/dev/gpiochip10".into(), 2)));
    }

    #[test]
    fn the_header_of_the_board_comes_before_a_chip_that_uses_its_names() {
        assert_eq!(named("GPIO4"), Ok(("pinctrl-rp1".into(), 1)));
        assert_eq!(named("READY"), Ok(("pinctrl-rp1".into(), 4)));
    }

    #[test]
    fn what_cannot_be_found_says_what_there_is() {
        let error = named("GPIO18").unwrap_err();
        assert_eq!(error.to_string(), "no line is named `GPIO18`; did you mean `GPIO17`, `GPIO27`, `GPIO4`?");
        assert_eq!(named("boiler").unwrap_err().to_string(), "no line is named `boiler`");
        assert_eq!(
            named("P1").unwrap_err().to_string(),
            "`pcf8575`, `pcf8574` each have a line named `P1`; give `chip` and `offset` instead"
        );
        assert_eq!(
            at("pinctrl-rp2", 0).unwrap_err().to_string(),
            "no chip is labelled `pinctrl-rp2`; there are `gpio-brcmstb`, `pcf8574`, `pcf8575`, `pinctrl-rp1`"
        );
        assert_eq!(at("pinctrl-rp1", 5).unwrap_err().to_string(), "chip `pinctrl-rp1` has 5 lines, 0 to 4");
        assert_eq!(
            at("pcf8574", 0).unwrap_err().to_string(),
            "`/dev/gpiochip12`, `/dev/gpiochip13` are all labelled `pcf8574`; name the line instead"
        );
        assert_eq!(find(&[], &LineRef::Named("GPIO4".into())).unwrap_err(), GpioError::NoChips);
    }
}
