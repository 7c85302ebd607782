//! The deployment's settings: read once from the environment into one typed value.

use url::Url;

use crate::domain::ids::ExchangeId;
use crate::domain::quiet_hours::Zones;
use crate::domain::sealed::Keys;
use crate::domain::time::Timestamp;

/// What a deployment can set; `.dev.vars.example` has a sentence on each variable.
#[derive(Clone)]
pub struct Config {
    /// `DEFAULT_EXCHANGE`: the exchange that `/health` names to clients without one.
    pub default_exchange: ExchangeId,
    /// `REGISTRATION_TOKEN`: what a new executor must present to register.
    pub registration_token: Option<String>,
    /// `PUBLIC_URL`: where people reach the exchange, without a slash at the end.
    pub public_url: Option<String>,
    /// `DEFAULT_TIMEZONE`: the zone of quiet hours that name none.
    pub default_timezone: String,
    /// `OUTBOUND_ALLOW_PRIVATE`: whether deliveries may go to private addresses.
    pub outbound_allow_private: bool,
    /// `SECRETS_KEY`: what credentials of channels and hooks are sealed with.
    pub secrets: Keys,
}

/// A setting that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the setting {variable} {problem}")]
pub struct ConfigError {
    variable: &'static str,
    problem: String,
}

impl ConfigError {
    fn new(variable: &'static str, problem: impl Into<String>) -> Self {
        Self {
            variable,
            problem: problem.into(),
        }
    }
}

impl Config {
    /// Reads the settings; `variable` gives the text of a variable, if it is set.
    ///
    /// # Errors
    ///
    /// Names the variable that is wrong, never its value.
    pub fn read(
        variable: impl Fn(&str) -> Option<String>,
        zones: &dyn Zones,
    ) -> Result<Self, ConfigError> {
        let given = |name: &str| variable(name).filter(|text| !text.is_empty());
        let exchange = given("DEFAULT_EXCHANGE").unwrap_or_else(|| "home".to_owned());
        let default_exchange = ExchangeId::parse(&exchange, "DEFAULT_EXCHANGE")
            .map_err(|invalid| ConfigError::new("DEFAULT_EXCHANGE", invalid.problem))?;
        let public_url = given("PUBLIC_URL").map(|text| parse_public_url(&text));
        let default_timezone = given("DEFAULT_TIMEZONE").unwrap_or_else(|| "UTC".to_owned());
        if zones
            .offset(&default_timezone, Timestamp::default())
            .is_none()
        {
            let problem = "must be an IANA time zone like Europe/Berlin";
            return Err(ConfigError::new("DEFAULT_TIMEZONE", problem));
        }
        let outbound_allow_private = match given("OUTBOUND_ALLOW_PRIVATE").as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                return Err(ConfigError::new(
                    "OUTBOUND_ALLOW_PRIVATE",
                    "must be true or false",
                ));
            }
        };
        let secrets = Keys::parse(&given("SECRETS_KEY").unwrap_or_default())
            .map_err(|problem| ConfigError::new("SECRETS_KEY", problem))?;
        Ok(Self {
            default_exchange,
            registration_token: given("REGISTRATION_TOKEN"),
            public_url: public_url.transpose()?,
            default_timezone,
            outbound_allow_private,
            secrets,
        })
    }
}

fn parse_public_url(text: &str) -> Result<String, ConfigError> {
    let url = Url::parse(text).ok().filter(|url| {
        let is_plain = url.query().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain
    });
    match url {
        Some(url) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        None => Err(ConfigError::new(
            "PUBLIC_URL",
            "must be an http or https URL without a query",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::quiet_hours::tests::Iana;

    fn read(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let find = |name: &str| settings.iter().find(|(n, _)| *n == name);
        Config::read(
            |name| find(name).map(|(_, value)| (*value).to_owned()),
            &Iana,
        )
    }

    #[test]
    fn defaults() {
        let config = read(&[]).unwrap();
        assert_eq!(config.default_exchange.as_str(), "home");
        assert_eq!(config.registration_token, None);
        assert_eq!(config.public_url, None);
        assert_eq!(config.default_timezone, "UTC");
        assert!(!config.outbound_allow_private);
    }

    #[test]
    fn what_is_set() {
        let config = read(&[
            ("PUBLIC_URL", "https://mess.example/base/"),
            ("DEFAULT_TIMEZONE", "Europe/Berlin"),
            ("OUTBOUND_ALLOW_PRIVATE", "true"),
            (
                "SECRETS_KEY",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            ),
        ])
        .unwrap();
        assert_eq!(config.public_url.unwrap(), "https://mess.example/base");
        assert_eq!(config.default_timezone, "Europe/Berlin");
        assert!(config.outbound_allow_private);
    }

    #[test]
    fn an_error_names_the_variable_and_not_its_value() {
        for (name, value) in [
            ("DEFAULT_EXCHANGE", "a b"),
            ("PUBLIC_URL", "mess.example"),
            ("PUBLIC_URL", "ftp://mess.example/"),
            ("PUBLIC_URL", "https://mess.example/?a=b"),
            ("DEFAULT_TIMEZONE", "Mars/Olympus"),
            ("OUTBOUND_ALLOW_PRIVATE", "yes please"),
            ("SECRETS_KEY", "c2hvcnQ="),
        ] {
            let text = read(&[(name, value)]).err().unwrap().to_string();
            assert!(
                text.starts_with(&format!("the setting {name} must be")),
                "{text}"
            );
            assert!(!text.contains(value), "{text}");
        }
    }
}
