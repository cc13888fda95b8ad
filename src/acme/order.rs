//! One conversation with a certificate authority: from an account to a certificate.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use serde::{Deserialize, Serialize};

use super::challenges::{Challenges, Shown};
use super::http::Client;
use crate::config::{self, Challenge};
use crate::identity::write_secret;

/// How long the authority may take to look at the names, and how long for the certificate.
const PATIENCE: Duration = Duration::from_secs(120);

/// Of the words of an authority so many are kept, in bytes.
const WORDS_BYTES_MAX: usize = 500;

/// An account as it is kept on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Where it is good.
    directory: String,
    credentials: AccountCredentials,
}

/// Asks for a certificate. The result is key and chain in PEM, in one text. `kept` is where the account
/// lies, which is made the first time.
///
/// # Errors
/// What the authority did not like, in its words.
pub(super) async fn certificate(
    settings: &config::Acme,
    kept: &Path,
    challenges: &Challenges,
) -> Result<String> {
    let account = account(settings, kept).await?;
    let names: Vec<Identifier> = settings.domains.iter().cloned().map(Identifier::Dns).collect();
    let order = account.new_order(&NewOrder::new(&names)).await;
    let mut order = match order {
        Ok(order) => order,
        Err(error) => {
            if forgotten(&error) {
                // The next attempt makes another one.
                let _ = std::fs::remove_file(kept);
            }
            return Err(words(error)).context("the order was refused");
        }
    };
    let shown = show(&mut order, settings.challenge, challenges).await?;
    let patience = RetryPolicy::default().timeout(PATIENCE);
    let looked = order.poll_ready(&patience).await;
    drop(shown);
    match looked {
        Ok(OrderStatus::Ready) => {}
        Ok(_) => bail!("{}", refused(&mut order).await),
        Err(error) => {
            let why = refused(&mut order).await;
            return Err(words(error)).context(why);
        }
    }
    let key = order.finalize().await.map_err(words).context("the certificate was refused")?;
    let chain = order.poll_certificate(&patience).await;
    let chain = chain.map_err(words).context("the certificate did not come")?;
    Ok(format!("{key}{chain}"))
}

async fn account(settings: &config::Acme, kept: &Path) -> Result<Account> {
    let builder =
        || Ok::<_, anyhow::Error>(Account::builder_with_http(Box::new(Client::new(settings)?)));
    let old = std::fs::read(kept).ok();
    let old = old.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    if let Some(old) = old.filter(|old| old.directory == settings.directory) {
        let account = builder()?.from_credentials(old.credentials).await;
        return account.map_err(words).context("the authority cannot be reached");
    }
    let contact = format!("mailto:{}", settings.contact);
    let contacts = [contact.as_str()];
    let new = NewAccount {
        contact: if settings.contact.is_empty() { &[] } else { &contacts },
        terms_of_service_agreed: settings.terms_agreed,
        only_return_existing: false,
    };
    let made = builder()?.create(&new, settings.directory.clone(), None).await;
    let (account, credentials) = made.map_err(words).context("no account was made")?;
    let directory = settings.directory.clone();
    write_secret(kept, &serde_json::to_vec(&Kept { directory, credentials })?)?;
    Ok(account)
}

/// Whether the authority does not know the account any more (RFC 8555 6.7).
fn forgotten(error: &instant_acme::Error) -> bool {
    let instant_acme::Error::Api(problem) = error else { return false };
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.ends_with(":accountDoesNotExist")
}

/// Shows what the authority wants to see for each name, and tells it so.
async fn show(order: &mut Order, kind: Challenge, challenges: &Challenges) -> Result<Vec<Shown>> {
    let wanted = match kind {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(words)?;
        let name = authorization.identifier().to_string();
        match authorization.status {
            // It remembers from the last time.
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => bail!("{name}: the authorization is {status:?}"),
        }
        let Some(mut challenge) = authorization.challenge(wanted.clone()) else {
            bail!("{name}: the authority offers no {} challenge", kind.as_str());
        };
        let proof = challenge.key_authorization();
        shown.push(match kind {
            Challenge::Http01 => challenges.show_token(&challenge.token, proof.as_str()),
            Challenge::TlsAlpn01 => challenges.show_certificate(&name, proof.digest().as_ref())?,
        });
        challenge.set_ready().await.map_err(words).context(name)?;
    }
    Ok(shown)
}

/// Which names the authority did not find to be ours, and what it says of each.
async fn refused(order: &mut Order) -> String {
    let mut faults = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        let errors = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        let errors: Vec<String> = errors.map(ToString::to_string).collect();
        if !errors.is_empty() {
            faults.push(short(format!("{name}: {}", errors.join(", "))));
        }
    }
    match faults.is_empty() {
        true => "the authority did not find the names to be this node's".into(),
        false => faults.join("; "),
    }
}

/// An error without more of a stranger's words than a log line bears.
fn words(error: instant_acme::Error) -> anyhow::Error {
    anyhow::Error::msg(short(format!("{:#}", anyhow::Error::new(error))))
}

fn short(mut text: String) -> String {
    text = text.replace(char::is_control, " ");
    let end = (0..=WORDS_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or_default());
    text
}
