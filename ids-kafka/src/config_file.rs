//! A configuration file (TOML) under the flags and the environment: flag, then environment variable,
//! then file, then default. Keys are the names of the long flags; an unknown one is an error. What can be given more
//! than once is a list, and what is given as `name=value` can be a table too:
//!
//! ```toml
//! topic = "flows"
//! [kafka]
//! security.protocol = "SASL_SSL"
//! ```

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, FromArgMatches};

/// Parses the command line of `P`, which must have an argument `config` for the path of the file. With the flag
/// `--print-config`, if it has that, it prints the settings in force and ends the process, as `--help` does.
///
/// # Errors
/// clap's own, and where the file cannot be read, is no TOML or has an unknown key.
pub fn parse<P: CommandFactory + FromArgMatches>(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<P, clap::Error> {
    let mut arguments: Vec<_> = arguments.into_iter().collect();
    // First only to learn where the file is; what is wrong with the rest is said the second time.
    let first = P::command().ignore_errors(true).try_get_matches_from(&arguments);
    let path = first.ok().and_then(|matches| matches.get_one::<std::path::PathBuf>("config").cloned());
    let mut command = P::command();
    if let Some(path) = path {
        let lists;
        (command, lists) = with_defaults(command, &path)?;
        // Before the flags, so that these add to the list, and win where both name one thing.
        arguments.splice(1.min(arguments.len())..1.min(arguments.len()), lists);
    }
    let mut matches = command.try_get_matches_from_mut(&arguments)?;
    if matches.try_get_one::<bool>("print_config").ok().flatten() == Some(&true) {
        print!("{}", effective(&command, &matches));
        std::process::exit(0);
    }
    P::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Makes the values in the file at `path` the defaults of the command's arguments; of those that can be given more than once,
/// arguments.
fn with_defaults(mut command: Command, path: &Path) -> Result<(Command, Vec<OsString>), clap::Error> {
    let mut lists = Vec::new();
    let mut refuse = |kind, detail: String| command.error(kind, format!("{}: {detail}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refuse(ErrorKind::Io, error.to_string()))?;
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| refuse(ErrorKind::InvalidValue, error.to_string()))?;
    for (key, value) in table {
        let flag = key.replace('_', "-");
        let found = command.get_arguments().find(|arg| arg.get_long() == Some(flag.as_str()));
        let found = found.map(|arg| (arg.get_id().clone(), takes_many(arg)));
        let Some((id, takes_many)) = found.filter(|(id, _)| id != "config") else {
            let known: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
            let detail = format!("{}: unknown key `{key}`; known are {}", path.display(), known.join(", "));
            return Err(command.error(ErrorKind::UnknownArgument, detail));
        };
        let values = match &value {
            toml::Value::Array(items) if takes_many => items.iter().map(as_argument).collect(),
            toml::Value::Table(table) if takes_many => pairs("", table),
            toml::Value::Array(_) | toml::Value::Table(_) => {
                let detail = format!("{}: `{key}` takes one value, and no list or table", path.display());
                return Err(command.error(ErrorKind::InvalidValue, detail));
            }
            one => vec![as_argument(one)],
        };
        if takes_many {
            lists.extend(values.iter().map(|value| format!("--{flag}={value}").into()));
        } else {
            command = command.mut_arg(id, |arg| arg.required(false).default_values(values));
        }
    }
    Ok((command, lists))
}

/// The settings in force, as a configuration file; secrets given on the command line are not shown.
fn effective(command: &Command, matches: &clap::ArgMatches) -> String {
    let mut table = toml::Table::new();
    for argument in command.get_arguments() {
        let (Some(flag), id) = (argument.get_long(), argument.get_id().as_str()) else { continue };
        if ["config", "print-config", "help", "version"].contains(&flag) {
            continue;
        }
        if !argument.get_action().takes_values() {
            if matches.get_flag(id) {
                table.insert(flag.into(), true.into());
            }
            continue;
        }
        let raw = matches.get_raw(id).into_iter().flatten();
        // Of secrets the argument is the path of a file.
        let show = if flag == "kafka-secret" { str::to_owned } else { shown };
        let mut values: Vec<toml::Value> = raw.map(|value| show(&value.to_string_lossy()).into()).collect();
        match values.len() {
            0 => {}
            1 if !takes_many(argument) => drop(table.insert(flag.into(), values.remove(0))),
            _ => drop(table.insert(flag.into(), values.into())),
        }
    }
    table.to_string()
}

/// A value, without what is secret in a property `name=secret`.
fn shown(value: &str) -> String {
    match value.split_once('=') {
        Some((name, _))
            if ["password", "passphrase", "secret", ".pem", "jaas"].iter().any(|part| name.contains(part)) =>
        {
            format!("{name}=(not shown)")
        }
        _ => value.to_owned(),
    }
}

fn takes_many(argument: &clap::Arg) -> bool {
    matches!(argument.get_action(), clap::ArgAction::Append)
}

/// The values of a table as `name=value`; a dotted key, which in TOML is a table in a table, is a name with dots.
fn pairs(prefix: &str, table: &toml::Table) -> Vec<String> {
    let pair = |(key, value): (&String, &toml::Value)| match value {
        toml::Value::Table(inner) => pairs(&format!("{prefix}{key}."), inner),
        value => vec![format!("{prefix}{key}={}", as_argument(value))],
    };
    table.iter().flat_map(pair).collect()
}

fn as_argument(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::ReplayConfig;

    #[derive(Debug, Parser)]
    struct Cli {
        #[arg(long)]
        config: Option<std::path::PathBuf>,
        #[command(flatten)]
        replay: ReplayConfig,
    }

    fn parse_with(file: &str, flags: &[&str]) -> Result<ReplayConfig, String> {
        let path = std::env::temp_dir().join(format!("ids-config-{}-{:p}.toml", std::process::id(), file));
        std::fs::write(&path, file).expect("writes");
        let mut arguments: Vec<OsString> = vec!["test".into(), "--config".into(), path.clone().into()];
        arguments.extend(flags.iter().map(OsString::from));
        let parsed = parse::<Cli>(arguments);
        std::fs::remove_file(path).expect("removes");
        parsed.map(|cli| cli.replay).map_err(|error| error.to_string())
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = "rate = 50\ntopic = 'flows'\nkafka = ['client.rack=a', 'linger.ms=1']";
        let replay = parse_with(file, &["--rate", "70"]).expect("parses");
        assert_eq!((replay.load.rate.get(), replay.topic.as_str(), replay.load.seed), (70.0, "flows", 7));
        assert_eq!(replay.connection.properties.len(), 2);
        // A list is added to.
        let replay = parse_with(file, &["--kafka", "linger.ms=2"]).expect("parses");
        let values: Vec<_> = replay.connection.properties.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["a", "1", "2"]);
    }

    #[test]
    fn properties_are_a_list_or_a_table() {
        let expected =
            parse_with("kafka = ['client.rack=a', 'linger.ms=1']", &[]).expect("parses").connection.properties;
        for file in ["[kafka]\nclient.rack = 'a'\nlinger.ms = 1", "[kafka]\n'client.rack' = 'a'\n'linger.ms' = 1"] {
            assert_eq!(parse_with(file, &[]).expect("parses").connection.properties, expected);
        }
    }

    #[test]
    fn what_is_wrong_in_the_file_is_said() {
        let cases = [
            ("colour = 'red'", "unknown key `colour`"),
            ("rate = 0", "a rate above 0"),
            ("burst_power = 1.0", "1.1 or more"),
            ("rate = ", "TOML parse error"),
            ("topic = ['a', 'b']", "`topic` takes one value"),
            ("[topic]\na = 1", "`topic` takes one value"),
        ];
        for (file, expected) in cases {
            let message = parse_with(file, &[]).expect_err(file);
            assert!(message.contains(expected), "{message}");
        }
    }
}
