//! The checker of the books: reads what was produced and what came out, and says what is wrong with it.
//!
//! A detector keeps its promise where every record that Kafka acknowledged has exactly one distinct outcome among
//! the verdicts (a verdict, or a mark that there is none, and then a dead letter with the record's bytes); where
//! every outcome is, byte for byte, what scoring the record offline gives with the model whose version it carries;
//! where for each verdict that policy raises, and for no other, there is the alert that policy makes of it; where each
//! mark has its dead letter, with the reason that decoding or scoring the record offline gives; where verdicts follow
//! each other as their records do; and where what the detector counted is what the topics hold.
//!
//! Messages are kept as 64-bit digests, not as bytes: a record takes about a hundred bytes, so that a few million
//! fit. Two messages that differ pass for equal once in 2^64.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use ids_core::{AlertPolicy, Alerting, DeadLetter, FlowRecords, Model, Origin, Scorer, Verdict};
use rdkafka::message::{BorrowedMessage, Message};
use serde::{Deserialize, Serialize};

use crate::config::{Connection, Topics};
use crate::detector::Decoder;
use crate::error::{Error, Result};
use crate::headers;
use crate::read::{first_offsets, read_all};
use crate::tally::Tally;

/// A record's place: partition and offset in the topic with flows.
pub type Place = (i32, i64);

/// Records scored at a time: enough to keep the forest's tiles full.
const BATCH_RECORDS: usize = 1024;
/// Findings told in words.
const MOST_FINDINGS: usize = 10;

/// What is to be checked.
pub struct Books<'a> {
    /// How to reach Kafka.
    pub connection: &'a Connection,
    /// The topics of the detector.
    pub topics: &'a Topics,
    /// The models that it scored with, told apart by their versions.
    pub models: &'a [Arc<Model>],
    /// By what it decided which verdicts to raise.
    pub policy: Option<&'a AlertPolicy>,
    /// Columns of the flows if they are CSV rows: see
    /// [`DetectorConfig::csv_columns`](crate::DetectorConfig::csv_columns).
    pub csv_columns: Option<&'a str>,
    /// The records that Kafka acknowledged to their producer; `None`: all that the topic holds.
    pub acked: Option<&'a BTreeSet<Place>>,
    /// What detectors counted: each must add up.
    pub tallies: &'a [Tally],
    /// Whether `tallies` are of all detectors that were at work, from start to end: then their sums must be those of
    /// the topics.
    pub tallies_are_all: bool,
}

/// What the checker found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Records that Kafka acknowledged.
    pub acked: usize,
    /// Of these, without any outcome.
    pub lost: usize,
    /// Of the lost, those that follow the last outcome of their partition: a detector may be about to do them.
    pub behind: usize,
    /// Outcomes beyond the first of a record.
    pub duplicates: usize,
    /// Outcomes of records that are not there.
    pub invented: usize,
    /// Records with outcomes that contradict each other, or with another outcome than scoring it offline.
    pub wrong: usize,
    /// Outcomes of a model that is not among those given: they could not be compared.
    pub unknown_models: usize,
    /// First outcomes that stand behind the outcome of a later record of their partition.
    pub out_of_order: usize,
    /// Records with a mark and no dead letter, or with a dead letter and no mark, or with other bytes or another reason
    /// in it.
    pub wrong_dead_letters: usize,
    /// Verdicts that policy raises, without alert; alerts that it does not raise, or not so.
    pub wrong_alerts: usize,
    /// Alerts beyond the first of a record: a crash may repeat them, under the same key.
    pub repeated_alerts: usize,
    /// Dead letters beyond the first of a record: the same.
    pub repeated_dead_letters: usize,
    /// Sums that a detector counted and that do not add up, or not to what the topics hold.
    pub wrong_metrics: usize,
    /// Outcomes of records that the topic's retention has removed: not compared.
    pub expired: usize,
    /// The first of what is wrong, in words.
    pub findings: Vec<String>,
}

