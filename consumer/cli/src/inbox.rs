//! `streambox-consumer inbox`: the inbox's table is created, and compared with what is expected.

use serde_json::json;
use streambox::{Client, TableCheck, TableCreation};
use streambox_consumer::{check_inbox_table, create_inbox_table};
use streambox_programs::{Failure, Format, count, print, print_done};

pub(crate) async fn create(client: &Client, table: &str, format: Format) -> Result<(), Failure> {
    let created = create_inbox_table(client, table).await? == TableCreation::Created;
    let done = if created {
        format!("table {table} created")
    } else {
        format!(
            "table {table} already exists and is not changed; `streambox-consumer inbox check` compares it with the expected definition"
        )
    };
    print_done(format, &json!({ "table": table, "created": created }), &done)
}

pub(crate) async fn check(client: &Client, table: &str, format: Format) -> Result<(), Failure> {
    let TableCheck { differences, notes, .. } = check_inbox_table(client, table).await?;
    let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
    let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
    let lines = match format {
        Format::Json => vec![json!({ "table": table, "differences": differences, "notes": notes }).to_string()],
        Format::Text => {
            let ok = differences.is_empty().then(|| format!("table {table} has the expected definition"));
            let differences = differences.iter().map(|difference| format!("difference: {difference}"));
            ok.into_iter().chain(differences).chain(notes.iter().map(|note| format!("note: {note}"))).collect()
        }
    };
    print(&lines)?;
    if differences.is_empty() {
        return Ok(());
    }
    let differences = count(differences.len() as u64, "difference", "differences");
    Err(Failure::new(format!("table {table} has {differences} from the expected definition")))
}
