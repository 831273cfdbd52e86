//! The commands that every program has: completions for a shell, and man pages, both made from its command line.

use std::{
    fs,
    io::{self, ErrorKind, Write as _},
    path::PathBuf,
};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::Failure;

/// `completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsOptions {
    /// The shell.
    pub shell: Shell,
}

/// `man`.
#[derive(Clone, Debug, Args)]
pub struct ManOptions {
    /// The directory to write the pages to. It is created if it does not exist.
    pub directory: PathBuf,
}

/// Prints the completions of a program to standard output.
///
/// # Errors
/// Standard output can't be written.
pub fn print_completions(mut program: Command, options: &CompletionsOptions) -> Result<(), Failure> {
    let name = program.get_name().to_owned();
    // Not to standard output itself: the generator panics if that can't be written.
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut program, name, &mut script);
    let mut out = io::stdout().lock();
    match out.write_all(&script).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("standard output can't be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes the man pages of a program and of each of its commands.
///
/// # Errors
/// The directory can't be written.
pub fn write_man_pages(program: Command, options: &ManOptions) -> Result<(), Failure> {
    let directory = &options.directory;
    let written = fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(program, directory));
    written.map_err(|error| Failure::new(format!("man pages can't be written to {}: {error}", directory.display())))
}

#[cfg(test)]
mod tests {
    use clap::{Arg, value_parser};

    use super::*;
    use crate::Role;

    fn program() -> Command {
        let copy = Command::new("copy").about("Copies.").arg(Arg::new("to").long("to").help("Where to."));
        Command::new("mover")
            .about("Moves.")
            .version("1")
            .subcommand(copy)
            .arg(Arg::new("n").value_parser(value_parser!(u8)))
    }

    #[test]
    fn each_command_has_a_man_page() {
        let home = tempfile::tempdir().unwrap();
        let options = ManOptions { directory: home.path().join("share/man1") };
        write_man_pages(program(), &options).unwrap();
        let page = |name: &str| fs::read_to_string(options.directory.join(name)).unwrap();
        assert!(page("mover.1").contains("Moves.") && page("mover-copy.1").contains("Where to."));
        let refused = write_man_pages(program(), &ManOptions { directory: options.directory.join("mover.1/x") });
        assert!(refused.unwrap_err().message(Role::Operator).contains("mover.1/x"));
    }
}
