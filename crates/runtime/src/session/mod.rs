//! The session: statements in, outcomes out.
//!
//! One file per family of statements. This room decides nothing about meaning (the planner does) and nothing about
//! exactly-once (the epoch does); it finds what names stand for, and starts, stops and describes.

mod copy;
mod copy_csv;
mod copy_json;
mod ddl;
mod describe;
mod files;
mod join_state;
mod late_rows;
mod live;
mod outcome;
#[cfg(test)]
mod random_queries;
mod refresh;
mod resolve;
mod secrets;
mod select;
mod show;
mod state;
mod streaming_table;
mod table_properties;
mod verify;
#[cfg(test)]
mod verify_tests;

pub use outcome::{Completions, Live, LiveUpdate, Notice, Outcome, Rows};
pub use secrets::veiled;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use alluvium_parser::{Diagnostic, Statement, StatementKind};
use alluvium_planner::settings::Settings;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use tokio::sync::mpsc;

use crate::catalog::Catalog;
use crate::error::Result;
use crate::query::{StreamState, Streams};

/// How a session is opened.
#[derive(Default)]
pub struct SessionOptions {
    /// Directory of managed tables and the catalog.
    pub warehouse: PathBuf,
    /// A person types: streams run in the background by default, `SELECT` over a stream is live.
    pub interactive: bool,
    /// Settings to begin with, as if by SET.
    pub settings: Vec<(String, String)>,
    /// Where notices go; None drops them.
    pub progress: Option<mpsc::UnboundedSender<Notice>>,
}

/// A user's connection to a warehouse. Clones are the same session.
#[derive(Clone)]
pub struct Session {
    pub(crate) inner: Arc<Inner>,
    /// Plans are made in this time zone instead of that of the settings.
    zone: Option<Arc<str>>,
}

/// What all clones of a session share.
pub(crate) struct Inner {
    pub catalog: Catalog,
    pub interactive: bool,
    pub streams: Streams,
    /// Temporary views: lower-case name to the CREATE statement's text and spelled name.
    pub temporary_views: Mutex<HashMap<String, (String, String)>>,
    settings: RwLock<Settings>,
    state: RwLock<Arc<SessionState>>,
    notices: Option<mpsc::UnboundedSender<Notice>>,
    /// Overrides every source's files per epoch: what replays of test scripts use.
    pub files_per_epoch: Option<u64>,
}

impl Session {
    /// Opens a session. The warehouse directory is made when the first object is.
    pub async fn open(options: SessionOptions) -> Result<Session> {
        let mut settings = Settings::default();
        let mut files_per_epoch = None;
        for (key, value) in &options.settings {
            match key.as_str() {
                "replay.files_per_epoch" => {
                    files_per_epoch = Some(if value == "max" { u64::MAX } else { value.parse().unwrap_or(1) });
                }
                _ => settings.set(key, value)?,
            }
        }
        let state = Arc::new(session_state(&settings)?);
        let inner = Inner {
            catalog: Catalog::open(&options.warehouse)?,
            interactive: options.interactive,
            streams: Streams::default(),
            temporary_views: Mutex::default(),
            settings: RwLock::new(settings),
            state: RwLock::new(state),
            notices: options.progress,
            files_per_epoch,
        };
        Ok(Session::on(Arc::new(inner)))
    }

    /// Runs one statement. Dropping the future asks whatever it runs to stop after the running epoch; nothing is lost.
    pub async fn execute(&self, statement: &Statement) -> Result<Outcome> {
        match self.dispatch(statement).await {
            // Rows come later, and so do the errors of computing them.
            Ok(Outcome::Rows(rows)) => Ok(Outcome::Rows(rows.of(statement.span))),
            other => other.map_err(|error| error.at_least(statement.span)),
        }
    }

    async fn dispatch(&self, statement: &Statement) -> Result<Outcome> {
        use StatementKind as K;
        match &statement.kind {
            K::CreateStreamingTable(create) => self.create_streaming_table(statement, create).await,
            K::CreateView(create) => self.create_view(statement, create).await,
            K::CreateTable(create) => self.create_table(create).await,
            K::Drop { what, if_exists, name } => self.drop_object(*what, *if_exists, name).await,
            K::Insert { table, columns, by_name, overwrite, query } => {
                self.insert(table, columns, *by_name, *overwrite, query).await
            }
            K::Query { query, available_now } => self.select(query, *available_now).await,
            K::CopyTo { query, path, format, options } => self.copy_to(query, path, format.as_ref(), options).await,
            K::Refresh { table, full } => self.refresh(table, *full).await,
            K::StartStream { name, trigger } => self.start_stream(name, trigger.as_ref()).await,
            K::StopStream { name } => self.stop_stream(name).await,
            K::StopAllStreams => self.stop_all().await.map(|()| Outcome::Done("stopped".into())),
            K::AwaitStream { name, timeout } => self.await_stream(name, *timeout).await,
            K::ShowStreams => self.show_streams(),
            K::DescribeStream { name } => self.describe_stream(name),
            K::VerifyStream { name } => self.verify_stream(name).await,
            K::ShowEpochs { name, limit } => self.show_epochs(name, *limit),
            K::ShowFiles { query } => self.show_files(query).await,
            K::AlterFile { name, change, path } => self.alter_file(name, *change, path).await,
            K::SetTrigger { name, trigger } => self.set_trigger(name, trigger).await,
            K::Preview { relation, span } => self.preview(relation, *span).await,
            K::ShowRelations { views, schema, pattern } => {
                self.show_relations(*views, schema.as_ref(), pattern.as_ref())
            }
            K::ShowColumns { name } => self.describe_columns(name, true).await,
            K::ShowCreateTable { name } => self.show_create_table(name).await,
            K::ShowTblProperties { name } => self.show_properties(name).await,
            K::Describe { name, extended } => self.describe(name, *extended).await,
            K::DescribeDetail { name } => self.describe_detail(name).await,
            K::DescribeHistory { name, limit } => self.describe_history(name, *limit).await,
            K::Explain { verbose, statement } => self.explain(*verbose, statement).await,
            K::Set { key, value } => self.set(&key.value, &value.value).map_err(|e| e.at_least(key.span)),
            K::ShowSettings => self.show_settings(None),
            K::ShowSetting { key } => self.show_settings(Some(key)),
            K::Reset { key } => self.reset(&key.value).map_err(|e| e.at_least(key.span)),
            K::SetVar { .. } => Ok(Outcome::Done(String::new())),
            K::NotYet { what, help, span } => {
                Err(Diagnostic::new("NOT_SUPPORTED_YET", format!("{what} is not supported in this release"))
                    .at(*span)
                    .help(help.clone())
                    .into())
            }
        }
    }

