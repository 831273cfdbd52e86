//! `streambox-relay health`: how a running relay is.

use streambox_programs::{Failure, USAGE};
use streambox_relay::{
    Chain,
    config::{Asked, HealthOptions},
    http,
};

use crate::output::print_line;

/// Returns whether it is well.
pub(crate) async fn run(options: &HealthOptions) -> Result<bool, Failure> {
    let address = match options.http.asked()? {
        Asked::At(address) => address,
        Asked::Nobody(why) => return Err(Failure::with_code(USAGE, why)),
    };
    let path = if options.ready { "/readyz" } else { "/livez" };
    let health = http::ask(address, path).await.map_err(|error| Failure::new(Chain(&error).to_string()))?;
    print_line(&health.text);
    Ok(health.is_well)
}
