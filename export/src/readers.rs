//! Connections that read one snapshot in parallel, into any number of files.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::NaiveDate;
use futures_util::StreamExt;
use futures_util::future::{join_all, try_join_all};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::{Client, CopyOutStream};

use crate::column::Column;
use crate::cut::cut;
use crate::dataset::{Dataset, Options, Progress};
use crate::error::{ExportError, Result};
use crate::parquet_file::{ParquetFile, Written};
use crate::read::{Decoder, schema};
use crate::snapshot::{OnProgress, Rows, Snapshot, lock_tables};

/// Rows are handed from connection to decoder in blocks of about this many bytes.
const BLOCK: usize = 256 << 10;
/// Blocks that may wait for a decoder.
const BLOCKS: usize = 8;
/// Bytes of rows that all decoders together may hold.
const DECODED: usize = 64 << 20;
/// Connections, unless the options say otherwise.
const CONNECTIONS: usize = 4;

/// A file to be written.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Of which dataset, by number.
    pub(crate) dataset: usize,
    /// Its day, where it is a day's.
    pub(crate) day: Option<NaiveDate>,
    pub(crate) rows: Rows,
    /// Where; nothing may be there yet.
    pub(crate) path: PathBuf,
}

/// A snapshot and the connections that see it.
pub(crate) struct Readers<'a> {
    /// The first of them, which others depend on.
    pub(crate) snapshot: Snapshot<'a>,
    others: Vec<Client>,
}

/// A stretch of a file, read by one query.
struct Piece {
    task: usize,
    /// Its place in the file.
    place: usize,
    rows: Rows,
}

/// What goes from a connection to its decoder.
enum Part {
    /// Rows of this piece follow.
    Begin(usize),
    Block(Vec<u8>),
    End,
}

/// One run, as its connections and decoders see it.
struct Run {
    datasets: Vec<(String, Vec<Column>)>,
    tasks: Vec<Task>,
    pieces: Vec<Piece>,
    files: Vec<ParquetFile>,
    /// The next piece to be read.
    next: AtomicUsize,
    /// Pieces of each task that are still to be written.
    left: Vec<AtomicUsize>,
    /// Rows and bytes read so far, and days that are.
    rows: AtomicU64,
    bytes: AtomicU64,
    days: AtomicU64,
    total_days: u64,
    /// Bytes of rows that a decoder may hold.
    decoded: usize,
    /// Blocks that are decoded, for their memory.
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Run {
    fn block(&self) -> Vec<u8> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_else(|| Vec::with_capacity(BLOCK))
    }

    fn spare(&self, mut block: Vec<u8>) {
        block.clear();
        // One that had to hold a large row is not kept.
        if block.capacity() == BLOCK {
            self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(block);
        }
    }
}

/// Whoever still writes is told to stop, however the run ends.
struct GiveUp(Arc<Run>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.files.iter().for_each(ParquetFile::give_up);
    }
}

impl<'a> Readers<'a> {
    /// Opens a snapshot.
    pub(crate) async fn open(client: &'a mut Client, datasets: &[Dataset]) -> Result<Self> {
        Ok(Self { snapshot: Snapshot::open(client, datasets).await?, others: Vec::new() })
    }

