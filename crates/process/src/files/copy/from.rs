//! Owns the writing half of COPY FROM: pieces into a stream or table, keyed where they must be there once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use millstream_buffer::Append;
use millstream_catalog::fault::{Code, Fault};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::load::{Input, Lines, Load, Pieced, Progress};
use super::spool::Spool;
use crate::ddl::CopyFrom;
use crate::engine::{Shared, quarantine_name};
use crate::external::refuse_others;
use crate::files::access::{File, find};
use crate::files::bytes::{Sent, sent};
use crate::files::decode::Column;
use crate::ingest::{append_patiently, log_key};
use crate::jobs::{Job, Measure};
use crate::queries::QueryGuard;
use crate::sql::{cancelled, expired, timed_out};
use crate::stream::OpenStream;
use crate::{Error, IdempotencyKey, QuarantinedRow, Receipt, Result, Rows, StreamHandle, tables};

/// How soon rows are offered again to a log that has no room for them.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// What a client may have sent ahead, in messages.
const MESSAGES_AHEAD: usize = 64;

/// What a load came to.
#[derive(Debug, Default)]
struct Totals {
    added: u64,
    present: u64,
    quarantined: u64,
}

/// A COPY that takes what a client sends. Dropped before its end, it adds nothing.
#[derive(Debug)]
pub struct CopyIn {
    sender: mpsc::Sender<Sent>,
    task: JoinHandle<Result<(String, Vec<String>)>>,
    /// How many columns rows have.
    pub columns: usize,
    /// Whether rows are in PostgreSQL's binary form: what is sent here is its text form nevertheless.
    pub binary: bool,
    /// The columns' types.
    pub types: Vec<millstream_catalog::DataType>,
}

impl CopyIn {
    /// Takes some bytes, when there is room. False says that no more are wanted: [`CopyIn::finish`] tells why.
    pub async fn send(&self, bytes: Bytes) -> bool {
        self.sender.send(Sent::Bytes(bytes)).await.is_ok()
    }

    /// Ends the rows: they are there when it returns, with the command's tag and notices.
    pub async fn finish(self) -> Result<(String, Vec<String>)> {
        // A load that failed has stopped listening; its failure is the answer.
        drop(self.sender.send(Sent::End).await);
        drop(self.sender);
        ended(self.task.await)
    }

    /// Gives the load up, for a reason that the client told.
    pub async fn abort(self, reason: &str) -> Error {
        let error = Error::rejected(Code::Cancelled, format!("COPY from stdin failed: {reason}"));
        drop(self.sender.send(Sent::Failed(error)).await);
        drop(self.sender);
        match ended(self.task.await) {
            Err(error) => error,
            Ok(_) => Error::rejected(Code::Internal, "a COPY that was given up has ended as if it were not"),
        }
    }
}

fn ended(
    result: std::result::Result<Result<(String, Vec<String>)>, tokio::task::JoinError>,
) -> Result<(String, Vec<String>)> {
    result.map_err(|e| Error::rejected(Code::Internal, format!("the COPY hit a defect; see the log: {e}")))?
}

/// A load that is to be begun.
pub(crate) struct CopyJob {
    shared: Arc<Shared>,
    open: Arc<OpenStream>,
    columns: Vec<Column>,
    copy: CopyFrom,
    guard: QueryGuard,
    timeout: Option<Duration>,
    /// Rows that were appended to a stream.
    appended: AtomicU64,
}

