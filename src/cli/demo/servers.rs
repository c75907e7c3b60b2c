//! The stores of a demo day: embedded ones, or servers that the environment names.

use crate::exit::Failure;
use config::Config;

/// Environment variables with the servers' addresses, as in the configuration.
const SERVERS: [(&str, &str); 5] = [
    ("OPENBELL_KAFKA", "kafka://127.0.0.1:9092"),
    ("OPENBELL_MONGO", "mongodb://127.0.0.1:27017/openbell"),
    ("OPENBELL_ELASTICSEARCH", "http://127.0.0.1:9200"),
    ("OPENBELL_S3", "s3://bucket?endpoint=http://127.0.0.1:9000&path_style=true"),
    ("OPENBELL_SMTP", "smtp://127.0.0.1:25"),
];

/// Puts the servers' addresses into a configuration. A demo shares its servers with others, so whatever it
/// makes there begins with the day's name: `openbell-demo-…`.
///
/// # Errors
/// Which variables are not set, and how to get servers.
pub fn configured(
    config: Config,
    day: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Config, Failure> {
    let found = SERVERS.map(|(name, _)| variable(name).filter(|value| !value.trim().is_empty()));
    let missing: Vec<String> = SERVERS
        .iter()
        .zip(&found)
        .filter(|(_, value)| value.is_none())
        .map(|((name, example), _)| format!("  {name}, for example {example}"))
        .collect();
    let [Some(log), Some(raw), Some(index), Some(objects), Some(mail)] = found else {
        return Err(Failure::usage(format!(
            "--backends real needs the addresses of servers; these variables are not set:\n{}\n\
             in a checkout of openbell, scripts/services up starts servers and scripts/services env prints their addresses",
            missing.join("\n")
        )));
    };
    Ok(Config {
        log: with_parameter(&log, &format!("prefix=openbell-demo-{day}.")),
        raw: below(&raw, &format!("openbell-demo-{day}"), true),
        index: with_parameter(&index, &format!("prefix=openbell-demo-{day}-")),
        objects: below(&objects, &format!("openbell-demo-{day}"), false),
        mail,
        ..config
    })
}

fn with_parameter(address: &str, parameter: &str) -> String {
    format!("{address}{}{parameter}", if address.contains('?') { '&' } else { '?' })
}

/// An address whose path ends in a name of ours: replacing it (a database) or below it (a folder of keys).
fn below(address: &str, name: &str, replace: bool) -> String {
    let (place, query) =
        address.split_once('?').map_or((address, None), |(place, query)| (place, Some(query)));
    let (scheme, rest) = place.split_once("://").unwrap_or(("", place));
    let place = match rest.split_once('/') {
        Some((hosts, path)) if !replace && !path.trim_matches('/').is_empty() => {
            format!("{scheme}://{hosts}/{}/{name}", path.trim_matches('/'))
        }
        Some((hosts, _)) => format!("{scheme}://{hosts}/{name}"),
        None => format!("{scheme}://{rest}/{name}"),
    };
    query.map_or(place.clone(), |query| format!("{place}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_missing_is_named_at_once() {
        let only_kafka = |name: &str| (name == "OPENBELL_KAFKA").then(|| "kafka://a:1".to_owned());
        let failure = configured(Config::default(), "x", only_kafka).expect_err("four are missing").message;
        assert!(
            !failure.contains("OPENBELL_KAFKA")
                && failure.contains("OPENBELL_MONGO")
                && failure.contains("OPENBELL_SMTP")
        );
        assert!(failure.contains("scripts/services up"), "{failure}");
    }

    #[test]
    fn a_day_keeps_to_names_of_its_own() {
        let all = |name: &str| {
            Some(
                match name {
                    "OPENBELL_KAFKA" => "kafka://a:1?replication=1",
                    "OPENBELL_MONGO" => "mongodb://a:2/db?x=y",
                    "OPENBELL_ELASTICSEARCH" => "http://a:3",
                    "OPENBELL_S3" => "s3://bucket?endpoint=http://a:4",
                    _ => "smtp://a:5",
                }
                .to_owned(),
            )
        };
        let config = configured(Config::default(), "7", all).expect("fine");
        assert_eq!(config.log, "kafka://a:1?replication=1&prefix=openbell-demo-7.");
        assert_eq!(config.raw, "mongodb://a:2/openbell-demo-7?x=y");
        assert_eq!(config.index, "http://a:3?prefix=openbell-demo-7-");
        assert_eq!(config.objects, "s3://bucket/openbell-demo-7?endpoint=http://a:4");
        assert_eq!(config.mail, "smtp://a:5");
        assert_eq!(below("s3://bucket/team/", "x", false), "s3://bucket/team/x");
    }
}
