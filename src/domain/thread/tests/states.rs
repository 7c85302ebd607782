//! The table and the diagram of docs/states.md, made from the rules and held against the file:
//! `UPDATE_DOCS=1 cargo test states` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::json;

use super::*;
use crate::domain::thread::status::Phase;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/states.md");

const HEAD: &str = "\
# States of a request

A test makes this page from the code and fails if the two differ (`UPDATE_DOCS=1 cargo test states`
writes it again). [api.md](api.md#statuses) says what each status means and which fields go with a
change.

Who may change the status of a request, and to what:

| From | To | Who | How |
| --- | --- | --- | --- |
";

const NOTES: &str = "
*Working* are `in-progress`, `waiting`, `held`, `retrying`, `needs_input` and `needs_confirmation`; *over* are `completed`,
`partial`, `failed`, `rejected`, `declined`, `cancelled`, `expired`, `superseded` and `delegated`. Whoever takes a pending
request is its holder from then on, and must have the capabilities that it requires. A request with
`confirm_before` is not `completed` or `partial` before the requestor has confirmed a `needs_confirmation` to its
present holder. A `response` is the step to `completed`, a `cancel` the one to `cancelled`. Several steps in one call
happen together or not at all.

";

/// Who brings a thread from one status to another, in the words of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Anyone,
    Holder,
    Requestor,
    Another,
    Exchange,
}

impl Who {
    const ALL: [Self; 5] = [
        Self::Anyone,
        Self::Holder,
        Self::Requestor,
        Self::Another,
        Self::Exchange,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Anyone => "anyone",
            Self::Holder => "the holder",
            Self::Requestor => "the requestor",
            Self::Another => "another executor",
            Self::Exchange => "the exchange",
        }
    }
}

/// A way from one status to another.
pub type Edge = (Status, Status, Who);

/// Statuses that the document speaks of together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    One(Status),
    Working,
    Over,
}

impl Group {
    fn statuses(self) -> Vec<Status> {
        let of = |phase| {
            Status::ALL
                .iter()
                .copied()
                .filter(move |s| s.phase() == phase)
        };
        match self {
            Self::One(status) => vec![status],
            Self::Working => of(Phase::Working).collect(),
            Self::Over => of(Phase::Terminal).collect(),
        }
    }

    fn name(self) -> String {
        match self {
            Self::One(status) => format!("`{status}`"),
            Self::Working => "working".to_owned(),
            Self::Over => "over".to_owned(),
        }
    }

