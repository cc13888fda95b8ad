//! `millstream doctor`: says which port, address, candidate or client fails, and why.
//!
//! Without a running node the listeners' addresses are tried; with one (it answers on `admin.listen`) its
//! listeners are called and its clients looked at. Nothing is changed.

mod certificate;
mod findings;
mod listeners;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::net::TcpStream;
use url::Url;

use crate::access::tokens::Tokens;
use crate::config::{Loaded, Role, Settings};
use crate::edge;
use crate::identity::DataDir;
use findings::{Finding, Findings, State};

/// How long anything may take that is tried.
const TRY_LIMIT: Duration = Duration::from_secs(2);

/// How long a WebRTC client may take to connect before something must be wrong.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Looks at everything, prints it, and says whether all is well.
///
/// # Errors
/// When something fails.
#[allow(clippy::print_stdout, reason = "printing is what the command is for")]
pub fn run(loaded: &Loaded, json: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(look(&in_force(loaded)))?;
    for finding in &findings {
        match json {
            true => println!("{}", serde_json::to_string(finding)?),
            false => {
                let word = match finding.state {
                    State::Ok => "ok   ",
                    State::Note => "note ",
                    State::Fails => "FAILS",
                };
                println!("{word}  {}: {}", finding.subject, finding.text);
            }
        }
    }
    let failed = findings.iter().filter(|finding| finding.state == State::Fails).count();
    anyhow::ensure!(failed == 0, "{failed} of {} checks failed", findings.len());
    Ok(())
}

/// The settings as a node takes them.
fn in_force(loaded: &Loaded) -> Settings {
    let mut settings = loaded.settings.clone();
    if settings.public {
        edge::open_to_all(&mut settings);
    }
    settings
}

async fn look(settings: &Settings) -> Result<Vec<Finding>> {
    let mut found = Findings::default();
    let client = crate::http_client()?;
    let status = running(&client, settings).await;
    match &status {
        Some(status) => {
            let version = status["node"]["version"].as_str().unwrap_or_default();
            found.add(
                State::Ok,
                "node",
                format!("Millstream {version} runs on {}", settings.admin.listen),
            );
        }
        None => found.add(
            State::Note,
            "node",
            format!(
                "none answers on {} with these settings: addresses are tried",
                settings.admin.listen
            ),
        ),
    }
    files(settings, &mut found);
    for listener in listeners::of(settings) {
        match &status {
            Some(_) => listener.called(&mut found).await,
            None => listener.tried(&mut found),
        }
    }
    if settings.roles.contains(&Role::Gateway) {
        candidates(settings, status.is_some(), &mut found);
    }
    programs(settings, &mut found);
    others(&client, settings, &mut found).await;
    if let Some(status) = status {
        certificate::acme(&status, &mut found);
        streams(&status, &mut found);
        match ask(&client, settings, "v3/webrtcsessions/list?itemsPerPage=1000").await {
            Ok(list) => clients(&list, settings.webrtc.listen.port(), &mut found),
            Err(error) => found.add(State::Fails, "clients", format!("{error:#}")),
        }
    }
    Ok(found.0)
}

/// The status of the node that runs with these settings.
async fn running(client: &reqwest::Client, settings: &Settings) -> Option<Value> {
    ask(client, settings, "v1/status").await.ok().filter(|status| status["node"].is_object())
}

async fn ask(client: &reqwest::Client, settings: &Settings, path: &str) -> Result<Value> {
    let address = listeners::here(settings.admin.listen);
    let mut request = client.get(format!("http://{address}/{path}")).timeout(TRY_LIMIT);
    if !settings.admin.token.is_empty() {
        request = request.bearer_auth(&settings.admin.token);
    }
    Ok(request.send().await?.error_for_status()?.json().await?)
}

fn files(settings: &Settings, found: &mut Findings) {
    let subject = format!("data_dir {}", settings.data_dir.display());
    let data = match DataDir::open(&settings.data_dir) {
        Ok(data) => data,
        Err(error) => return found.add(State::Fails, subject, format!("{error:#}")),
    };
    found.add(State::Ok, subject, "can be written");
    let tokens = Tokens::open(data.join("tokens.json")).map(drop);
    found.result("tokens.json", "can be read", tokens.map_err(|error| format!("{error:#}")));
    certificate::look(&data, settings, found);
}

