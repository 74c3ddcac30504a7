//! `--complete`: runs a file and writes what came out into it. Expectations that hold stay as they were written.

use std::path::Path;

use sqllogictest::{
    Injected, MakeConnection, Record, Runner, default_normalizer, default_validator, strict_column_validator,
    update_record_with_output,
};

use super::cells::Kind;
use super::database::{Database, Sandbox};

/// Runs the records and replaces the file. Records of included files run and are left as they are.
pub async fn rewrite<M>(
    runner: &mut Runner<Database, M>,
    path: &Path,
    records: Vec<Record<Kind>>,
    sandbox: &Sandbox,
) -> Result<(), String>
where
    M: MakeConnection<Conn = Database>,
{
    let mut text = String::new();
    let (mut included, mut halted) = (0u32, false);
    for record in records {
        match &record {
            Record::Injected(Injected::BeginInclude(_)) => included += 1,
            Record::Injected(Injected::EndInclude(_)) => included = included.saturating_sub(1),
            _ => {
                halted |= matches!(record, Record::Halt { .. });
                let record = if halted { record } else { completed(runner, record, sandbox).await };
                if included == 0 {
                    text += &format!("{record}\n");
                }
            }
        }
    }
    replace(path, text.trim_end()).map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}

/// The record with its actual result.
async fn completed<M>(runner: &mut Runner<Database, M>, record: Record<Kind>, sandbox: &Sandbox) -> Record<Kind>
where
    M: MakeConnection<Conn = Database>,
{
    let output = runner.apply_record(sandbox.fill_in(record.clone())).await;
    let updated = update_record_with_output(
        &record,
        &output,
        " ",
        default_validator,
        default_normalizer,
        strict_column_validator,
    );
    updated.unwrap_or(record)
}

/// Through a neighbour, so that a full disk does not cost the file.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes())?;
    if let Ok(metadata) = std::fs::metadata(path) {
        file.as_file().set_permissions(metadata.permissions())?;
    }
    file.persist(path)?;
    Ok(())
}