    /// Opens as many connections more that see the same as the options ask for and the server lets us have.
    /// Those lock the tables too, and at once: somebody who waits for a table that we have
    /// locked would otherwise make one of them wait for him, and so for us.
    pub(crate) async fn join(&mut self, datasets: &[Dataset], options: &Options) -> Result<()> {
        let wanted = options.connections.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(CONNECTIONS));
        let Some(connect) = options.connect.as_ref().filter(|_| wanted > 1) else { return Ok(()) };
        let name = self.snapshot.share().await?;
        let lock = lock_tables(datasets).map(|lock| format!("{lock} NOWAIT;")).unwrap_or_default();
        let begin =
            format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL jit = off; {lock} SET TRANSACTION SNAPSHOT '{name}'");
        let opened = join_all((1..wanted).map(|_| async {
            let client = connect.connect().await.map_err(|e| e.to_string())?;
            client.batch_execute(&begin).await.map_err(|e| ExportError::database("joining the snapshot", e).to_string())?;
            Ok::<_, String>(client)
        }));
        for other in opened.await {
            match other {
                Ok(client) => self.others.push(client),
                Err(why) => tracing::debug!("the export does with a connection less: {why}"),
            }
        }
        Ok(())
    }

    /// Writes files, in parallel; `columns` are those of each dataset, by [`Snapshot::columns`]. Gives
    /// what was written in the order of the tasks. A task without rows leaves no file.
    pub(crate) async fn run(
        &self,
        datasets: &[Dataset],
        columns: &[Vec<Column>],
        tasks: Vec<Task>,
        progress: OnProgress<'_>,
    ) -> Result<Vec<Written>> {
        let connections = 1 + self.others.len();
        let (mut pieces, mut left, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for (at, task) in tasks.iter().enumerate() {
            let (dataset, columns) = (&datasets[task.dataset], &columns[task.dataset]);
            // Where there are many files, they are pieces enough.
            let stretches = match tasks.len() < 2 * connections {
                true => cut(&self.snapshot, dataset, task.rows.clone()).await?,
                false => vec![task.rows.clone()],
            };
            let sort = dataset.order().filter_map(|name| columns.iter().position(|c| c.name == *name)).collect();
            files.push(ParquetFile::new(&task.path, schema(columns), sort, stretches.len()));
            left.push(AtomicUsize::new(stretches.len()));
            pieces.extend(stretches.into_iter().enumerate().map(|(place, rows)| Piece { task: at, place, rows }));
        }
        let run = Arc::new(Run {
            datasets: datasets.iter().zip(columns).map(|(d, c)| (d.name.clone(), c.clone())).collect(),
            left,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            days: AtomicU64::new(0),
            total_days: tasks.iter().filter(|task| task.day.is_some()).count() as u64,
            tasks,
            pieces,
            files,
            next: AtomicUsize::new(0),
            decoded: DECODED / connections,
            spare: Mutex::default(),
        });
        let _give_up = GiveUp(run.clone());
        let progress = Mutex::new(progress);
        let clients = std::iter::once(self.snapshot.client()).chain(&self.others);
        try_join_all(clients.map(|client| read(client, &run, datasets, &progress))).await?;
        Ok(run.files.iter().map(ParquetFile::written).collect())
    }

    pub(crate) async fn close(self) -> Result<()> {
        self.snapshot.close().await
    }
}

/// Reads pieces over one connection until none is left.
async fn read(client: &Client, run: &Arc<Run>, datasets: &[Dataset], progress: &Mutex<OnProgress<'_>>) -> Result<()> {
    let (parts, incoming) = mpsc::channel(BLOCKS);
    let decoding = tokio::task::spawn_blocking({
        let run = run.clone();
        move || decode(&run, incoming)
    });
    let mut last = None;
    let note = |task: &Task, bytes: usize| {
        let bytes = run.bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        let (rows, days) = (run.rows.load(Ordering::Relaxed), run.days.load(Ordering::Relaxed));
        let dataset = &datasets[task.dataset].name;
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress(Progress { dataset, day: task.day, rows, total_rows: None, bytes, days, total_days: run.total_days });
    };
    let reading = async {
        while let Some(at) = Some(run.next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < run.pieces.len()) {
            let task = &run.tasks[run.pieces[at].task];
            last = Some(task);
            if !copy(client, run, &datasets[task.dataset], at, &parts, |bytes| note(task, bytes)).await? {
                break;
            }
        }
        Ok(())
    };
    let read = reading.await;
    drop(parts);
    // Should both have failed, the decoder did first: the connection stops for want of it only.
    let decoded = decoding.await.unwrap_or_else(|e| Err(ExportError::lake("decoding", e)));
    decoded.and(read)?;
    // What came last is decoded only now.
    last.into_iter().for_each(|task| note(task, 0));
    Ok(())
}

