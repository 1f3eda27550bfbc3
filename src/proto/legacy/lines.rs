//! Cuts a stream of frames into lines. Where a frame ends means nothing.

/// Why no more lines can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineError {
    /// A line is longer than is allowed.
    TooLong,
    /// A line is not UTF-8.
    NotText,
}

/// Collects frames and gives out whole lines.
#[derive(Debug)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Where the next line begins.
    begin: usize,
    /// How far no end of a line was found.
    searched: usize,
    line_bytes_max: usize,
}

impl Lines {
    /// Lines of at most so many bytes.
    #[must_use]
    pub fn new(line_bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), begin: 0, searched: 0, line_bytes_max }
    }

    /// Takes what a frame brought.
    pub fn push(&mut self, frame: &[u8]) {
        self.bytes.drain(..self.begin);
        self.searched -= self.begin;
        self.begin = 0;
        self.bytes.extend_from_slice(frame);
    }

    /// The next whole line, without its end. `None` until a frame brings it.
    ///
    /// # Errors
    /// [`LineError`], after which nothing that follows can be understood.
    pub fn next_line(&mut self) -> Result<Option<String>, LineError> {
        let found = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n');
        let end = found.map(|offset| self.searched + offset);
        let so_far = end.unwrap_or(self.bytes.len());
        if so_far - self.begin > self.line_bytes_max {
            return Err(LineError::TooLong);
        }
        let Some(end) = end else {
            self.searched = so_far;
            if self.begin == so_far {
                // An idle connection holds no buffer.
                *self = Self::new(self.line_bytes_max);
            }
            return Ok(None);
        };
        let line = std::str::from_utf8(&self.bytes[self.begin..end]);
        let line = line.map_err(|_| LineError::NotText)?.to_owned();
        self.begin = end + 1;
        self.searched = self.begin;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frames: &[&[u8]], expected: &[&str]) {
        let mut lines = Lines::new(10);
        let mut found = Vec::new();
        for frame in frames {
            lines.push(frame);
            while let Some(line) = lines.next_line().expect("lines are good") {
                found.push(line);
            }
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn borders_of_frames_mean_nothing() {
        check(&[b"a\n"], &["a"]);
        check(&[b"a\nb\n"], &["a", "b"]);
        check(&[b"a", b"b", b"\n", b"c\nd", b"\n"], &["ab", "c", "d"]);
        check(&[b"a\n\nb\n"], &["a", "", "b"]);
        // A character that two frames share.
        check(&["é\n".as_bytes().split_at(1).0, "é\n".as_bytes().split_at(1).1], &["é"]);
        check(&[b"0123456789\n"], &["0123456789"]);
        check(&[b"half"], &[]);
    }

    #[test]
    fn a_line_too_long_or_not_text_is_the_last() {
        let check = |frames: &[&[u8]], expected: LineError| {
            let mut lines = Lines::new(10);
            frames.iter().for_each(|frame| lines.push(frame));
            assert_eq!(lines.next_line(), Err(expected));
        };
        check(&[b"0123456789a"], LineError::TooLong);
        check(&[b"0123456789a\n"], LineError::TooLong);
        check(&[b"\xff\n"], LineError::NotText);
    }
}
