//! What the help of a command line has to have. Tests of both programs call this.

use clap::{Arg, Command, error::ErrorKind};

/// A command with more options than this has them in groups.
const MOST_UNGROUPED_OPTIONS: usize = 8;

/// Words that are not the field's own, or not English.
const AVOIDED: [&str; 10] = [
    "so many",
    " told",
    " tells",
    " mend",
    "makes sure of",
    "whoever",
    "gone on with",
    "taken back",
    "must be of ",
    "in vain",
];

/// What is missing or wrong in the help of a program and of all its commands:
///
/// - A command says what it does, and if it has arguments of its own, it has examples, each of which is a command line that it accepts.
/// - An argument says what it is; one whose default is a number names its unit.
/// - A command with many options has them under headings.
/// - Texts are sentences, without words that the project avoids.
#[must_use]
pub fn faults(program: &Command) -> Vec<String> {
    let mut program = without_variables(program.clone());
    program.build();
    let mut faults = Vec::new();
    look(&program, &program, &mut faults);
    faults
}

/// What has a variable need not stand in an example's line.
fn without_variables(command: Command) -> Command {
    let optional = |argument: Arg| if argument.get_env().is_some() { argument.required(false) } else { argument };
    command.mut_args(optional).mut_subcommands(without_variables)
}

fn look(program: &Command, command: &Command, faults: &mut Vec<String>) {
    let path = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let mut fault = |what: String| faults.push(format!("{path}: {what}"));
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    if !is_sentence(&about) {
        fault(format!("it does not say in sentences what it does: {about:?}"));
    }
    let after = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string).unwrap_or_default();

    let own = |argument: &&Arg| !argument.is_global_set() && !["help", "version"].contains(&argument.get_id().as_str());
    let arguments: Vec<_> = command.get_arguments().filter(own).collect();
    let examples: Vec<_> =
        after.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| is_of(line, program)).collect();
    if !arguments.is_empty() && !examples.iter().any(|line| is_of_path(line, &path)) {
        fault("it has arguments, but no example".to_owned());
    }
    for example in &examples {
        match program.clone().try_get_matches_from(words(example)) {
            Err(error) if ![ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&error.kind()) => {
                fault(format!("the example `{example}` is refused: {error}"));
            }
            _ => {}
        }
    }

    let options = arguments.iter().filter(|argument| !argument.is_positional());
    let ungrouped = options.clone().filter(|option| option.get_help_heading().is_none()).count();
    if options.count() > MOST_UNGROUPED_OPTIONS && ungrouped > 0 {
        fault(format!("{ungrouped} of its options are under no heading"));
    }
    for argument in &arguments {
        let name = argument.get_id();
        let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
        if !is_sentence(&help) {
            fault(format!("{name} has no help in sentences: {help:?}"));
        }
        let has_number =
            argument.get_default_values().iter().any(|value| value.to_string_lossy().parse::<f64>().is_ok());
        let unit =
            argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string).unwrap_or_default();
        if has_number && (unit.is_empty() || unit.eq_ignore_ascii_case(name.as_str())) {
            fault(format!("{name} is a number without a unit: its value is called {unit:?}"));
        }
        avoided(&help).for_each(|word| fault(format!("{name} says {word:?}")));
    }
    avoided(&about).chain(avoided(&after)).for_each(|word| fault(format!("it says {word:?}")));
    for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
        look(program, one, faults);
    }
}

/// Whether a text begins as a sentence. clap takes the last period away.
fn is_sentence(text: &str) -> bool {
    text.chars().next().is_some_and(|first| first.is_uppercase() || !first.is_alphabetic())
}

fn avoided(text: &str) -> impl Iterator<Item = &'static str> {
    let text = format!(" {}", text.to_lowercase());
    AVOIDED.into_iter().filter(move |word| text.contains(word))
}

/// Whether a line calls the program.
fn is_of(line: &str, program: &Command) -> bool {
    is_of_path(line, program.get_name())
}

/// Whether a line calls a command.
fn is_of_path(line: &str, path: &str) -> bool {
    line.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// The words of a line up to a pipe, a redirection or a comment, as a shell reads them: single quotes keep a word together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for char in line.chars() {
        match char {
            '\'' => is_quoted = !is_quoted,
            '|' | '>' | '<' | '#' if !is_quoted => break,
            ' ' if !is_quoted => words.push(String::new()),
            char => words.last_mut().expect("there is one").push(char),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy() -> Command {
        let to = Arg::new("to").long("to").required(true).env("MOVER_TO").help("Where to.");
        let speed = Arg::new("speed").long("speed").default_value("5").value_name("BYTES_PER_SECOND").help("How fast.");
        let examples = "Examples:\n  mover copy --speed 7 'a b' | tee x\n  export MOVER_TO=x";
        Command::new("copy").about("Copies.").args([to, speed, Arg::new("from").help("What.")]).after_help(examples)
    }

    fn found(copy: Command) -> String {
        faults(&Command::new("mover").about("Moves.").subcommand(copy)).join("\n")
    }

    #[test]
    fn a_good_help_has_no_faults_and_each_fault_is_found() {
        assert_eq!(found(copy()), "");
        for (copy, fault) in [
            (copy().about(""), "mover copy: it does not say"),
            (copy().after_help("Examples:\n  mover --help"), "mover copy: it has arguments, but no example"),
            (copy().after_help("Examples:\n  mover copy --fast a"), "`mover copy --fast a` is refused"),
            (copy().mut_arg("to", |to| to.help(None)), "to has no help"),
            (copy().mut_arg("speed", |speed| speed.value_name("SPEED")), "speed is a number without a unit"),
            (copy().mut_arg("to", |to| to.help("Whoever gets it.")), "to says \"whoever\""),
            (
                copy().args((b'm'..=b'u').map(|id| Arg::new((id as char).to_string()).short(id as char).help("One."))),
                "under no heading",
            ),
        ] {
            assert!(found(copy).contains(fault), "{fault}");
        }
    }
}
