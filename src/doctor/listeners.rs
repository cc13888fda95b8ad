//! The addresses that a node with these settings listens on: whether they can be had, or whether the
//! running node answers there.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use tokio::net::TcpStream;

use super::TRY_LIMIT;
use super::findings::Findings;
use crate::config::{Role, Settings};

/// A listener of the settings.
pub(super) struct Listener {
    pub(super) setting: &'static str,
    pub(super) address: SocketAddr,
    pub(super) udp: bool,
}

/// Every listener that a node with these settings starts.
pub(super) fn of(settings: &Settings) -> Vec<Listener> {
    let tcp = |setting, address| Listener { setting, address, udp: false };
    let udp = |setting, address| Listener { setting, address, udp: true };
    let Settings { rtmp, rtmps, rtsp, rtsps, srt, http, webrtc, playback, .. } = settings;
    let mut list = vec![
        tcp("admin.listen", settings.admin.listen),
        tcp("metrics.listen", settings.metrics.listen),
    ];
    if settings.acme.is_on() {
        list.extend(settings.acme.listen.iter().map(|address| tcp("acme.listen", *address)));
    }
    if settings.roles.contains(&Role::Orchestrator) {
        list.push(tcp("orchestrator.listen", settings.orchestrator.listen));
    }
    if !settings.roles.contains(&Role::Gateway) {
        return list;
    }
    list.push(tcp("http.listen", http.listen));
    list.push(udp("webrtc.listen", webrtc.listen));
    if webrtc.tcp {
        list.push(tcp("webrtc.listen", webrtc.listen));
    }
    if rtmp.enabled {
        list.push(tcp("rtmp.listen", rtmp.listen));
    }
    if rtmps.enabled {
        list.push(tcp("rtmps.listen", rtmps.listen));
    }
    if srt.enabled {
        list.push(udp("srt.listen", srt.listen));
    }
    if rtsp.enabled {
        list.push(tcp("rtsp.listen", rtsp.listen));
        if rtsps.enabled {
            list.push(tcp("rtsps.listen", rtsps.listen));
        }
        if rtsp.udp {
            list.push(udp("rtsp.udp_listen", rtsp.udp_listen));
            list.extend(rtcp(rtsp.udp_listen).map(|address| udp("rtsp.udp_listen", address)));
        }
    }
    if playback.enabled {
        list.push(tcp("playback.listen", playback.listen));
    }
    list
}

/// Where RTCP is spoken beside RTP; of any free port it is not known.
fn rtcp(rtp: SocketAddr) -> Option<SocketAddr> {
    let port = rtp.port().checked_add(1).filter(|_| rtp.port() != 0)?;
    Some(SocketAddr::new(rtp.ip(), port))
}

