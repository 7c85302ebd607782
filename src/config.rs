//! The deployment's settings. They are read once from the environment into one typed value.

use std::collections::BTreeMap;

use url::Url;

use crate::domain::duration::Duration;
use crate::domain::ids::ExchangeId;
use crate::domain::limits::{NUDGE_AFTER, NUDGES};
use crate::domain::member::quiet_hours::Zones;
use crate::domain::member::sealed::Keys;
use crate::domain::quota::Limits;
use crate::domain::thread::status::Priority;
use crate::domain::time::Timestamp;
use crate::storage::s3;
use crate::storage::sigv4::Credentials;

/// What a deployment can set. docs/configuration.md describes each variable.
#[derive(Clone)]
pub struct Config {
    /// `DEFAULT_EXCHANGE`: the exchange that `/health` names for clients without one.
    pub default_exchange: ExchangeId,
    /// `JOIN`: who may register.
    pub join: Join,
    /// `REGISTRATION_TOKEN`: the token that a new executor must present to register.
    pub registration_token: Option<String>,
    /// `OPERATOR_TOKEN`: the bearer token of whoever runs this deployment.
    pub operator_token: Option<String>,
    /// `EXCHANGES`: the exchanges that can be founded, or `None` if any can.
    pub exchanges: Option<Vec<ExchangeId>>,
    /// `TRUST_PROXY`: how many proxies before the exchange add to `X-Forwarded-For`.
    pub trusted_proxies: usize,
    /// `LIMITS`: how much one may take.
    pub limits: Limits,
    /// `PUBLIC_URL`: the URL at which people reach the exchange, without a slash at the end.
    pub public_url: Option<String>,
    /// `ALLOWED_HOSTS`: names under which an open exchange may be called, beside those that no
    /// stranger can give it.
    pub allowed_hosts: Vec<String>,
    /// `DEFAULT_TIMEZONE`: the time zone of quiet hours that do not name one.
    pub default_timezone: String,
    /// `OUTBOUND_ALLOW_PRIVATE`: whether deliveries may go to private addresses.
    pub outbound_allow_private: bool,
    /// `SECRETS_KEY`: the keys that seal the credentials of channels and hooks.
    pub secrets: Keys,
    /// `NUDGES`: when requests that nobody claims are announced again.
    pub nudges: Nudges,
    /// `STORAGE_TYPE`: where the bucket is.
    pub storage: Storage,
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Everybody.
    Open,
    /// Who has the registration token, or an invitation.
    Token,
    /// Who has an invitation. Only the founder of an exchange needs none, but the registration token
    /// if one is set.
    Invitation,
}

impl Join {
    /// The word for it in the setting.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Token => "token",
            Self::Invitation => "invitation",
        }
    }

    /// Reads the setting. By default a token closes the exchange, and without one it is open.
    fn read(given: Option<&str>, has_token: bool) -> Result<Self, ConfigError> {
        let wrong = |problem| ConfigError::new("JOIN", problem);
        match given {
            Some("open") if has_token => Err(wrong(
                "must not be open while REGISTRATION_TOKEN is set: nobody would be asked for it",
            )),
            None | Some("token") if has_token => Ok(Self::Token),
            None | Some("open") => Ok(Self::Open),
            Some("token") => Err(wrong("needs a REGISTRATION_TOKEN to be token")),
            Some("invitation") => Ok(Self::Invitation),
            Some(_) => Err(wrong("must be open, token or invitation")),
        }
    }
}

/// Where the bucket is.
#[derive(Clone, PartialEq, Eq)]
pub enum Storage {
    /// `r2`: the R2 binding of the Worker. This is the default.
    R2,
    /// `filesystem`: a directory, through workerd's disk service.
    Filesystem,
    /// `s3`: a bucket with S3's interface, at `S3_ENDPOINT` or at AWS.
    S3(s3::Settings),
}

impl Storage {
    /// The URL of the server that has the bucket, if it is one that deliveries could reach.
    pub fn server(&self) -> Option<&Url> {
        match self {
            Self::R2 | Self::Filesystem => None,
            Self::S3(settings) => Some(&settings.bucket),
        }
    }
}

/// When requests that nobody claims are announced again, by exchange and priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nudges(BTreeMap<String, BTreeMap<String, Vec<Duration>>>);

impl Nudges {
    /// The name in the setting that stands for all exchanges.
    const ALL: &str = "*";