impl Report {
    /// Whether nothing is lost, invented, wrong or out of order. Duplicates are counted, not judged.
    pub fn is_sound(&self) -> bool {
        let Self { lost, invented, wrong, unknown_models, out_of_order, wrong_dead_letters, .. } = self;
        let Self { wrong_alerts, wrong_metrics, .. } = self;
        lost + invented + wrong + unknown_models + out_of_order + wrong_dead_letters + wrong_alerts + wrong_metrics == 0
    }

    fn find(&mut self, what: impl FnOnce() -> String) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(what());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acked, lost, behind, duplicates, invented, wrong, unknown_models, out_of_order, .. } = self;
        let Self { wrong_alerts, repeated_alerts, wrong_dead_letters, repeated_dead_letters, .. } = self;
        let Self { wrong_metrics, expired, findings, .. } = self;
        writeln!(f, "acknowledged   {acked:10}   records")?;
        writeln!(f, "lost           {lost:10}   without an outcome ({behind} after the last one of their partition)")?;
        writeln!(f, "duplicates     {duplicates:10}   outcomes beyond the first")?;
        writeln!(f, "invented       {invented:10}   outcomes of no record")?;
        writeln!(f, "wrong          {wrong:10}   other than scored offline, bit by bit")?;
        writeln!(f, "unknown model  {unknown_models:10}   outcomes of a model that was not given")?;
        writeln!(f, "out of order   {out_of_order:10}")?;
        writeln!(f, "alerts         {wrong_alerts:10}   wrong, {repeated_alerts} repeated")?;
        writeln!(f, "dead letters   {wrong_dead_letters:10}   wrong, {repeated_dead_letters} repeated")?;
        writeln!(f, "metrics        {wrong_metrics:10}   sums that do not add up")?;
        write!(f, "expired        {expired:10}   outcomes whose record the topic no longer holds: not compared")?;
        for finding in findings {
            write!(f, "\n  {finding}")?;
        }
        Ok(())
    }
}

impl Books<'_> {
    /// Reads all that the topics hold and checks it.
    ///
    /// # Errors
    /// Where a topic cannot be read to its end, or the policy or the columns do not fit a model.
    pub fn check(&self) -> Result<Report> {
        let mut checker = Checker::new(self)?;
        let Topics { flows, verdicts, alerts, dead_letters } = self.topics;
        read_all(self.connection, verdicts, |message| checker.outcome(message))?;
        read_all(self.connection, flows, |message| checker.record(message))?;
        checker.score_the_rest();
        // After they are read: what retention removed meanwhile is not invented.
        checker.close_records(&first_offsets(self.connection, flows)?);
        read_all(self.connection, alerts, |message| checker.alert(message))?;
        read_all(self.connection, dead_letters, |message| checker.dead_letter(message))?;
        checker.close_letters();
        checker.compare_tallies();
        Ok(checker.report)
    }
}

/// What is known of a record.
#[derive(Default)]
struct Entry {
    outcome: Option<Outcome>,
    /// Digest of the record's key and value, if the topic holds it.
    record: Option<u64>,
    /// Digest of what must be said beside the outcome: the value of an alert, or why the record is a dead letter.
    beside: Option<u64>,
    has_alert: bool,
    has_letter: bool,
}

/// The first outcome of a record.
#[derive(Clone, Copy)]
struct Outcome {
    digest: u64,
    /// Which of the versions made it.
    version: u16,
    /// Which of the kinds of fault it marks; `None` for a verdict.
    kind: Option<u16>,
}

/// What a message says of an outcome, as far as it is needed here.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(default)]
    dead_letter: Option<String>,
}

/// What an alert says, as far as it is needed here.
#[derive(Deserialize)]
struct SaidAlert<'a> {
    #[serde(borrow)]
    ids: Said<'a>,
}