/// Hands the rows of a piece to the decoder; `false` when that has ended.
async fn copy(
    client: &Client,
    run: &Arc<Run>,
    dataset: &Dataset,
    at: usize,
    parts: &mpsc::Sender<Part>,
    note: impl Fn(usize),
) -> Result<bool> {
    let doing = format!("reading dataset {}", dataset.name);
    let copy = format!("COPY ({}) TO STDOUT (FORMAT binary)", run.pieces[at].rows.select(dataset));
    let stream = client.copy_out(&copy).await.map_err(|e| ExportError::database(&doing, e))?;
    let (told, mut heard) = mpsc::unbounded_channel();
    // A task of its own is woken by the connection's on the same thread, for each few rows; ended when this is dropped.
    let mut pumping = JoinSet::new();
    pumping.spawn(pump(stream, run.clone(), at, parts.clone(), told));
    while let Some(bytes) = heard.recv().await {
        note(bytes);
    }
    match pumping.join_next().await {
        Some(Ok(pumped)) => pumped.map_err(|e| ExportError::database(&doing, e)),
        Some(Err(e)) => Err(ExportError::lake(&doing, e)),
        None => Ok(false),
    }
}

/// Makes blocks of a COPY's rows, and tells of their bytes.
async fn pump(
    stream: CopyOutStream,
    run: Arc<Run>,
    at: usize,
    parts: mpsc::Sender<Part>,
    told: mpsc::UnboundedSender<usize>,
) -> Result<bool, tokio_postgres::Error> {
    let mut stream = std::pin::pin!(stream);
    let mut block = run.block();
    if parts.send(Part::Begin(at)).await.is_err() {
        return Ok(false);
    }
    // A row is a chunk.
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if block.len() + chunk.len() > BLOCK && !block.is_empty() {
            let bytes = block.len();
            if parts.send(Part::Block(std::mem::replace(&mut block, run.block()))).await.is_err() {
                return Ok(false);
            }
            let _ = told.send(bytes);
        }
        block.extend_from_slice(&chunk);
    }
    let _ = told.send(block.len());
    Ok(parts.send(Part::Block(block)).await.is_ok() && parts.send(Part::End).await.is_ok())
}

/// Decodes what a connection reads, and writes it. Runs on a thread of its own.
fn decode(run: &Run, mut incoming: mpsc::Receiver<Part>) -> Result<()> {
    let mut under_way: Option<(&Piece, Decoder)> = None;
    while let Some(part) = incoming.blocking_recv() {
        match (part, &mut under_way) {
            (Part::Begin(at), _) => {
                let piece = &run.pieces[at];
                let (name, columns) = &run.datasets[run.tasks[piece.task].dataset];
                under_way = Some((piece, Decoder::new(name, columns, piece.rows.clone())));
            }
            (Part::Block(block), Some((piece, decoder))) => {
                let before = decoder.rows();
                decoder.push(&block)?;
                run.spare(block);
                run.rows.fetch_add((decoder.rows() - before) as u64, Ordering::Relaxed);
                // A row costs more than its bytes: where it begins, and its place in the order.
                if decoder.bytes() + 24 * decoder.rows() >= run.decoded {
                    run.files[piece.task].write(piece.place, &decoder.take()?)?;
                }
            }
            (Part::End, Some((piece, decoder))) => {
                decoder.end()?;
                if decoder.rows() > 0 {
                    run.files[piece.task].write(piece.place, &decoder.take()?)?;
                }
                run.files[piece.task].end(piece.place)?;
                if run.left[piece.task].fetch_sub(1, Ordering::Relaxed) == 1 && run.tasks[piece.task].day.is_some() {
                    run.days.fetch_add(1, Ordering::Relaxed);
                }
                under_way = None;
            }
            (_, None) => {}
        }
    }
    // When the rows stop amid a piece, the connection says why.
    Ok(())
}
