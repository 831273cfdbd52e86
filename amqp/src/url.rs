//! The broker's URL: `amqp[s]://user:password@host:port/vhost?parameters`.
//!
//! It contains a password. A URL that can't be parsed may have it anywhere, so nothing of such a URL is ever shown.

use std::{ops::RangeInclusive, str::FromStr as _};

use lapin::uri::{AMQPScheme, AMQPUri};

/// The smallest `frame_max`. RabbitMQ takes none below 8,192, and the headers of a message have to fit into one frame: at most
/// 16 KiB of them are appended.
pub const MIN_FRAME_MAX: u64 = 32 * 1024;

/// The largest `frame_max`: a connection holds 64 frames in memory. RabbitMQ's own is 128 KiB unless configured otherwise.
pub const MAX_FRAME_MAX: u64 = 1024 * 1024;

/// The smallest `channel_max`. For the relay, one channel is for batches, and opening it may take two more; the others are for what is
/// published alone.
pub const MIN_CHANNEL_MAX: u64 = 8;

/// The longest heartbeat, in seconds. A peer that is silent for two heartbeats is gone.
pub const MAX_HEARTBEAT_SECONDS: u64 = 3_600;

/// The shortest and the longest `connection_timeout`, in milliseconds; the flag's as well.
pub const CONNECT_TIMEOUT_MS: RangeInclusive<u64> = 100..=600_000;

/// The parameters that are numbers, with their unit and what is allowed.
const NUMBERS: [(&str, &str, RangeInclusive<u64>); 4] = [
    ("heartbeat", " seconds", 1..=MAX_HEARTBEAT_SECONDS),
    ("connection_timeout", " milliseconds", CONNECT_TIMEOUT_MS),
    ("frame_max", " bytes", MIN_FRAME_MAX..=MAX_FRAME_MAX),
    ("channel_max", "", MIN_CHANNEL_MAX..=u16::MAX as u64),
];

const AUTH_MECHANISM: &str = "auth_mechanism";
const AUTH_MECHANISMS: [&str; 2] = ["plain", "external"];

/// Parameters that other clients of RabbitMQ know, and that have no effect here.
const OTHERS: [&str; 8] = [
    "cacertfile",
    "certfile",
    "keyfile",
    "verify",
    "fail_if_no_peer_cert",
    "server_name_indication",
    "depth",
    "password",
];

/// Reads a URL.
///
/// # Errors
/// What is wrong and what is allowed. Nothing of the URL is in the text, but names and numbers of parameters that are known.
pub fn parse_url(url: &str) -> Result<AMQPUri, String> {
    let refuse = |why: &str| {
        Err(format!("{why}; allowed is amqp:// or amqps://, then user:password@host:port/vhost, percent-encoded"))
    };
    let Some((scheme, rest)) = url.split_once("://") else { return refuse("it is not a URL with its scheme") };
    if !["amqp", "amqps"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return refuse("it begins neither with amqp:// nor with amqps://");
    }
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A password with one of these in it ends too early, and the rest of it would be taken for a virtual host.
    if rest[authority_end..].contains(['@', '#']) || rest[..authority_end].matches('@').count() > 1 {
        return refuse("in user, password and vhost write %40 for @, %2F for /, %3F for ? and %23 for #");
    }
    if let Some((_, query)) = rest.split_once('?') {
        query.split('&').filter(|pair| !pair.is_empty()).try_for_each(parameter)?;
    }
    let Ok(mut uri) = AMQPUri::from_str(url) else { return refuse("host, port or percent-encoding are wrong") };
    // The parser takes an IPv6 address for none, and none for localhost.
    if let Some(host) = ipv6_host(&rest[..authority_end]) {
        host.clone_into(&mut uri.authority.host);
    }
    Ok(uri)
}

/// A URL as it may be shown: where it leads to, if it can be read, without user, password and parameters.
#[must_use]
pub fn without_password(url: &str) -> String {
    let Ok(uri) = parse_url(url) else { return NOT_SHOWN.to_owned() };
    let scheme = match uri.scheme {
        AMQPScheme::AMQP => "amqp",
        AMQPScheme::AMQPS => "amqps",
    };
    let (host, port) = (&uri.authority.host, uri.authority.port);
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    format!("{scheme}://…@{host}:{port}/{}", uri.vhost)
}

