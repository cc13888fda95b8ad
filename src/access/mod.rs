//! Who may do what, and on which terms: links, tokens, the callback, an identity provider, users.
//!
//! [`NodeAccess`] asks them in the order of what an answer costs and takes the first that answers:
//! a signed link ([`links`]), a token of this node ([`tokens`]), the callback ([`callback`]), a token
//! of the identity provider ([`jwt`]), the users and passwords of the settings ([`users`]). Wrong
//! credentials are answered late, and from one address only so many at a time ([`throttle`]).
//! What a callback or a token says besides (another name, a lifetime, stream settings) are the
//! [`Terms`].

mod asked;
mod callback;
pub(crate) mod fuzz;
mod header;
mod jwt;
pub mod links;
pub mod passwords;
mod rules;
mod terms;
mod throttle;
pub mod tokens;
mod users;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use ingest::auth::{Access, Action, Grant, Refusal, Request};
use ingest::{Hub, StreamName};
use parking_lot::Mutex;

use crate::config::{Auth, Commit, Right, Settings};
use crate::streams::StreamSettings;
pub use asked::Asked;
pub use header::from_header;
use links::Links;
use passwords::Passwords;
use rules::Rules;
pub use rules::check;
use terms::Terms;
use throttle::Throttle;
use tokens::Tokens;

/// Sessions that are remembered as let in, so that what they ask besides is no guess.
const LET_IN_MAX: usize = 1024;

/// Answers the questions of listeners and of the API. Cloning shares it.
#[derive(Clone)]
pub struct NodeAccess {
    shared: Arc<Shared>,
}

struct Shared {
    rules: ArcSwap<Rules>,
    passwords: Passwords,
    throttle: Mutex<Throttle>,
    tokens: Tokens,
    /// What links are signed with when the settings do not say.
    own_secret: String,
    keys: jwt::Keys,
    streams: StreamSettings,
    hub: Hub,
    client: reqwest::Client,
    let_in: Mutex<VecDeque<String>>,
}

/// Why not.
enum No {
    /// Nothing was given; credentials may help.
    Nothing,
    /// What was given is wrong.
    Wrong(String),
    /// The bearer is known and may not, or the answer does not depend on credentials.
    Forbidden(String),
}

