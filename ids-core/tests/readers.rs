//! What readers make of the files that people have: every header, every quirk, and the real files where they are.
//!
//! The rows here are written by hand. Real files are outside of the repository: see `IDS_DATA` in CONTRIBUTING.md.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use common::real_files::{REAL_FILES, RealFile};
use common::{headers, real_data};
use ids_core::data_card::{ClassCard, RowCounts};
use ids_core::decode::Read;
use ids_core::import::spark;
use ids_core::pipeline::{Dialect, HandleInvalid, Stage, Transform, VectorAssembler};
use ids_core::schema::ColumnKind;
use ids_core::{DataCard, FlowReader, FlowRecords, JsonDecoder, Model, Result, Schema, describe};
use proptest::prelude::*;

fn card(text: &[u8]) -> DataCard {
    describe(text, "flows", None).expect("a card")
}

fn refusal(text: &[u8]) -> String {
    describe(text, "flows", None).expect_err("refused").to_string()
}

fn schema(name: &str) -> Arc<Schema> {
    Arc::new(Schema::named(name).expect("built in"))
}

/// The flows of a file without bad rows.
fn flows(text: &[u8], schema: &Arc<Schema>) -> FlowRecords {
    let mut records = FlowRecords::new(Arc::clone(schema));
    let mut reader = FlowReader::new(text, "flows", Arc::clone(schema), &[]).expect("opens");
    loop {
        match reader.read(&mut records).expect("reads") {
            Read::Flow => {}
            Read::Bad(error) => panic!("{error}"),
            Read::End => return records,
        }
    }
}

/// A row in which the field of each column is its number, from 1.
fn numbered(header: &str) -> String {
    (1..=header.split(',').count()).map(|field| field.to_string()).collect::<Vec<_>>().join(",")
}

fn kinds(card: &DataCard) -> Vec<&'static str> {
    card.quirks.iter().map(|quirk| quirk.kind).collect()
}

/// The 76 features that all versions of CICFlowMeter write, in their order.
fn features() -> Vec<String> {
    let schema = schema("cicflowmeter");
    let names = schema.columns().iter().map(|column| column.name.clone());
    let names = names.skip_while(|name| name != "flow_duration").take_while(|name| name != "fwd_rst_flags");
    let names: Vec<_> = names.collect();
    assert_eq!(names.len(), 76);
    names
}

/// Every spelling of every header gets to its column: where the 76 features stand in each is known.
#[test]
fn every_header_of_cicflowmeter_is_read_whole() {
    let schema = schema("cicflowmeter");
    // The header, its columns, the place of the first feature, and after how many features how many more columns
    // stand: the second header length of 2017 and 2019, the flags that the corrected releases have, ...
    let variants = [
        ("MachineLearningCVE", headers::MACHINE_LEARNING.to_owned(), 79, 2, &[(54, 1)][..]),
        ("TrafficLabelling", headers::traffic_labelling(), 85, 8, &[(54, 1)]),
        ("CIC-DDoS2019", headers::ddos_2019(), 88, 9, &[(54, 1)]),
        ("CSE-CIC-IDS2018", headers::CSE_2018.to_owned(), 80, 4, &[]),
        ("version 3", headers::version_3(), 84, 8, &[]),
        ("version 4", headers::VERSION_4.to_owned(), 84, 8, &[]),
        ("corrected", headers::corrected(), 91, 9, &[(33, 2)]),
        ("its meter", headers::corrected_meter(), 94, 8, &[(33, 2), (67, 1), (68, 1)]),
    ];
    for (variant, header, n_columns, first, more) in variants {
        // As it is, and as pandas users rename columns.
        for header in [header.clone(), header.to_lowercase().replace([' ', '/'], "_"), header.to_uppercase()] {
            let text = format!("{header}\n{}\n", numbered(&header));
            if header.contains("cwr_flag_count") {
                // Then it cannot be told from the Python meter's.
                assert!(refusal(text.as_bytes()).contains("`cwr_count`"), "{variant}");
                continue;
            }
            let card = card(text.as_bytes());
            assert_eq!((card.schema.name.as_str(), card.schema.n_columns), ("cicflowmeter", n_columns), "{variant}");
            assert_eq!((card.schema.unknown.len(), card.rows.flows), (0, 1), "{variant}");
            let records = flows(text.as_bytes(), &schema);
            for (i, name) in features().iter().enumerate() {
                let more: usize = more.iter().filter(|(after, _)| i >= *after).map(|(_, n)| n).sum();
                let expected = (first + i + more) as f64;
                assert_eq!(records.get(0).number(name), Some(expected), "{variant}: {name}");
            }
            let label = if variant == "corrected" { n_columns - 1 } else { n_columns };
            assert_eq!(records.get(0).label(), Some(label.to_string().as_str()), "{variant}");
        }
    }
}

