//! The deployment's settings: read once from the environment into one typed value.

use crate::domain::ids::ExchangeId;

/// What a deployment can set; `.dev.vars.example` has a sentence on each variable.
#[derive(Clone)]
pub struct Config {
    /// `DEFAULT_EXCHANGE`: the exchange that `/health` names to clients without one.
    pub default_exchange: ExchangeId,
    /// `REGISTRATION_TOKEN`: what a new executor must present to register.
    pub registration_token: Option<String>,
}

/// A setting that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the setting {variable} {problem}")]
pub struct ConfigError {
    variable: &'static str,
    problem: String,
}

impl Config {
    /// Reads the settings; `variable` gives the text of a variable, if it is set.
    ///
    /// # Errors
    ///
    /// Names the variable that is wrong, never its value.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let given = |name: &str| variable(name).filter(|text| !text.is_empty());
        let exchange = given("DEFAULT_EXCHANGE").unwrap_or_else(|| "home".to_owned());
        let default_exchange =
            ExchangeId::parse(&exchange, "DEFAULT_EXCHANGE").map_err(|invalid| ConfigError {
                variable: "DEFAULT_EXCHANGE",
                problem: invalid.problem,
            })?;
        Ok(Self {
            default_exchange,
            registration_token: given("REGISTRATION_TOKEN"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_errors() {
        let config = Config::read(|_| None).unwrap();
        assert_eq!(config.default_exchange.as_str(), "home");
        assert_eq!(config.registration_token, None);
        let error = Config::read(|name| (name == "DEFAULT_EXCHANGE").then(|| "a b".to_owned()));
        let text = error.err().unwrap().to_string();
        assert!(
            text.starts_with("the setting DEFAULT_EXCHANGE must be"),
            "{text}"
        );
    }
}
