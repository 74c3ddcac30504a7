//! The ways in which one file is run. Tables must come out the same in all of them.

use alluvium_parser::{Statement, StatementKind};
use clap::ValueEnum;

/// How a file is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Replay {
    /// As it stands
    Straight,
    /// The session closed and opened again before every statement that reads or refreshes
    Restart,
    /// All waiting input in one epoch
    Single,
    /// One file per epoch
    Each,
    /// All of these
    All,
}

impl Replay {
    const EVERY: [Replay; 4] = [Replay::Straight, Replay::Restart, Replay::Single, Replay::Each];

    /// The label for `onlyif` and `skipif`.
    pub fn label(self) -> &'static str {
        match self {
            Replay::Straight => "straight",
            Replay::Restart => "restart",
            Replay::Single => "single",
            Replay::Each => "each",
            Replay::All => "all",
        }
    }

    /// `all` written out, each at most once, in the usual order.
    pub fn expand(asked: &[Replay]) -> Vec<Replay> {
        let all = asked.contains(&Replay::All);
        Replay::EVERY.into_iter().filter(|replay| all || asked.contains(replay)).collect()
    }

    /// The replays a file takes part in: all, unless a comment `# replays: straight, each` before its first
    /// record says which.
    pub fn of_file(text: &str) -> Result<Vec<Replay>, String> {
        let comments = text.lines().map(str::trim).take_while(|line| line.is_empty() || line.starts_with('#'));
        let Some(list) =
            comments.filter_map(|line| line.trim_start_matches(['#', ' ']).strip_prefix("replays:")).next()
        else {
            return Ok(Replay::EVERY.to_vec());
        };
        let replay =
            |name: &str| Replay::from_str(name.trim(), true).map_err(|_| format!("`{}` is not a replay", name.trim()));
        let named = list.split(',').map(replay).collect::<Result<Vec<_>, _>>()?;
        Ok(Replay::expand(&named))
    }

    /// What the session is told.
    pub fn settings(self) -> Vec<(String, String)> {
        let files = match self {
            Replay::Single => "max",
            Replay::Each => "1",
            Replay::Straight | Replay::Restart | Replay::All => return Vec::new(),
        };
        vec![("replay.files_per_epoch".to_owned(), files.to_owned())]
    }

    /// Whether the session is opened again before this statement.
    pub fn restarts_before(self, statement: &Statement) -> bool {
        use StatementKind as K;
        self == Replay::Restart
            && matches!(
                statement.kind,
                K::Query { .. }
                    | K::CopyTo { .. }
                    | K::Refresh { .. }
                    | K::StartStream { .. }
                    | K::CreateStreamingTable(_)
                    | K::Insert { .. }
                    | K::ShowStreams
                    | K::DescribeStream { .. }
                    | K::VerifyStream { .. }
                    | K::ShowEpochs { .. }
                    | K::DescribeHistory { .. }
            )
    }
}

/// What a session forgets when it closes and a restart must tell it again: its settings and its temporary views.
#[derive(Debug, Default)]
pub struct Memory {
    statements: Vec<Statement>,
}

impl Memory {
    /// Takes note of a statement that was carried out.
    pub fn note(&mut self, statement: &Statement) {
        match &statement.kind {
            StatementKind::Set { .. } | StatementKind::Reset { .. } => self.statements.push(statement.clone()),
            StatementKind::CreateView(view) if view.temporary => {
                self.forget_view(&view.name.parts);
                self.statements.push(statement.clone());
            }
            StatementKind::Drop { name, .. } => self.forget_view(&name.parts),
            _ => {}
        }
    }

    /// What to run in a new session, in order.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    fn forget_view(&mut self, dropped: &[String]) {
        self.statements.retain(|statement| match &statement.kind {
            StatementKind::CreateView(view) => !same_name(&view.name.parts, dropped),
            _ => true,
        });
    }
}

fn same_name(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.eq_ignore_ascii_case(other))
}
