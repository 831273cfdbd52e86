//! `streambox-localstack`: the commands of `localstack/`, which are links to a script that builds this program and runs it.

fn main() -> std::process::ExitCode {
    streambox_localstack::main()
}
