//! The settings of access, checked and made ready for asking.

use super::passwords;
use super::users::Users;
use crate::config::Auth;

/// The settings, made ready.
pub(super) struct Rules {
    pub(super) auth: Auth,
    pub(super) users: Users,
}

impl Rules {
    /// Makes them ready.
    ///
    /// # Errors
    /// As [`check`].
    pub(super) fn new(auth: &Auth) -> Result<Self, String> {
        check(auth)?;
        Ok(Self { auth: auth.clone(), users: Users::new(&auth.users)? })
    }

    /// Whether nobody is named, so that everybody may.
    pub(super) fn nobody(&self) -> bool {
        self.users.is_empty() && self.auth.jwt.jwks.is_empty()
    }
}

/// What is wrong with the settings.
///
/// # Errors
/// The first fault, with the name of its setting.
pub fn check(auth: &Auth) -> Result<(), String> {
    Users::new(&auth.users)?;
    for (name, password) in
        [("publish_password", &auth.publish_password), ("read_password", &auth.read_password)]
    {
        passwords::check_form(password).map_err(|error| format!("auth.{name} {error}"))?;
    }
    for (name, url) in [("jwt.jwks", &auth.jwt.jwks), ("webhook.url", &auth.webhook.url)] {
        if !url.is_empty() {
            url::Url::parse(url).map_err(|error| format!("auth.{name}: {error}"))?;
        }
    }
    Ok(())
}