/// A model, and the records that wait to be scored with it.
struct Offline {
    model: Arc<Model>,
    alerting: Alerting,
    decoder: Decoder,
    scorer: Scorer,
    records: FlowRecords,
    waiting: Vec<(Place, Option<i64>, Outcome)>,
}

struct Checker<'a> {
    books: &'a Books<'a>,
    report: Report,
    entries: HashMap<Place, Entry>,
    /// Offset of the furthest outcome by partition.
    furthest: BTreeMap<i32, i64>,
    versions: Names,
    kinds: Names,
    offline: Vec<Offline>,
    /// Messages in the topics, repeated ones included.
    held: Tally,
}

impl<'a> Checker<'a> {
    fn new(books: &'a Books<'a>) -> Result<Self> {
        // A verdict tells the version of its model, which does not change with the thresholds for alerts.
        for (i, model) in books.models.iter().enumerate() {
            let is_other = |earlier: &&Arc<Model>| {
                earlier.version() == model.version() && earlier.alerts() != model.alerts() && books.policy.is_none()
            };
            if books.models[..i].iter().any(|earlier| is_other(&earlier)) {
                return Err(Error::Config(format!(
                    "two of the models are of version {} and have other thresholds for alerts: which of them raised an alert cannot \
                     be told; give one of them, with --alert-threshold or --class-threshold where both served",
                    model.version()
                )));
            }
        }
        let offline = books.models.iter().map(|model| {
            Ok(Offline {
                model: Arc::clone(model),
                alerting: model.alerting(books.policy)?,
                decoder: Decoder::new(books.csv_columns, model)?,
                scorer: model.scorer(),
                records: FlowRecords::new(Arc::clone(model.schema())),
                waiting: Vec::new(),
            })
        });
        Ok(Self {
            offline: offline.collect::<Result<_>>()?,
            report: Report::default(),
            entries: HashMap::new(),
            furthest: BTreeMap::new(),
            versions: Names::default(),
            kinds: Names::default(),
            held: Tally::default(),
            books,
        })
    }

    /// A message among the verdicts.
    fn outcome(&mut self, message: &BorrowedMessage<'_>) {
        let Self { report, held, .. } = self;
        let value = message.payload().unwrap_or_default();
        let said = serde_json::from_slice::<Said<'_>>(value);
        match &said {
            Ok(Said { dead_letter: Some(_), .. }) => held.dead_letters += 1,
            _ => held.verdicts += 1,
        }
        let Some(place) = place_of(message, &self.books.topics.flows) else {
            report.invented += 1;
            report.find(|| format!("{}: its key is no place of a record", shown(message)));
            return;
        };
        let Ok(said) = said else {
            report.wrong += 1;
            report.find(|| format!("{}: its value is no verdict", shown(message)));
            self.entries.entry(place).or_default();
            return;
        };
        let version = self.versions.number(&said.model);
        let kind = said.dead_letter.map(|kind| self.kinds.number(&kind));
        let outcome = Outcome { digest: digest(value), version, kind };
        let entry = self.entries.entry(place).or_default();
        if let Some(first) = entry.outcome {
            report.duplicates += 1;
            if first.digest != outcome.digest {
                report.wrong += 1;
                report.find(|| format!("{place:?} has two outcomes that differ"));
            }
            return;
        }
        entry.outcome = Some(outcome);
        if message.partition() != place.0 {
            report.wrong += 1;
            report.find(|| format!("{place:?} has its outcome in partition {}", message.partition()));
        }
        let last = self.furthest.entry(place.0).or_insert(place.1);
        if *last > place.1 {
            report.out_of_order += 1;
            report.find(|| format!("{place:?} comes after offset {last}"));
        }
        *last = (*last).max(place.1);
    }