impl CopyJob {
    /// Finds what rows go into, and which of its columns they have.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        copy: &CopyFrom,
        guard: QueryGuard,
        timeout: Option<Duration>,
    ) -> Result<Self> {
        if shared.view(&copy.target).is_some() || shared.plain_view(&copy.target).is_some() {
            let message = format!("{} is a view: rows are copied into what it reads", copy.target);
            return Err(Error::rejected(Code::WrongObjectType, message));
        }
        let open = shared.stream(&copy.target).map_err(|e| advised(e, copy))?;
        shared.refuse_rows_for_query(&copy.target)?;
        if copy.options.once {
            refuse_others(&open, "files cannot be loaded once", "leave once = true out")?;
        }
        let columns = columns_of(&open, copy)?;
        let (shared, appended) = (Arc::clone(shared), AtomicU64::new(0));
        Ok(Self { shared, open, columns, copy: copy.clone(), guard, timeout, appended })
    }

    /// Begins to take what a client sends.
    pub(crate) fn take_client(self) -> CopyIn {
        let (sender, receiver) = mpsc::channel(MESSAGES_AHEAD);
        let binary = self.copy.options.format == super::CopyFormat::Binary;
        let definition = self.open.definition();
        let types = self.columns.iter().map(|column| column.data_type.clone()).collect();
        let columns = self.columns.len();
        drop(definition);
        let task = tokio::spawn(async move { self.run(Input::Sent(sent(receiver))).await });
        CopyIn { sender, task, columns, binary, types }
    }

    /// Loads the files; the command's tag, and what is to be told beside it.
    pub(crate) async fn take_files(self) -> Result<(String, Vec<String>)> {
        let runtime = self.shared.context()?.runtime_env();
        let files = find(&self.shared.options.files, &runtime, &self.copy.files).await?;
        self.run(Input::Files(files)).await
    }

    async fn run(self, input: Input) -> Result<(String, Vec<String>)> {
        let totals = tokio::select! {
            totals = self.load(input) => totals,
            () = self.guard.cancel_token().cancelled() => Err(cancelled()),
            () = expired(self.timeout) => Err(timed_out(self.timeout)),
        };
        let totals = totals.map_err(|e| self.with_appended(e));
        self.guard.finish(totals.as_ref().err());
        let totals = totals?;
        let mut notices = Vec::new();
        if totals.quarantined > 0 {
            notices.push(format!("{} rows are in system.quarantine", totals.quarantined));
        }
        if totals.present > 0 {
            notices.push(format!("{} rows were there already, skipped", totals.present));
        }
        Ok((format!("COPY {}", totals.added), notices))
    }

    /// An error with how far the load was: rows that are in a stream stay there.
    fn with_appended(&self, error: Error) -> Error {
        let appended = self.appended.load(Ordering::Relaxed);
        if appended == 0 {
            return error;
        }
        let hint = match self.copy.options.once {
            true => "the same statement goes on behind them",
            false if self.copy.files.is_empty() => "what was added stays: a stream takes no row back",
            false => "what was added stays; WITH (once = true) makes a COPY go on where one stopped",
        };
        Error::Rejected {
            code: error.code(),
            message: format!("{error}; {appended} rows were added to {} before", self.copy.target),
            hint: Some(hint.to_owned()),
            position: None,
        }
    }

    async fn load(&self, input: Input) -> Result<Totals> {
        let mut totals = Totals::default();
        let input = match input {
            Input::Files(files) if self.copy.options.once => {
                Input::Files(self.without_known(files, &mut totals).await?)
            }
            other => other,
        };
        let progress = Arc::new(Progress::new(self.job(&input), &input));
        if self.open.table().is_some() {
            self.fill_table(input, &progress, &mut totals).await?;
            return Ok(totals);
        }
        let identities = identities(&input);
        let pieces = self.read(input, &progress);
        match self.copy.options.quarantine {
            true => self.fill_stream(pieces, &identities, &mut totals).await?,
            false => self.fill_stream_at_once(pieces, &identities, &mut totals).await?,
        }
        Ok(totals)
    }

    /// The files that were not loaded before.
    async fn without_known(&self, files: Vec<File>, totals: &mut Totals) -> Result<Vec<File>> {
        let mut unknown = Vec::new();
        for file in files {
            match self.open.log().recall(log_key("", &whole_key(&file.identity()), 0)).await? {
                Some(known) => totals.present += known.note,
                None => unknown.push(file),
            }
        }
        Ok(unknown)
    }

    /// Remembers, with `once`, that all of a file is there.
    async fn loaded(&self, identity: Option<&String>, rows: u64) -> Result<()> {
        let Some(identity) = identity.filter(|_| self.copy.options.once) else { return Ok(()) };
        let key = Some(log_key("", &whole_key(identity), rows));
        append_patiently(&self.open, Append { parts: Vec::new(), key }).await?;
        Ok(())
    }

    fn job(&self, input: &Input) -> (Job, Arc<Measure>) {
        let from = match input {
            Input::Files(_) => self.copy.files.join(", "),
            Input::Sent(_) => "stdin".to_owned(),
        };
        self.shared.jobs.statement("copy", &format!("{} from {from}", self.copy.target), self.guard.id())
    }

    fn read(&self, input: Input, progress: &Arc<Progress>) -> Pieced {
        let load = Load {
            open: Arc::clone(&self.open),
            columns: self.columns.clone(),
            options: self.copy.options.clone(),
            strict: self.copy.columns.is_empty(),
            progress: Arc::clone(progress),
            now_us: self.shared.options.clock.now_us(),
        };
        load.start(input, &self.shared.workers.handle())
    }

    fn handle(&self) -> Result<StreamHandle> {
        Ok(StreamHandle {
            open: Arc::clone(&self.open),
            quarantine: self.shared.stream(&quarantine_name()?)?,
            clock: Arc::clone(&self.shared.options.clock),
        })
    }

    /// Appends each piece as it comes.
    async fn fill_stream(&self, mut pieces: Pieced, identities: &[String], totals: &mut Totals) -> Result<()> {
        let handle = self.handle()?;
        let mut rows_of = vec![0; identities.len()];
        while let Some(piece) = pieces.next().await.transpose()? {
            let key = self.key(identities.get(piece.file), piece.number);
            let receipt = self.append(&handle, piece.batch, &piece.refused, key).await?;
            rows_of.iter_mut().skip(piece.file).take(1).for_each(|rows| *rows += receipt.accepted);
            totals.add(&receipt);
        }
        for (identity, rows) in identities.iter().zip(rows_of) {
            self.loaded(Some(identity), rows).await?;
        }
        Ok(())
    }

    /// Appends pieces when all are read: a row that does not fit is met before any row is added.
    async fn fill_stream_at_once(&self, mut pieces: Pieced, identities: &[String], totals: &mut Totals) -> Result<()> {
        let folder = self.shared.options.data_dir.join("spill");
        let schema = Arc::clone(&self.open.definition().schema);
        let mut spool = Spool::new(Arc::clone(&schema));
        while let Some(piece) = pieces.next().await.transpose()? {
            spool.push(piece, &folder)?;
        }
        let (handle, mut spooled) = (self.handle()?, spool.end()?);
        if !self.copy.options.once
            && let Some(all) = spooled.whole(&schema)?
        {
            totals.add(&self.append(&handle, all, &[], None).await?);
            return Ok(());
        }
        let mut rows_of = vec![0; identities.len()];
        while let Some(piece) = spooled.next()? {
            let key = self.key(identities.get(piece.file), piece.number);
            let receipt = self.append(&handle, piece.batch, &[], key).await?;
            rows_of.iter_mut().skip(piece.file).take(1).for_each(|rows| *rows += receipt.accepted);
            totals.add(&receipt);
        }
        for (identity, rows) in identities.iter().zip(rows_of) {
            self.loaded(Some(identity), rows).await?;
        }
        Ok(())
    }

    fn key(&self, identity: Option<&String>, number: u64) -> Option<IdempotencyKey> {
        let identity = identity.filter(|_| self.copy.options.once)?;
        Some(IdempotencyKey { key: format!("copy\0{identity}\0{number}"), content: 0 })
    }

    /// Sets refused rows aside and appends the others, waiting for room among the rows that others have under way.
    async fn append(
        &self,
        handle: &StreamHandle,
        batch: RecordBatch,
        refused: &[QuarantinedRow],
        key: Option<IdempotencyKey>,
    ) -> Result<Receipt> {
        if !refused.is_empty() {
            handle.set_aside(refused, key.as_ref()).await?;
        }
        loop {
            match handle.append(batch.clone(), Vec::new(), key.clone()).await {
                Err(error) if error.code() == Code::Busy => tokio::time::sleep(FULL_PAUSE).await,
                Err(error) => return Err(error),
                Ok(receipt) if receipt.duplicate => return Ok(receipt),
                Ok(receipt) => {
                    self.appended.fetch_add(receipt.accepted, Ordering::Relaxed);
                    return Ok(Receipt { quarantined: refused.len() as u64, ..receipt });
                }
            }
        }
    }

    /// Makes one change of all rows; with `once` one of each file.
    async fn fill_table(&self, input: Input, progress: &Arc<Progress>, totals: &mut Totals) -> Result<()> {
        match input {
            Input::Files(files) if self.copy.options.once => {
                for file in files {
                    let key = Some(whole_key(&file.identity()));
                    self.fill_table_at_once(Input::Files(vec![file]), progress, key, totals).await?;
                }
                Ok(())
            }
            input => self.fill_table_at_once(input, progress, None, totals).await,
        }
    }

    async fn fill_table_at_once(
        &self,
        input: Input,
        progress: &Arc<Progress>,
        key: Option<IdempotencyKey>,
        totals: &mut Totals,
    ) -> Result<()> {
        let handle = self.handle()?;
        let quarantined = AtomicU64::new(0);
        let identity = key.as_ref().map(|key| key.key.clone());
        let names: Vec<String> = match &input {
            Input::Files(files) => files.iter().map(|file| file.name.clone()).collect(),
            Input::Sent(_) => vec!["stdin".to_owned()],
        };
        let places = Mutex::new(Vec::new());
        let place = |batch: usize, row: usize| {
            let places = places.lock();
            let (file, lines): &(usize, Lines) = places.get(batch)?;
            Some(format!("file {:?}, line {}", names.get(*file)?, lines.of_row(row)?))
        };
        let state = (self.read(input, progress), &handle, (&quarantined, &places), identity);
        let rows = futures::stream::try_unfold(state, |(mut pieces, handle, told, identity)| async move {
            let (quarantined, places) = told;
            let Some(piece) = pieces.next().await.transpose()? else { return Ok(None) };
            if !piece.refused.is_empty() {
                let key =
                    identity.as_ref().map(|key| IdempotencyKey { key: format!("{key}\0{}", piece.number), content: 0 });
                quarantined.fetch_add(piece.refused.len() as u64, Ordering::Relaxed);
                handle.set_aside(&piece.refused, key.as_ref()).await?;
            }
            if piece.batch.num_rows() > 0 {
                places.lock().push((piece.file, piece.lines));
            }
            let missing = vec![None; piece.batch.num_columns()];
            Ok::<_, Error>(Some((Rows { batch: piece.batch, missing }, (pieces, handle, told, identity))))
        });
        let key = key.map(|key| log_key("", &key, 0));
        let applied = tables::insert_keyed(&self.shared, &self.open, rows.boxed(), None, key, &place).await?;
        match applied.duplicate {
            true => totals.present += applied.come,
            false => totals.added += applied.come,
        }
        totals.quarantined += quarantined.load(Ordering::Relaxed);
        Ok(())
    }
}

