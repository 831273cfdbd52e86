use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use super::*;
use crate::{
    core::{Bounds, GroupSettings},
    relay::RelaySettings,
};

fn options(flags: &[&str]) -> RelayOptions {
    let line = ["streambox-relay", "drain"].into_iter().chain(flags.iter().copied());
    let Command::Drain(options) = Cli::parse_from(line).command else { panic!() };
    options
}

fn run_options(flags: &[&str]) -> RunOptions {
    let line = ["streambox-relay", "run", "--amqp-url", "amqp://h"].into_iter().chain(flags.iter().copied());
    let Command::Run(options) = Cli::parse_from(line).command else { panic!() };
    options
}

fn settings(flags: &[&str]) -> Result<RelaySettings, String> {
    options(flags).settings().map_err(|bad| bad.to_string())
}

#[test]
fn a_bad_setting_is_named_with_its_value_and_what_is_allowed() {
    let error = settings(&["--amqp-url", "http://u:secret@h/"]).unwrap_err();
    assert!(error.contains("--amqp-url") && error.contains("amqps://"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let error = settings(&["--amqp-url", "amqp://h", "--exchange", "amq.topic"]).unwrap_err();
    assert!(error.contains("--exchange") && error.contains("amq.topic"), "{error}");
    assert!(settings(&["--amqp-url", "amqp://h", "--exchange", ""]).is_err());
    let error = settings(&["--amqp-url", "amqp://h", "--retry-delay", "500ms", "--max-retry-delay", "499ms"]);
    let error = error.unwrap_err();
    assert!(
        error.contains("--max-retry-delay") && error.contains("499ms") && error.contains("500ms or more"),
        "{error}"
    );
}

#[test]
fn the_listener_is_an_address_or_off() {
    let address = |flags: &[&str]| run_options(flags).http.address();
    assert_eq!(address(&["--http", "off"]), Ok(None));
    assert_eq!(address(&["--http", "[::1]:0"]).unwrap().unwrap().port(), 0);
    let by_default = address(&[]).unwrap().unwrap();
    assert!(by_default.ip().is_loopback());
    let error = address(&["--http", "localhost"]).unwrap_err().to_string();
    assert!(error.contains("--http") && error.contains("localhost") && error.contains("127.0.0.1:9090"), "{error}");
}

#[test]
fn a_group_needs_a_name_and_a_timeout_that_one_late_heartbeat_does_not_reach() {
    let group = |flags: &[&str]| {
        run_options(flags).settings().map(|settings| settings.group.unwrap()).map_err(|bad| bad.to_string())
    };
    let (first, second) = (group(&[]).unwrap(), group(&[]).unwrap());
    assert_ne!(first.id, second.id, "two workers never have the same id by default");
    assert_eq!(first, GroupSettings::new(first.id.clone()), "the defaults of the flags are those of the library");
    assert_eq!(group(&["--worker-id", "relay-1"]).unwrap().id.as_str(), "relay-1");
    assert!(group(&["--worker-id", ""]).unwrap_err().contains("--worker-id"));
    let error = group(&["--heartbeat-interval", "5s", "--worker-timeout", "9999ms"]).unwrap_err();
    assert!(
        error.contains("--worker-timeout") && error.contains("9s 999ms") && error.contains("that is 10s"),
        "{error}"
    );
}

#[test]
fn a_file_that_tls_cannot_use_is_named_with_its_flag() {
    let error = settings(&["--amqp-url", "amqps://h", "--amqp-ca-file", "/no/such.pem"]).unwrap_err();
    assert!(error.contains("--amqp-ca-file") && error.contains("/no/such.pem"), "{error}");
    let error = settings(&["--amqp-url", "amqp://h", "--amqp-ca-file", "/no/such.pem"]).unwrap_err();
    assert!(error.contains("amqps://"), "{error}");
}

#[test]
fn the_defaults_of_the_flags_are_the_defaults_of_the_library() {
    let settings = settings(&["--amqp-url", "amqp://h"]).unwrap();
    assert_eq!(format!("{:?}", settings.bounds), format!("{:?}", Bounds::default()));
    assert_eq!(settings.broker.timeouts, crate::broker::Timeouts::default());
    assert_eq!(settings.broker.form, crate::broker::MessageForm::default());
}

/// What `run` understands by a line, with these variables beside it.
fn parsed(flags: &[&str], variables: &[(&str, &str)]) -> Result<RunOptions, String> {
    let line = ["streambox-relay", "run", "--amqp-url", "amqp://h"].into_iter().chain(flags.iter().copied());
    let variable = |name: &str| variables.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
    match Cli::parse_with(line.map(Into::into), variable).map(|cli| cli.command) {
        Ok(Command::Run(options)) => Ok(options),
        Ok(_) => panic!("it is run"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn durations_have_units_and_are_within_their_bounds() {
    let work = parsed(&["--settle-window", "30m", "--poll-interval=1s 500ms", "--retry-delay", "20ms"], &[])
        .unwrap()
        .relay
        .work;
    assert_eq!(work.bounds.settle_window, Duration::from_mins(30));
    assert_eq!(
        (work.poll_interval, work.bounds.first_delay),
        (Duration::from_millis(1_500), Duration::from_millis(20))
    );
    let looks = |flags: &[&str], variables: &[(&'static str, &'static str)]| {
        parsed(flags, variables).unwrap().relay.work.busy_poll_interval.as_millis()
    };
    assert_eq!(looks(&[], &[]), 25);
    assert_eq!(looks(&["--busy-poll-interval", "40ms"], &[]), 40);
    let too_short = parsed(&["--busy-poll-interval", "5ms"], &[]).unwrap_err();
    assert!(too_short.contains("allowed is 10ms to 1m"), "{too_short}");
    let without_unit = parsed(&["--poll-interval", "500"], &[]).unwrap_err();
    assert!(without_unit.contains("--poll-interval") && without_unit.contains("for example 500ms"), "{without_unit}");
    let too_long = parsed(&["--poll-interval", "61s"], &[]).unwrap_err();
    assert!(too_long.contains("allowed is 10ms to 1m"), "{too_long}");
}

#[test]
fn the_unit_of_a_duration_may_stand_in_the_name_of_its_flag_or_variable() {
    let ms = Duration::from_millis;
    let options =
        parsed(&["--poll-interval-ms", "50", "--emf-interval-s=2"], &[("STREAMBOX_WORKER_TIMEOUT_MS", "20000")])
            .unwrap();
    assert_eq!((options.relay.work.poll_interval, options.emf.emf_interval), (ms(50), ms(2_000)));
    assert_eq!(options.group.worker_timeout, ms(20_000));
    // A flag comes before a variable, by whatever name.
    let variables = [("STREAMBOX_POLL_INTERVAL_MS", "70")];
    for (flags, expected) in [(&["--poll-interval", "60ms"][..], 60), (&["--poll-interval-ms", "60"], 60), (&[], 70)] {
        assert_eq!(parsed(flags, &variables).unwrap().relay.work.poll_interval, ms(expected), "{flags:?}");
    }
    let old = parsed(&["--poll-interval-ms", "soon"], &[]).unwrap_err();
    assert!(old.contains("soonms") && old.contains("--poll-interval"), "{old}");
    let line = ["streambox-relay", "status", "--fail-if-older-than-s", "300"];
    let Command::Status(status) = Cli::parse_with(line.map(Into::into), |_| None).unwrap().command else { panic!() };
    assert_eq!(status.fail_if_older_than, Some(ms(300_000)));
    // A variable of another command's is passed over.
    let line = ["streambox-relay", "health"];
    assert!(Cli::parse_with(line.map(Into::into), |name| name.ends_with("_MS").then(|| "1".to_owned())).is_ok());
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_has_a_variable_and_a_heading() {
    for command in Cli::command().get_subcommands() {
        for flag in command.get_arguments().filter(|flag| !flag.is_positional()) {
            let name = flag.get_id().as_str();
            assert!(flag.get_help_heading().is_some(), "{} --{name}", command.get_name());
            let expected = format!("STREAMBOX_{}", name.to_uppercase());
            // What belongs to one call alone is no matter of the environment.
            let is_of_the_call = name == "format" || flag.get_help_heading() == Some("This call");
            let variable = flag.get_env().map(|variable| variable.to_string_lossy().into_owned());
            assert_eq!(variable, (!is_of_the_call).then_some(expected), "{} --{name}", command.get_name());
        }
    }
}

#[test]
fn a_password_is_not_shown() {
    let options = options(&["--amqp-url", "amqp://user:s3cret@host/"]);
    assert!(!format!("{options:?}").contains("s3cret"));
    let unreadable = self::options(&["--amqp-url", "amqp://user:s3cret%40host:5672/"]);
    assert!(!format!("{unreadable:?} {}", unreadable.settings().unwrap_err()).contains("s3cret"));
}

#[test]
fn help_shows_no_value_that_may_contain_a_secret() {
    for command in Cli::command().get_subcommands() {
        for flag in command
            .get_arguments()
            .filter(|flag| flag.get_id().as_str().contains("url") || flag.get_id() == "otlp_endpoint")
        {
            assert!(flag.is_hide_env_values_set(), "{} --{}", command.get_name(), flag.get_id());
        }
    }
}

#[test]
fn health_is_asked_where_a_relay_with_the_same_setting_listens() {
    let asked = |http: &str| {
        let Command::Health(options) = Cli::parse_from(["streambox-relay", "health", "--http", http]).command else {
            panic!()
        };
        options.http.asked()
    };
    let at = |address: &str| Ok(Asked::At(address.parse().unwrap()));
    assert_eq!(asked("0.0.0.0:9090"), at("127.0.0.1:9090"));
    assert_eq!(asked("[::]:9090"), at("[::1]:9090"));
    assert_eq!(asked("10.1.2.3:9090"), at("10.1.2.3:9090"));
    assert!(matches!(asked("off"), Ok(Asked::Nobody(why)) if why.contains("--http off")));
    assert!(matches!(asked("127.0.0.1:0"), Ok(Asked::Nobody(why)) if why.contains("log")));
    assert!(asked("localhost").is_err());
}

#[test]
fn a_namespace_that_cloudwatch_would_refuse_is_refused_before() {
    let namespace = |name: &str| run_options(&["--emf-namespace", name]).emf.settings();
    assert_eq!(run_options(&[]).emf.settings(), Ok(None), "off by default");
    let settings = namespace("Shop/Streambox #1").unwrap().unwrap();
    assert_eq!((settings.namespace.as_str(), settings.interval.as_secs()), ("Shop/Streambox #1", 60));
    for (name, why) in [("", "empty"), ("AWS/Relay", "AWS/"), (":x", "colon"), ("Läden", "ASCII"), ("a\nb", "ASCII")] {
        let error = namespace(name).unwrap_err().to_string();
        assert!(error.contains("STREAMBOX_EMF_NAMESPACE") && error.contains(why), "{error}");
    }
    assert!(namespace(&"x".repeat(256)).unwrap_err().to_string().contains("255"));
}

#[test]
fn the_help_of_every_command_says_what_it_does_with_examples_and_units() {
    assert_eq!(streambox_programs::help::faults(&Cli::command()), [""; 0]);
}
