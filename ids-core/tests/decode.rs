//! The decoders against `serde_json` and `csv`, on records drawn to be difficult.

#[path = "common/oracle.rs"]
mod oracle;

use std::sync::Arc;

use ids_core::Schema;
use oracle::{check_csv, check_json};
use proptest::prelude::*;

const KEYS: [&str; 9] = ["dur", "sbytes", "RATE", "proto", "id", "Sintpkt", "unknown", "d\\u0075r", "state"];

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "-?(0|[1-9][0-9]{0,2})",
        2 => "-?(0|[1-9][0-9]{0,19})",
        4 => "-?(0|[1-9][0-9]{0,9})\\.[0-9]{1,18}",
        2 => "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,5})?[eE][+-]?[0-9]{1,3}",
        // No numbers of JSON.
        1 => "[-+]?0?[0-9]{0,3}\\.?[0-9]{0,2}e?",
        1 => prop::sample::select(vec!["NaN", "Infinity", "-Infinity", "-NaN", "nan", "1e309", "0x1", "--1"]).prop_map(str::to_owned),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => number(),
        2 => "\"([a-zé_ -]|\\\\[\"\\\\/bfnrt]|\\\\u00[0-7][0-9a-f]){0,9}\"",
        1 => prop::sample::select(vec![
            "null", "nul", "true", "[]", "{}", "\"\\ud83d\\ude00\"", "\"\\ud83d\"", "[1,{\"a\":[null]}]", "\"a\tb\"", "",
        ])
        .prop_map(str::to_owned),
    ]
}

/// A message of fields as producers write them, or nearly.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let blank = || prop::sample::select(vec!["", "", "", "", " ", "\n\t"]);
    let field = (blank(), prop::sample::select(KEYS.to_vec()), blank(), value(), blank());
    let fields = prop::collection::vec(field, 0..7);
    let damage = prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()));
    (fields, blank(), damage).prop_map(|(fields, end, damage)| {
        let fields: Vec<_> =
            fields.iter().map(|(a, key, b, value, c)| format!("{a}\"{key}\"{b}:{a}{value}{c}")).collect();
        let mut message = format!("{{{}}}{end}", fields.join(",")).into_bytes();
        if let Some((index, byte)) = damage {
            let at = index.index(message.len());
            message[at] = byte;
        }
        message
    })
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        4 => number(),
        1 => "\"?[a-z0-9,\" \r\n.-]{0,6}\"?",
        1 => Just(String::new()),
        1 => Just("sbytes".to_owned()),
    ];
    let row = prop::collection::vec(field, 1..6).prop_map(|fields| fields.join(","));
    let end = prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n", ""]);
    let rows = prop::collection::vec((row, end), 0..8);
    (rows, prop::sample::select(vec!["dur,sbytes,proto,id", "\u{feff} Dur ,unknown,\"proto\"", "sbytes"])).prop_map(
        |(rows, header)| {
            let rows: String = rows.into_iter().map(|(row, end)| row + end).collect();
            format!("{header}\n{rows}").into_bytes()
        },
    )
}

/// Its first row is no header, also where it comes again.
#[test]
fn a_file_of_a_layout_starts_with_a_row() {
    let row = ["0"; 49].join(",");
    for file in [row.clone(), format!("{row}\n{row}\n0,tcp\n{row}"), format!("{row},\n"), format!("\n{row}\r\n,\n")] {
        check_csv(&Arc::new(Schema::unsw_nb15()), file.as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn json_is_what_serde_json_makes_of_it(before in message(), message in message()) {
        check_json(&Arc::new(Schema::unsw_nb15()), &before, &message);
    }

    /// The end of a message is where fast paths end.
    #[test]
    fn a_message_that_is_cut_is_too(message in message(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(message.len() + 1);
        check_json(&Arc::new(Schema::unsw_nb15()), &message, &message[..cut]);
    }

    #[test]
    fn rows_of_a_file_are_what_csv_makes_of_them(file in file()) {
        check_csv(&Arc::new(Schema::unsw_nb15()), &file);
    }
}

/// Each length of digits before and behind the point, where the fast way of reading them ends.
#[test]
fn every_length_of_digits() {
    let schema = Arc::new(Schema::unsw_nb15());
    for n_whole in 1..=20 {
        for n_fraction in 0..=20 {
            for digits in ["12345678901234567890", "99999999999999999999", "00000000000000000001"] {
                let (whole, fraction) = (&digits[..n_whole], &digits[20 - n_fraction..]);
                let point = if n_fraction > 0 { "." } else { "" };
                for end in ["", " ", ",\"sbytes\":1", "e5", "E-7", ".", "x"] {
                    let message = format!("{{\"dur\":{whole}{point}{fraction}{end}}}");
                    check_json(&schema, b"{}", message.as_bytes());
                }
            }
        }
    }
}
