//! What is wrong with a setting.

/// A setting that can't be used: which one, its value, and what is allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} = {value:?}: {why}")]
#[non_exhaustive]
pub struct BadConfiguration {
    /// Flag and environment variable.
    pub setting: &'static str,
    /// What it was set to; a password in it is left out.
    pub value: String,
    /// What is wrong, and what is allowed.
    pub why: String,
}

impl BadConfiguration {
    /// A setting, what it was set to, and why that can't be used.
    #[must_use]
    pub fn new(setting: &'static str, value: impl Into<String>, why: impl Into<String>) -> Self {
        Self { setting, value: value.into(), why: why.into() }
    }
}
