//! The broker's URL: `amqp[s]://user:password@host:port/vhost?parameters`.

use std::str::FromStr as _;

use lapin::uri::AMQPUri;

/// The parameters that have an effect. Others are refused: one that does nothing would be taken for one that works.
const PARAMETERS: [&str; 5] = ["heartbeat", "connection_timeout", "auth_mechanism", "frame_max", "channel_max"];

/// Reads a URL.
///
/// # Errors
/// What is wrong and what is allowed. The text never contains the URL, which holds a password.
pub fn parse_url(url: &str) -> Result<AMQPUri, String> {
    // The parser quotes what it can't read.
    let explain = |why: String| {
        let why = if why.contains(url) { "this is no URL".to_owned() } else { why };
        format!("{why}; allowed is amqp:// or amqps://, then user:password@host:port/vhost, percent-encoded")
    };
    let mut uri = AMQPUri::from_str(url).map_err(explain)?;
    if let Some(name) = unknown_parameter(url) {
        let known = PARAMETERS.join(", ");
        return Err(format!("there is no parameter {name:?}; there are {known}"));
    }
    // The parser takes an IPv6 address for none, and none for localhost.
    if let Some(host) = ipv6_host(url) {
        host.clone_into(&mut uri.authority.host);
    }
    Ok(uri)
}

/// A URL as it may be shown: without user and password.
#[must_use]
pub fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        (None, Some(at)) => format!("…{}", &url[at..]),
        _ => url.to_owned(),
    }
}

fn unknown_parameter(url: &str) -> Option<&str> {
    let (_, query) = url.split_once('?')?;
    let query = query.split('#').next().unwrap_or_default();
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    names.filter(|name| !name.is_empty()).find(|name| !PARAMETERS.contains(name))
}

fn ipv6_host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    host.strip_prefix('[')?.split_once(']').map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
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
    }

    #[test]
    fn a_parameter_without_an_effect_is_refused() {
        let error = parse_url("amqps://h/%2f?heartbeat=5&cacertfile=/ca.pem").unwrap_err();
        assert!(error.contains("cacertfile") && error.contains("heartbeat"), "{error}");
    }

    #[test]
    fn an_error_never_shows_the_password() {
        for url in ["http://u:secret@h/", "amqp:u:secret@h", "u:secret@h", "amqp://u:secret@h:port/"] {
            let error = parse_url(url).unwrap_err();
            assert!(!error.contains("secret") && error.contains("amqps://"), "{url}: {error}");
            assert!(!without_password(url).contains("secret"), "{url}");
        }
    }
}
