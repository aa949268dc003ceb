//! The folded text as bytes, with the questions that recognisers ask of it.

/// Fewest and most letters of a name that stands right before a number.
const NAME: (usize, usize) = (3, 12);

/// A text that is read byte by byte. Everything recognised begins and ends at ASCII or at whole characters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    /// Its bytes.
    pub(super) bytes: &'a [u8],
    /// The same as text.
    pub(super) text: &'a str,
}

impl<'a> Text<'a> {
    /// The text to be read.
    pub(super) fn new(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), text }
    }

    /// The byte at this place, 0 behind the end.
    pub(super) fn at(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or_default()
    }

    /// The byte so many places before this one, 0 before the beginning.
    pub(super) fn back(&self, at: usize, places: usize) -> u8 {
        at.checked_sub(places).map_or(0, |place| self.at(place))
    }

    /// The bytes from `start` to `end`, as far as there are any.
    pub(super) fn part(&self, start: usize, end: usize) -> &'a [u8] {
        self.bytes.get(start..end.min(self.bytes.len())).unwrap_or_default()
    }

    /// End of the run of such bytes, at most `most` of them.
    pub(super) fn run(&self, at: usize, most: usize, inside: impl Fn(u8) -> bool) -> usize {
        at + self.part(at, at.saturating_add(most)).iter().take_while(|b| inside(**b)).count()
    }

    /// Whether a value can begin here: no letter or digit before it, but for `\n`, `%3A` and a name
    /// before a number, and no decimal stop.
    pub(super) fn begins(&self, at: usize) -> bool {
        match self.back(at, 1) {
            b'_' => !self.back(at, 2).is_ascii_alphanumeric(),
            b'.' => !self.back(at, 2).is_ascii_digit(),
            before if before.is_ascii_alphabetic() => self.is_escaped(at) || self.is_named(at),
            before => !before.is_ascii_digit() || self.is_escaped(at),
        }
    }

    /// Whether a name stands right before a number: `visa4111…`, `Tel+49…`; `a1b2` is one word.
    fn is_named(&self, at: usize) -> bool {
        let letters =
            self.part(at.saturating_sub(NAME.1 + 1), at).iter().rev().take_while(|b| b.is_ascii_alphabetic());
        let length = letters.count();
        (NAME.0..=NAME.1).contains(&length)
            && !self.back(at, length + 1).is_ascii_alphanumeric()
            && !self.at(at).is_ascii_alphabetic()
    }

    /// Whether what stands before is an escaped character: `\n` of JSON, `%3A` of a URL.
    fn is_escaped(&self, at: usize) -> bool {
        (self.back(at, 2) == b'\\' && matches!(self.back(at, 1), b'n' | b'r' | b't'))
            || (self.back(at, 3) == b'%'
                && self.back(at, 2).is_ascii_hexdigit()
                && self.back(at, 1).is_ascii_hexdigit())
    }

    /// Whether a value can end here: no letter or digit follows, but behind one `_` of emphasis.
    pub(super) fn ends(&self, at: usize) -> bool {
        match self.at(at) {
            b'_' => !self.at(at + 1).is_ascii_alphanumeric(),
            after => !after.is_ascii_alphanumeric(),
        }
    }

    /// Where the value begins in a word: behind an escape that looks like the first of its letters.
    pub(super) fn word_start(&self, at: usize) -> usize {
        [1, 2]
            .into_iter()
            .find(|skip| self.at(at + skip).is_ascii_alphanumeric() && self.is_escaped(at + skip))
            .map_or(at, |skip| at + skip)
    }

    /// Value of the digit here.
    pub(super) fn digit(&self, at: usize) -> Option<u32> {
        Some(self.at(at)).filter(u8::is_ascii_digit).map(|b| u32::from(b - b'0'))
    }
}
