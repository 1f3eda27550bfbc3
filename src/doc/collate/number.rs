//! Numbers of JSON as decimal fractions: compared and encoded by their digits, never rounded.

use std::cmp::Ordering;

/// Exponents beyond it, which no number means in earnest, count as it.
const EXPONENT_MAX: i64 = 1 << 60;

/// A number as `0.DIGITS × 10^exponent`; zero has no digits.
struct Decimal {
    negative: bool,
    exponent: i64,
    /// Without zeros at either end.
    digits: Vec<u8>,
}

impl Decimal {
    /// Reads a number of JSON's grammar.
    fn read(text: &str) -> Self {
        let negative = text.starts_with('-');
        let text = text.trim_start_matches('-');
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let leading = digits.iter().take_while(|&&digit| digit == b'0').count();
        digits.drain(..leading);
        let trailing = digits.iter().rev().take_while(|&&digit| digit == b'0').count();
        digits.truncate(digits.len() - trailing);
        let count = |count: usize| i64::try_from(count).expect("a text is shorter than 2^63");
        let shift = count(whole.len()) - count(leading);
        if digits.is_empty() {
            return Self { negative: false, exponent: 0, digits };
        }
        let exponent = (read_exponent(exponent) + shift).clamp(-EXPONENT_MAX, EXPONENT_MAX);
        Self { negative, exponent, digits }
    }

    fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// Below zero, zero, above zero.
    fn sign(&self) -> u8 {
        match (self.is_zero(), self.negative) {
            (true, _) => 1,
            (false, true) => 0,
            (false, false) => 2,
        }
    }
}

fn read_exponent(text: &str) -> i64 {
    text.parse()
        .unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX })
        .clamp(-EXPONENT_MAX, EXPONENT_MAX)
}

/// Whether a number is written as an integer, and short enough to be read as one at once.
fn small_integer(text: &str) -> Option<i64> {
    const DIGITS_MAX: usize = 18;
    let plain = text.len() <= DIGITS_MAX && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    plain.then(|| text.parse().ok()).flatten()
}

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    if let (Some(a), Some(b)) = (small_integer(a), small_integer(b)) {
        return a.cmp(&b);
    }
    let (a, b) = (Decimal::read(a), Decimal::read(b));
    a.sign().cmp(&b.sign()).then_with(|| {
        let order = a.exponent.cmp(&b.exponent).then_with(|| a.digits.cmp(&b.digits));
        if a.negative { order.reverse() } else { order }
    })
}

/// Appends the sign (0, 1 or 2), the exponent as eight bytes moved above zero, and the digits, two
/// in each byte, from 1 to 100, ended by 0. Below zero the bytes after the sign are inverted.
pub(super) fn encode(text: &str, out: &mut Vec<u8>) {
    let number = Decimal::read(text);
    out.push(number.sign());
    if number.is_zero() {
        return;
    }
    let start = out.len();
    let exponent = u64::try_from(number.exponent + EXPONENT_MAX).expect("it is clamped");
    out.extend_from_slice(&exponent.to_be_bytes());
    for pair in number.digits.chunks(2) {
        let low = pair.get(1).map_or(0, |digit| digit - b'0');
        out.push((pair[0] - b'0') * 10 + low + 1);
    }
    out.push(super::END);
    if number.negative {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}