    /// Its name in the diagram, where hyphens are arrows.
    fn node(self) -> String {
        match self {
            Self::One(status) => status.as_str().replace('-', "_"),
            Self::Working => "working".to_owned(),
            Self::Over => "over".to_owned(),
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        match name {
            "working" => Some(Self::Working),
            "over" => Some(Self::Over),
            _ => Status::parse(name.trim_matches('`'), "")
                .ok()
                .map(Self::One),
        }
    }
}

/// All ways there are, found by trying everything from every status, by how it is done.
fn ways() -> BTreeMap<(Who, &'static str), BTreeSet<(Status, Status)>> {
    let mut ways: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for from in Status::ALL {
        let story = match from {
            Status::Pending => Story::begin(),
            status => Story::after(&[("phone", *status)]),
        };
        let mut attempt = |who, how, actor: &str, body: Value| {
            let mut story = story.clone();
            if story.call(actor, body).is_ok_and(|facts| facts > 0) {
                assert_eq!(story.last_steps().len(), 1);
                ways.entry((who, how))
                    .or_default()
                    .insert((*from, story.status()));
            }
        };
        for to in Status::ALL {
            let set = json!({"status": to});
            if *from == Status::Pending {
                attempt(Who::Anyone, "takes it", "tablet", set.clone());
                if *to == Status::Cancelled {
                    attempt(Who::Requestor, "cancels", "agent", set);
                }
                continue;
            }
            let more = json!({"status": to, "message": "more"});
            let how = if from == to {
                "says more of it"
            } else {
                "sets it"
            };
            attempt(Who::Holder, how, "phone", more);
            attempt(Who::Requestor, "cancels", "agent", set.clone());
            attempt(Who::Another, "sets it", "tablet", set);
        }
        if *from != Status::Pending {
            let takeover = json!({"status": "claimed", "takeover": true});
            attempt(Who::Another, "takes it over", "tablet", takeover);
        }
        for (how, reply) in [
            ("answers", json!({"answers": {"a": 1}})),
            ("confirms", json!({"confirm": true})),
            ("does not confirm", json!({"confirm": false})),
        ] {
            let body = json!({"mess": [{"reply": reply}]});
            attempt(Who::Requestor, how, "agent", body);
        }
        for (how, story) in by_itself(*from) {
            let mut story = story;
            if story.pass(HOUR) > 0 {
                let way = (*from, story.status());
                ways.entry((Who::Exchange, how)).or_default().insert(way);
            }
        }
    }
    ways
}

/// A thread in this status to which something may happen by itself within the hour.
fn by_itself(status: Status) -> Vec<(&'static str, Story)> {
    let needed_by = Story::begin().now.plus_millis(HOUR).to_string();
    let mut stories = vec![
        (
            "`needed_by` has come",
            Story::asking(json!({"needed_by": needed_by})),
        ),
        (
            "announces it again",
            Story::asking(json!({"priority": "urgent"})),
        ),
        ("the lease ends", Story::begin()),
    ];
    if status != Status::Pending {
        for (_, story) in &mut stories {
            story
                .call("phone", json!({"status": "claimed", "lease": "PT1H"}))
                .unwrap();
            if status != Status::Claimed {
                story.call("phone", json!({"status": status})).unwrap();
            }
        }
        stories.drain(..2);
    }
    stories
}

/// The rows of the table: ways that go from all of a group to all of another stand together.
fn rows() -> Vec<(Group, Option<Group>, Who, &'static str)> {
    let mut rows = Vec::new();
    for ((who, how), mut pairs) in ways() {
        let groups: Vec<Group> = [Group::Working, Group::Over]
            .into_iter()
            .chain(Status::ALL.iter().copied().map(Group::One))
            .collect();
        let same: BTreeSet<_> = pairs
            .iter()
            .copied()
            .filter(|(from, to)| from == to)
            .collect();
        pairs.retain(|pair| !same.contains(pair));
        for from in &groups {
            let mut of_group = |to: Option<Group>, found: &mut BTreeSet<(Status, Status)>| {
                let wanted: Vec<_> = from
                    .statuses()
                    .into_iter()
                    .flat_map(|a| {
                        let targets = to.map_or_else(|| vec![a], Group::statuses);
                        targets.into_iter().map(move |b| (a, b))
                    })
                    .filter(|(a, b)| to.is_none() || a != b)
                    .collect();
                if !wanted.is_empty() && wanted.iter().all(|pair| found.contains(pair)) {
                    found.retain(|pair| !wanted.contains(pair));
                    rows.push((*from, to, who, how));
                }
            };
            for to in &groups {
                of_group(Some(*to), &mut pairs);
            }
            let mut left = same.clone();
            if rows_have_not(&left, *from) {
                continue;
            }
            of_group(None, &mut left);
        }
        assert!(pairs.is_empty(), "{how}: {pairs:?}");
    }
    rows
}

fn rows_have_not(same: &BTreeSet<(Status, Status)>, group: Group) -> bool {
    // A status within a group that stands there as a whole is not told once more.
    let in_group = |group: Group, status| group.statuses().contains(&status);
    match group {
        Group::One(status) => [Group::Working, Group::Over].into_iter().any(|whole| {
            in_group(whole, status) && whole.statuses().iter().all(|s| same.contains(&(*s, *s)))
        }),
        Group::Working | Group::Over => false,
    }
}

fn document() -> String {
    let mut rows = rows();
    let order = |group: &Group| match group {
        Group::One(status) => *status,
        Group::Working => Status::InProgress,
        Group::Over => Status::Completed,
    };
    rows.sort_by_key(|(from, to, who, how)| (order(from), *from, *who, *how, *to));
    let mut text = HEAD.to_owned();
    for (from, to, who, how) in &rows {
        let to = to.map_or_else(|| "the same".to_owned(), Group::name);
        writeln!(
            text,
            "| {} | {to} | {} | {how} |",
            from.name(),
            who.as_str()
        )
        .unwrap();
    }
    text.push_str(NOTES);
    text.push_str("```mermaid\nstateDiagram-v2\n    [*] --> pending: the requestor posts it\n");
    for (name, group) in [("working", Group::Working), ("over", Group::Over)] {
        writeln!(text, "    state {name} {{").unwrap();
        for status in group.statuses() {
            let node = Group::One(status).node();
            if node == status.as_str() {
                writeln!(text, "        {node}").unwrap();
            } else {
                writeln!(text, "        state \"{status}\" as {node}").unwrap();
            }
        }
        text.push_str("    }\n");
    }
    for (from, to, who, how) in &rows {
        let to = to.unwrap_or(*from);
        let (who, how) = (who.as_str(), how.replace('`', ""));
        writeln!(text, "    {} --> {}: {who} {how}", from.node(), to.node()).unwrap();
    }
    text.push_str("    over --> [*]\n```\n");
    text.replace("the exchange the lease ends", "the lease ends")
        .replace("the exchange needed_by has come", "needed_by has come")
}

/// The ways that the committed document allows.
pub fn documented() -> BTreeSet<Edge> {
    let text = std::fs::read_to_string(FILE).unwrap();
    let mut edges = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [from, to, who, _] = cells.as_slice() else {
            continue;
        };
        let who = Who::ALL.into_iter().find(|known| known.as_str() == *who);
        let (Some(from), Some(who)) = (Group::of_name(from), who) else {
            continue;
        };
        for a in from.statuses() {
            match Group::of_name(to) {
                Some(to) => edges.extend(to.statuses().into_iter().map(|b| (a, b, who))),
                None => {
                    edges.insert((a, a, who));
                }
            }
        }
    }
    edges
}

#[test]
fn the_documented_states_are_those_of_the_code() {
    let made = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(FILE, &made).unwrap();
    }
    let committed = std::fs::read_to_string(FILE).unwrap_or_default();
    assert_eq!(committed, made, "run UPDATE_DOCS=1 cargo test states");
    assert!(documented().len() > 100);
}
