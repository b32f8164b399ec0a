//! Checksums within a frame, by the names of the catalogue of parametrised CRC algorithms (reveng.sourceforge.io).

use std::fmt::Write as _;

use crc::{Algorithm, Crc, NoTable};

/// A checksum behind every so many bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    algorithm: Width,
    /// What it begins with, where that is not the catalogue's.
    init: Option<u16>,
    /// Bytes before each checksum.
    pub(super) every: usize,
}

#[derive(Debug, Clone, Copy)]
enum Width {
    Eight(&'static Algorithm<u8>),
    Sixteen(&'static Algorithm<u16>),
}

/// One-byte checksums.
const EIGHT: &[(&str, &Algorithm<u8>)] = &[
    ("CRC-8/AUTOSAR", &crc::CRC_8_AUTOSAR),
    ("CRC-8/BLUETOOTH", &crc::CRC_8_BLUETOOTH),
    ("CRC-8/CDMA2000", &crc::CRC_8_CDMA2000),
    ("CRC-8/DARC", &crc::CRC_8_DARC),
    ("CRC-8/DVB-S2", &crc::CRC_8_DVB_S2),
    ("CRC-8/I-432-1", &crc::CRC_8_I_432_1),
    ("CRC-8/MAXIM-DOW", &crc::CRC_8_MAXIM_DOW),
    ("CRC-8/NRSC-5", &crc::CRC_8_NRSC_5),
    ("CRC-8/ROHC", &crc::CRC_8_ROHC),
    ("CRC-8/SAE-J1850", &crc::CRC_8_SAE_J1850),
    ("CRC-8/SMBUS", &crc::CRC_8_SMBUS),
    ("CRC-8/TECH-3250", &crc::CRC_8_TECH_3250),
    ("CRC-8/WCDMA", &crc::CRC_8_WCDMA),
];
/// Two-byte checksums; the high byte is sent first, except where the algorithm reflects its output.
const SIXTEEN: &[(&str, &Algorithm<u16>)] = &[
    ("CRC-16/ARC", &crc::CRC_16_ARC),
    ("CRC-16/IBM-3740", &crc::CRC_16_IBM_3740),
    ("CRC-16/KERMIT", &crc::CRC_16_KERMIT),
    ("CRC-16/MODBUS", &crc::CRC_16_MODBUS),
    ("CRC-16/SPI-FUJITSU", &crc::CRC_16_SPI_FUJITSU),
    ("CRC-16/UMTS", &crc::CRC_16_UMTS),
    ("CRC-16/XMODEM", &crc::CRC_16_XMODEM),
];

/// Every name.
pub(super) fn names() -> Vec<&'static str> {
    EIGHT.iter().map(|(name, _)| *name).chain(SIXTEEN.iter().map(|(name, _)| *name)).collect()
}

impl Check {
    /// The algorithm of that name.
    pub(super) fn new(name: &str, init: Option<u16>, every: usize) -> Option<Self> {
        let eight = EIGHT.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| Width::Eight(algorithm));
        let sixteen =
            || SIXTEEN.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| Width::Sixteen(algorithm));
        Some(Self { algorithm: eight.or_else(sixteen)?, init, every })
    }

    /// Bytes of a checksum.
    pub(super) fn len(&self) -> usize {
        match self.algorithm {
            Width::Eight(_) => 1,
            Width::Sixteen(_) => 2,
        }
    }

    /// The checksum of some bytes, as it is sent.
    pub(super) fn of(&self, bytes: &[u8]) -> Vec<u8> {
        match self.algorithm {
            Width::Eight(algorithm) => {
                let crc = Crc::<u8, NoTable>::new(algorithm);
                let begin = self.init.and_then(|init| u8::try_from(init).ok()).unwrap_or(algorithm.init);
                let mut digest = crc.digest_with_initial(begin);
                digest.update(bytes);
                vec![digest.finalize()]
            }
            Width::Sixteen(algorithm) => {
                let crc = Crc::<u16, NoTable>::new(algorithm);
                let mut digest = crc.digest_with_initial(self.init.unwrap_or(algorithm.init));
                digest.update(bytes);
                let sum = digest.finalize();
                if algorithm.refout { sum.to_le_bytes().to_vec() } else { sum.to_be_bytes().to_vec() }
            }
        }
    }

    /// What of a frame are no checksums.
    ///
    /// # Errors
    /// The first checksum that does not fit, in words.
    pub(super) fn strip(&self, frame: &[u8]) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::with_capacity(frame.len());
        for (index, group) in frame.chunks(self.every + self.len()).enumerate() {
            let (data, found) = group.split_at(self.every.min(group.len()));
            let expected = self.of(data);
            if found != expected {
                let first = index * (self.every + self.len());
                let last = first + data.len().saturating_sub(1);
                let (expected, found) = (hex(&expected), hex(found));
                return Err(format!("checksum mismatch in bytes {first} to {last}: expected {expected}, got {found}"));
            }
            bytes.extend_from_slice(data);
        }
        Ok(bytes)
    }

    /// The frame of some bytes.
    pub(super) fn add(&self, bytes: &[u8]) -> Vec<u8> {
        bytes.chunks(self.every).flat_map(|data| data.iter().copied().chain(self.of(data))).collect()
    }
}

/// Bytes as people write them in a config.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogue: the checksum of "123456789".
    #[test]
    fn every_algorithm_gives_its_check_value() {
        for name in names() {
            let check = Check::new(name, None, 9).unwrap();
            let expected = match check.algorithm {
                Width::Eight(algorithm) => vec![algorithm.check],
                Width::Sixteen(algorithm) if algorithm.refout => algorithm.check.to_le_bytes().to_vec(),
                Width::Sixteen(algorithm) => algorithm.check.to_be_bytes().to_vec(),
            };
            assert_eq!(check.of(b"123456789"), expected, "{name}");
        }
    }

    #[test]
    fn checksums_are_checked_and_taken_away() {
        let check = Check::new("CRC-8/NRSC-5", None, 2).unwrap();
        assert_eq!(check.strip(&[0xbe, 0xef, 0x92, 0x00, 0x00, 0x81]), Ok(vec![0xbe, 0xef, 0, 0]));
        assert_eq!(check.add(&[0xbe, 0xef, 0, 0]), [0xbe, 0xef, 0x92, 0x00, 0x00, 0x81]);
        assert_eq!(
            check.strip(&[0xbe, 0xef, 0x92, 0x00, 0x01, 0x81]),
            Err("checksum mismatch in bytes 3 to 4: expected b0, got 81".into())
        );
    }
}
