//! The pages that viewers and publishers see: the player inside other people's pages, and words.

use axum::response::Html;
use axum::routing::get;
use regex::Regex;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::card::Card;
use crate::client::assert_in_order;
use crate::node::{Running, alone};
use crate::programs;
use crate::push::{LIVE, Push};

/// Words of the network behind the node, prompts of wallets, and addresses of accounts: nothing that
/// who only watches or publishes has to know.
const UNWANTED: &str = r"(?ix) \b(
    orchestrators? | tickets? | staking | staked? | delegat\w+ | bonded | unbond\w* | wallets? |
    metamask | ethereum | arbitrum | livepeer | eth | lpt | g?wei | redeem\w* | 0x[0-9a-f]{40}
)\b";

/// What `docs/watch.md` tells to put into a page.
fn snippet(node: &Running) -> String {
    let page = std::fs::read_to_string(programs::root().join("docs/watch.md")).unwrap();
    let line = page.lines().map(str::trim).find(|line| line.starts_with("<iframe "));
    let line = line.expect("docs/watch.md shows how to embed the player");
    line.replace("https://SERVER:8889/", &node.http(""))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_snippet_plays_in_an_otherwise_empty_page_of_another_origin() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam-out", 10).await;
    let page = format!("<!doctype html><title>Mine</title>{}", snippet(&node));
    let router = axum::Router::new().route("/", get(async move || Html(page.clone())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let mut browser = Browser::start().await;
    browser.ask("embed", "mine", json!({ "url": url })).await;
    let shown = browser.client.until_cards(Some("mine"), 60).await;
    // The first pictures may be those of an empty element.
    let first = shown.iter().position(|picture| !picture.unreadable).unwrap();
    assert_in_order(&shown[first..], false);
    browser.close("mine").await;
    browser.client.finish().await;
    server.abort();
    push.finish().await;
    node.until_idle().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_and_publishers_read_and_send_no_word_of_the_network_and_no_address_of_an_account()
{
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmp("cam"));
    node.until_pictures("cam-out", 10).await;
    let unwanted = Regex::new(UNWANTED).unwrap();
    assert!(unwanted.is_match("send 1 ETH") && !unwanted.is_match("a method, together"));
    let mut browser = Browser::start().await;
    for (page, path, wanted) in [
        ("streams", "", "/assets/streams.json"),
        ("player", "cam-out/", "/cam-out/whep"),
        ("publisher", "cam/publish", "/cam/publish"),
    ] {
        let (url, until) = (node.http(path), wanted);
        browser.ask("read", page, json!({ "url": url, "until": until })).await;
        let (words, traffic) = browser
            .client
            .until("words and traffic", |events| {
                let own = || events.iter().filter(|event| event["page"] == page);
                let words = own().find(|event| event["words"].is_array())?.clone();
                let traffic = own().filter_map(|event| event["traffic"].as_str());
                Some((words, traffic.map(str::to_owned).collect::<Vec<_>>()))
            })
            .await;
        let texts = words["words"].as_array().unwrap().iter().filter_map(Value::as_str);
        let texts: Vec<&str> = texts.chain(words["shown"].as_str()).collect();
        assert!(!texts.is_empty(), "{page} is empty");
        // It was the page at work that was looked at.
        assert!(
            traffic.iter().any(|text| text.contains(wanted)),
            "{page}: no {wanted}: {traffic:#?}"
        );
        for text in texts.into_iter().chain(traffic.iter().map(String::as_str)) {
            let found = unwanted.find(text).map(|found| found.as_str());
            assert_eq!(found, None, "{page}: {text}");
        }
        browser.close(page).await;
    }
    browser.client.finish().await;
    push.finish().await;
    node.stop().await;
}