/// The addresses that WebRTC peers are offered.
fn candidates(settings: &Settings, runs: bool, found: &mut Findings) {
    let listen = settings.webrtc.listen;
    if listen.ip().is_loopback() {
        let text =
            "only this machine is offered an address for media: set webrtc.listen or use --public";
        found.add(State::Note, format!("candidate {listen}"), text);
    }
    let own = match listen.ip().is_unspecified() {
        true => own_address(),
        false => Some(listen.ip()),
    };
    let private = own.is_some_and(|ip| match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    });
    if private && settings.webrtc.hosts.is_empty() {
        let text = "is a private address: peers on the internet cannot reach it; set webrtc.hosts to the \
                    public address and open the port, over UDP and TCP";
        let own = own.map(|ip| SocketAddr::new(ip, listen.port()).to_string()).unwrap_or_default();
        found.add(State::Note, format!("candidate {own}"), text);
    }
    if runs {
        return;
    }
    for ip in own.into_iter().chain(settings.webrtc.hosts.iter().copied()) {
        let candidate = SocketAddr::new(ip, listen.port());
        match there_and_back(listen, ip) {
            Ok(true) => found.add(State::Ok, format!("candidate {candidate}"), "UDP sent there arrives"),
            Ok(false) => found.add(
                State::Note,
                format!("candidate {candidate}"),
                "UDP sent there from this machine does not arrive: it is not this machine's, the port is \
                 closed, or the router does not send it back in; try from outside",
            ),
            Err(error) => found.add(State::Fails, format!("candidate {candidate}"), error),
        }
    }
}

/// Whether a datagram to the candidate arrives at the listener's address.
fn there_and_back(listen: SocketAddr, candidate: IpAddr) -> Result<bool, String> {
    let fault = |error: std::io::Error| format!("cannot be tried: {error}");
    let receiver = UdpSocket::bind(listen).map_err(fault)?;
    receiver.set_read_timeout(Some(TRY_LIMIT)).map_err(fault)?;
    let port = receiver.local_addr().map_err(fault)?.port();
    let from = SocketAddr::new(
        if candidate.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        },
        0,
    );
    let sender = UdpSocket::bind(from).map_err(fault)?;
    let word = rand::random::<[u8; 16]>();
    sender.send_to(&word, SocketAddr::new(candidate, port)).map_err(fault)?;
    let mut buffer = [0; 64];
    let received = receiver.recv_from(&mut buffer);
    Ok(received.is_ok_and(|(length, _)| buffer[..length] == word))
}

/// The address that this machine speaks from to the world. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // TEST-NET-1 (RFC 5737): routed like everything else, and nobody's.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Libraries that are found at run time.
fn programs(settings: &Settings, found: &mut Findings) {
    match codecs::init() {
        Ok(versions) => found.add(State::Ok, "GStreamer", versions.gstreamer.clone()),
        Err(error) => found.add(State::Fails, "GStreamer", format!("{error:#}")),
    }
    let given = &settings.pipeline.onnxruntime;
    match gpu::onnx::Runtime::open((!given.as_os_str().is_empty()).then_some(given)) {
        Ok(_) => found.add(State::Ok, "ONNX Runtime", "models can be run"),
        Err(error) => {
            found.add(State::Note, "ONNX Runtime", format!("models cannot be run: {error}"))
        }
    }
}

/// Other programs that the settings name.
async fn others(client: &reqwest::Client, settings: &Settings, found: &mut Findings) {
    let auth = &settings.auth;
    if !auth.jwt.jwks.is_empty() {
        let answer = client.get(&auth.jwt.jwks).timeout(TRY_LIMIT).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status).map(drop);
        let answer =
            answer.map_err(|error| format!("the keys cannot be had: {}", error.without_url()));
        found.result("auth.jwt.jwks", "answers", answer);
    }
    let hooks = settings.events.webhooks.iter().enumerate();
    let named = hooks.map(|(index, hook)| (format!("events.webhooks[{index}]"), &hook.url));
    let callback = [("auth.webhook.url".to_owned(), &auth.webhook.url)];
    for (name, url) in callback.into_iter().chain(named).filter(|(_, url)| !url.is_empty()) {
        found.result(
            name,
            "can be reached",
            reached(url).await.map_err(|error| format!("{error:#}")),
        );
    }
}

/// Whether somebody listens at a URL's host and port.
async fn reached(url: &str) -> Result<()> {
    let url = Url::parse(url)?;
    let host = url.host_str().context("the URL has no host")?;
    let port = url.port_or_known_default().context("the URL has no port")?;
    let called = tokio::time::timeout(TRY_LIMIT, TcpStream::connect((host, port))).await;
    called.with_context(|| format!("no answer within {TRY_LIMIT:?}"))??;
    Ok(())
}

