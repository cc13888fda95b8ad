//! Points in time as names of files and the API have them: microseconds, always in UTC, so that
//! neither a change of the clock for summer nor a move of the machine mixes up recordings.

use std::fmt;
use std::time::{Duration, SystemTime};

const SECOND: i64 = 1_000_000;
const DAY_SECONDS: i64 = 86_400;

/// The years that have a date here: four digits.
const YEARS: std::ops::RangeInclusive<i64> = 1970..=9999;

/// Microseconds since 1970-01-01 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

/// A moment's parts in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    pub(super) micros: i64,
}

impl Moment {
    /// The system's time as one; times before 1970 are 1970.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// The moment `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` it is; nothing if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds since 1970.
    pub(super) fn seconds(self) -> i64 {
        self.0.div_euclid(SECOND)
    }

    /// Its parts. Days into dates after H. Hinnant's "chrono-compatible low-level date algorithms":
    /// years begin in March, so that the day that comes and goes is the last of a year.
    pub(super) fn date(self) -> Date {
        let (seconds, micros) = (self.0.div_euclid(SECOND), self.0.rem_euclid(SECOND));
        let (days, rest) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096).div_euclid(365);
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Date {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            micros,
        }
    }

    /// Reads RFC 3339: `2026-11-21T16:05:09.25Z` or with an offset.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.split_once(['T', 't', ' '])?;
        let mut date = date.splitn(3, '-').map(digits);
        let (year, month, day) = (date.next()??, date.next()??, date.next()??);
        let (time, offset) = match time.strip_suffix(['Z', 'z']) {
            Some(time) => (time, 0),
            None => {
                // In a query a plus that was not escaped has become a space.
                let at = time.rfind(['+', '-', ' '])?;
                let (hours, minutes) = time[at + 1..].split_once(':')?;
                let (hours, minutes) = (digits(hours)?, digits(minutes)?);
                let seconds = (hours.checked_mul(60)? + minutes).checked_mul(60)?;
                let east = if time[at..].starts_with('-') { -1 } else { 1 };
                (&time[..at], (seconds <= DAY_SECONDS).then_some(seconds * east)?)
            }
        };
        let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let mut time = time.splitn(3, ':').map(digits);
        let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
        let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
        let micros = digits(&fraction)?;
        let moment = Date { year, month, day, hour, minute, second, micros }.moment()?;
        let moment = Self(moment.0 - offset * SECOND);
        YEARS.contains(&moment.date().year).then_some(moment)
    }
}

impl Date {
    /// The moment, if there is such a date.
    pub(super) fn moment(self) -> Option<Moment> {
        let Self { year, month, day, hour, minute, second, micros } = self;
        let fits = YEARS.contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..=60).contains(&second)
            && (0..SECOND).contains(&micros);
        if !fits {
            return None;
        }
        let shifted = if month <= 2 { year - 1 } else { year };
        let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
        let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        let seconds = days * DAY_SECONDS + hour * 3600 + minute * 60 + second;
        Some(Moment(seconds * SECOND + micros))
    }
}

fn digits(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Moment {
    /// RFC 3339 in UTC with microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Date { year, month, day, hour, minute, second, micros } = self.date();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_dates_are_told_and_read() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (4_107_542_399_999_999, "2100-02-28T23:59:59.999999Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(Moment(micros).to_string(), text);
            assert_eq!(Moment::parse(text), Some(Moment(micros)));
        }
        assert_eq!(Moment::parse("1970-01-01T02:00:00.5+02:00"), Some(Moment(500_000)));
        assert_eq!(Moment::parse("1970-01-01T02:00:00 02:00"), Some(Moment(0)));
        assert_eq!(Moment::parse("1969-12-31T22:00:00-02:00"), None);
        for bad in ["", "1970-01-01", "1970-13-01T00:00:00Z", "1970-01-01T00:00:00", "x-y-zT1:2:3Z"]
        {
            assert_eq!(Moment::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_survives_its_text(micros in 0_i64..253_402_300_799_999_999) {
            prop_assert_eq!(Moment::parse(&Moment(micros).to_string()), Some(Moment(micros)));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", offset in any::<i64>()) {
            let _ = Moment::parse(&text);
            let _ = Moment::parse(&format!("2026-01-01T00:00:00+{offset}:00"));
        }
    }
}
