//! Which stores settings make, what logs say of them, and the journal.

use std::collections::{BTreeMap, HashSet};

use super::journal::Journal;
use super::store::{open, without_secrets};
use crate::config::RecordingStore;

fn settings(url: &str, options: &[(&str, &str)]) -> RecordingStore {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    RecordingStore {
        url: url.into(),
        options: options.collect::<BTreeMap<_, _>>(),
        ..RecordingStore::default()
    }
}

#[test]
fn each_kind_of_store_is_made_from_its_address_and_options() {
    let account = [("account_name", "a"), ("account_key", "c2VjcmV0")];
    for (url, options, prefix) in [
        ("s3://bucket/a/b", &[("region", "eu-central-1"), ("skip_signature", "true")][..], "a/b"),
        ("s3://bucket", &[("endpoint", "https://minio.example"), ("skip_signature", "true")], ""),
        ("gs://bucket/live", &[("skip_signature", "true")], "live"),
        ("az://container/live", &account, "live"),
        ("file:///srv/archive", &[], "srv/archive"),
    ] {
        let (_, found) = open(&settings(url, options)).unwrap_or_else(|e| panic!("{url}: {e:#}"));
        assert_eq!(found.as_ref(), prefix, "{url}");
    }
}

#[test]
fn what_makes_no_store_is_named_without_its_value() {
    for (url, options, wanted) in [
        ("bucket", &[][..], "url"),
        ("ftp://host/x", &[], "url"),
        ("memory:/", &[], "stores are s3, gs, az, file"),
        ("s3://bucket", &[("secret_acess_key", "hush")], "options.secret_acess_key"),
        ("gs://bucket", &[("region", "hush")], "options.region"),
        ("file:///srv", &[("region", "hush")], "options.region"),
    ] {
        let error = format!("{:#}", open(&settings(url, options)).expect_err(url));
        assert!(error.contains(wanted) && !error.contains("hush"), "{url}: {error}");
    }
}

#[test]
fn signed_queries_are_not_told() {
    let text = "Error performing PUT https://a.blob.core/c/x.mp4?sv=1&sig=hush%3D in 2s - why? (x)";
    let told = without_secrets(text);
    assert_eq!(told, "Error performing PUT https://a.blob.core/c/x.mp4?… in 2s - why? (x)");
}

#[tokio::test]
async fn the_journal_survives_a_line_that_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uploaded");
    let journal = Journal::new(path.clone());
    assert!(journal.read().await.is_empty());
    journal.append("cam/1.mp4").await.unwrap();
    std::fs::write(&path, "cam/1.mp4\ncam/2.m").unwrap();
    journal.append("cam/3.mp4").await.unwrap();
    let sent = journal.read().await;
    assert!(sent.contains("cam/1.mp4") && sent.contains("cam/3.mp4"), "{sent:?}");
    assert!(!sent.contains("cam/2.mp4"), "{sent:?}");
    let kept = HashSet::from(["cam/3.mp4".to_owned()]);
    journal.write(&kept).await.unwrap();
    assert_eq!(journal.read().await, kept);
}