    /// A message among the flows: compares what became of it with what should have.
    fn record(&mut self, message: &BorrowedMessage<'_>) {
        let Self { report, entries, offline, .. } = self;
        let place = (message.partition(), message.offset());
        let entry = entries.entry(place).or_default();
        entry.record = Some(digest(&(message.key(), message.payload())));
        if self.books.acked.is_none() {
            report.acked += 1;
        }
        let Some(outcome) = entry.outcome else { return };
        let version = self.versions.name(outcome.version);
        let Some(offline) = offline.iter_mut().find(|offline| offline.model.version() == version) else {
            report.unknown_models += 1;
            report.find(|| format!("{place:?} has an outcome of model {version}, which was not given"));
            return;
        };
        let timestamp_ms = message.timestamp().to_millis();
        let decoded = offline.decoder.decode(place.1 as u64, message.payload(), &mut offline.records);
        match decoded {
            Ok(()) => offline.waiting.push((place, timestamp_ms, outcome)),
            Err(error) => {
                let origin = self.books.origin(place, timestamp_ms);
                let letter = DeadLetter::undecoded(origin, &error, offline.model.version());
                compare(report, place, &letter.marker(), outcome);
                entry.beside = Some(digest(&headers::of_dead_letter(&letter)));
            }
        }
        if offline.waiting.len() == BATCH_RECORDS {
            offline.score(self.books, report, entries);
        }
    }

    fn score_the_rest(&mut self) {
        for offline in &mut self.offline {
            offline.score(self.books, &mut self.report, &mut self.entries);
        }
    }

    /// All flows are read: what has no outcome, and what is of no record. `first` is what retention has left.
    fn close_records(&mut self, first: &BTreeMap<i32, i64>) {
        let Self { report, entries, furthest, .. } = self;
        let mut lose = |place: &Place| {
            report.lost += 1;
            report.behind += usize::from(furthest.get(&place.0).is_none_or(|&furthest| place.1 > furthest));
            report.find(|| format!("{place:?} has no outcome"));
        };
        let mut of_no_record = 0;
        for (place, entry) in entries.iter() {
            match (&entry.outcome, entry.record) {
                (None, Some(_)) if self.books.acked.is_none_or(|acked| acked.contains(place)) => lose(place),
                (Some(_), None) => of_no_record += 1,
                _ => {}
            }
        }
        if let Some(acked) = self.books.acked {
            acked.iter().filter(|place| !entries.contains_key(place)).for_each(&mut lose);
            report.acked = acked.len();
        }
        if of_no_record > 0 {
            for (place, _) in entries.iter().filter(|(_, entry)| entry.outcome.is_some() && entry.record.is_none()) {
                if first.get(&place.0).is_some_and(|first| place.1 < *first) {
                    report.expired += 1;
                } else {
                    report.invented += 1;
                    report.find(|| format!("{place:?} has an outcome and is no record"));
                }
            }
        }
    }

    /// A message among the alerts.
    fn alert(&mut self, message: &BorrowedMessage<'_>) {
        let Self { report, entries, versions, .. } = self;
        self.held.alerts += 1;
        let place = place_of(message, &self.books.topics.flows);
        let mut wrong = |what: &str| {
            report.wrong_alerts += 1;
            report.find(|| format!("{}: an alert that policy does not raise{what}", shown(message)));
        };
        let Some(entry) = place.and_then(|place| entries.get_mut(&place)) else { return wrong("") };
        let value = message.payload().unwrap_or_default();
        if entry.is_comparable(self.books, versions) {
            let alert = serde_json::from_slice::<SaidAlert<'_>>(value);
            if alert.is_ok_and(|alert| entry.is_of_another(self.books, &alert.ids.model, versions)) {
                report.repeated_alerts += 1;
                return;
            }
            match entry.alert() {
                None => return wrong(""),
                Some(expected) if expected != digest(value) => wrong(" so"),
                Some(_) => {}
            }
        }
        report.repeated_alerts += usize::from(entry.has_alert);
        entry.has_alert = true;
    }

