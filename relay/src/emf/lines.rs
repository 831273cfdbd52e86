//! Lines on their way to standard output. A pipe that nobody reads blocks who writes to it, so a thread of its own does;
//! behind it at most [`WAITING_LINES`] wait, and who has one more is told so.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Lines that wait for the one that is being written.
pub const WAITING_LINES: usize = 4;

/// The longest to wait at the end for what is still to be written.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Where lines go. It is the only writer: so no line is cut by another one.
#[derive(Debug)]
pub struct Lines(mpsc::Sender<Item>);

#[derive(Debug)]
enum Item {
    Line(String),
    /// Everything before has been written.
    Flushed(oneshot::Sender<()>),
}

/// A place for one line.
#[derive(Debug)]
pub struct LinePlace<'a>(mpsc::Permit<'a, Item>);

impl LinePlace<'_> {
    /// Puts the line there.
    pub fn put(self, line: String) {
        self.0.send(Item::Line(line));
    }
}

impl Lines {
    /// Starts the thread that writes to `out`. It ends with the value, or when `out` takes nothing any more.
    ///
    /// # Errors
    /// The system's, where there can't be one more thread.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, items) = mpsc::channel(WAITING_LINES);
        thread::Builder::new().name("stdout".to_owned()).spawn(|| write_all(items, out))?;
        Ok(Self(sender))
    }

    /// A place for a line, if there is one.
    #[must_use]
    pub fn place(&self) -> Option<LinePlace<'_>> {
        self.0.try_reserve().ok().map(LinePlace)
    }

    /// Hands over the last lines and waits until they are written, at most for [`FLUSH_TIMEOUT`]. Returns whether they are.
    pub async fn finish(&self, lines: impl IntoIterator<Item = String>) -> bool {
        let (flushed, is_flushed) = oneshot::channel();
        let hand_over = async {
            for line in lines {
                self.0.send(Item::Line(line)).await.ok()?;
            }
            self.0.send(Item::Flushed(flushed)).await.ok()?;
            is_flushed.await.ok()
        };
        matches!(timeout(FLUSH_TIMEOUT, hand_over).await, Ok(Some(())))
    }
}

fn write_all(mut items: mpsc::Receiver<Item>, mut out: impl Write) {
    while let Some(item) = items.blocking_recv() {
        match item {
            Item::Line(line) => {
                // In one piece, as far as the system allows it.
                if let Err(error) = out.write_all((line + "\n").as_bytes()).and_then(|()| out.flush()) {
                    tracing::warn!(%error, "standard output takes nothing any more; the relay goes on without it");
                    return;
                }
            }
            // Who has waited may have gone.
            Item::Flushed(flushed) => _ = flushed.send(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Condvar, Mutex};

    use super::*;

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

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_pipe_that_is_blocked_refuses_places_and_gets_every_line_that_had_one() {
        let pipe = Pipe::default();
        let lines = Lines::to(pipe.clone()).unwrap();
        let mut put = 0;
        // One is being written at most, or none yet.
        while let Some(place) = lines.place() {
            place.put(put.to_string());
            put += 1;
            assert!(put <= WAITING_LINES + 1, "it would wait for ever");
        }
        assert!(!lines.finish(["late".to_owned()]).await, "it does not wait for ever");
        pipe.open();
        while !lines.finish(["last".to_owned()]).await {}
        let text = pipe.text();
        let mut written = text.lines();
        assert!((0..put).all(|line| written.next() == Some(&line.to_string())), "{text:?}");
        assert_eq!(text.lines().last(), Some("last"));
    }

    #[tokio::test]
    async fn a_pipe_that_is_closed_is_given_up() {
        let lines = Lines::to(Closed).unwrap();
        assert!(!lines.finish(["a".to_owned(), "b".to_owned()]).await);
        assert!(lines.place().is_none());
    }
}
