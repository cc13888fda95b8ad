//! RTMP as it is in the field, through the whole node.

use crate::card::Card;
use crate::node::{Running, alone, find};
use crate::push::{LIVE, Push};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_published_over_tls_is_processed_like_any_other() {
    let _alone = alone().await;
    let node = Running::start(|_| {}).await;
    let push = Push::rtmp(Card::SMALL, LIVE, &node.rtmps("cam"));
    let status = node.until_pictures("cam-out", 10).await;
    assert_eq!(find(&status, "cam").unwrap()["protocol"], "rtmps");
    assert_eq!(node.node.parts().rtmps.as_ref().unwrap().list().len(), 1);
    assert!(node.node.parts().rtmp.as_ref().unwrap().list().is_empty());
    push.finish().await;
    node.until_idle().await;
    node.stop().await;
}