/// In the place of a value that may contain a password.
pub const NOT_SHOWN: &str = "…";

fn parameter(pair: &str) -> Result<(), String> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    if name == AUTH_MECHANISM {
        let is_known = AUTH_MECHANISMS.iter().any(|known| value.eq_ignore_ascii_case(known));
        let allowed = AUTH_MECHANISMS.join(" and ");
        return if is_known {
            Ok(())
        } else {
            Err(format!("{name} has a value that is not known; allowed are {allowed}"))
        };
    }
    if let Some((_, unit, range)) = NUMBERS.into_iter().find(|(known, ..)| *known == name) {
        let (least, most) = (range.start(), range.end());
        let allowed = format!("allowed is a number from {least} to {most}{unit}");
        // Anything else than a number may be a password.
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        return match value.parse::<u64>() {
            Ok(number) if is_number && range.contains(&number) => Ok(()),
            _ if is_number && value.len() <= 20 => Err(format!("{name} is {value}; {allowed}")),
            _ => Err(format!("{name} is not a number that can be used; {allowed}")),
        };
    }
    let known = NUMBERS.map(|(known, ..)| known).join(", ");
    let which = OTHERS.iter().find(|other| **other == name).map_or_else(
        || "it has a parameter that has no effect".to_owned(),
        |other| format!("the parameter {other} has no effect"),
    );
    Err(format!("{which}; allowed are {known} and {AUTH_MECHANISM}"))
}

