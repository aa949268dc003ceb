//! One pass over the bytes of a text that finds what can be a number or a key, and asks the recognisers about it.
//!
//! Nearly all of prose is short words without a digit; they are passed by without a second look.

use memchr::{memchr_iter, memchr2_iter};

use super::context::Context;
use super::text::Text;
use super::{Kind, address, cards, email, iban, keys, named, phone, ssn, urls};

/// Shortest token without a digit that can be a key.
const MIN_TOKEN: usize = 16;
/// Class of a byte that is no part of a token, of one that is, and of digits.
const OUTSIDE: u8 = 0;
/// See [`OUTSIDE`].
const INSIDE: u8 = 1;
/// See [`OUTSIDE`].
const DIGIT: u8 = 2;
/// The class of each byte.
const CLASSES: [u8; 256] = classes();

/// Tokens are of letters, digits and what stands within keys and numbers.
const fn classes() -> [u8; 256] {
    let mut classes = [OUTSIDE; 256];
    let mut byte = 0;
    while byte < 128 {
        let inside = (byte as u8).is_ascii_alphabetic()
            || matches!(byte as u8, b'_' | b'-' | b'+' | b'/' | b'.' | b'~');
        classes[byte] = if (byte as u8).is_ascii_digit() {
            DIGIT
        } else if inside {
            INSIDE
        } else {
            OUTSIDE
        };
        byte += 1;
    }
    classes
}

/// A candidate that passed all checks of its kind.
#[derive(Debug)]
pub(super) struct Found {
    /// What it is.
    pub(super) kind: Kind,
    /// Its first byte in the folded text.
    pub(super) start: usize,
    /// One past its last byte.
    pub(super) end: usize,
}

/// A text while it is read.
struct Scan<'a> {
    /// The folded text.
    text: Text<'a>,
    /// What the words near a value say.
    context: &'a Context,
    /// Everything so far, in any order, overlapping.
    found: Vec<Found>,
    /// End of the last number: digits before it belong to that.
    taken: usize,
}

/// Everything that the shipped recognisers find in a folded text, in any order, overlapping.
pub(super) fn find(text: &str, context: &Context) -> Vec<Found> {
    let mut scan = Scan { text: Text::new(text), context, found: Vec::new(), taken: 0 };
    scan.tokens();
    scan.signs();
    scan.found
}

impl Scan<'_> {
    /// Notes a value.
    fn note(&mut self, kind: Kind, start: usize, end: usize) {
        self.found.push(Found { kind, start, end });
    }

    /// Values that have a sign: `@`, `%40`, `:`, `://`, `?`, `&`.
    fn signs(&mut self) {
        let text = self.text;
        for at in memchr2_iter(b'@', b'%', text.bytes) {
            if let Some((start, end)) = email::email(&text, at) {
                self.note(Kind::Email, start, end);
            }
        }
        let mut read = 0;
        for at in memchr_iter(b':', text.bytes) {
            if text.part(at, at + 3) == b"://" {
                if let Some((start, end)) = urls::login(&text, at).or_else(|| urls::hook(&text, at)) {
                    self.note(Kind::UrlSecret, start, end);
                }
            } else if at >= read
                && let Some((start, end)) = address::ipv6(&text, at)
            {
                self.note(Kind::Ipv6, start, end);
                read = end;
            }
        }
        urls::parameters(&text, |start, end| self.note(Kind::UrlSecret, start, end));
    }

    /// Numbers and keys.
    fn tokens(&mut self) {
        let bytes = self.text.bytes;
        let class =
            |at: usize| bytes.get(at).and_then(|b| CLASSES.get(usize::from(*b))).copied().unwrap_or(OUTSIDE);
        let mut at = 0;
        while at < bytes.len() {
            if class(at) == OUTSIDE {
                at += 1;
                continue;
            }
            let (start, mut seen) = (at, 0);
            while class(at) != OUTSIDE {
                seen |= class(at);
                at += 1;
            }
            let length = at - start;
            if seen & DIGIT != 0 || length >= MIN_TOKEN {
                self.token(start, at);
            }
            if length >= keys::BEGIN.len()
                && let Some((start, end)) = keys::private(&self.text, at)
            {
                self.note(Kind::Key, start, end);
            }
        }
    }

    /// One token with a digit, or a long one.
    fn token(&mut self, start: usize, end: usize) {
        let text = self.text;
        let begin = text.word_start(start);
        if let Some((start, end)) = named::named(&text, begin, end, self.context) {
            self.note(Kind::Key, start, end);
        }
        let mut at = start;
        while at < end {
            if !text.at(at).is_ascii_alphanumeric() {
                at += 1;
                continue;
            }
            let stop = text.run(at, end - at, |b| b.is_ascii_alphanumeric());
            let begin = text.word_start(at);
            if let Some(end) = keys::prefixed(&text, begin) {
                self.note(Kind::Key, begin, end);
            }
            if begin >= self.taken {
                let name = text.run(begin, stop - begin, |b| b.is_ascii_alphabetic());
                if text.digit(name).is_some() && (name == begin || text.begins(name)) {
                    self.number(name);
                } else if let Some(end) = iban::iban(&text, begin) {
                    self.note(Kind::Iban, begin, end);
                    self.taken = end;
                }
            }
            at = stop;
        }
    }

    /// What the number that begins here is.
    fn number(&mut self, at: usize) {
        let text = self.text;
        let whole = |kind: Kind, end: usize| (kind, at, end);
        let number = address::ipv4(&text, at, self.context)
            .map(|end| whole(Kind::Ipv4, end))
            .or_else(|| cards::card(&text, at).map(|end| whole(Kind::Card, end)))
            .or_else(|| ssn::ssn(&text, at, self.context).map(|end| whole(Kind::Ssn, end)))
            .or_else(|| phone::phone(&text, at, self.context).map(|(start, end)| (Kind::Phone, start, end)));
        if let Some((kind, start, end)) = number {
            self.note(kind, start, end);
            self.taken = end;
        }
    }
}
