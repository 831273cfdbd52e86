//! What the tests run on. One variable chooses, [`MODE_VARIABLE`]; the tests are the same in every mode.
//!
//! | mode | DynamoDB | RabbitMQ |
//! |---|---|---|
//! | `embedded`, the default | an engine in memory, in the test process | the one that `STREAMBOX_AMQP_URL` names |
//! | `dynamodb-local` | AWS's own, where `STREAMBOX_TEST_DYNAMODB_URL` says | the one that `STREAMBOX_AMQP_URL` names |
//! | `containers` | LocalStack, in a container that the tests start | in a container that the tests start |
//!
//! `STREAMBOX_TEST_DYNAMODB_URL` without a mode is an engine of one's own, whatever it is.

use std::{env, sync::LazyLock};

/// Chooses the mode.
pub const MODE_VARIABLE: &str = "STREAMBOX_TEST_MODE";

/// Names an engine to use instead of one in memory.
pub const ENGINE_VARIABLE: &str = "STREAMBOX_TEST_DYNAMODB_URL";

/// What the tests run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An engine in the test process for each test, and a broker that is there already.
    Embedded,
    /// An engine and a broker that are there already.
    Endpoint {
        /// Where the engine is.
        url: String,
    },
    /// An engine and a broker in containers, which the tests start and remove.
    Containers,
}

impl Mode {
    /// Whether the tests run on engines of their own, in memory.
    #[must_use]
    pub fn is_embedded() -> bool {
        *Self::of_tests() == Self::Embedded
    }

    /// The mode of this process.
    ///
    /// # Panics
    /// If the variables contradict each other; the message says which, and what to do.
    #[must_use]
    pub fn of_tests() -> &'static Self {
        static MODE: LazyLock<Result<Mode, String>> = LazyLock::new(|| {
            let value = |name| env::var(name).ok().filter(|value| !value.is_empty());
            Mode::parse(value(MODE_VARIABLE).as_deref(), value(ENGINE_VARIABLE))
        });
        MODE.as_ref().unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn parse(mode: Option<&str>, engine_url: Option<String>) -> Result<Self, String> {
        match (mode, engine_url) {
            (None | Some("embedded"), None) => Ok(Self::Embedded),
            (None | Some("dynamodb-local"), Some(url)) => Ok(Self::Endpoint { url }),
            (Some("containers"), None) => Ok(Self::Containers),
            (Some("dynamodb-local"), None) => Err(format!(
                "{MODE_VARIABLE} is dynamodb-local, but {ENGINE_VARIABLE} does not say where it is: run `make test-dynamodb-local`, which \
                 starts one"
            )),
            (Some(mode @ ("embedded" | "containers")), Some(url)) => Err(format!(
                "{MODE_VARIABLE} is {mode}, which brings its own engine, but {ENGINE_VARIABLE} names {url}: unset one of the two"
            )),
            (Some(mode), _) => {
                Err(format!("{MODE_VARIABLE} is {mode:?}; it can be embedded, dynamodb-local, containers or empty"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_variable_chooses_and_contradictions_are_told() {
        let url = || Some("http://127.0.0.1:8000".to_owned());
        let endpoint = Mode::Endpoint { url: "http://127.0.0.1:8000".to_owned() };
        for (mode, engine, expected) in [
            (None, None, Mode::Embedded),
            (Some("embedded"), None, Mode::Embedded),
            (None, url(), endpoint.clone()),
            (Some("dynamodb-local"), url(), endpoint),
            (Some("containers"), None, Mode::Containers),
        ] {
            assert_eq!(Mode::parse(mode, engine), Ok(expected));
        }
        for (mode, engine, words) in [
            ("container", None, ["\"container\"", "embedded, dynamodb-local, containers"]),
            ("dynamodb-local", None, [ENGINE_VARIABLE, "make test-dynamodb-local"]),
            ("containers", url(), [ENGINE_VARIABLE, "unset"]),
            ("embedded", url(), ["http://127.0.0.1:8000", "unset"]),
        ] {
            let problem = Mode::parse(Some(mode), engine).expect_err("a contradiction");
            assert!(words.iter().all(|word| problem.contains(word)), "{problem}");
        }
    }
}