impl NodeAccess {
    /// Access by these settings. `own_secret` signs links when the settings have no secret for
    /// that; terms that a callback sets go to `streams`.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(
        auth: &Auth,
        own_secret: String,
        tokens: Tokens,
        streams: StreamSettings,
        hub: Hub,
        client: reqwest::Client,
    ) -> Result<Self, String> {
        let shared = Shared {
            rules: ArcSwap::from_pointee(Rules::new(auth)?),
            passwords: Passwords::default(),
            throttle: Mutex::default(),
            tokens,
            own_secret,
            keys: jwt::Keys::new(client.clone()),
            streams,
            hub,
            client,
            let_in: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Makes other settings ready ([`crate::config::Store::follow`]).
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn prepare(&self, settings: &Settings) -> Result<Commit, String> {
        let (shared, rules) = (Arc::clone(&self.shared), Arc::new(Rules::new(&settings.auth)?));
        Ok(Box::new(move || shared.rules.store(rules)))
    }

    /// Short tokens of this node.
    pub fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    /// What makes and checks signed links.
    pub fn links(&self) -> Links {
        let rules = self.shared.rules.load();
        let secret = &rules.auth.link_secret;
        Links::new(if secret.is_empty() { &self.shared.own_secret } else { secret })
    }

    /// Whether the settings name somebody who may do this, so that credentials are asked for.
    pub fn guards(&self, right: Right) -> bool {
        self.shared.rules.load().users.grant(right)
    }

    /// Fetches the identity provider's keys again.
    ///
    /// # Errors
    /// Why they could not be had.
    pub async fn refresh_keys(&self) -> Result<(), String> {
        let rules = self.shared.rules.load_full();
        self.shared.keys.refresh(&rules.auth.jwt).await
    }

    /// Decides, and slows down who guesses.
    ///
    /// # Errors
    /// Why it is not allowed.
    pub async fn allow(&self, asked: &Asked<'_>) -> Result<(), Refusal> {
        let rules = self.shared.rules.load_full();
        self.slowly(&rules, asked.ip, self.decide(&rules, asked, None)).await.map(|_| ())
    }

    /// Gives the answer of `decide`; wrong credentials are counted and answered late.
    async fn slowly(
        &self,
        rules: &Rules,
        ip: IpAddr,
        decide: impl Future<Output = Result<Terms, No>>,
    ) -> Result<Terms, Refusal> {
        // A proxy speaks from this machine for everybody: one guesser must not lock out all.
        let counts = !ip.to_canonical().is_loopback();
        let guesses = rules.auth.failures_max;
        if counts && self.shared.throttle.lock().blocked(ip, guesses, Instant::now()) {
            let reason = "too many wrong credentials from this address".into();
            return Err(Refusal { reason, ask_credentials: false });
        }
        match decide.await {
            Ok(terms) => Ok(terms),
            Err(No::Nothing) => {
                let reason = "credentials are needed".into();
                Err(Refusal { reason, ask_credentials: true })
            }
            Err(No::Forbidden(reason)) => Err(Refusal { reason, ask_credentials: false }),
            Err(No::Wrong(reason)) => {
                if counts {
                    self.shared.throttle.lock().failed(ip, Instant::now());
                }
                let longest = rules.auth.failure_delay_ms_max;
                let delay = rand::random_range(0..=longest);
                tokio::time::sleep(Duration::from_millis(delay)).await;
                Err(Refusal { reason, ask_credentials: true })
            }
        }
    }

    /// The first that answers. `request` is there when a listener asks.
    async fn decide(
        &self,
        rules: &Rules,
        asked: &Asked<'_>,
        request: Option<&Request>,
    ) -> Result<Terms, No> {
        let now = SystemTime::now();
        match self.links().check(asked, now) {
            links::Found::Right => return Ok(Terms::default()),
            links::Found::Wrong(reason) => return Err(No::Wrong(reason.into())),
            links::Found::None => {}
        }
        for text in asked.bearer() {
            match self.shared.tokens.check(&text, asked, now) {
                tokens::Found::Right => return Ok(Terms::default()),
                tokens::Found::MayNot => {
                    return Err(No::Forbidden("the token is not for this".into()));
                }
                tokens::Found::Wrong => return Err(No::Wrong("an unknown or old token".into())),
                tokens::Found::None => {}
            }
        }
        let webhook = &rules.auth.webhook;
        if let Some(request) = request.filter(|_| !webhook.url.is_empty()) {
            let known = self.shared.let_in.lock().contains(&request.id);
            return match callback::ask(&self.shared.client, webhook, request).await {
                Err(callback::Refused { ask_credentials: true, .. }) if asked.gives_nothing() => {
                    Err(No::Nothing)
                }
                Err(refused) if refused.ask_credentials && !known => Err(No::Wrong(refused.reason)),
                Err(refused) => Err(No::Forbidden(refused.reason)),
                Ok(terms) => Ok(terms),
            };
        }
        let settings = &rules.auth.jwt;
        let mut signed = asked.bearer().filter(|text| jwt::looks_like_one(text));
        if !settings.jwks.is_empty()
            && let Some(text) = signed.next()
        {
            return match self.shared.keys.check(settings, &text, asked).await {
                jwt::Found::Right(terms) => Ok(terms),
                jwt::Found::MayNot => Err(No::Forbidden("the token is not for this".into())),
                jwt::Found::Wrong(reason) => Err(No::Wrong(reason)),
            };
        }
        self.by_password(rules, asked).await
    }

    /// Users, then the passwords for all streams.
    async fn by_password(&self, rules: &Rules, asked: &Asked<'_>) -> Result<Terms, No> {
        let passwords = &self.shared.passwords;
        let Asked { right, stream, ip, user, .. } = *asked;
        for entry in rules.users.candidates(right, stream, ip, user) {
            let right = match &entry.password {
                None => true,
                Some(stored) => passwords.matches(stored, asked.password).await,
            };
            if right {
                return Ok(Terms::default());
            }
        }
        let pair = |right: Right| match right {
            Right::Publish => Some((&rules.auth.publish_user, &rules.auth.publish_password)),
            Right::Read | Right::Playback => {
                Some((&rules.auth.read_user, &rules.auth.read_password))
            }
            Right::Api | Right::Metrics => None,
        };
        let asked_for = pair(right).filter(|(_, password)| !password.is_empty());
        if asked_for.is_none() && pair(right).is_some() && rules.nobody() {
            return Ok(Terms::default());
        }
        if let Some((name, stored)) = asked_for
            && self.is_pair(name, stored, asked).await
        {
            return Ok(Terms::default());
        }
        if asked.gives_nothing() {
            return Err(No::Nothing);
        }
        // Who is somebody, only not for this, does not guess.
        let mut known = false;
        for stored in rules.users.passwords_of(user) {
            known |= passwords.matches(stored, asked.password).await;
        }
        for right in [Right::Publish, Right::Read] {
            if let Some((name, stored)) = pair(right).filter(|(_, stored)| !stored.is_empty()) {
                known |= self.is_pair(name, stored, asked).await;
            }
        }
        Err(match known {
            true => No::Forbidden("this user may not do that".into()),
            false => No::Wrong("wrong credentials".into()),
        })
    }

    /// Whether these are the credentials: a password with its user, or the password as a token.
    async fn is_pair(&self, name: &str, stored: &str, asked: &Asked<'_>) -> bool {
        let passwords = &self.shared.passwords;
        let named = name.is_empty() || passwords::same(asked.user.as_bytes(), name.as_bytes());
        (named && !asked.password.is_empty() && passwords.matches(stored, asked.password).await)
            || (!asked.token.is_empty() && passwords.matches(stored, asked.token).await)
    }

    /// What was asked for, on these terms.
    fn grant(&self, request: &Request, terms: Terms) -> Result<Grant, No> {
        let forbid = |error: String| No::Forbidden(error);
        let name = match (&terms.name, request.action) {
            (None, _) => request.name.clone(),
            (Some(name), Action::Publish) => StreamName::for_publisher(name)
                .map_err(|error| forbid(format!("the new name: {error}")))?,
            (Some(name), _) => {
                StreamName::parse(name).map_err(|error| forbid(format!("the new name: {error}")))?
            }
        };
        if request.action == Action::Read {
            // Those who come in the same moment do not see each other.
            let most = self.shared.streams.of(&name).readers_max.unwrap_or(0);
            let there = self.shared.hub.audience(&name);
            if most > 0 && there >= most {
                return Err(forbid(format!("{there} watch this stream, its limit")));
            }
        }
        if request.action == Action::Publish {
            let online = |name: &StreamName| self.shared.hub.is_online(name);
            self.shared.streams.answer(&name, terms.settings.as_ref(), online).map_err(forbid)?;
        }
        let mut let_in = self.shared.let_in.lock();
        if let_in.len() >= LET_IN_MAX {
            let_in.pop_front();
        }
        let_in.push_back(request.id.clone());
        let take_over = self.shared.streams.of(&name).take_over;
        Ok(Grant { name, lifetime: terms.lifetime, take_over })
    }
}

impl From<Action> for Right {
    fn from(action: Action) -> Self {
        match action {
            Action::Publish => Self::Publish,
            Action::Read => Self::Read,
            Action::Playback => Self::Playback,
        }
    }
}

impl Access for NodeAccess {
    /// None where a callback decides, since only it knows them, and none that are kept as hashes.
    fn passwords(&self, action: Action) -> Vec<(String, String)> {
        let rules = self.shared.rules.load();
        let auth = &rules.auth;
        if !auth.webhook.url.is_empty() {
            return Vec::new();
        }
        let for_all = match action {
            Action::Publish => (&auth.publish_user, &auth.publish_password),
            Action::Read | Action::Playback => (&auth.read_user, &auth.read_password),
        };
        let users = rules.users.passwords_for(action.into());
        users
            .chain([for_all])
            .filter(|(_, password)| !password.is_empty() && passwords::is_plain(password))
            .map(|(name, password)| (name.clone(), password.clone()))
            .collect()
    }

    fn check(&self, request: Request) -> BoxFuture<'_, Result<Grant, Refusal>> {
        Box::pin(async move {
            let rules = self.shared.rules.load_full();
            let asked = Asked {
                right: request.action.into(),
                stream: request.name.base(),
                ip: request.ip,
                user: &request.user,
                password: &request.password,
                token: &request.token,
                query: &request.query,
            };
            let answer = self.decide(&rules, &asked, Some(&request));
            let terms = self.slowly(&rules, request.ip, answer).await?;
            self.grant(&request, terms).map_err(|no| {
                let (No::Forbidden(reason) | No::Wrong(reason)) = no else {
                    unreachable!("terms are refused with a reason")
                };
                Refusal { reason, ask_credentials: false }
            })
        })
    }
}

#[cfg(test)]
mod tests;