    /// A message among the dead letters: it must have the bytes of its record, the reason, and a mark among the verdicts.
    fn dead_letter(&mut self, message: &BorrowedMessage<'_>) {
        let Self { report, entries, versions, kinds, .. } = self;
        let header = |name: &str| message.headers().and_then(|all| headers::text(all, name));
        let number = |name: &str| header(name).and_then(|text| text.parse::<i64>().ok());
        let place = number("ids.partition").zip(number("ids.offset"));
        let place = place.and_then(|(partition, offset)| Some((i32::try_from(partition).ok()?, offset)));
        let Some((place, entry)) = place.and_then(|place| Some((place, entries.get_mut(&place)?))) else {
            report.wrong_dead_letters += 1;
            report.find(|| format!("{}: a dead letter of no record", shown(message)));
            return;
        };
        if entry.is_of_another(self.books, header("ids.model").unwrap_or_default(), versions) {
            report.repeated_dead_letters += 1;
            return;
        }
        report.repeated_dead_letters += usize::from(entry.has_letter);
        entry.has_letter = true;
        let is_cut = header(headers::CUT_FROM).is_some();
        let is_whole =
            entry.record.is_none_or(|record| is_cut || record == digest(&(message.key(), message.payload())));
        let kind = header("ids.kind").unwrap_or_default();
        let is_marked =
            entry.outcome.is_none_or(|outcome| outcome.kind.is_some_and(|marked| kinds.name(marked) == kind));
        let reason = message.headers().map(headers::reason).unwrap_or_default();
        let is_so = entry.letter().is_none_or(|expected| expected == digest(&reason));
        let what = match (is_whole, is_marked, is_so) {
            (false, _, _) => "of other bytes",
            (_, false, _) => "without its mark",
            (_, _, false) => "with another reason",
            _ => return,
        };
        report.wrong_dead_letters += 1;
        report.find(|| format!("{place:?} has a dead letter ({kind}) {what}"));
    }

    /// All topics are read: verdicts without their alert, marks without their dead letter.
    fn close_letters(&mut self) {
        let Self { report, entries, .. } = self;
        for (place, entry) in entries.iter() {
            if entry.alert().is_some() && !entry.has_alert {
                report.wrong_alerts += 1;
                report.find(|| format!("{place:?} has a verdict and not the alert that it raises"));
            }
            let is_marked = entry.outcome.is_some_and(|outcome| outcome.kind.is_some());
            if is_marked && !entry.has_letter && entry.record.is_some() {
                report.wrong_dead_letters += 1;
                report.find(|| format!("{place:?} is marked as a dead letter and there is none"));
            }
        }
    }

    fn compare_tallies(&mut self) {
        let Self { report, held, books, .. } = self;
        let mut sum = Tally::default();
        for tally in books.tallies {
            let Tally { source, records, verdicts, dead_letters, .. } = tally;
            if *records != verdicts + dead_letters {
                report.wrong_metrics += 1;
                report.find(|| {
                    format!("{source}: {records} records, but {verdicts} verdicts and {dead_letters} dead letters")
                });
            }
            sum.add(tally);
        }
        if books.tallies_are_all {
            held.records = held.verdicts + held.dead_letters;
            let of = |tally: &Tally| [tally.records, tally.verdicts, tally.dead_letters, tally.alerts];
            let names = ["records", "verdicts", "dead letters", "alerts"];
            for ((name, counted), held) in names.into_iter().zip(of(&sum)).zip(of(held)) {
                if counted != held {
                    report.wrong_metrics += 1;
                    report.find(|| format!("{counted} {name} by the metrics, {held} in the topics"));
                }
            }
        }
    }
}

impl Books<'_> {
    /// Whether the model of that version was given.
    fn knows(&self, version: &str) -> bool {
        self.models.iter().any(|model| model.version() == version)
    }

    fn origin(&self, (partition, offset): Place, timestamp_ms: Option<i64>) -> Origin<'_> {
        Origin { topic: &self.topics.flows, partition, offset, timestamp_ms }
    }
}

