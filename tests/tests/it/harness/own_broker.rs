//! Brokers of tests are removed with them, whatever happens to them, and an error says what to do if one can't be started.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind},
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, net::UnixListener, process::ExitStatusExt as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use nix::unistd::Uid;
use streambox_tests::{
    mode::{MODE_VARIABLE, Mode},
    programs::program,
};

/// A program that starts a broker of a test's own and holds it, by way of other programs if need be.
fn holder(by_way_of: &[&str]) -> Command {
    let holder = program("broker-holder");
    let words: Vec<_> = by_way_of.iter().map(Path::new).chain([holder.as_path()]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

#[test]
fn a_broker_is_removed_also_when_its_test_was_killed() {
    let mut holder = holder(&[]).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut url = String::new();
    BufReader::new(holder.stdout.take().expect("stdout is piped")).read_line(&mut url).expect("text");
    let address =
        streambox_relay::broker::parse_url(url.trim()).expect("it starts a broker and prints its URL").authority;
    // Nothing but that says that nobody is there: a connection can fail for other reasons.
    let is_gone = || {
        let connected = TcpStream::connect((address.host.as_str(), address.port));
        connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    assert!(!is_gone(), "the broker lives as long as its test");

    holder.kill().expect("it can be killed");
    assert_eq!(holder.wait().expect("it has ended").signal(), Some(9));
    // The reaper has inherited it: it ends when the reaper has done its work.
    let told = io::read_to_string(holder.stderr.take().expect("stderr is piped")).expect("text");
    assert!(is_gone(), "the broker at {url} outlives its test: {told}");
}

/// Verifies that it fails in container mode, and says why.
fn assert_refused(command: &mut Command, words: &[&str]) {
    let Output { status, stdout, stderr } = command
        .env(MODE_VARIABLE, "containers")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(!status.success(), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in:\n{text}");
    }
}

#[test]
fn without_a_docker_engine_container_mode_says_what_to_do() {
    let mut command = holder(&[]);
    command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env_remove("STREAMBOX_TEST_DYNAMODB_URL");
    assert_refused(&mut command, &["no Docker engine answers", "DOCKER_HOST", "leave STREAMBOX_TEST_MODE empty"]);
}

#[test]
fn without_permission_for_the_docker_engine_container_mode_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let _engine = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root may connect to every socket, unless it gives that up.
    let way: &[&str] = if Uid::effective().is_root() { &["setpriv", "--bounding-set", "-dac_override"] } else { &[] };
    let mut command = holder(way);
    command.env("DOCKER_HOST", format!("unix://{}", socket.display())).env_remove("STREAMBOX_TEST_DYNAMODB_URL");
    assert_refused(&mut command, &["this user may not use the Docker engine", "group `docker`"]);
}

#[test]
fn an_image_that_cannot_be_fetched_is_named_with_its_variable() {
    if *Mode::of_tests() != Mode::Containers {
        eprintln!("skipped: only in container mode is there surely a Docker engine");
        return;
    }
    let mut command = holder(&[]);
    command.env("STREAMBOX_RABBITMQ_IMAGE", "localhost:1/no-rabbitmq:0");
    assert_refused(&mut command, &["localhost:1/no-rabbitmq:0", "STREAMBOX_RABBITMQ_IMAGE"]);
}