    /// Reads `{exchange or "*": {"elevated" or "urgent": [duration, …]}}`.
    fn read(given: Option<&str>) -> Result<Self, ConfigError> {
        let Some(text) = given else {
            return Ok(Self::default());
        };
        let wrong = |problem: String| ConfigError::new("NUDGES", problem);
        let parsed = serde_json::from_str(text).map(Self).map_err(|_| {
            wrong("must be JSON like {\"*\": {\"urgent\": [\"PT15M\", \"PT1H\"]}}".to_owned())
        })?;
        for (exchange, by_priority) in &parsed.0 {
            if exchange != Self::ALL {
                ExchangeId::parse(exchange, "each exchange")
                    .map_err(|invalid| wrong(format!("must be right: {invalid}")))?;
            }
            for (priority, waits) in by_priority {
                if !["elevated", "urgent"].contains(&priority.as_str()) {
                    let problem = "must be of priorities elevated and urgent only";
                    return Err(wrong(problem.to_owned()));
                }
                let is_rising = waits.is_sorted_by(|a, b| a < b);
                if !is_rising || !waits.iter().all(|wait| NUDGE_AFTER.contains(wait)) {
                    let problem = "must be of rising durations from PT1M to P7D";
                    return Err(wrong(problem.to_owned()));
                }
                if waits.len() > NUDGES {
                    let problem =
                        format!("must be of at most {NUDGES} durations for each priority");
                    return Err(wrong(problem));
                }
            }
        }
        Ok(parsed)
    }

    /// How long a request must have been open to be announced again: one duration for each time.
    pub fn after(&self, exchange: &ExchangeId, priority: Priority) -> Vec<Duration> {
        let set = [exchange.as_str(), Self::ALL]
            .into_iter()
            .find_map(|name| self.0.get(name)?.get(priority.as_str()));
        let default = || match priority {
            Priority::Urgent => vec![Duration::minutes(15), Duration::minutes(60)],
            Priority::Elevated => vec![Duration::minutes(60), Duration::minutes(240)],
            Priority::Normal | Priority::Background => Vec::new(),
        };
        set.cloned().unwrap_or_else(default)
    }
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
    /// Reads the settings. `variable` returns the text of a variable, if it is set.
    ///
    /// # Errors
    ///
    /// Fails with the name of the variable that is wrong. The error never contains its value.
    pub fn read(
        variable: impl Fn(&str) -> Option<String>,
        zones: &dyn Zones,
    ) -> Result<Self, ConfigError> {
        let given = |name: &str| variable(name).filter(|text| !text.is_empty());
        let exchange = given("DEFAULT_EXCHANGE").unwrap_or_else(|| "home".to_owned());
        let default_exchange = ExchangeId::parse(&exchange, "DEFAULT_EXCHANGE")
            .map_err(|invalid| ConfigError::new("DEFAULT_EXCHANGE", invalid.problem))?;
        let public_url = given("PUBLIC_URL").map(|text| parse_base_url(&text, "PUBLIC_URL"));
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
        let registration_token = given("REGISTRATION_TOKEN");
        Ok(Self {
            default_exchange,
            join: Join::read(given("JOIN").as_deref(), registration_token.is_some())?,
            registration_token,
            operator_token: read_operator_token(given("OPERATOR_TOKEN"))?,
            exchanges: read_exchanges(given("EXCHANGES").as_deref())?,
            trusted_proxies: read_proxies(given("TRUST_PROXY").as_deref())?,
            limits: Limits::read(given("LIMITS").as_deref())
                .map_err(|problem| ConfigError::new("LIMITS", problem))?,
            public_url: public_url.transpose()?,
            allowed_hosts: read_hosts(&given("ALLOWED_HOSTS").unwrap_or_default())?,
            default_timezone,
            outbound_allow_private,
            secrets,
            nudges: Nudges::read(given("NUDGES").as_deref())?,
            storage: read_storage(&given)?,
        })
    }
}

/// The token opens every exchange, so it must not be one that can be guessed, nor look like a key.
fn read_operator_token(given: Option<String>) -> Result<Option<String>, ConfigError> {
    let Some(token) = given else {
        return Ok(None);
    };
    let is_visible = token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_visible && (24..=256).contains(&token.len()) && !token.starts_with("mess_") {
        return Ok(Some(token));
    }
    let problem = "must be 24 to 256 visible ASCII characters, and not begin with mess_";
    Err(ConfigError::new("OPERATOR_TOKEN", problem))
}

