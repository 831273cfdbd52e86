//! Requests that never came as far as the network: for lack of a setting, or because a service that gives out credentials was
//! away for the moment.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;

use super::Verdict;
use crate::authorities::NoAuthorities;

const NO_CREDENTIALS: &str = "there are no credentials: give the program a role (of its task, its pod or its instance), or set \
                              AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
const NO_REGION: &str = "no Region is set: set AWS_REGION";
const NO_END_POINT: &str = "the end point can't be used: AWS_ENDPOINT_URL_DYNAMODB is a URL with its scheme, for example \
                            http://127.0.0.1:8000, or not set";
const NO_AUTHORITIES: &str = "the system has no certificates of authorities to trust, so HTTPS can't be spoken: install its package \
                              ca-certificates, or name a file of them in SSL_CERT_FILE";
const NOT_CONFIGURED: &str = "the request could not be sent: check region (AWS_REGION), credentials (AWS_PROFILE, a role, \
                              AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and end point (AWS_ENDPOINT_URL_DYNAMODB)";

const NOT_BUILT_IN: &str = "the profile's credentials are of a kind that this program was built without: build it with the feature `credentials` \
                            of the crate streambox, or use others (a role, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)";
const LOG_IN: &str = "the login of the profile is missing or has expired: log in (`aws sso login`, or `aws login`) with the same \
                      AWS_PROFILE";
const PROCESS_FAILED: &str = "the `credential_process` of the profile gives no credentials: run it by hand to see why";

/// What the SDK says where one of its features is missing; where nobody has logged in, or not lately; and of a process that
/// gives out credentials.
const FEATURE_MISSING: &str = "requires following cargo feature(s) enabled";
const LOGIN_MISSING: [&str; 4] = ["SSO token", "Login token", "/login/cache/", "UnauthorizedException"];
const PROCESS: &str = "external process";

/// What the SDK says where the instance's metadata service answers, and has nothing to give: to containers, mostly, which are
/// one hop too far away from it.
const METADATA_FORBIDDEN: &str = "IMDS is disabled";

/// `is_transient`: what the HTTP client says of it. Credentials are looked for before a Region is missed.
pub(super) fn judge(error: Option<&(dyn StdError + 'static)>, is_transient: bool, has_region: bool) -> Verdict {
    let no_credentials = || {
        let region = if has_region { "" } else { "; set AWS_REGION, too: no Region is set" };
        Verdict::Permanent(format!("{NO_CREDENTIALS}{region}"))
    };
    let Some(error) = error else { return Verdict::Permanent(NOT_CONFIGURED.to_owned()) };
    // It may have been the service that gives out credentials.
    if causes(error).any(<dyn StdError>::is::<NoAuthorities>) {
        return Verdict::Permanent(NO_AUTHORITIES.to_owned());
    }
    let says = |words: &[&str]| {
        let said = causes(error).map(ToString::to_string).find(|said| words.iter().any(|word| said.contains(word)));
        said.map(|said| one_line(&said))
    };
    let of_profile = [(&[FEATURE_MISSING][..], NOT_BUILT_IN), (&LOGIN_MISSING, LOG_IN), (&[PROCESS], PROCESS_FAILED)];
    let credentials = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>());
    if credentials.is_some() {
        for (words, advice) in of_profile {
            if let Some(said) = says(words) {
                return Verdict::Permanent(format!("{advice} ({said})"));
            }
        }
    }
    match credentials {
        Some(CredentialsError::CredentialsNotLoaded(_)) => no_credentials(),
        Some(CredentialsError::InvalidConfiguration(_)) => Verdict::Permanent(format!(
            "the credentials can't be used: check AWS_PROFILE and its files ({})",
            innermost(error)
        )),
        Some(CredentialsError::ProviderError(_)) if innermost(error).contains(METADATA_FORBIDDEN) => no_credentials(),
        Some(_) => Verdict::Transient,
        // A connection that was closed in the middle of an answer, for instance.
        None if is_transient => Verdict::Transient,
        None => Verdict::Permanent(advice(error)),
    }
}

/// What is missing, by the SDK's words: it has no kinds for this.
pub(super) fn advice(error: &(dyn StdError + 'static)) -> String {
    let said = innermost(error);
    match said.to_ascii_lowercase() {
        region if region.contains("region") => NO_REGION.to_owned(),
        end_point if end_point.contains("endpoint") || end_point.contains("uri") => format!("{NO_END_POINT} ({said})"),
        _ => format!("{NOT_CONFIGURED} ({said})"),
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

    #[test]
    fn a_missing_setting_is_mended_a_service_that_is_away_is_tried_again() {
        let Verdict::Permanent(advice) = judged(&CredentialsError::not_loaded("no credentials found")) else {
            panic!()
        };
        assert!(advice.contains("AWS_ACCESS_KEY_ID") && !advice.contains("AWS_REGION"), "{advice}");
        let nothing = judge(Some(&CredentialsError::not_loaded_no_source()), false, false);
        assert!(
            matches!(nothing, Verdict::Permanent(advice) if advice.contains("AWS_PROFILE") && advice.contains("AWS_REGION"))
        );
        let forbidden = "request forbidden: IMDS is disabled or the caller has insufficient permissions.";
        assert_eq!(judged(&CredentialsError::provider_error(forbidden)), Verdict::Permanent(NO_CREDENTIALS.to_owned()));
        let Verdict::Permanent(advice) = judged(&CredentialsError::invalid_configuration("a loop\nof roles")) else {
            panic!()
        };
        assert!(advice.contains("AWS_PROFILE") && advice.ends_with("(a loop; of roles)"), "{advice}");
        assert_eq!(judged(&CredentialsError::provider_timed_out(Duration::from_secs(1))), Verdict::Transient);
        assert_eq!(judged(&CredentialsError::provider_error("503")), Verdict::Transient);
        let cut = std::io::Error::other("connection closed before message completed");
        assert_eq!(judge(Some(&cut), true, true), Verdict::Transient);
        assert!(matches!(judge(None, false, true), Verdict::Permanent(_)));
    }

    #[test]
    fn what_a_profile_needs_is_told() {
        let feature =
            "ProfileFile provider could not be built: This behavior requires following cargo feature(s) enabled: sso. ";
        let process = "Error retrieving credentials: external process exited with code exit status: 1. Stderr: no\nway";
        for (error, told) in [
            (CredentialsError::invalid_configuration(feature), "feature `credentials` of the crate streambox"),
            (CredentialsError::provider_error("the SSO token has expired and cannot be refreshed"), "`aws sso login`"),
            (CredentialsError::unhandled("cached Login token is expired"), "`aws login`"),
            (CredentialsError::provider_error(process), "run it by hand"),
        ] {
            let Verdict::Permanent(advice) = judged(&error) else { panic!("{error:?} is tried again") };
            assert!(advice.contains(told) && !advice.contains('\n'), "{advice}");
        }
    }

    #[test]
    fn the_setting_that_is_missing_is_named_alone() {
        let said = |text: &str| advice(&*Box::<dyn StdError + Send + Sync>::from(text));
        assert_eq!(said("missing signing region"), NO_REGION);
        assert!(said("endpoint must contain scheme").contains("AWS_ENDPOINT_URL_DYNAMODB"));
        assert!(said("a riddle").contains("a riddle"));
    }
}
