//! What is done beside the event loop, on a thread of its own: names are looked up, and the HTTP page is served. Both may
//! take their time. The loop gives errands and is woken for what comes back; neither ever waits for the other.

mod http;
mod locate;

use http::Query;
pub(crate) use http::{Page, Wanted};
pub(crate) use locate::Located;

use anyhow::Context;
use mio::{Poll, Token, Waker};
use sip_core::Question;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::mpsc;

/// Errands that may wait, and words that may: more is refused to whoever comes last.
const QUEUE: usize = 1_024;

/// What the loop wants done.
#[derive(Debug)]
enum Errand {
    Locate(Question),
    Serve(Option<TcpListener>),
}

/// What the loop is told.
#[derive(Debug)]
pub(crate) enum Word {
    /// A name was looked up, or could not be.
    Located(Located),
    /// Somebody asks over HTTP.
    Asked(Query),
}

/// Where words are left for the loop.
#[derive(Debug, Clone)]
struct Mouth {
    words: SyncSender<Word>,
    waker: Arc<Waker>,
}

impl Mouth {
    /// Tells the loop; false where it hears nothing at the moment.
    fn say(&self, word: Word) -> bool {
        self.words.try_send(word).is_ok() && self.waker.wake().is_ok()
    }
}

/// The thread, as the loop sees it. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Beside {
    errands: mpsc::Sender<Errand>,
    words: Receiver<Word>,
    waker: Arc<Waker>,
    served_at: Option<SocketAddr>,
}

impl Beside {
    /// Starts the thread; words make `token` ready.
    pub(crate) fn start(poll: &Poll, token: Token) -> anyhow::Result<Self> {
        let (errands, received) = mpsc::channel(QUEUE);
        let (words, heard) = sync_channel(QUEUE);
        let waker = Arc::new(Waker::new(poll.registry(), token)?);
        let mouth = Mouth { words, waker: Arc::clone(&waker) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("beside".to_owned())
            .spawn(move || runtime.block_on(run(received, mouth)))
            .context("cannot start a thread")?;
        Ok(Self { errands, words: heard, waker, served_at: None })
    }

    /// Has a name looked up; false where too many are already.
    pub(crate) fn locate(&self, question: Question) -> bool {
        self.errands.try_send(Errand::Locate(question)).is_ok()
    }

    /// Serves HTTP at this address from now on, and nowhere else.
    ///
    /// # Errors
    /// Where the address cannot be bound; then it is served where it was.
    pub(crate) fn serve(&mut self, address: Option<SocketAddr>) -> anyhow::Result<()> {
        if self.served_at == address {
            return Ok(());
        }
        let bind = |address| {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(listener)
        };
        let failed =
            || format!("cannot serve HTTP at {}", address.map_or_else(String::new, |at| at.to_string()));
        let listener = address.map(bind).transpose().with_context(failed)?;
        self.errands
            .try_send(Errand::Serve(listener))
            .ok()
            .context("too much is asked of the thread beside")?;
        self.served_at = address;
        Ok(())
    }

    /// What wakes the loop, for others who do something beside it.
    pub(crate) fn waker(&self) -> impl Fn() + Send + use<> {
        let waker = Arc::clone(&self.waker);
        // Where this fails, the loop looks again within a second.
        move || drop(waker.wake())
    }

    /// Has the loop hear again in its next round.
    pub(crate) fn wake(&self) {
        // It would be woken by the next word, too.
        let _ = self.waker.wake();
    }

    /// The next word, if there is one.
    pub(crate) fn hear(&self) -> Option<Word> {
        self.words.try_recv().ok()
    }
}

async fn run(mut errands: mpsc::Receiver<Errand>, mouth: Mouth) {
    let resolver = locate::Locator::from_system();
    let mut serving: Option<tokio::task::JoinHandle<()>> = None;
    while let Some(errand) = errands.recv().await {
        match errand {
            Errand::Locate(question) => {
                let (resolver, mouth) = (resolver.clone(), mouth.clone());
                tokio::spawn(async move {
                    // A loop that hears nothing asks again.
                    mouth.say(Word::Located(resolver.locate(question).await));
                });
            }
            Errand::Serve(listener) => {
                if let Some(serving) = serving.take() {
                    serving.abort();
                }
                serving = listener.map(|listener| tokio::spawn(http::serve(listener, mouth.clone())));
            }
        }
    }
}