fn ipv6_host(authority: &str) -> Option<&str> {
    let host = authority.rsplit('@').next()?;
    host.strip_prefix('[')?.split_once(']').map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn host_vhost_and_credentials_are_percent_decoded() {
        let uri = parse_url("amqps://a%40b:s%2Fecret@mq.example:5999/team%2Forders?heartbeat=5").unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port), ("mq.example", 5999));
        assert_eq!((uri.vhost.as_str(), uri.query.heartbeat), ("team/orders", Some(5)));
        assert_eq!(uri.authority.userinfo.username, "a@b");
        assert_eq!(uri.authority.userinfo.password, "s/ecret");
    }

    #[test]
    fn an_ipv6_address_is_not_taken_for_localhost() {
        let host = |url| parse_url(url).unwrap().authority.host;
        assert_eq!(host("amqp://guest:guest@[2001:db8::1]:5672/%2f"), "2001:db8::1");
        assert_eq!(host("amqp://[::1]"), "::1");
        assert_eq!(host("amqp://127.0.0.1/%2f"), "127.0.0.1");
        assert_eq!(without_password("amqp://u:p@[::1]/v"), "amqp://…@[::1]:5672/v");
    }

    #[test]
    fn a_parameter_without_an_effect_is_refused() {
        let error = parse_url("amqps://h/%2f?heartbeat=5&cacertfile=/ca.pem").unwrap_err();
        assert!(error.contains("cacertfile") && error.contains("heartbeat"), "{error}");
        assert!(!parse_url("amqps://h/?hunter2=5").unwrap_err().contains("hunter2"), "it may be anything");
    }

    #[test]
    fn a_parameter_that_can_not_work_is_refused_with_its_value_and_what_is_allowed() {
        for (parameter, words) in [
            ("channel_max=1", ["channel_max is 1;", "from 8 to 65535"]),
            ("channel_max=0", ["channel_max is 0;", "from 8 to 65535"]),
            ("connection_timeout=0", ["connection_timeout is 0;", "from 100 to 600000 milliseconds"]),
            ("connection_timeout=99999999999999999999", ["connection_timeout is 9999", "600000 milliseconds"]),
            ("frame_max=0", ["frame_max is 0;", "from 32768 to 1048576 bytes"]),
            ("frame_max=4096", ["frame_max is 4096;", "from 32768 to 1048576 bytes"]),
            ("frame_max=4294967295", ["frame_max is 4294967295;", "from 32768 to 1048576 bytes"]),
            ("heartbeat=0", ["heartbeat is 0;", "from 1 to 3600 seconds"]),
            ("heartbeat=65536", ["heartbeat is 65536;", "from 1 to 3600 seconds"]),
            ("heartbeat=-1", ["heartbeat is not a number", "from 1 to 3600 seconds"]),
            ("heartbeat=5&heartbeat=0", ["heartbeat is 0;", "from 1 to 3600 seconds"]),
            ("heartbeat", ["heartbeat is not a number", "from 1 to 3600 seconds"]),
            ("auth_mechanism=kerberos", ["auth_mechanism", "allowed are plain and external"]),
        ] {
            let error = parse_url(&format!("amqp://h/%2f?{parameter}")).unwrap_err();
            assert!(words.iter().all(|words| error.contains(words)), "{parameter}: {error}");
        }
        let all = "heartbeat=3600&connection_timeout=100&frame_max=32768&channel_max=8&auth_mechanism=EXTERNAL";
        assert!(parse_url(&format!("amqp://h/%2f?{all}")).is_ok());
    }

    #[test]
    fn a_url_that_can_not_be_read_is_shown_nowhere() {
        for url in [
            "http://u:hunter2@h/",
            "amqp:u:hunter2@h",
            "u:hunter2@h",
            "amqp://u:hunter2@h:port/",
            "amqp://relay:hunter2",
            "amqp://relay:hunter2%40host:5672/",
            "amqp:relay:hunter2",
            "amqp://h/?password=hunter2",
            "amqp://u:1/hunter2@h",
            "amqp://u:1?hunter2@h",
            "amqp://u:1#hunter2",
            "amqp://u:x@hunter2@h",
            "hunter2://h",
            "hunter2",
            "amqp://h/?auth_mechanism=hunter2",
            "amqp://h/?heartbeat=hunter2",
            "amqp://u:hunter2@h/%ff",
        ] {
            let error = parse_url(url).unwrap_err();
            assert!(!error.contains("hunter2"), "{url}: {error}");
            assert_eq!(without_password(url), NOT_SHOWN, "{url}");
        }
        assert_eq!(without_password("amqp://u:hunter2@h/v?heartbeat=5"), "amqp://…@h:5672/v");
    }

    /// A URL with a password in it, in one of the ways in which people write them: as it has to be, or with something wrong.
    fn urls() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            3 => Just(String::new()),
            1 => "[a-z]{1,3}",
            1 => "[:/?#@%&=\\[\\]0-9 a-z]{0,4}",
        ];
        let scheme = prop_oneof!["amqps?://", "amqps?:", "http://", "", "[a-z:/]{0,6}"];
        let behind = prop_oneof![
            4 => "@[a-z]{1,5}",
            2 => "%40[a-z]{1,5}",
            1 => Just(String::new()),
            1 => "@\\[::1\\]",
        ];
        let end = prop_oneof![
            Just(String::new()),
            "(:[0-9]{1,6})?/[a-z%]{0,4}",
            "(:[a-z0-9]{1,6})?/\\?(heartbeat|password|frame_max|x|auth_mechanism)=?[0-9a-z]{0,5}",
        ];
        (scheme, "[a-z]{0,3}:?", part.clone(), part, behind, end).prop_map(
            |(scheme, user, before, after, behind, end)| {
                format!("{scheme}{user}{before}{PASSWORD}{after}{behind}{end}")
            },
        )
    }

    const PASSWORD: &str = "hUnter2pAss";

    proptest! {
        #[test]
        fn no_text_about_a_url_contains_its_password(url in urls()) {
            let mut texts = vec![without_password(&url)];
            match parse_url(&url) {
                Ok(uri) => {
                    // Where the password is read as something else, the URL has none, and nobody could tell.
                    let is_password = uri.authority.userinfo.password.contains(PASSWORD);
                    let is_user = uri.authority.userinfo.username.contains(PASSWORD);
                    if is_password || is_user {
                        prop_assert!(!texts[0].to_ascii_lowercase().contains(&PASSWORD.to_ascii_lowercase()), "{}", texts[0]);
                    }
                    texts.clear();
                    let endpoint = crate::Endpoint::new(uri);
                    if is_password {
                        texts.push(format!("{endpoint:?}"));
                    }
                }
                Err(error) => texts.push(error),
            }
            for text in texts {
                prop_assert!(!text.to_ascii_lowercase().contains(&PASSWORD.to_ascii_lowercase()), "{url}: {text}");
            }
        }
    }
}
