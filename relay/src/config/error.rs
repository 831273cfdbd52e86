//! What is wrong with a setting.

/// A setting that can't be used: which one, its value, and what is allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} = {value:?}: {why}")]
pub struct BadConfiguration {
    /// Flag and environment variable.
    pub setting: &'static str,
    /// What it was set to; a password in it is left out.
    pub value: String,
    /// What is wrong, and what is allowed.
    pub why: String,
}
