//! Lines on their way to standard output or standard error. A pipe that nobody reads blocks its writer, and a full
//! disk refuses. So a thread of its own writes; the queue before it is bounded, and a line that finds no room in it or can't be
//! written is dropped and counted. The count is logged when lines can be written again.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

/// The longest to wait at the end for what is still to be written.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Where lines go. It is the only writer: so no line is cut by another one. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct Lines {
    /// Bounded by `room`.
    items: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    /// A line, and the room that it takes until it is written; the last lines take none.
    Line(String, Option<OwnedSemaphorePermit>),
    /// Everything before has been written.
    Flushed(oneshot::Sender<()>),
}

/// A place for one line.
#[derive(Debug)]
pub struct LinePlace<'a>(&'a Lines, OwnedSemaphorePermit);

impl LinePlace<'_> {
    /// Puts the line there.
    pub fn put(self, line: String) {
        self.0.send(Item::Line(line, Some(self.1)));
    }
}

impl Lines {
    /// Starts the thread that writes to `out`, which errors and log lines call `name`. It ends with the last clone. `room` is how
    /// much may wait, in the unit that [`place`](Self::place) counts in.
    ///
    /// # Errors
    /// The system's, if no more thread can be started.
    pub fn to(name: &'static str, out: impl Write + Send + 'static, room: usize) -> io::Result<Self> {
        let (items, waiting) = mpsc::unbounded_channel();
        let lines = Self { items, room: Arc::new(Semaphore::new(room)), dropped: Arc::default() };
        let (free, dropped) = (Arc::clone(&lines.room), Arc::clone(&lines.dropped));
        let writer = Writer { name, out, room, free, dropped, reported: 0, is_failing: false };
        thread::Builder::new().name(name.to_owned()).spawn(|| writer.run(waiting))?;
        Ok(lines)
    }

    /// A place for a line that takes this much room, if there is one.
    #[must_use]
    pub fn place(&self, room: u32) -> Option<LinePlace<'_>> {
        Arc::clone(&self.room).try_acquire_many_owned(room).ok().map(|room| LinePlace(self, room))
    }

    /// Puts a line into the queue, if its bytes have room there; else it is dropped and counted.
    pub fn put(&self, line: String) {
        match self.place(u32::try_from(line.len()).unwrap_or(u32::MAX)) {
            Some(place) => place.put(line),
            None => _ = self.dropped.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// How many lines were dropped, since the start: for lack of room, or because they could not be written.
    #[must_use]
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Hands over the last lines and waits until they are written, at most for [`FLUSH_TIMEOUT`]. Returns whether they are.
    pub async fn finish(&self, lines: impl IntoIterator<Item = String>) -> bool {
        let (flushed, is_flushed) = oneshot::channel();
        for line in lines {
            self.send(Item::Line(line, None));
        }
        self.send(Item::Flushed(flushed));
        matches!(timeout(FLUSH_TIMEOUT, is_flushed).await, Ok(Ok(())))
    }

    fn send(&self, item: Item) {
        // The thread lives as long as this value, unless `out` panics.
        let _ = self.items.send(item);
    }
}

struct Writer<W> {
    name: &'static str,
    out: W,
    /// All room that there is.
    room: usize,
    free: Arc<Semaphore>,
    dropped: Arc<AtomicU64>,
    /// Of the dropped lines, how many were logged.
    reported: u64,
    /// Whether the last line could not be written.
    is_failing: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self, mut waiting: mpsc::UnboundedReceiver<Item>) {
        while let Some(item) = waiting.blocking_recv() {
            match item {
                Item::Line(line, room) => {
                    self.write(line);
                    drop(room);
                    self.report();
                }
                // The waiting task may have gone.
                Item::Flushed(flushed) if !self.is_failing => _ = flushed.send(()),
                Item::Flushed(_) => {}
            }
        }
    }

    fn write(&mut self, line: String) {
        // A full disk may have cut the line before.
        let mut text = if self.is_failing { "\n".to_owned() + &line } else { line };
        text.push('\n');
        // In one piece, as far as the system allows it.
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "{} can't be written; the program continues without it", self.name);
                }
            }
        }
    }

    /// Logs how many lines were dropped, once there is room for that line as well. It may go to this very queue.
    fn report(&mut self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > self.reported && !self.is_failing && self.free.available_permits() >= self.room / 2 {
            tracing::warn!(
                lines = dropped - self.reported,
                "lines to {} were dropped: it was full, or not read fast enough",
                self.name
            );
            self.reported = dropped;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    const WAITING_LINES: usize = 4;

    /// Takes nothing until it is opened.
    #[derive(Clone, Default)]
    struct Pipe(Arc<(Mutex<(bool, String)>, Condvar)>);

    impl Pipe {
        fn open(&self) {
            self.0.0.lock().unwrap().0 = true;
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            self.0.0.lock().unwrap().1.clone()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let state = self.0.0.lock().unwrap();
            let mut state = self.0.1.wait_while(state, |(is_open, _)| !*is_open).unwrap();
            state.1.push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Has room for some bytes, until it is given more.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, String)>>);

    impl Disk {
        fn with_room(bytes: usize) -> Self {
            Self(Arc::new(Mutex::new((bytes, String::new()))))
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let count = disk.0.min(bytes.len());
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.0 -= count;
            disk.1.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_pipe_that_is_blocked_refuses_places_and_gets_every_line_that_had_one() {
        let pipe = Pipe::default();
        let lines = Lines::to("a pipe", pipe.clone(), WAITING_LINES).unwrap();
        let mut put = 0;
        while let Some(place) = lines.place(1) {
            place.put(put.to_string());
            put += 1;
            assert!(put <= WAITING_LINES, "it would wait for ever");
        }
        lines.put("no room".to_owned());
        assert_eq!(lines.dropped().load(Ordering::Relaxed), 1);
        assert!(!lines.finish(["late".to_owned()]).await, "it does not wait for ever");
        pipe.open();
        while !lines.finish(["last".to_owned()]).await {}
        let text = pipe.text();
        let mut written = text.lines();
        assert!((0..put).all(|line| written.next() == Some(&line.to_string())), "{text:?}");
        assert_eq!(text.lines().last(), Some("last"));
    }

    #[tokio::test]
    async fn a_full_disk_loses_lines_which_are_counted_and_gets_whole_ones_when_it_has_room_again() {
        let disk = Disk::with_room("first\nsec".len());
        let lines = Lines::to("a disk", disk.clone(), 100).unwrap();
        lines.put("first".to_owned());
        assert!(!lines.finish(["second".to_owned(), "third".to_owned()]).await);
        assert_eq!(lines.dropped().load(Ordering::Relaxed), 2);
        disk.0.lock().unwrap().0 = 100;
        assert!(lines.finish(["fourth".to_owned()]).await);
        assert_eq!(disk.0.lock().unwrap().1, "first\nsec\nfourth\n");
    }
}
