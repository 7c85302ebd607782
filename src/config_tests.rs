//! Tests of the settings.

use super::*;
use crate::domain::member::quiet_hours::tests::Iana;

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
fn who_may_join() {
    let join = |settings: &[(&str, &str)]| read(settings).map(|config| config.join.as_str());
    let token = ("REGISTRATION_TOKEN", "secret");
    assert_eq!(join(&[]), Ok("open"));
    assert_eq!(join(&[token]), Ok("token"));
    assert_eq!(join(&[("JOIN", "invitation")]), Ok("invitation"));
    assert_eq!(join(&[token, ("JOIN", "invitation")]), Ok("invitation"));
    assert_eq!(join(&[token, ("JOIN", "token")]), Ok("token"));
    for wrong in [
        &[token, ("JOIN", "open")][..],
        &[("JOIN", "token")],
        &[("JOIN", "Open")],
    ] {
        assert!(join(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn an_operators_token_cannot_be_guessed() {
    let token = "0123456789abcdef01234567";
    let config = read(&[("OPERATOR_TOKEN", token)]).unwrap();
    assert_eq!(config.operator_token.as_deref(), Some(token));
    for wrong in [
        "short",
        "0123456789abcdef 01234567",
        "mess_home_0123456789abcdef0123456789abcdef",
        &"x".repeat(257),
    ] {
        let error = read(&[("OPERATOR_TOKEN", wrong)]).err().unwrap();
        assert!(!error.to_string().contains(wrong), "{error}");
    }
}

#[test]
fn which_exchanges_there_may_be_and_who_is_trusted() {
    let config = read(&[("EXCHANGES", "home, work"), ("TRUST_PROXY", "2")]).unwrap();
    assert_eq!(config.exchanges.unwrap().len(), 2);
    assert_eq!(config.trusted_proxies, 2);
    let config = read(&[]).unwrap();
    assert!(config.exchanges.is_none());
    assert_eq!(config.trusted_proxies, 0);
    for wrong in [
        ("EXCHANGES", "home,a/b"),
        ("TRUST_PROXY", "true"),
        ("TRUST_PROXY", "11"),
        ("LIMITS", "{\"call\": 5}"),
    ] {
        assert!(read(&[wrong]).is_err(), "{wrong:?}");
    }
}

#[test]
fn nudges_are_set_for_one_exchange_or_for_all() {
    let after = |nudges: &Nudges, exchange: &str, priority| -> Vec<String> {
        let exchange = ExchangeId::parse(exchange, "").unwrap();
        let waits = nudges.after(&exchange, priority);
        waits.iter().map(ToString::to_string).collect()
    };
    let default = read(&[]).unwrap().nudges;
    assert_eq!(after(&default, "home", Priority::Urgent), ["PT15M", "PT1H"]);
    assert_eq!(
        after(&default, "home", Priority::Elevated),
        ["PT1H", "PT4H"]
    );
    assert!(after(&default, "home", Priority::Normal).is_empty());
    let set = r#"{"*": {"urgent": ["PT5M"]}, "home": {"urgent": [], "elevated": ["P1D"]}}"#;
    let set = read(&[("NUDGES", set)]).unwrap().nudges;
    assert!(after(&set, "home", Priority::Urgent).is_empty());
    assert_eq!(after(&set, "home", Priority::Elevated), ["P1D"]);
    assert_eq!(after(&set, "work", Priority::Urgent), ["PT5M"]);
    assert_eq!(after(&set, "work", Priority::Elevated), ["PT1H", "PT4H"]);
}

#[test]
fn the_start_script_passes_on_every_setting() {
    let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let all = [
        ("STORAGE_TYPE", "s3"),
        ("S3_BUCKET", "mess"),
        KEYS[0],
        KEYS[1],
    ];
    let variable = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        let found = all.iter().find(|(given, _)| *given == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    assert!(Config::read(variable, &Iana).is_ok());
    let script = include_str!("../selfhost/settings.js");
    let names_of = |list: &str| -> Vec<String> {
        let (_, list) = script.split_once(&format!("{list} = [")).unwrap();
        let (list, _) = list.split_once(']').unwrap();
        let names = list.split('"').skip(1).step_by(2);
        names.map(str::to_owned).collect()
    };
    let passed = [names_of("EXCHANGE_SETTINGS"), names_of("STORAGE_SETTINGS")].concat();
    assert_eq!(asked.take(), passed.into_iter().collect());
}

const KEYS: [(&str, &str); 2] = [("S3_ACCESS_KEY", "id"), ("S3_SECRET_KEY", "hush")];

fn read_s3(settings: &[(&str, &str)]) -> Result<s3::Settings, ConfigError> {
    let with_keys = [settings, &KEYS, &[("STORAGE_TYPE", "s3")]].concat();
    match read(&with_keys)?.storage {
        Storage::S3(settings) => Ok(settings),
        Storage::R2 | Storage::Filesystem => panic!("another storage"),
    }
}

#[test]
fn where_the_bucket_is() {
    assert!(read(&[]).unwrap().storage == Storage::R2);
    let disk = read(&[("STORAGE_TYPE", "filesystem")]).unwrap();
    assert!(disk.storage == Storage::Filesystem);
    for (settings, url, region) in [
        (
            &[("S3_BUCKET", "mess")][..],
            "https://mess.s3.us-east-1.amazonaws.com/",
            "us-east-1",
        ),
        (
            &[("S3_BUCKET", "mess.org"), ("S3_REGION", "eu-central-1")],
            "https://s3.eu-central-1.amazonaws.com/mess.org/",
            "eu-central-1",
        ),
        (
            &[("S3_BUCKET", "mess"), ("S3_ENDPOINT", "http://minio:9000")],
            "http://minio:9000/mess/",
            "auto",
        ),
        (
            &[
                ("S3_BUCKET", "mess"),
                ("S3_ENDPOINT", "https://a.example/s3/"),
            ],
            "https://a.example/s3/mess/",
            "auto",
        ),
    ] {
        let found = read_s3(settings).unwrap();
        assert_eq!(found.bucket.as_str(), url);
        assert_eq!(found.credentials.region, region);
    }
}

#[test]
fn s3_needs_its_settings() {
    let all = [
        ("STORAGE_TYPE", "s3"),
        ("S3_BUCKET", "mess"),
        KEYS[0],
        KEYS[1],
    ];
    assert!(read(&all).is_ok());
    for name in ["S3_BUCKET", "S3_ACCESS_KEY", "S3_SECRET_KEY"] {
        let rest: Vec<_> = all
            .into_iter()
            .filter(|(given, _)| *given != name)
            .collect();
        let text = read(&rest).err().unwrap().to_string();
        assert_eq!(
            text,
            format!("the setting {name} must be set with STORAGE_TYPE=s3")
        );
    }
    for (name, value) in [
        ("S3_BUCKET", "a/b"),
        ("S3_BUCKET", "../b"),
        ("S3_ENDPOINT", "minio:9000"),
        ("S3_ENDPOINT", "http://me:secret@minio:9000"),
        ("S3_REGION", "a b"),
    ] {
        let mut settings = vec![(name, value)];
        if name != "S3_BUCKET" {
            settings.push(("S3_BUCKET", "mess"));
        }
        let text = read_s3(&settings).err().unwrap().to_string();
        assert!(
            text.starts_with(&format!("the setting {name} must be")),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }
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
        ("STORAGE_TYPE", "ftp"),
        ("NUDGES", "often"),
        ("NUDGES", r#"{"*": {"urgent": ["soon"]}}"#),
        ("NUDGES", r#"{"*": {"normal": []}}"#),
        ("NUDGES", r#"{"a b": {}}"#),
        ("NUDGES", r#"{"*": {"urgent": ["PT1H", "PT15M"]}}"#),
        ("NUDGES", r#"{"*": {"urgent": ["PT30S"]}}"#),
        (
            "NUDGES",
            r#"{"*": {"urgent": ["PT1M","PT2M","PT3M","PT4M","PT5M","PT6M"]}}"#,
        ),
    ] {
        let text = read(&[(name, value)]).err().unwrap().to_string();
        assert!(
            text.starts_with(&format!("the setting {name} must be")),
            "{text}"
        );
        assert!(!text.contains(value), "{text}");
    }
}