fn read_exchanges(given: Option<&str>) -> Result<Option<Vec<ExchangeId>>, ConfigError> {
    let read = |name: &str| {
        let problem = "must be ids of exchanges, separated by commas";
        ExchangeId::parse(name, "").map_err(|_| ConfigError::new("EXCHANGES", problem))
    };
    given
        .map(|text| split_list(text).map(read).collect())
        .transpose()
}

fn read_proxies(given: Option<&str>) -> Result<usize, ConfigError> {
    let Some(text) = given else {
        return Ok(0);
    };
    let number = text.parse().ok().filter(|number| (0..=10).contains(number));
    let problem = "must be a number of proxies from 0 to 10";
    number.ok_or_else(|| ConfigError::new("TRUST_PROXY", problem))
}

/// The items of a list that is separated by commas or white space.
fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let items = text.split([',', ' ', '\t', '\n']);
    items.filter(|item| !item.is_empty())
}

/// Reads names of hosts, separated by commas or white space.
fn read_hosts(text: &str) -> Result<Vec<String>, ConfigError> {
    let is_host = |name: &str| {
        let url = Url::parse(&format!("http://{name}/")).ok();
        url.is_some_and(|url| url.host_str() == Some(name))
    };
    split_list(text)
        .map(|name| {
            let problem = "must be names of hosts, without ports, separated by commas";
            let name = name.to_ascii_lowercase();
            let host = Some(name).filter(|name| is_host(name));
            host.ok_or_else(|| ConfigError::new("ALLOWED_HOSTS", problem))
        })
        .collect()
}

fn read_storage(given: &dyn Fn(&str) -> Option<String>) -> Result<Storage, ConfigError> {
    match given("STORAGE_TYPE").as_deref() {
        None | Some("r2") => Ok(Storage::R2),
        Some("filesystem") => Ok(Storage::Filesystem),
        Some("s3") => Ok(Storage::S3(read_s3(given)?)),
        Some(_) => Err(ConfigError::new(
            "STORAGE_TYPE",
            "must be filesystem, s3 or r2",
        )),
    }
}

/// Reads the settings of an S3 bucket. AWS's certificates do not cover a host name made from a
/// bucket name with a dot, so such a bucket is addressed by path.
fn read_s3(given: &dyn Fn(&str) -> Option<String>) -> Result<s3::Settings, ConfigError> {
    let needed = |name: &'static str| {
        given(name).ok_or_else(|| ConfigError::new(name, "must be set with STORAGE_TYPE=s3"))
    };
    let bucket = needed("S3_BUCKET")?;
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(is_of_name) || bucket.contains("..")
    {
        let problem = "must be 3 to 63 letters, digits, '-', '_' or '.'";
        return Err(ConfigError::new("S3_BUCKET", problem));
    }
    let region = given("S3_REGION").unwrap_or_else(|| "auto".to_owned());
    if !region
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-')
    {
        let problem = "must be a region like eu-central-1, or auto";
        return Err(ConfigError::new("S3_REGION", problem));
    }
    let (url, region) = if let Some(endpoint) = given("S3_ENDPOINT") {
        let base = parse_base_url(&endpoint, "S3_ENDPOINT")?;
        (format!("{base}/{bucket}/"), region)
    } else {
        let region = if region == "auto" {
            "us-east-1".to_owned()
        } else {
            region
        };
        let url = if bucket.contains('.') {
            format!("https://s3.{region}.amazonaws.com/{bucket}/")
        } else {
            format!("https://{bucket}.s3.{region}.amazonaws.com/")
        };
        (url, region)
    };
    let unusable = |_| ConfigError::new("S3_BUCKET", "must be the name of a bucket");
    Ok(s3::Settings {
        bucket: Url::parse(&url).map_err(unusable)?,
        credentials: Credentials {
            access_key: needed("S3_ACCESS_KEY")?,
            secret_key: needed("S3_SECRET_KEY")?,
            region,
        },
    })
}

/// Parses a URL that others are built on, and removes slashes at its end.
fn parse_base_url(text: &str, variable: &'static str) -> Result<String, ConfigError> {
    let url = Url::parse(text).ok().filter(|url| {
        let is_plain = url.query().is_none() && url.fragment().is_none();
        let is_open = url.username().is_empty() && url.password().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain && is_open
    });
    match url {
        Some(url) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        None => Err(ConfigError::new(
            variable,
            "must be an http or https URL without a query or password",
        )),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