impl Entry {
    /// Whether it can be said what it should have raised: not where its record is gone or has no outcome yet (whoever takes it
    /// up raises it again), nor where its model was not given.
    fn is_comparable(&self, books: &Books<'_>, versions: &Names) -> bool {
        self.record.is_some() && self.outcome.is_some_and(|outcome| books.knows(versions.name(outcome.version)))
    }

    /// Whether what `model` said comes from before a crash: the record was then scored with another.
    fn is_of_another(&self, books: &Books<'_>, model: &str, versions: &Names) -> bool {
        books.knows(model) && self.outcome.is_some_and(|outcome| versions.name(outcome.version) != model)
    }

    /// Digest of the alert that must be there.
    fn alert(&self) -> Option<u64> {
        self.beside.filter(|_| self.outcome.is_some_and(|outcome| outcome.kind.is_none()))
    }

    /// Digest of the reason that its dead letter must give.
    fn letter(&self) -> Option<u64> {
        self.beside.filter(|_| self.outcome.is_some_and(|outcome| outcome.kind.is_some()))
    }
}

impl Offline {
    /// Scores the records that wait, and compares.
    fn score(&mut self, books: &Books<'_>, report: &mut Report, entries: &mut HashMap<Place, Entry>) {
        let scored = self.scorer.score(&self.records);
        for (i, (&(place, timestamp_ms, outcome), score)) in self.waiting.iter().zip(scored.iter()).enumerate() {
            let origin = books.origin(place, timestamp_ms);
            let beside = match score {
                Ok(score) => {
                    let verdict = Verdict::new(&self.model, origin, score);
                    compare(report, place, &verdict, outcome);
                    // When the flow was read stands only where it has no time of its own; in Kafka it has one.
                    let alert = self.alerting.alert(&self.model, &verdict, self.records.get(i), &score, 0);
                    self.alerting.raises(&verdict).then(|| digest(json(&alert).as_slice()))
                }
                Err(fault) => {
                    let letter = DeadLetter::unscored(origin, &fault, self.model.version());
                    compare(report, place, &letter.marker(), outcome);
                    Some(digest(&headers::of_dead_letter(&letter)))
                }
            };
            if let Some(entry) = entries.get_mut(&place) {
                entry.beside = beside;
            }
        }
        self.waiting.clear();
        self.records.clear();
    }
}

/// Whether `outcome` is the message that `expected` makes.
fn compare(report: &mut Report, place: Place, expected: &impl Serialize, outcome: Outcome) {
    let json = json(expected);
    if digest(json.as_slice()) != outcome.digest {
        report.wrong += 1;
        report.find(|| format!("{place:?}: scored offline it is {}", String::from_utf8_lossy(&json)));
    }
}

fn json(message: &impl Serialize) -> Vec<u8> {
    // What the detector wrote it could write.
    serde_json::to_vec(message).unwrap_or_default()
}

/// Short names, as numbers.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn number(&mut self, name: &str) -> u16 {
        let known = self.0.iter().position(|known| known == name);
        let number = known.unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        });
        // Models and kinds of fault are few; should they be many, the last of them are taken for one.
        u16::try_from(number).unwrap_or(u16::MAX)
    }

    fn name(&self, number: u16) -> &str {
        self.0.get(usize::from(number)).map_or("?", String::as_str)
    }
}

fn digest<T: Hash + ?Sized>(of: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The place in a key `topic/partition/offset`.
fn place_of(message: &BorrowedMessage<'_>, flows: &str) -> Option<Place> {
    let key = std::str::from_utf8(message.key()?).ok()?;
    let (partition, offset) = key.strip_prefix(flows)?.strip_prefix('/')?.split_once('/')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

/// A message of the detector by its own place and key.
fn shown(message: &BorrowedMessage<'_>) -> String {
    let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
    format!("{}/{}/{} (key `{key}`)", message.topic(), message.partition(), message.offset())
}
