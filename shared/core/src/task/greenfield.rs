//! Greenfields: places in the queue of a labourer, and the range of them that the tasks of one run take.

use std::fmt;

/// A place in the queue of a labourer, in billionths of a second, as sosw's `greenfield` attribute counts it.
///
/// Written as a plain decimal (`2000`, `1709700000.25`), which DynamoDB keeps exactly (38 digits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Greenfield(i128);

const NANOS: i128 = 1_000_000_000;
/// Beyond 10^20 seconds nothing is a time: bounds every sum below the range of `i128`.
const LARGEST: i128 = 100_000_000_000_000_000_000 * NANOS;

impl Greenfield {
    /// The beginning of the queue.
    pub const ZERO: Self = Self(0);

    /// Before every other.
    pub const FIRST: Self = Self(-LARGEST);
    /// After every other.
    pub const LAST: Self = Self(LARGEST);

    /// From billionths.
    pub const fn from_nanos(nanos: i128) -> Self {
        Self(nanos)
    }

    /// In billionths.
    pub const fn nanos(self) -> i128 {
        self.0
    }

    /// From milliseconds since 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis as i128 * 1_000_000)
    }

    /// Reads a decimal number as DynamoDB writes it (`-12.5`, `1.7E9`); digits past the ninth decimal are cut off.
    /// `None` if it is no number or lies beyond 10^20.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut nanos: i128 = 0;
        // The weight of a digit is 10^weight billionths; digits lighter than one billionth are cut off.
        let mut weight = i32::try_from(whole.len())
            .ok()?
            .checked_add(exponent)?
            .checked_add(8)?;
        for digit in whole.bytes().chain(fraction.bytes()) {
            if !digit.is_ascii_digit() {
                return None;
            }
            let digit = i128::from(digit - b'0');
            if digit != 0 && weight >= 0 {
                let scale = 10_i128.checked_pow(u32::try_from(weight).ok()?)?;
                nanos = nanos.checked_add(digit.checked_mul(scale)?)?;
            }
            weight = weight.checked_sub(1)?;
        }
        (nanos <= LARGEST).then_some(Self(if negative { -nanos } else { nanos }))
    }

    /// This place, `count` steps on.
    pub fn advanced(self, step: Self, count: u64) -> Self {
        Self(self.0.saturating_add(step.0.saturating_mul(i128::from(count))))
    }
}

impl fmt::Display for Greenfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, fraction) = (
            self.0.unsigned_abs() / NANOS as u128,
            self.0.unsigned_abs() % NANOS as u128,
        );
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:09}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

/// Greenfields of the tasks of a run: the first one and the distance between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GreenfieldRange {
    /// Greenfield of row 0.
    pub first: Greenfield,
    /// From one row to the next; at least a billionth.
    pub step: Greenfield,
}

impl GreenfieldRange {
    /// Lays `rows` tasks behind `base`, the newest greenfield in the queue that is not after `now`, so that none of
    /// them is after `now`: there a greenfield means that the task is running.
    ///
    /// An empty queue begins one step after zero, as in sosw (`get_oldest_greenfield_for_labourer`). Where sosw's step
    /// would run past `now` it shrinks to `(now - base) / (rows + 1)`.
    pub fn behind(base: Option<Greenfield>, step: Greenfield, now: Greenfield, rows: u64) -> Self {
        let slots = i128::from(rows) + 1;
        let configured = step.0.max(1);
        // Room for a billionth a row at least, also when the queue's end is at this very moment.
        let base = base.map_or(configured, |base| base.0).min(now.0 - slots);
        let step = configured.min((now.0 - base) / slots).max(1);
        Self {
            first: Greenfield(base + step),
            step: Greenfield(step),
        }
    }

    /// Greenfield of row `row`, counted from 0.
    pub fn at(&self, row: u64) -> Greenfield {
        self.first.advanced(self.step, row)
    }
}
