//! aiortc, a second WebRTC stack, driven by `tests/clients/peer.py`.

use serde_json::Value;
use tokio::process::Command;

use crate::client::Client;
use crate::programs;

/// The tone that aiortc publishes, in hertz.
pub(crate) const TONE: f64 = 1000.0;

async fn start(verb: &str, url: &str) -> Client {
    let mut command = Command::new(programs::python());
    command.arg(programs::script("peer.py")).args([verb, url]);
    let client = Client::start(command);
    let said = |events: &[Value]| {
        events.iter().find(|e| e["done"] == verb || e["failed"] == verb).cloned()
    };
    let answer = client.until(verb, said).await;
    assert_eq!(answer["done"], verb, "{answer}");
    client
}

/// Watches over WHEP.
pub(crate) async fn watch(whep: &str) -> Client {
    start("watch", whep).await
}

/// Publishes cards of 320x180 and a tone over WHIP.
pub(crate) async fn publish(whip: &str) -> Client {
    start("publish", whip).await
}
