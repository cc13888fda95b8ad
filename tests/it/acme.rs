//! A certificate authority: Pebble, which Let's Encrypt tests clients of ACME with. It refuses good
//! nonces now and then, and looks at the names as a real one does.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest::remote::Trust;
use millstream::config::{Acme, Challenge};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::card::Card;
use crate::node::{Running, alone, find};
use crate::programs::{self, PATIENCE};
use crate::push::{LIVE, Push};

/// How long its certificates are good, in seconds: they are renewed when a third of that is left.
const LIFE_SECONDS: u64 = 30;

/// Where an authority is, and what vouches for it.
struct Place {
    dir: tempfile::TempDir,
    listen: SocketAddr,
    management: SocketAddr,
}

/// The running authority. Dropping it kills it, and it forgets everybody.
struct Pebble(Child);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, two) = (free(), free());
        let (listen, management) = (one.local_addr().unwrap(), two.local_addr().unwrap());
        Self { dir, listen, management }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.listen.port())
    }

    /// Settings that ask it for `localhost`.
    fn asked(&self, challenge: Challenge) -> Acme {
        Acme {
            domains: vec!["localhost".into()],
            directory: self.directory(),
            ca: self.file("cert.pem"),
            contact: "operator@example.org".into(),
            terms_agreed: true,
            challenge,
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            retry_seconds: 1,
        }
    }

    /// Starts it; it looks at names on these ports, for HTTP and for TLS.
    async fn start(&self, http: u16, tls: u16) -> Pebble {
        let config = json!({ "pebble": {
            "listenAddress": self.listen.to_string(),
            "managementListenAddress": self.management.to_string(),
            "certificate": self.file("cert.pem"),
            "privateKey": self.file("key.pem"),
            "httpPort": http,
            "tlsPort": tls,
            "ocspResponderURL": "",
            "certificateValidityPeriod": LIFE_SECONDS,
        } });
        let path = self.file("pebble.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let logged = std::env::var_os("MILLSTREAM_TEST_LOG").is_some();
        let words = || if logged { Stdio::inherit() } else { Stdio::null() };
        let mut pebble = Command::new(programs::pebble());
        pebble.arg("-config").arg(path).stdout(words()).stderr(words());
        // It looks at once, and refuses each tenth of all good nonces.
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "10");
        let pebble = Pebble(pebble.spawn().unwrap());
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(self.management).await.is_err() {
            assert!(Instant::now() < end, "Pebble does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        pebble
    }

    /// What its certificates go back to.
    async fn root(&self) -> Trust {
        let pem = std::fs::read(self.file("cert.pem")).unwrap();
        let tls = Trust::Authority(pem.into()).client_config(&[b"http/1.1"]).unwrap();
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap();
        let url = format!("https://localhost:{}/roots/0", self.management.port());
        let root = client.get(url).send().await.unwrap().bytes().await.unwrap();
        Trust::Authority(root.to_vec().into())
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a TLS listener shows a certificate for `localhost` that `trust` holds good.
async fn shows(port: SocketAddr, trust: &Trust) -> bool {
    let connector = TlsConnector::from(Arc::new(trust.client_config(&[]).unwrap()));
    let socket = TcpStream::connect(port).await.unwrap();
    connector.connect(ServerName::try_from("localhost").unwrap(), socket).await.is_ok()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Waits for an attempt that failed and gives the reason.
async fn until_refused(node: &Running, wanted: &str) -> Value {
    let failed = |status: &Value| {
        let error = status["certificate"]["acme"]["error"].as_str();
        error.is_some_and(|error| error.contains(wanted))
    };
    node.until(&format!("the words {wanted:?}"), failed).await
}

/// Waits for a certificate of the authority that ends later than `before`.
async fn until_issued(node: &Running, before: &str) -> String {
    let status = node
        .until("a certificate", |status| {
            let certificate = &status["certificate"];
            certificate["self_signed"] == false
                && certificate["not_after"].as_str() > Some(before)
                && certificate["acme"]["next"].is_string()
        })
        .await;
    let certificate = &status["certificate"];
    assert_eq!(certificate["names"], json!(["localhost"]), "{certificate:#}");
    assert_eq!(certificate["acme"]["error"], Value::Null, "{certificate:#}");
    assert_eq!(certificate["acme"]["failures"], 0, "{certificate:#}");
    certificate["not_after"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_comes_by_http_01_is_on_all_ports_without_a_restart_and_is_renewed() {
    let _alone = alone().await;
    let place = Place::new();
    let mut data = PathBuf::new();
    let node = Running::start(|settings| {
        settings.acme = place.asked(Challenge::Http01);
        settings.pipeline.graph = "none".into();
        settings.playback.enabled = true;
        data.clone_from(&settings.data_dir);
    })
    .await;
    let ports = node.node.addresses();
    let secure = [ports.http, ports.rtmps, ports.rtsps, ports.playback, ports.orchestrator];

    // Nobody is there: the node works all the same, and says so.
    let status = until_refused(&node, "no account was made").await;
    assert_eq!(status["certificate"]["self_signed"], true);
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmps("cam"));
    node.until_pictures("cam", 10).await;

    // Somebody is, and looks where nobody answers.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let pebble = place.start(nobody, nobody).await;
    until_refused(&node, "localhost: ").await;
    let metrics = node.client.get(node.metrics("metrics")).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let failed = metrics.lines().find_map(|line| {
        line.strip_prefix("millstream_certificate_failed_retries_total ")?.parse::<f64>().ok()
    });
    assert!(failed >= Some(2.0), "{failed:?}");
    let account = data.join("acme-account.json");
    let first = std::fs::read(&account).unwrap();
    drop(pebble);

    // It comes back without memory, and looks in the right place.
    let _pebble = place.start(ports.acme.unwrap().port(), nobody).await;
    let root = place.root().await;
    let not_after = until_issued(&node, "").await;
    for port in secure {
        assert!(shows(port.unwrap(), &root).await, "{port:?}");
    }
    assert_ne!(std::fs::read(&account).unwrap(), first, "another account");
    for file in [data.join("acme.pem"), account] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }

    // Two thirds of its life later there is another one; who was connected before still is.
    until_issued(&node, &not_after).await;
    for port in secure {
        assert!(shows(port.unwrap(), &root).await, "{port:?}");
    }
    let pictures = find(&node.status().await, "cam").unwrap()["frames"].as_u64().unwrap();
    node.until_pictures("cam", pictures + 30).await;
    push.finish().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_comes_by_tls_alpn_01_on_the_port_of_https() {
    let _alone = alone().await;
    let place = Place::new();
    let node = Running::start(|settings| {
        settings.acme = place.asked(Challenge::TlsAlpn01);
        settings.acme.listen.clear();
    })
    .await;
    let https = node.node.addresses().http.unwrap();
    let _pebble = place.start(1, https.port()).await;
    until_issued(&node, "").await;
    assert!(shows(https, &place.root().await).await);
    // Who asks for proofs when there is none gets nothing.
    let proofs = Trust::Authority(std::fs::read(place.file("cert.pem")).unwrap().into());
    let config = proofs.client_config(&[b"acme-tls/1"]).unwrap();
    let socket = TcpStream::connect(https).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let asked = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
    let error = asked.unwrap_err().to_string();
    assert!(error.contains("alert"), "{error}");
    node.stop().await;
}
