//! The CloudFormation templates of `infra`: read and resolved here, or deployed to an engine that runs CloudFormation.
//!
//! - [`Template`]: a template as it is written, its short forms made long.
//! - [`Stack`]: a template with its parameters, conditions and functions resolved, as CloudFormation would.
//! - [`deploy()`]: a stack on an engine.

mod deploy;
mod template;

pub use deploy::{Deployed, deploy, elements, query};
pub use template::{Stack, Template};