impl Totals {
    fn add(&mut self, receipt: &Receipt) {
        match receipt.duplicate {
            true => self.present += receipt.accepted,
            false => self.added += receipt.accepted,
        }
        self.quarantined += receipt.quarantined;
    }
}

/// The key of all of a file.
fn whole_key(identity: &str) -> IdempotencyKey {
    IdempotencyKey { key: format!("copy\0{identity}"), content: 0 }
}

/// What tells each file from others.
fn identities(input: &Input) -> Vec<String> {
    match input {
        Input::Files(files) => files.iter().map(File::identity).collect(),
        Input::Sent(_) => Vec::new(),
    }
}

/// What is not there can be made of the files that were to be loaded.
fn advised(error: Error, copy: &CopyFrom) -> Error {
    if error.code() != Code::UndefinedObject {
        return error;
    }
    let made = match copy.files.first() {
        Some(file) => format!("FROM SAMPLE '{}'", file.replace('\'', "''")),
        None => "(column type, …)".to_owned(),
    };
    Error::Rejected {
        code: Code::UndefinedObject,
        message: format!("there is no table or stream {}: COPY makes none", copy.target),
        hint: Some(format!("make it first: CREATE TABLE {} {made}", copy.target)),
        position: None,
    }
}

/// The columns that rows have: those named, else all that can be given.
fn columns_of(open: &OpenStream, copy: &CopyFrom) -> Result<Vec<Column>> {
    let definition = open.definition();
    let stream = &definition.stream;
    let column = |c: &millstream_catalog::Column| Column { name: c.name.clone(), data_type: c.data_type.clone() };
    let generated = |name: &str| {
        stream.table.as_ref().is_some_and(|table| table.generated.iter().any(|generated| generated.column == name))
    };
    if copy.columns.is_empty() {
        return Ok(stream.columns.iter().filter(|c| !generated(&c.name)).map(column).collect());
    }
    let named = copy.columns.iter().map(|name| {
        let found = stream.columns.iter().find(|c| c.name == *name);
        let found = found.ok_or_else(|| {
            let message = format!("column {name:?} of {} does not exist", copy.target);
            Error::rejected(Code::UndefinedColumn, message)
        })?;
        if generated(name) {
            let message = format!("column {name:?} of {} is generated: it takes no values", copy.target);
            return Err(Error::rejected(Code::InvalidRequest, message));
        }
        Ok(column(found))
    });
    named.collect()
}
