//! `event …`.

use super::Paging;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// Send an event, or a recorded dump of many
    Send(Send),
    /// Follow events as they come in, and what is told of them
    Tail(Tail),
    /// List events, newest first
    #[command(
        after_help = "Our own events (taskbot.…) are left out, unless --own, --topic, --prefix or --source asks for them.

Examples:
  taskbot event list --topic org.fedoraproject.prod.buildsys.tag
  taskbot event list --topic 'org.fedoraproject.*.bodhi.>'
  taskbot event list --prefix org.fedoraproject.prod.bodhi. --since 2d
  taskbot event list --where '{body.update.release.name: [F42, F43]}' -o jsonl"
    )]
    List {
        #[command(flatten)]
        paging: Paging,
        /// Only of this topic; `*` is one token of it, a last `>` the rest
        #[arg(long, value_name = "SUBJECT")]
        topic: Option<String>,
        /// Only of topics that start so
        #[arg(long, value_name = "TEXT")]
        prefix: Option<String>,
        /// Only of this source
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// Only from then on: 2h, 3d, 2026-11-21 or 2026-11-21T10:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Only before then
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Also our own events, which taskbot.… tells of tasks and results
        #[arg(long, visible_alias = "all")]
        own: bool,
    },
    /// Show an event with what rules said to it
    #[command(after_help = "Examples:
  taskbot event show @latest
  taskbot event show 2026-5af08502 -o json
  taskbot event show '#123'")]
    Show {
        /// Its id or the start of it, its number (`123`), or @latest
        id: String,
    },
    /// Say for each rule why it fired or did not, clause by clause
    #[command(after_help = "Examples:
  taskbot event why 123
  taskbot event why @latest --rule rpmlint-on-testing
  taskbot event why @latest --near-misses")]
    Why {
        /// Its id or the start of it, its number, or @latest
        id: String,
        /// Only this rule
        #[arg(long, value_name = "NAME")]
        rule: Option<String>,
        /// Only rules that did not fire and miss by one clause
        #[arg(long)]
        near_misses: bool,
    },
    /// Let events be judged again by today's rules; their tasks are made anew
    #[command(after_help = "Examples:
  taskbot event replay 123 124")]
    Replay {
        /// Their ids, starts of ids, numbers, or @latest
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Write events to a file as a dump, for tests and for sending again
    Record(Record),
}

#[derive(Debug, Args)]
#[command(
    after_help = "With SUBJECT the input is the event's body alone. Without it the input is a whole recorded message
{\"topic\": …, \"id\": …, \"headers\": {…}, \"body\": {…}}, an array of them, or one on each line.
Prints the number of each event, of one that was there already too. Sending the same again changes nothing.

Examples:
  taskbot event send org.example.build.done -f build.json
  echo '{\"name\": \"audit\"}' | taskbot event send org.example.build.done
  taskbot event send -f dump.jsonl
  taskbot event send --data '{\"name\": \"audit\"}' org.example.build.done --id build-17"
)]
pub(crate) struct Send {
    /// The topic, when the input is the body alone
    pub(crate) subject: Option<String>,
    /// The file to read; `-` or nothing is standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "data")]
    pub(crate) file: Option<PathBuf>,
    /// The body itself
    #[arg(short, long, value_name = "JSON", requires = "subject")]
    pub(crate) data: Option<String>,
    /// The event's id; made from its content when missing
    #[arg(long, value_name = "ID", requires = "subject")]
    pub(crate) id: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "SUBJECT is a topic, `*` for one token of it, a last `>` for the rest. Survives an outage of the server and
goes on where it was.

Examples:
  taskbot event tail --terse
  taskbot event tail 'org.fedoraproject.*.bodhi.>' --where '{body.update.critpath: true}' --pretty
  taskbot event tail 'taskbot.task.>' --out -o json
  taskbot event tail --since 1h --count 20"
)]
pub(crate) struct Tail {
    /// Only these topics
    pub(crate) subjects: Vec<String>,
    /// Only what this holds for: the clauses of a rule's `when`, as YAML
    #[arg(long = "where", value_name = "CLAUSES")]
    pub(crate) filter: Option<String>,
    /// One line for each, for people (the default)
    #[arg(long, conflicts_with = "pretty")]
    pub(crate) terse: bool,
    /// Everything of each, indented
    #[arg(long)]
    pub(crate) pretty: bool,
    /// Only what comes in from outside
    #[arg(long = "in", conflicts_with = "outgoing")]
    pub(crate) incoming: bool,
    /// Only what taskbot tells
    #[arg(long = "out")]
    pub(crate) outgoing: bool,
    /// End after so many
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) count: Option<u64>,
    /// First what came in since then: 1h, 2d, 2026-11-21; of our own messages those that are events too (tasks and
    /// results that ended, artifacts), where SUBJECT asks for them
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Each line is a whole message {topic, id, headers, body}, as `event send` and rule tests read it.

Examples:
  taskbot event record fixtures/build.json --id 123
  taskbot event record day.jsonl --since 1d --where '{topic: {prefix: org.fedoraproject.prod.bodhi.}}'
  taskbot event record - --count 10 'org.fedoraproject.>'       the next ten, to standard output"
)]
pub(crate) struct Record {
    /// The file to write; `-` is standard output. It must not exist
    pub(crate) file: PathBuf,
    /// Only these topics
    pub(crate) subjects: Vec<String>,
    /// These events: ids, starts of ids, numbers, or @latest
    #[arg(long = "id", value_name = "ID", conflicts_with_all = ["since", "count", "filter", "subjects"])]
    pub(crate) ids: Vec<String>,
    /// Those that came in since then, up to now
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// As they come in, so many
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) count: Option<u64>,
    /// Only what this holds for
    #[arg(long = "where", value_name = "CLAUSES")]
    pub(crate) filter: Option<String>,
}
