//! Statements that run, watch and stop streams.

use crate::cursor::Cursor;
use crate::diagnostic::Diagnostic;
use crate::parse;
use crate::statement::{StatementKind, Trigger};

/// Behind TRIGGER.
pub(crate) fn trigger(cursor: &mut Cursor<'_>) -> Result<Trigger, Diagnostic> {
    if cursor.take(&["AVAILABLE", "NOW"]) {
        Ok(Trigger::AvailableNow)
    } else if cursor.take(&["ONCE"]) {
        Ok(Trigger::Once)
    } else if cursor.take(&["PROCESSING", "TIME"]) {
        cursor.interval().map(|(interval, _)| Trigger::ProcessingTime(interval))
    } else {
        Err(cursor.expected_word(&["PROCESSING TIME", "AVAILABLE NOW", "ONCE"]))
    }
}

/// Behind REFRESH.
pub(crate) fn refresh(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    if cursor.take(&["STREAMING"]) {
        cursor.expect("TABLE")?;
    } else if !cursor.take(&["TABLE"]) {
        return Err(cursor.expected_word(&["TABLE", "STREAMING TABLE"]));
    }
    let table = cursor.name("a table name")?;
    let full = cursor.take(&["FULL"]);
    cursor.finish(if full { &[] } else { &["FULL"] })?;
    Ok(StatementKind::Refresh { table, full })
}

/// Behind START.
pub(crate) fn start(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    cursor.expect("STREAM")?;
    let name = cursor.name("a stream name")?;
    let trigger = parse::trigger(cursor)?;
    cursor.finish(if trigger.is_some() { &[] } else { &["TRIGGER"] })?;
    Ok(StatementKind::StartStream { name, trigger })
}

/// Behind STOP.
pub(crate) fn stop(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    if cursor.take(&["ALL"]) {
        cursor.expect("STREAMS")?;
        cursor.finish(&[])?;
        return Ok(StatementKind::StopAllStreams);
    }
    if !cursor.take(&["STREAM"]) {
        return Err(cursor.expected_word(&["STREAM", "ALL STREAMS"]));
    }
    let name = cursor.name("a stream name")?;
    cursor.finish(&[])?;
    Ok(StatementKind::StopStream { name })
}

/// Behind AWAIT.
pub(crate) fn wait(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    cursor.expect("STREAM")?;
    let name = cursor.name("a stream name")?;
    let timeout = if cursor.take(&["FOR"]) { Some(cursor.interval()?.0) } else { None };
    cursor.finish(if timeout.is_some() { &[] } else { &["FOR"] })?;
    Ok(StatementKind::AwaitStream { name, timeout })
}

/// Behind VERIFY.
pub(crate) fn verify(cursor: &mut Cursor<'_>) -> Result<StatementKind, Diagnostic> {
    cursor.expect("STREAM")?;
    let name = cursor.name("a stream name")?;
    cursor.finish(&[])?;
    Ok(StatementKind::VerifyStream { name })
}
