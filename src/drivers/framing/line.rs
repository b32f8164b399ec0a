//! Frames that end with a fixed run of bytes, as lines do.
//!
//! What it does not promise: a line whose own bytes contain the end is two lines; there is no escape.

/// How lines are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineSettings {
    /// Longest line, its end not counted.
    pub bytes_max: usize,
    /// What ends a line, 1 to 8 bytes. With `\n` a `\r` before it is dropped too.
    pub end: Vec<u8>,
}

/// What the bytes of one line turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A line without its end; never empty.
    Line(&'a str),
    /// A line that is not UTF-8, with the position of the first byte that is not.
    NotUtf8(usize),
    /// A line longer than allowed. Told once, when the limit is passed; its rest is skipped.
    TooLong,
    /// A line that may have lost its beginning: the first after [`LineFramer::join_midway`]. Empty when it is no text or too long.
    Cut(&'a str),
}

/// Cuts a stream into lines. Holds at most one line.
#[derive(Debug, Clone)]
pub struct LineFramer {
    settings: LineSettings,
    line: Vec<u8>,
    /// The rest of an over-long line is being skipped; `line` holds as many of its last bytes as an end can have.
    skipping: bool,
    cut: bool,
}

impl LineFramer {
    /// Waits for the first byte of a line.
    pub fn new(settings: LineSettings) -> Self {
        debug_assert!(!settings.end.is_empty(), "an empty end would end a line after every byte");
        Self { settings, line: Vec::new(), skipping: false, cut: false }
    }

    /// Takes bytes, tells what they complete.
    pub fn feed(&mut self, bytes: &[u8], mut tell: impl FnMut(Frame<'_>)) {
        for &byte in bytes {
            self.line.push(byte);
            let ended = self.line.ends_with(&self.settings.end);
            if self.skipping {
                if ended {
                    self.skipping = false;
                    self.line.clear();
                } else if self.line.len() >= self.settings.end.len() {
                    self.line.remove(0);
                }
            } else if ended {
                let length = self.line.len() - self.settings.end.len();
                self.tell_line(length, &mut tell);
                self.line.clear();
            } else if self.line.len() >= self.settings.bytes_max + self.settings.end.len() + self.tolerated() {
                let frame = if std::mem::take(&mut self.cut) { Frame::Cut("") } else { Frame::TooLong };
                tell(frame);
                self.skipping = true;
                self.line.drain(..=self.line.len() - self.settings.end.len());
            }
        }
    }

    /// Forgets what was half received: the stream has a gap here.
    pub fn reset(&mut self) {
        self.line.clear();
        self.skipping = false;
        self.cut = false;
    }

    /// The bytes that follow may begin in the middle of a line.
    pub fn join_midway(&mut self) {
        self.cut = true;
    }

    /// A `\r` before a `\n` is no part of the line, and may stand beyond its limit.
    fn tolerated(&self) -> usize {
        usize::from(self.settings.end == b"\n")
    }

    fn tell_line(&mut self, length: usize, tell: &mut impl FnMut(Frame<'_>)) {
        let mut line = &self.line[..length];
        if self.settings.end == b"\n" {
            line = line.strip_suffix(b"\r").unwrap_or(line);
        }
        if std::mem::take(&mut self.cut) {
            tell(Frame::Cut(std::str::from_utf8(line).unwrap_or_default()));
        } else if line.len() > self.settings.bytes_max {
            tell(Frame::TooLong);
        } else if !line.is_empty() {
            match std::str::from_utf8(line) {
                Ok(text) => tell(Frame::Line(text)),
                Err(error) => tell(Frame::NotUtf8(error.valid_up_to())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framer(bytes_max: usize, end: &str) -> LineFramer {
        LineFramer::new(LineSettings { bytes_max, end: end.as_bytes().to_vec() })
    }

    fn feed(framer: &mut LineFramer, bytes: &[u8]) -> Vec<String> {
        let mut told = Vec::new();
        framer.feed(bytes, |frame| {
            told.push(match frame {
                Frame::Line(text) => text.to_owned(),
                other => format!("<{other:?}>"),
            });
        });
        told
    }

    #[test]
    fn lines_come_whole_whatever_the_pieces_were() {
        let mut framer = framer(16, "\n");
        assert_eq!(feed(&mut framer, b"on"), [""; 0]);
        assert_eq!(feed(&mut framer, b"e\r\n\n\r\ntwo\nth"), ["one", "two"]);
        assert_eq!(feed(&mut framer, b"ree\n"), ["three"]);
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_one_byte_more_is_told_once() {
        let mut framer = framer(4, "\n");
        assert_eq!(feed(&mut framer, b"abcd\nabcd\r\n"), ["abcd", "abcd"]);
        assert_eq!(feed(&mut framer, b"abcde\nok\n"), ["<TooLong>", "ok"]);
        assert_eq!(feed(&mut framer, b"abcdefghijklmnop"), ["<TooLong>"]);
        assert_eq!(feed(&mut framer, b"qrstuvw\nok\n"), ["ok"]);
    }

    #[test]
    fn an_end_of_several_bytes_is_found_across_pieces_and_after_a_skip() {
        let mut framer = framer(4, "<>");
        assert_eq!(feed(&mut framer, b"a<"), [""; 0]);
        assert_eq!(feed(&mut framer, b">b<<>"), ["a", "b<"]);
        assert_eq!(feed(&mut framer, b"toolong<"), ["<TooLong>"]);
        assert_eq!(feed(&mut framer, b">ok<>"), ["ok"]);
    }

    #[test]
    fn a_line_that_is_no_text_says_where() {
        let mut framer = framer(16, "\n");
        assert_eq!(feed(&mut framer, b"ab\xff\nok\n"), ["<NotUtf8(2)>", "ok"]);
    }

    #[test]
    fn the_first_line_after_joining_midway_is_cut_and_the_next_is_whole() {
        let mut framer = framer(16, "\n");
        framer.join_midway();
        assert_eq!(feed(&mut framer, b"1.5\n21.5\n"), ["<Cut(\"1.5\")>", "21.5"]);
        framer.join_midway();
        assert_eq!(feed(&mut framer, b"\xff\nok\n"), ["<Cut(\"\")>", "ok"]);
        framer.join_midway();
        assert_eq!(feed(&mut framer, b"12345678901234567890\nok\n"), ["<Cut(\"\")>", "ok"]);
    }

    #[test]
    fn a_reset_forgets_the_half_line() {
        let mut framer = framer(16, "\n");
        feed(&mut framer, b"half");
        framer.reset();
        assert_eq!(feed(&mut framer, b"whole\n"), ["whole"]);
    }
}
