//! Owns the running of the statements about plain views and schemas.

use millstream_catalog::fault::Code;

use super::commands::{SHOW_CREATE, SHOW_PLAIN_VIEWS, SHOW_SCHEMAS, done, matches_like, noticed, rows_of};
use super::{Outcome, Session};
use crate::ddl::{self, Command};
use crate::{Error, Result};

/// Runs a command about plain views or schemas.
pub(super) async fn run(session: &Session, command: &Command, text: &str) -> Result<Outcome> {
    let shared = &session.shared;
    match command {
        Command::CreatePlainView { view, or_replace, if_not_exists } => {
            let name = view.name.clone();
            let how = (*or_replace, *if_not_exists);
            let created = shared.create_plain_view((**view).clone(), how, text).await?;
            Ok(noticed("CREATE VIEW", created, || format!("view {name} already exists, skipped")))
        }
        Command::DropPlainView { names, if_exists, cascade } => {
            let missing = shared.drop_plain_views(names, *if_exists, *cascade).await?;
            let notices = missing.iter().map(|name| format!("view {name} does not exist, skipped")).collect();
            Ok(Outcome::Done { tag: "DROP VIEW".to_owned(), notices })
        }
        Command::ShowPlainViews { like } => show_views(session, like.as_deref()),
        Command::ShowCreatePlainView { name } => {
            let sql = ddl::render_create_plain_view(&shared.existing_plain_view(name, "SHOW CREATE")?.definition());
            rows_of(&SHOW_CREATE, vec![vec![Some(name.to_string()), Some(sql)]], "SHOW")
        }
        Command::CommentOnPlainView { name, text } => {
            shared.comment_on_plain_view(name, None, text.clone()).await?;
            done("COMMENT")
        }
        Command::CreateSchema { name, if_not_exists } => {
            let created = shared.create_schema(name, *if_not_exists).await?;
            Ok(noticed("CREATE SCHEMA", created, || format!("schema {name} already exists, skipped")))
        }
        Command::DropSchema { names, if_exists, cascade } => {
            let mut notices = Vec::new();
            for name in names {
                if !shared.drop_schema(name, *if_exists, *cascade).await? {
                    notices.push(format!("schema {name} does not exist, skipped"));
                }
            }
            Ok(Outcome::Done { tag: "DROP SCHEMA".to_owned(), notices })
        }
        Command::ShowSchemas { like } => {
            let fits = |name: &String| like.as_deref().is_none_or(|pattern| matches_like(name, pattern));
            let rows = shared.schemas().into_iter().filter(fits).map(|name| vec![Some(name)]);
            rows_of(&SHOW_SCHEMAS, rows.collect(), "SHOW")
        }
        other => Err(Error::rejected(Code::Internal, format!("{other:?} is not about plain views or schemas"))),
    }
}

fn show_views(session: &Session, like: Option<&str>) -> Result<Outcome> {
    let views = session.shared.all_views().into_iter().filter(|view| view.is_plain());
    let shown = views.filter(|v| like.is_none_or(|pattern| matches_like(v.name().name(), pattern)));
    let rows = shown.map(|view| {
        let definition = view.definition();
        vec![
            Some(definition.name.to_string()),
            Some(definition.columns.len().to_string()),
            Some(definition.query.clone()),
            definition.comment.clone(),
        ]
    });
    rows_of(&SHOW_PLAIN_VIEWS, rows.collect(), "SHOW")
}