    /// What `SET on_error` says: go on behind a failed statement.
    pub fn on_error_continue(&self) -> bool {
        self.settings().on_error_continue()
    }

    /// Session time zone, for printing timestamps.
    pub fn time_zone(&self) -> String {
        self.settings().timezone.clone()
    }

    /// Names of the streams that run in the background.
    pub async fn background_streams(&self) -> Vec<String> {
        let running = self.inner.streams.all().into_iter().filter(|handle| !handle.status().state.ended());
        running.map(|handle| handle.name().to_string()).collect()
    }

    /// Waits until every background stream has ended; the first failure is the error.
    pub async fn wait_for_streams(&self) -> Result<()> {
        for handle in self.inner.streams.all() {
            if !handle.status().state.ended() {
                handle.ended().await?;
            }
        }
        Ok(())
    }

    /// Stops every stream after its running epoch.
    pub async fn stop_all(&self) -> Result<()> {
        let all = self.inner.streams.all();
        all.iter().for_each(|handle| handle.request_stop());
        for handle in all {
            handle.stop().await;
        }
        Ok(())
    }

    /// Names for the REPL to complete.
    pub async fn completions(&self) -> Completions {
        let mut names = Completions::default();
        names.tables.extend(self.inner.catalog.list().unwrap_or_default().into_iter().map(|entry| entry.name));
        names.tables.extend(self.temporary_views().values().map(|(_, name)| name.clone()));
        for table in names.tables.clone() {
            if let Ok(schema) = self.columns_of(&table).await {
                names.columns.extend(schema.fields().iter().map(|field| field.name().clone()));
            }
        }
        let state = self.state();
        names.functions.extend(state.scalar_functions().keys().cloned());
        names.functions.extend(state.aggregate_functions().keys().cloned());
        names.functions.extend(alluvium_planner::functions::spellings().map(str::to_owned));
        names.functions.extend(["cloud_files", "read_files", "cloud_files_state", "read_state"].map(str::to_owned));
        names.options = crate::source::files::option_names();
        names.columns.sort();
        names.columns.dedup();
        names.functions.sort();
        names.functions.dedup();
        names
    }

    /// A clone of the session that shares `inner`.
    pub(crate) fn on(inner: Arc<Inner>) -> Session {
        Session { inner, zone: None }
    }

    /// The same session, whose plans are made in another time zone; None: in that of the settings.
    pub(crate) fn in_zone(&self, zone: Option<&str>) -> Session {
        Session { inner: self.inner.clone(), zone: zone.map(Arc::from) }
    }

    /// Functions, configuration and memory pool for new plans.
    pub(crate) fn state(&self) -> Arc<SessionState> {
        let state = self.inner.state.read().unwrap_or_else(PoisonError::into_inner).clone();
        let settings = self.settings();
        match state.config_options().execution.time_zone.as_deref() == Some(settings.timezone.as_str()) {
            true => state,
            false => Arc::new(state_on(&settings, state.runtime_env().clone())),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        let settings = self.inner.settings.read().unwrap_or_else(PoisonError::into_inner).clone();
        match &self.zone {
            Some(zone) => Settings { timezone: zone.to_string(), ..settings },
            None => settings,
        }
    }

    pub(crate) fn change_settings(&self, settings: Settings) -> Result<()> {
        let state = Arc::new(session_state(&settings)?);
        *self.inner.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        *self.inner.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    pub(crate) fn temporary_views(&self) -> std::sync::MutexGuard<'_, HashMap<String, (String, String)>> {
        self.inner.temporary_views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.streams.all().iter().for_each(|handle| handle.request_stop());
    }
}

/// Half of the memory limit is for running queries; the other half is for stored state and buffers of the sources.
fn session_state(settings: &Settings) -> Result<SessionState> {
    let pool = Arc::new(GreedyMemoryPool::new((settings.memory_limit / 2).max(64 << 20) as usize));
    let environment = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
    Ok(state_on(settings, environment))
}

/// Functions and configuration by the settings, on memory that may be shared.
fn state_on(settings: &Settings, environment: Arc<RuntimeEnv>) -> SessionState {
    let state = alluvium_planner::functions::session_state(settings);
    let rules = crate::operator::physical_rules(&state);
    let builder = SessionStateBuilder::new_from_existing(state).with_runtime_env(environment);
    builder.with_physical_optimizer_rules(rules).build()
}

/// Whether a stream's state means that it still works on something.
pub(crate) fn is_live(state: &StreamState) -> bool {
    !state.ended()
}
