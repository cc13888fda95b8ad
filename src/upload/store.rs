//! The store that the settings name, and what logs may say of it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use crate::config;

/// Times that one request is sent again before the attempt counts as failed.
const RETRIES_MAX: usize = 2;

/// The longest that one request and its repetitions may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The store, and what keys in it begin with. Credentials come from the environment (`AWS_`,
/// `GOOGLE_`, `AZURE_`, as each vendor's tools have them) and from the options, which are stronger.
///
/// # Errors
/// What is wrong with the address or an option, without its value.
pub(super) fn open(settings: &config::RecordingStore) -> Result<(Box<dyn ObjectStore>, Key)> {
    // Clients take the process's provider of TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = Url::parse(&settings.url).context("url")?;
    let (scheme, path) = ObjectStoreScheme::parse(&url).context("url")?;
    let (text, retry) = (url.to_string(), retry());
    let options = &settings.options;
    let store: Box<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            let builder = AmazonS3Builder::from_env().with_url(text).with_retry(retry);
            Box::new(with(builder, options, AmazonS3Builder::with_config)?.build()?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(text).with_retry(retry);
            Box::new(with(builder, options, GoogleCloudStorageBuilder::with_config)?.build()?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(text).with_retry(retry);
            Box::new(with(builder, options, MicrosoftAzureBuilder::with_config)?.build()?)
        }
        ObjectStoreScheme::Local => {
            if let Some(name) = options.keys().next() {
                bail!("options.{name}: a folder has no options");
            }
            Box::new(LocalFileSystem::new().with_fsync(true))
        }
        _ => bail!("url: {}: stores are s3, gs, az, file", url.scheme()),
    };
    Ok((store, Key::parse(path).context("url")?))
}

fn retry() -> RetryConfig {
    RetryConfig {
        max_retries: RETRIES_MAX,
        retry_timeout: REQUEST_TIMEOUT,
        ..RetryConfig::default()
    }
}

fn with<B, K: FromStr>(
    mut builder: B,
    options: &BTreeMap<String, String>,
    set: fn(B, K, String) -> B,
) -> Result<B> {
    for (name, value) in options {
        let Ok(key) = name.to_ascii_lowercase().parse() else {
            bail!("options.{name}: this kind of store has no such option");
        };
        builder = set(builder, key, value.clone());
    }
    Ok(builder)
}

/// A store's words without queries of addresses, which may be signed.
pub(super) fn without_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(char::is_whitespace) {
        match word.split_once('?').filter(|(address, _)| address.contains("://")) {
            Some((address, _)) => {
                out.push_str(address);
                out.push_str("?… ");
            }
            None => out.push_str(word),
        }
    }
    out.trim_end().to_owned()
}
