//! Requests that were not sent: a setting is missing, or a service that issues credentials was unavailable.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;

use super::Verdict;
use crate::{authorities::NoAuthorities, misconfiguration::Misconfiguration};

/// What the SDK says if one of its features is missing; if no one has logged in, or the login has expired; and of a process that issues
/// credentials.
const FEATURE_MISSING: &str = "requires following cargo feature(s) enabled";
const LOGIN_MISSING: [&str; 4] = ["SSO token", "Login token", "/login/cache/", "UnauthorizedException"];
const PROCESS: &str = "external process";

/// What the SDK says if the instance's metadata service answers without credentials: mostly to containers, which are one network hop
/// too far away from it.
const METADATA_FORBIDDEN: &str = "IMDS is disabled";

/// `is_transient`: what the HTTP client says of it. Credentials are looked for before a Region is missed.
pub(super) fn judge(error: Option<&(dyn StdError + 'static)>, is_transient: bool, has_region: bool) -> Verdict {
    let Some(error) = error else {
        return Verdict::Permanent(Misconfiguration::NotSent { message: String::new() });
    };
    // It may have been the service that issues credentials.
    if causes(error).any(<dyn StdError>::is::<NoAuthorities>) {
        return Verdict::Permanent(Misconfiguration::NoAuthorities);
    }
    match causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>()) {
        Some(credentials) => {
            credentials_problem(credentials, error, has_region).map_or(Verdict::Transient, Verdict::Permanent)
        }
        // A connection that was closed in the middle of an answer, for instance.
        None if is_transient => Verdict::Transient,
        None => Verdict::Permanent(not_sent(error)),
    }
}

/// What is wrong with the credentials; nothing if the service that issues them was unavailable.
fn credentials_problem(
    credentials: &CredentialsError,
    error: &(dyn StdError + 'static),
    has_region: bool,
) -> Option<Misconfiguration> {
    let says = |words: &[&str]| {
        let said = causes(error).map(ToString::to_string).find(|said| words.iter().any(|word| said.contains(word)));
        said.map(|said| one_line(&said))
    };
    let of_profile = says(&[FEATURE_MISSING])
        .map(|message| Misconfiguration::UnsupportedCredentials { message })
        .or_else(|| says(&LOGIN_MISSING).map(|message| Misconfiguration::LoginExpired { message }))
        .or_else(|| says(&[PROCESS]).map(|message| Misconfiguration::CredentialProcess { message }));
    of_profile.or_else(|| match credentials {
        CredentialsError::CredentialsNotLoaded(_) => Some(Misconfiguration::NoCredentials { has_region }),
        CredentialsError::InvalidConfiguration(_) => {
            Some(Misconfiguration::InvalidCredentials { message: innermost(error) })
        }
        CredentialsError::ProviderError(_) if innermost(error).contains(METADATA_FORBIDDEN) => {
            Some(Misconfiguration::NoCredentials { has_region })
        }
        _ => None,
    })
}

/// What is missing, by the SDK's words: it has no kinds for this.
pub(super) fn not_sent(error: &(dyn StdError + 'static)) -> Misconfiguration {
    let message = innermost(error);
    match message.to_ascii_lowercase() {
        region if region.contains("region") => Misconfiguration::NoRegion,
        end_point if end_point.contains("endpoint") || end_point.contains("uri") => {
            Misconfiguration::InvalidEndpoint { message }
        }
        _ => Misconfiguration::NotSent { message },
    }
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The innermost cause, in one line.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    one_line(&causes(error).last().map(ToString::to_string).unwrap_or_default())
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn judged(error: &CredentialsError) -> Verdict {
        judge(Some(error), false, true)
    }

    const NO_CREDENTIALS: Verdict = Verdict::Permanent(Misconfiguration::NoCredentials { has_region: true });

    #[test]
    fn a_missing_setting_is_permanent_a_service_that_is_unavailable_is_transient() {
        assert_eq!(judged(&CredentialsError::not_loaded("no credentials found")), NO_CREDENTIALS);
        let nothing = judge(Some(&CredentialsError::not_loaded_no_source()), false, false);
        let Verdict::Permanent(problem) = nothing else { panic!() };
        assert!(problem.to_string().contains("AWS_PROFILE") && problem.to_string().contains("AWS_REGION"), "{problem}");
        let forbidden = "request forbidden: IMDS is disabled or the caller has insufficient permissions.";
        assert_eq!(judged(&CredentialsError::provider_error(forbidden)), NO_CREDENTIALS);
        let message = "a loop; of roles".to_owned();
        let invalid = Verdict::Permanent(Misconfiguration::InvalidCredentials { message });
        assert_eq!(judged(&CredentialsError::invalid_configuration("a loop\nof roles")), invalid);
        assert_eq!(judged(&CredentialsError::provider_timed_out(Duration::from_secs(1))), Verdict::Transient);
        assert_eq!(judged(&CredentialsError::provider_error("503")), Verdict::Transient);
        let cut = std::io::Error::other("connection closed before message completed");
        assert_eq!(judge(Some(&cut), true, true), Verdict::Transient);
        assert!(matches!(judge(None, false, true), Verdict::Permanent(_)));
    }

    #[test]
    fn what_a_profile_needs_is_reported() {
        let feature =
            "ProfileFile provider could not be built: This behavior requires following cargo feature(s) enabled: sso. ";
        let process = "Error retrieving credentials: external process exited with code exit status: 1. Stderr: no\nway";
        for (error, says) in [
            (CredentialsError::invalid_configuration(feature), "feature `credentials` of the crate streambox"),
            (CredentialsError::provider_error("the SSO token has expired and cannot be refreshed"), "`aws sso login`"),
            (CredentialsError::unhandled("cached Login token is expired"), "`aws login`"),
            (CredentialsError::provider_error(process), "run it by hand"),
        ] {
            let Verdict::Permanent(problem) = judged(&error) else { panic!("{error:?} is transient") };
            let problem = problem.to_string();
            assert!(problem.contains(says) && !problem.contains('\n'), "{problem}");
        }
    }

    #[test]
    fn the_setting_that_is_missing_is_named_alone() {
        let problem = |text: &str| not_sent(&*Box::<dyn StdError + Send + Sync>::from(text));
        assert_eq!(problem("missing signing region"), Misconfiguration::NoRegion);
        assert!(problem("endpoint must contain scheme").to_string().contains("AWS_ENDPOINT_URL_DYNAMODB"));
        assert!(problem("a riddle").to_string().contains("a riddle"));
    }
}
