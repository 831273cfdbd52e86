//! A setting that can't be used.

/// A setting that can't be used: which one, its value, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} = {value}: {why}")]
#[non_exhaustive]
pub struct BadConfiguration {
    /// The method of [`ConsumerBuilder`](crate::ConsumerBuilder), or its parameter.
    pub setting: &'static str,
    /// What it was set to; a password in it is left out.
    pub value: String,
    /// What is wrong, and what is allowed.
    pub why: String,
}