/// Streams that cost more than they need, and why.
fn streams(status: &Value, found: &mut Findings) {
    for stream in status["streams"].as_array().into_iter().flatten() {
        let name = format!("stream {}", stream["name"].as_str().unwrap_or_default());
        if let Some(why) = stream["webrtc"]["picture_reencoded"].as_str() {
            found.add(State::Note, name, format!("is re-encoded for viewers over WebRTC: {why}"));
        }
    }
}

/// WebRTC clients that do not get through to `port`, of the list of sessions.
fn clients(list: &Value, port: u16, found: &mut Findings) {
    for session in list["items"].as_array().into_iter().flatten() {
        let text = |key: &str| session[key].as_str().unwrap_or_default();
        let began = humantime::parse_rfc3339(text("created")).unwrap_or_else(|_| SystemTime::now());
        let late = began.elapsed().unwrap_or_default() > CONNECT_LIMIT;
        if session["peerConnectionEstablished"] == true || !late {
            continue;
        }
        let subject = format!("client {} of {}", text("remoteAddr"), text("path"));
        let why = match text("remoteCandidate") {
            "" => format!(
                "no packet of it came to port {port}: it is offered no address that it can reach, or UDP \
                 and TCP are closed on the way"
            ),
            path => format!(
                "its checks come from {path}, and the DTLS handshake does not end: something on the way \
                 lets small packets through only, or it lost what we answered"
            ),
        };
        found.add(State::Fails, subject, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;

    fn loaded(sets: &[(&str, &str)]) -> Loaded {
        let layers = sets.iter().map(|(key, value)| Layer::flag(key, value)).collect();
        Loaded::from_layers(layers).unwrap()
    }

    #[test]
    fn public_opens_what_is_on_loopback_and_leaves_addresses_that_were_chosen() {
        let settings = in_force(&loaded(&[
            ("public", "true"),
            ("auth.publish_password", "secret"),
            ("srt.listen", "192.0.2.7:8890"),
            ("playback.enabled", "true"),
        ]));
        let listed = listeners::of(&settings);
        let of = |setting: &str| {
            let listener = listed.iter().find(|listener| listener.setting == setting);
            listener.unwrap().address.to_string()
        };
        assert_eq!(of("rtmp.listen"), "0.0.0.0:1935");
        assert_eq!(of("rtsp.udp_listen"), "0.0.0.0:8000");
        assert_eq!(of("srt.listen"), "192.0.2.7:8890");
        for (setting, address) in [
            ("admin.listen", "127.0.0.1:9997"),
            ("metrics.listen", "127.0.0.1:9998"),
            ("playback.listen", "127.0.0.1:9996"),
        ] {
            assert_eq!(of(setting), address, "{setting} stays");
        }
    }

    #[test]
    fn a_client_that_does_not_get_through_is_named_with_what_is_known_of_it() {
        let ago = |seconds| {
            let began = SystemTime::now() - Duration::from_secs(seconds);
            humantime::format_rfc3339(began).to_string()
        };
        let session = |path: &str, established: bool, candidate: &str, seconds| {
            serde_json::json!({ "path": path, "remoteAddr": "192.0.2.9:40000",
                "peerConnectionEstablished": established, "remoteCandidate": candidate,
                "created": ago(seconds) })
        };
        let list = serde_json::json!({ "items": [
            session("well", true, "host/udp/192.0.2.9/5000", 60),
            session("new", false, "", 1),
            session("silent", false, "", 60),
            session("halfway", false, "host/udp/192.0.2.9/5000", 60),
        ] });
        let mut found = Findings::default();
        clients(&list, 8189, &mut found);
        let [silent, halfway] = &found.0[..] else { panic!("{:?}", found.0) };
        assert_eq!((silent.state, halfway.state), (State::Fails, State::Fails));
        assert_eq!(silent.subject, "client 192.0.2.9:40000 of silent");
        assert!(silent.text.contains("no packet of it came to port 8189"), "{silent:?}");
        assert!(halfway.subject.ends_with("of halfway"), "{halfway:?}");
        assert!(halfway.text.contains("host/udp/192.0.2.9/5000"), "{halfway:?}");
        assert!(halfway.text.contains("DTLS"), "{halfway:?}");
    }

    #[test]
    fn a_candidate_of_this_machine_is_reached_and_that_of_nobody_is_not() {
        let listen = "127.0.0.1:0".parse().unwrap();
        assert_eq!(there_and_back(listen, Ipv4Addr::LOCALHOST.into()), Ok(true));
        // Another address of the loopback network: sent, and not to this socket.
        assert_eq!(there_and_back(listen, Ipv4Addr::new(127, 0, 0, 9).into()), Ok(false));
    }
}
