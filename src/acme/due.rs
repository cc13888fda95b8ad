//! When a certificate has to be asked for, and how long to wait after a failure.
//!
//! A core: certificates come as bytes and times as arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The part of a certificate's life that is left when the next one is asked for: one in so many.
const LEFT: u32 = 3;

/// The longest wait after a failure.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(6 * 3600);

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// From then on it is good.
    pub not_before: SystemTime,
    /// Until then.
    pub not_after: SystemTime,
    /// DNS names that it is for.
    pub names: Vec<String>,
    /// It vouches for itself alone.
    pub self_signed: bool,
}

impl Facts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let fault = |what: &str| format!("the certificate's {what} cannot be read");
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| fault("form"))?;
        let time = |seconds: i64| {
            let seconds = u64::try_from(seconds).ok()?;
            UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
        };
        let validity = certificate.validity();
        let not_before = time(validity.not_before.timestamp()).ok_or_else(|| fault("begin"))?;
        let not_after = time(validity.not_after.timestamp()).ok_or_else(|| fault("end"))?;
        let alternative = certificate.subject_alternative_name().map_err(|_| fault("names"))?;
        let names = alternative.iter().flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        Ok(Self {
            not_before,
            not_after,
            names: names.collect(),
            self_signed: certificate.issuer() == certificate.subject(),
        })
    }

    /// When the next one is to be asked for: when a third of its life is left.
    pub fn renews_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_after.checked_sub(life / LEFT).unwrap_or(UNIX_EPOCH)
    }
}

/// How long to wait until a certificate for `domains` is asked for, `now` being the time and `shown`
/// the one that is there.
pub(super) fn wait(shown: Option<&Facts>, domains: &[String], now: SystemTime) -> Duration {
    let good = shown.filter(|facts| {
        !facts.self_signed && domains.iter().all(|name| facts.names.contains(name))
    });
    good.map_or(Duration::ZERO, |facts| facts.renews_at().duration_since(now).unwrap_or_default())
}

/// How long to wait after so many failures in a row, `first` being the wait after one. `chance` lies in
/// 0 to 1: nodes that were started together do not ask again in the same moment.
pub(super) fn wait_after(failures: u32, first: Duration, chance: f64) -> Duration {
    let wait = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(WAIT_MAX);
    wait.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn certified(names: &[&str], self_signed: bool) -> Facts {
        let begin = UNIX_EPOCH + 20_000 * DAY;
        let names = names.iter().map(ToString::to_string).collect();
        Facts { not_before: begin, not_after: begin + 90 * DAY, names, self_signed }
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let facts = certified(&["a.example", "b.example"], false);
        let domains = ["b.example".to_owned()];
        assert_eq!(wait(Some(&facts), &domains, facts.not_before), 60 * DAY);
        assert_eq!(wait(Some(&facts), &domains, facts.not_before + 59 * DAY), DAY);
        assert_eq!(wait(Some(&facts), &domains, facts.not_after + DAY), Duration::ZERO);
    }

    #[test]
    fn one_that_is_not_there_or_of_others_or_of_our_own_making_is_asked_for_at_once() {
        let domains = ["a.example".to_owned(), "b.example".to_owned()];
        let now = UNIX_EPOCH + 20_001 * DAY;
        assert_eq!(wait(None, &domains, now), Duration::ZERO);
        assert_eq!(wait(Some(&certified(&["a.example"], false)), &domains, now), Duration::ZERO);
        let own = certified(&["a.example", "b.example"], true);
        assert_eq!(wait(Some(&own), &domains, now), Duration::ZERO);
    }

    #[test]
    fn waits_double_up_to_six_hours_and_chance_spreads_them() {
        let first = Duration::from_secs(300);
        let waits: Vec<u64> = (1..9).map(|n| wait_after(n, first, 1.0).as_secs()).collect();
        assert_eq!(waits, [300, 600, 1200, 2400, 4800, 9600, 19_200, 21_600]);
        assert_eq!(wait_after(1, first, 0.0).as_secs(), 225);
        assert_eq!(wait_after(u32::MAX, Duration::MAX, 1.0), WAIT_MAX);
    }

    #[test]
    fn a_certificate_of_our_own_making_is_read_and_rubbish_is_refused() {
        let names = vec!["Live.example".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let facts = Facts::read(made.cert.der()).unwrap();
        assert_eq!((facts.names, facts.self_signed), (vec!["live.example".to_owned()], true));
        assert!(facts.not_before < facts.not_after);
        assert!(Facts::read(&made.cert.der()[..100]).is_err());
        assert!(Facts::read(b"").is_err());
    }
}