/// Where this machine reaches what listens on an address.
pub(super) fn here(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.is_ipv4() {
            true => Ipv4Addr::LOCALHOST.into(),
            false => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

impl Listener {
    fn subject(&self) -> String {
        let kind = if self.udp { "udp" } else { "tcp" };
        format!("{} {}/{kind}", self.setting, self.address)
    }

    /// Whether the address can be had.
    pub(super) fn tried(&self, found: &mut Findings) {
        let bound = match self.udp {
            true => UdpSocket::bind(self.address).map(drop),
            false => TcpListener::bind(self.address).map(drop),
        };
        let why = |error: std::io::Error| match error.kind() {
            ErrorKind::AddrInUse => {
                "another program has this port: end it, or choose another port".to_owned()
            }
            ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
            ErrorKind::PermissionDenied => {
                "the system does not allow it: ports below 1024 need more rights".to_owned()
            }
            _ => error.to_string(),
        };
        found.result(self.subject(), "can be had", bound.map_err(why));
    }

    /// Whether the running node answers there.
    pub(super) async fn called(&self, found: &mut Findings) {
        let address = here(self.address);
        let result = match self.udp {
            true => {
                // Nobody answers a stranger over UDP; that the port is taken is what can be known.
                let bound = UdpSocket::bind(address);
                let taken = bound.err().is_some_and(|error| error.kind() == ErrorKind::AddrInUse);
                taken.then_some(()).ok_or_else(|| {
                    "nobody listens there: the node runs with other settings".to_owned()
                })
            }
            false => match tokio::time::timeout(TRY_LIMIT, TcpStream::connect(address)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("nobody answers there: {error}")),
                Err(_) => Err(format!("nobody answers there within {TRY_LIMIT:?}")),
            },
        };
        found.result(self.subject(), "is served", result);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::findings::State;
    use super::*;

    /// All that can be switched on is.
    fn everything() -> Settings {
        let mut settings = Settings::default();
        settings.acme.domains = vec!["live.example".into()];
        settings.acme.listen = vec!["127.0.0.1:8080".parse().unwrap()];
        settings.playback.enabled = true;
        settings
    }

    fn named(settings: &Settings) -> Vec<(&'static str, String, bool)> {
        let listed = of(settings).into_iter();
        listed.map(|l| (l.setting, l.address.to_string(), l.udp)).collect()
    }

    #[test]
    fn every_address_that_the_settings_name_is_looked_at() {
        let table = toml::Table::try_from(Settings::default()).unwrap();
        let mut wanted = BTreeSet::new();
        for (section, value) in &table {
            let keys = value.as_table().into_iter().flat_map(|table| table.keys());
            let listens = keys.filter(|key| key.ends_with("listen"));
            wanted.extend(listens.map(|key| format!("{section}.{key}")));
        }
        let listed: BTreeSet<String> =
            of(&everything()).iter().map(|listener| listener.setting.to_owned()).collect();
        assert_eq!(listed, wanted);
    }

    #[test]
    fn what_is_not_started_is_not_looked_at() {
        let mut settings = everything();
        let all = named(&settings);
        for port in ["127.0.0.1:8000", "127.0.0.1:8001"] {
            assert!(all.contains(&("rtsp.udp_listen", port.into(), true)), "{all:?}");
        }
        assert_eq!(all.iter().filter(|(setting, ..)| *setting == "webrtc.listen").count(), 2);
        // RTSP in TLS belongs to RTSP.
        settings.rtsp.enabled = false;
        settings.acme.domains.clear();
        let fewer = named(&settings);
        let gone = ["rtsp.listen", "rtsps.listen", "rtsp.udp_listen", "acme.listen"];
        assert!(!fewer.iter().any(|(setting, ..)| gone.contains(setting)), "{fewer:?}");
        assert_eq!(fewer.len(), all.len() - 5);
        settings.roles = vec![Role::Orchestrator];
        let worker: Vec<&str> = named(&settings).into_iter().map(|(setting, ..)| setting).collect();
        assert_eq!(worker, ["admin.listen", "metrics.listen", "orchestrator.listen"]);
    }

    #[test]
    fn any_free_pair_of_ports_has_no_second_one_to_look_at() {
        let mut settings = Settings::default();
        settings.rtsp.udp_listen.set_port(0);
        let all = named(&settings);
        assert_eq!(all.iter().filter(|(setting, ..)| *setting == "rtsp.udp_listen").count(), 1);
    }

    #[test]
    fn a_port_that_another_program_has_is_named_and_an_address_of_nobody_too() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let mut found = Findings::default();
        Listener { setting: "rtmp.listen", address, udp: false }.tried(&mut found);
        let nobody = "192.0.2.7:8890".parse().unwrap();
        Listener { setting: "srt.listen", address: nobody, udp: true }.tried(&mut found);
        let [first, second] = &found.0[..] else { panic!("{:?}", found.0) };
        assert_eq!((first.state, second.state), (State::Fails, State::Fails));
        assert!(
            first.subject.contains(&address.to_string()) && first.text.contains("another program"),
            "{first:?}"
        );
        assert!(second.text.contains("no such address"), "{second:?}");
    }

    #[tokio::test]
    async fn a_listener_that_answers_is_served_and_one_that_does_not_is_named() {
        let (tcp, udp) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let (mut found, any) = (Findings::default(), Ipv4Addr::UNSPECIFIED);
        let mut addresses = [tcp.local_addr().unwrap(), udp.local_addr().unwrap()];
        // A node that listens on all addresses is called on this machine's own.
        addresses.iter_mut().for_each(|address| address.set_ip(any.into()));
        let [tcp_address, udp_address] = addresses;
        let listeners = [
            Listener { setting: "rtmp.listen", address: tcp_address, udp: false },
            Listener { setting: "srt.listen", address: udp_address, udp: true },
        ];
        for listener in &listeners {
            listener.called(&mut found).await;
        }
        drop((tcp, udp));
        for listener in &listeners {
            listener.called(&mut found).await;
        }
        let states: Vec<State> = found.0.iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Ok, State::Ok, State::Fails, State::Fails], "{:?}", found.0);
    }
}
