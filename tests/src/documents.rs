//! The Rust code in the repository's documents compiles, and runs unless it says `no_run`. The pages that are the library's guide are compiled
//! there; `harness/documents.rs` finds a document that is in neither.

/// The README.
#[doc = include_str!("../../README.md")]
mod readme {}

/// From a clone to a service.
#[doc = include_str!("../../docs/getting-started.md")]
mod getting_started {}

/// Questions and answers.
#[doc = include_str!("../../docs/faq.md")]
mod faq {}

/// The relay inside a service.
#[doc = include_str!("../../docs/inside-a-service.md")]
mod inside_a_service {}
