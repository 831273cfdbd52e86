//! The log: on standard error, for people or as JSON.

use std::io::IsTerminal as _;

use streambox_relay::config::{BadConfiguration, LogFormat, LogOptions};
use tracing_subscriber::EnvFilter;

/// Crates that log what goes over the wire to the broker, the password among it.
const SILENT: [&str; 2] = ["lapin", "amq_protocol"];

/// Begins to log.
pub(crate) fn start(options: &LogOptions) -> Result<(), BadConfiguration> {
    let refuse = |why: String| BadConfiguration { setting: "--log (STREAMBOX_LOG)", value: options.log.clone(), why };
    let speaks = |directive: &str| {
        let directive = directive.trim();
        SILENT.iter().any(|name| directive.starts_with(name)) && !directive.ends_with("=off")
    };
    if let Some(directive) = options.log.split(',').find(|directive| speaks(directive)) {
        return Err(refuse(format!("{directive} would log the broker's password; leave it out, or set it to off")));
    }
    let mut filter = EnvFilter::try_new(&options.log)
        .map_err(|error| refuse(format!("{error}; allowed is a level, for example info, or tracing's directives")))?;
    for name in SILENT {
        filter = filter.add_directive(format!("{name}=off").parse().expect("a valid directive"));
    }
    let is_terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => builder.with_ansi(is_terminal).init(),
        LogFormat::Auto if is_terminal => builder.init(),
        // The event's fields stand beside its time and level, where a query of a log store looks for them.
        LogFormat::Auto | LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
    }
    Ok(())
}
