//! Addresses of machines: IPv4 and IPv6. Loopback, unspecified and networks are nobody's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::context::{Context, Topic};
use super::text::Text;

/// Longest text of an address of version 4, and of version 6.
const LONGEST: (usize, usize) = (15, 45);
/// Bytes around an address in which a word can say that it is the version of a program.
const NEAR: (usize, usize) = (48, 24);

/// End of the address of version 4 that begins at this digit.
pub(super) fn ipv4(text: &Text, at: usize, context: &Context) -> Option<usize> {
    let before = text.back(at, 1);
    // The stop of a sentence is no part of it; Chrome/126.0.0.0 is a program.
    let attached =
        matches!(before, b'.' | b'-' | b'_') || (before == b'/' && text.back(at, 2).is_ascii_alphabetic());
    if attached || !text.begins(at) {
        return None;
    }
    let mut end = text.run(at, LONGEST.0 + 1, |b| b.is_ascii_digit() || b == b'.');
    if text.back(end, 1) == b'.' {
        end -= 1;
    }
    let part = text.text.get(at..end).filter(|part| part.bytes().filter(|b| *b == b'.').count() == 3)?;
    let address: Ipv4Addr = part.parse().ok()?;
    let goes_on = !text.ends(end) || (text.at(end) == b'-' && text.at(end + 1).is_ascii_alphanumeric());
    if goes_on || !is_hosts(address) || is_network(text, end, address.into()) {
        return None;
    }
    let before = context.before(text, at, NEAR.0);
    let clause = text.run(end, NEAR.1, |b| !matches!(b, b';' | b',' | b'\n')) - end;
    let versioned = before.says(Topic::Version, &[Topic::Address])
        || (!before.has(Topic::Address) && context.after(text, end, clause).has(Topic::Version));
    (!versioned).then_some(end)
}

/// Whether one machine can have this address.
fn is_hosts(address: Ipv4Addr) -> bool {
    !matches!(address.octets(), [0 | 127 | 224.., ..])
}

/// Beginning and end of the address of version 6 with its first colon here.
pub(super) fn ipv6(text: &Text, at: usize) -> Option<(usize, usize)> {
    let inside = |b: u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
    if !inside(text.at(at + 1)) || text.at(at + 1) == b'.' {
        return None;
    }
    let digits =
        text.part(at.saturating_sub(4), at).iter().rev().take_while(|b| b.is_ascii_hexdigit()).count();
    let start = at - digits;
    if !text.begins(start) || matches!(text.back(start, 1), b':' | b'.') {
        return None;
    }
    let mut end = text.run(at, LONGEST.1, inside);
    while end > at + 2
        && (text.back(end, 1) == b'.' || (text.back(end, 1) == b':' && text.back(end, 2) != b':'))
    {
        end -= 1;
    }
    let address: Ipv6Addr = text.text.get(start..end)?.parse().ok()?;
    let goes_on = !text.ends(end) || text.at(end) == b':';
    (!goes_on && is_routed(address) && !is_network(text, end, address.into())).then_some((start, end))
}

/// Whether it is in a range that machines use; `a::b` of a program is not.
fn is_routed(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x2000..=0x3fff | 0xfc00..=0xfdff | 0xfe80..=0xfebf, ..] => true,
        [0, 0, 0, 0, 0, 0xffff, ..] => address.to_ipv4_mapped().is_some_and(is_hosts),
        [0x64, 0xff9b, ..] => true,
        _ => false,
    }
}

/// Whether a prefix length follows and the address has no bits behind it: a network, not a machine in it.
fn is_network(text: &Text, end: usize, address: IpAddr) -> bool {
    if text.at(end) != b'/' {
        return false;
    }
    let stop = text.run(end + 1, 3, |b| b.is_ascii_digit());
    let length: Option<u32> = text.text.get(end + 1..stop).and_then(|digits| digits.parse().ok());
    let (bits, width): (u128, u32) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    length
        .and_then(|length| width.checked_sub(length))
        .is_some_and(|host| bits.trailing_zeros() >= host && host > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the text, up to a blank, is an address of version 4.
    fn v4(text: &str) -> bool {
        let at = text.find(|c: char| c.is_ascii_digit()).unwrap();
        ipv4(&Text::new(text), at, &Context::new()).is_some()
    }

    /// What is recognised at the first colon.
    fn v6(text: &str) -> Option<&str> {
        let (start, end) = ipv6(&Text::new(text), text.find(':')?)?;
        text.get(start..end)
    }

    #[test]
    fn addresses_of_version_4() {
        for text in [
            "203.0.113.7",
            "from 10.0.0.1.",
            "http://192.168.1.5:8080/",
            "inet 192.168.1.5/24",
            "10.0.0.1/32",
        ] {
            assert!(v4(text), "{text}");
        }
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.0/8",
            "256.1.1.1",
            "1.2.3.4.5",
            "1.2.3",
            "v1.2.3.4",
            "version 1.2.3.4",
            "is 1.2.3.4 the newest version",
            "255.255.255.0",
            "Chrome/126.0.0.1",
            "1.2.3.4-rc1",
        ] {
            assert!(!v4(text), "{text}");
        }
    }

    #[test]
    fn addresses_of_version_6() {
        for address in [
            "2001:db8::1",
            "fe80::b1b5:d3ff:febd:d6e5",
            "::ffff:203.0.113.116",
            "fdba:8086:3388::3c",
            "2001:0db8:77cc:bdd1:9b00:e59d:d6c4:4593",
            "2001:DB8::",
        ] {
            assert_eq!(v6(&format!("[{address}]")), Some(address));
            assert_eq!(v6(&format!("at {address}, yes")), Some(address));
        }
        for text in [
            "::1",
            "std::map",
            "dead::beef::cafe",
            "a[::2]",
            "12:34:56",
            "fe::add::run()",
            "2001:db8::/32",
            "aa:bb:cc:dd:ee:ff",
            "2001:db8::1::2",
            "x2001:db8::1",
        ] {
            assert_eq!(v6(text), None, "{text}");
        }
    }
}