#[test]
fn the_python_meter_has_a_schema_of_its_own_and_is_never_mixed_with_the_java_one() {
    let header = format!("{},label", headers::PYTHON);
    let text = format!("{header}\n{}\n", numbered(&header));
    let found = card(text.as_bytes());
    assert_eq!((found.schema.name.as_str(), found.schema.n_known), ("cicflowmeter-python", 83));
    assert!(found.schema.missing.is_empty() && found.schema.others[0].contains("`cicflowmeter` is refused"));
    let duration = found.columns.iter().find(|column| column.name == "flow_duration").expect("a duration");
    assert_eq!(duration.unit.as_deref(), Some("s"));

    let java = Schema::named("cicflowmeter").expect("built in");
    let error = describe(text.as_bytes(), "flows", Some(java)).expect_err("seconds are no microseconds");
    assert!(error.to_string().contains("take the schema `cicflowmeter-python`"), "{error}");
    let python = Schema::named("cicflowmeter-python").expect("built in");
    let text = headers::CSE_2018.to_lowercase().replace([' ', '/'], "_");
    let error = describe(text.as_bytes(), "flows", Some(python)).expect_err("microseconds are no seconds");
    assert!(error.to_string().contains("take the schema `cicflowmeter`"), "{error}");
}

#[test]
fn a_json_record_of_another_meter_is_refused() {
    let schema = schema("cicflowmeter");
    let mut decoder = JsonDecoder::new(Arc::clone(&schema), &[]).expect("a decoder");
    let mut records = FlowRecords::new(schema);
    for _ in 0..2 {
        let error = decoder.decode(0, br#"{"flow_duration": 0.5, "cwr_flag_count": 0}"#, &mut records);
        assert_eq!(error.expect_err("seconds").kind.code(), "foreign_column");
        decoder.decode(0, br#"{"Flow Duration": 500000, "CWR Flag Count": 0}"#, &mut records).expect("microseconds");
        // The second header length of 2017, as pandas numbers it, is no second value.
        let twice = br#"{"Fwd Header Length": 20, "Fwd Header Length.1": 21, "Idle Min": 3}"#;
        decoder.decode(0, twice, &mut records).expect("the first counts");
        let flow = records.get(records.len() - 1);
        assert_eq!((flow.number("fwd_header_len"), flow.number("idle_min")), (Some(20.0), Some(3.0)));
    }
    assert_eq!(records.len(), 4);
}

/// A header of CIC-IDS2017 that is short enough to write rows for: the rest of the features is absent.
fn short_2017(rows: &[u8]) -> Vec<u8> {
    let mut text = headers::MACHINE_LEARNING.as_bytes().to_vec();
    text.extend_from_slice(b"\r\n");
    for row in rows.split(|&byte| byte == b'\n').filter(|row| !row.is_empty()) {
        // `duration,bytes/s,label`, zeros elsewhere.
        let mut fields = vec![&b"0"[..]; 79];
        let mut given = row.splitn(3, |&byte| byte == b',');
        for place in [1, 14, 78] {
            fields[place] = given.next().expect("three fields");
        }
        text.extend_from_slice(&fields.join(&b','));
        text.extend_from_slice(b"\r\n");
    }
    text
}

#[test]
fn the_quirks_of_2017() {
    let rows = b"3,Infinity,BENIGN\n-1,NaN,Web Attack \x96 XSS\n5,-Infinity,Web Attack \xc2\x96 XSS\n\
        7,,Web Attack \xe2\x80\x93 Brute Force\n8,1.23E8,DoS slowloris\n9,inf,No Label\n";
    let mut text = b"\xef\xbb\xbf".to_vec();
    text.extend(short_2017(rows));
    text.extend([b','; 78]);
    text.extend(b"\r\n\r\n");
    text.extend([b','; 78]);
    let card = card(&text);
    let rows = RowCounts { read: 8, flows: 6, rejected: 0, repeated_headers: 0, empty_rows: 2 };
    assert_eq!((card.rows, card.format), (rows, "csv"));
    let expected = [
        "bom",
        "crlf",
        "blanks_in_header",
        "repeated_column",
        "empty_rows",
        "not_utf8",
        "odd_labels",
        "not_finite",
        "constant_columns",
    ];
    assert_eq!(kinds(&card), expected);
    let labels = card.labels.expect("labels");
    let classes: Vec<_> = labels.classes.iter().map(|class| (class.class.as_str(), class.rows)).collect();
    let expected = [("Web Attack - XSS", 2), ("BENIGN", 1), ("DoS Slowloris", 1), ("Web Attack - Brute Force", 1)];
    assert_eq!((classes, labels.unlabelled), (expected.to_vec(), 1));
    assert_eq!(
        labels.classes[0].spellings.keys().collect::<Vec<_>>(),
        ["Web Attack \u{96} XSS", "Web Attack \u{2013} XSS"]
    );

    let column = |name: &str| card.columns.iter().find(|column| column.name == name).expect("a column");
    let rate = column("flow_bytes_per_s");
    let number = rate.number.as_ref().expect("numbers");
    assert_eq!((rate.missing, number.nan, number.infinite, number.negative), (1, 1, 3, 1));
    assert_eq!((number.min, number.max, rate.distinct), (Some(1.23e8), Some(1.23e8), 3));
    let duration = column("flow_duration").number.as_ref().expect("numbers");
    assert_eq!((duration.negative, duration.min), (1, Some(-1.0)));
    assert_eq!(column("label").written.as_deref(), Some(" Label"));

    let records = flows(&text, &schema("cicflowmeter"));
    let rates: Vec<_> = records.iter().map(|flow| flow.number("Flow Bytes/s")).collect();
    assert!(rates[1].is_some_and(f64::is_nan));
    assert_eq!((rates[0], rates[2], rates[3]), (Some(f64::INFINITY), Some(f64::NEG_INFINITY), None));
}

#[test]
fn headers_within_the_file_are_skipped_and_rejected_rows_named() {
    let header = headers::CSE_2018;
    let good = numbered(header);
    let bad = good.replacen("4,", "fast,", 1);
    let text = format!("{header}\n{good}\n{header}\n\n{bad}\n{good},81\n{header}\n{bad}\n{good}");
    let card = card(text.as_bytes());
    assert_eq!(card.rows, RowCounts { read: 7, flows: 2, rejected: 3, repeated_headers: 2, empty_rows: 0 });
    assert_eq!(kinds(&card), ["repeated_headers", "constant_columns"]);
    let first = &card.rejected[0];
    assert_eq!((first.kind, first.column.as_deref(), first.rows), ("wrong_type", Some("flow_duration"), 2));
    // The fifth line, which is the second row beside those that are skipped.
    assert_eq!(
        (first.first_line, first.first.as_str()),
        (5, "record 2, column `flow_duration`, byte 6: found `fast` where a number should stand")
    );
    assert_eq!((card.rejected[1].kind, card.rejected[1].rows, card.rejected[1].first_line), ("row_too_long", 1, 6));
    let text = card.to_string();
    for expected in ["3 rejected", "2 the header again", "the first on line 5: record 2", "row_too_long"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn nsl_kdd_has_no_header() {
    let row = "0,tcp,ftp_data,SF,491,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2,2,0.00,0.00,0.00,0.00,1.00,0.00,0.00,150,25,0.17,0.03,0.17,0.00,0.00,0.00,0.05,0.00";
    for (end, n_columns, layout) in [(",land,20", 43, "with-difficulty"), (",normal", 42, "plain")] {
        let text = format!("{row}{end}\n{row}{end}\n");
        let card = card(text.as_bytes());
        assert_eq!((card.schema.name.as_str(), card.schema.n_columns), ("nsl-kdd", n_columns));
        assert_eq!((card.schema.layout.as_deref(), card.rows.flows), (Some(layout), 2));
        assert_eq!(kinds(&card)[0], "no_header");
        let flow = flows(text.as_bytes(), &schema("nsl-kdd"));
        let flow = flow.get(1);
        assert_eq!((flow.text("service"), flow.number("dst_host_srv_count")), (Some("ftp_data"), Some(25.0)));
        assert_eq!(flow.label(), Some(end.split(',').nth(1).expect("a label")));
    }
}

#[test]
fn json_lines_are_described_too() {
    let keys: Vec<_> = headers::VERSION_4.split(',').collect();
    let record = |label: &str| {
        let fields = keys.iter().map(|key| match *key {
            "Label" => format!("\"Label\":\"{label}\""),
            "Flow Bytes/s" => "\"Flow Bytes/s\":NaN".into(),
            "Flow ID" | "Src IP" | "Dst IP" | "Timestamp" => format!("\"{key}\":\"x\""),
            key => format!("\"{key}\":1"),
        });
        format!("{{{}}}\n", fields.collect::<Vec<_>>().join(","))
    };
    let text = record("BENIGN") + "{\n" + &record("NeedManualLabel");
    let card = card(text.as_bytes());
    assert_eq!((card.format, card.schema.name.as_str(), card.schema.n_known), ("json-lines", "cicflowmeter", 84));
    assert_eq!(card.rows, RowCounts { read: 3, flows: 2, rejected: 1, ..RowCounts::default() });
    assert_eq!((card.rejected[0].first_line, card.columns.len()), (2, 84));
    assert_eq!(card.labels.expect("labels").unlabelled, 1);
}

#[test]
fn a_column_that_the_first_json_record_lacks_may_be_in_others() {
    let record = |omitted: &str| {
        let keys = headers::VERSION_4.split(',').filter(|key| *key != omitted);
        let fields = keys.map(|key| match key {
            "Label" | "Flow ID" | "Src IP" | "Dst IP" | "Timestamp" => format!("\"{key}\":\"x\""),
            key => format!("\"{key}\":1"),
        });
        format!("{{{}}}\n", fields.collect::<Vec<_>>().join(","))
    };
    let is_missing = |text: &str| card(text.as_bytes()).schema.missing.contains(&"flow_duration".to_owned());
    assert!(is_missing(&record("Flow Duration")));
    assert!(!is_missing(&(record("Flow Duration") + &record(""))));
}

#[test]
fn an_empty_field_is_missing_but_where_it_may_name_a_class() {
    // `label`, the flag beside the class `attack_cat`, is no class.
    let text = b"proto,attack_cat,label\ntcp,,\n";
    let records = flows(text, &schema("unsw-nb15"));
    assert_eq!((records.get(0).label(), records.get(0).text("label")), (Some("Normal"), None));
}

/// A label that stands for two classes of a model is right for neither.
#[test]
fn classes_that_are_spelt_in_two_ways_are_refused() {
    let mut saved = spark::read(&common::repository().join("models/unsw-nb15-small")).expect("a saved model");
    let class = saved.classes.as_mut().and_then(|classes| classes.iter_mut().find(|class| *class == "DoS"));
    *class.expect("a class") = "Backdoors".into();
    let message = Model::from_spark(saved, None).expect_err("`Backdoor` is there too").to_string();
    assert!(
        message.contains("`Backdoor`") && message.contains("`Backdoors`") && message.contains("alias"),
        "{message}"
    );
}

#[test]
fn what_is_no_file_of_flows_is_refused_with_a_reason() {
    for (text, expected) in [
        (&b""[..], "the file is empty"),
        (b"\r\n\n", "the file is empty"),
        (b"PAR1\x15", "the file is Parquet"),
        (b"\x1f\x8b\x08", "compressed (gzip)"),
        (b"{\n", "say which it is"),
        (b"{}\n", "say which it is"),
        (b"a,b,c\n", "no built-in schema knows one of its columns"),
        (b"service,flag,mood\n", "misses"),
        (b"\0\xff\n", "no built-in schema"),
    ] {
        let message = refusal(text);
        assert!(message.contains(expected) && message.contains("flows: "), "{expected} in {message}");
    }
}

/// The model of a forest that takes the columns `names`, over and over, and calls flows that are no attack `benign`.
fn model_of(names: &[&str], benign: &str) -> Result<Model> {
    let mut saved = spark::read(&common::repository().join("models/unsw-nb15-small")).expect("a saved model");
    let forest = saved.forest.as_ref().expect("a forest");
    let input_columns = names.iter().map(|&name| name.to_owned()).cycle().take(forest.forest.n_features()).collect();
    let output_column = forest.columns.features.clone();
    let assembler = VectorAssembler { input_columns, output_column, handle_invalid: HandleInvalid::Keep };
    let transform = Transform::VectorAssembler(assembler);
    saved.stages = vec![Stage { uid: "assembler".into(), dialect: Dialect::From4_1, transform }];
    let class = saved.classes.as_mut().and_then(|classes| classes.iter_mut().find(|class| *class == "Normal"));
    *class.expect("a class") = benign.into();
    Model::from_spark(saved, None)
}

/// A directory of Spark's does not say whose columns it takes: the names must.
#[test]
fn a_model_finds_its_schema_by_its_columns() {
    let model =
        model_of(&["Total Fwd Packets", "flow_bytes_per_s", "Init_Win_bytes_forward"], "Benign").expect("a model");
    assert_eq!((model.schema().name(), model.inputs()[0].as_str()), ("cicflowmeter", "total_fwd_packets"));
    let benign = model.benign();
    assert_eq!((model.classes()[benign].as_str(), model.labels()[benign].as_str()), ("Benign", "BENIGN"));
    assert_eq!(model_of(&["srv_count", "land"], "normal").expect("a model").schema().name(), "nsl-kdd");

    let message = model_of(&["flow_duration", "idle_min"], "BENIGN").expect_err("seconds or microseconds").to_string();
    assert!(message.contains("`cicflowmeter`, `cicflowmeter-python` all have its columns"), "{message}");
    // What the nearest lacks, not what the first does.
    let message = model_of(&["srv_count", "land", "mood"], "normal").expect_err("no schema has it").to_string();
    assert!(message.contains("schema `nsl-kdd`, cannot supply 1 column") && message.contains("mood"), "{message}");
    assert!(message.contains("no built-in schema has its columns") && message.contains("the nearest"), "{message}");
    let message = model_of(&["Total Fwd Packets", "Init_Win_bytes_forward"], "mood").expect_err("no benign class");
    assert!(message.to_string().contains("none of its classes"), "{message}");
}

/// A row of a made-up file, and what it is.
#[derive(Debug, Clone, Copy)]
enum Line {
    Good,
    OddLabel,
    Bad,
    Short,
    Long,
    Header,
    Empty,
    Blank,
}

proptest! {
    /// Whatever a file is put together from, each row is counted once, as what it is.
    #[test]
    fn rows_in_are_rows_out_and_rejected(
        lines in prop::collection::vec(
            prop::sample::select(vec![
                Line::Good, Line::OddLabel, Line::Bad, Line::Short, Line::Long, Line::Header, Line::Empty, Line::Blank,
            ]),
            0..40,
        ),
        crlf in any::<bool>(),
        bom in any::<bool>(),
    ) {
        let header = headers::CSE_2018;
        let good = numbered(header);
        let mut text: Vec<u8> = if bom { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
        let mut expected = RowCounts::default();
        for line in std::iter::once(&Line::Header).chain(&lines) {
            match line {
                Line::Good => text.extend(good.as_bytes()),
                Line::OddLabel => {
                    text.extend(good.as_bytes());
                    text.push(0x96);
                }
                Line::Bad => text.extend(good.replacen("7,", "x,", 1).as_bytes()),
                Line::Short => text.extend(&good.as_bytes()[..20]),
                Line::Long => text.extend(format!("{good},1").as_bytes()),
                Line::Header => text.extend(header.as_bytes()),
                Line::Empty => text.extend([b','; 79]),
                Line::Blank => {}
            }
            text.extend(if crlf { &b"\r\n"[..] } else { b"\n" });
        }
        for line in &lines {
            expected.read += u64::from(!matches!(line, Line::Blank));
            match line {
                Line::Good | Line::OddLabel => expected.flows += 1,
                Line::Bad | Line::Short | Line::Long => expected.rejected += 1,
                Line::Header => expected.repeated_headers += 1,
                Line::Empty => expected.empty_rows += 1,
                Line::Blank => {}
            }
        }
        let card = card(&text);
        prop_assert_eq!(card.rows, expected);
        prop_assert_eq!(card.rejected.iter().map(|rejected| rejected.rows).sum::<u64>(), expected.rejected);
        let labels = card.labels.expect("labels");
        prop_assert_eq!(labels.classes.iter().map(|class| class.rows).sum::<u64>(), expected.flows);
    }

    /// No bytes after a header bring the reader down; where none is a quote or a CR, every line of them is a row.
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        // A quote may hide the end of a line, and a lone CR ends one.
        let bytes: Vec<u8> = bytes.into_iter().filter(|byte| !b"\"\r".contains(byte)).collect();
        let mut text = b"duration,flag,label\n".to_vec();
        text.extend(&bytes);
        let nsl_kdd = Schema::named("nsl-kdd").expect("built in");
        let card = describe(&text[..], "flows", Some(nsl_kdd)).expect("a card");
        let n_lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count() as u64;
        prop_assert_eq!(card.rows.read, n_lines);
        prop_assert!(card.to_string().lines().count() > 3);
    }
}

fn real_files() -> impl Iterator<Item = (&'static RealFile, PathBuf)> {
    let directory = real_data();
    REAL_FILES.iter().filter_map(move |file| {
        let path = directory.join(file.path);
        if !path.is_file() {
            eprintln!("SKIPPED: {}: set IDS_DATA to the directory that holds it", file.path);
            return None;
        }
        Some((file, path))
    })
}

#[test]
fn real_files_are_what_they_are_known_to_be() {
    for (file, path) in real_files() {
        let card = describe(fs::File::open(&path).expect("opens"), file.path, None).expect("a card");
        let RealFile { path, schema, n_rows, n_columns, classes, quirks } = file;
        assert_eq!((card.schema.name.as_str(), card.schema.n_columns), (*schema, *n_columns), "{path}");
        let expected = RowCounts { read: *n_rows, flows: *n_rows, ..RowCounts::default() };
        assert_eq!(card.rows, expected, "{path}: {:?}", card.rejected);
        let labels = card.labels.as_ref().expect("labels");
        let found: BTreeMap<_, _> =
            labels.classes.iter().map(|ClassCard { class, rows, .. }| (class.as_str(), *rows)).collect();
        assert_eq!(found, classes.iter().copied().collect(), "{path}");
        assert_eq!((labels.unlabelled, kinds(&card)), (0, quirks.to_vec()), "{path}");
        let unknown = usize::from(quirks.contains(&"unnamed_column"));
        assert_eq!(card.schema.unknown.len(), unknown, "{path}");
        assert!(card.to_string().lines().all(|line| line.chars().count() <= 100), "{card}");
    }
}

/// Every field of every real row is where it belongs, to the bit: compared with a reader that knows nothing but commas.
#[test]
fn real_files_are_read_without_loss() {
    for (file, path) in real_files() {
        let schema = schema(file.schema);
        let bytes = fs::read(&path).expect("reads");
        assert!(!bytes.contains(&b'"'), "{}: commas are no longer enough", file.path);
        let records = flows(&bytes, &schema);
        let text = String::from_utf8(bytes).expect("UTF-8");
        let mut lines = text.trim_start_matches('\u{feff}').lines();
        let names: Vec<String> = match schema.layout_of_width(file.n_columns) {
            Some((_, names)) => names.to_vec(),
            None => lines.next().expect("a header").split(',').map(|name| name.trim().to_owned()).collect(),
        };
        let mut seen = Vec::new();
        let positions = names.iter().map(|name| {
            let position = schema.position(name).filter(|position| !seen.contains(position));
            seen.extend(position);
            position
        });
        let positions: Vec<_> = positions.collect();
        let mut n_values = 0u64;
        for (row, line) in lines.enumerate() {
            let flow = records.get(row);
            for (position, field) in positions.iter().zip(line.split(',')) {
                let Some(position) = *position else { continue };
                let column = &schema.columns()[position];
                if matches!(column.kind, ColumnKind::Number | ColumnKind::Integer) {
                    let expected = (!field.is_empty()).then(|| field.parse::<f64>().expect("a number").to_bits());
                    assert_eq!(flow.number(&column.name).map(f64::to_bits), expected, "{}: {row}", file.path);
                } else {
                    assert_eq!(flow.text(&column.name), Some(field), "{}: {row}", file.path);
                }
                n_values += 1;
            }
        }
        assert!(n_values >= file.n_rows * (file.n_columns as u64 - 1), "{}", file.path);
    }
}
