//! `takeover watch`: the terminal and the connection around [`crate::watch`]. The terminal is put back however this ends.

use super::out::with_causes;
use super::{Exit, Failure, Options};
use crate::api::{Accepted, Status, SwitchOver, live};
use crate::client::{Client, ClientError, Event, Events};
use crate::render::Look;
use crate::watch::{Ask, Key, News, Screen, draw};
use clap::Args;
use domain::PairName;
use ha_core::Plan;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, KeyCode, KeyEventKind, KeyModifiers};
use scs::store::LogPage;
use std::io::{self, IsTerminal};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

/// The status is asked for at least so often, for its ages.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// And at most so often, however much happens.
const REFRESH_AT_MOST: Duration = Duration::from_millis(100);
/// Pause before the SCS is tried again.
const RECONNECT_EVERY: Duration = Duration::from_secs(1);
/// How often the keyboard's thread looks whether it is still wanted.
const KEYS_EVERY: Duration = Duration::from_millis(100);
/// Log events that are there from the beginning.
const FIRST_EVENTS: u32 = 50;
/// Keys and news that wait to be shown.
const WAITING: usize = 64;

/// Arguments of `watch`.
#[derive(Debug, Clone, Args)]
pub struct Watch {
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// What happens to the loop.
enum Happened {
    Key(Key),
    Resized,
    News(News),
    /// The status has changed.
    Changed,
}

/// The terminal, put back when this is dropped; a panic puts it back by itself.
struct Terminal(DefaultTerminal);

impl Terminal {
    fn new() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                ratatui::restore();
                Err(error)
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

pub(super) async fn watch(client: &Client, look: &Look) -> Result<Exit, Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::NoTerminal);
    }
    // Before the terminal is taken: a mistake on the command line is said in the ordinary way.
    let first: Status = client.get("/status", &()).await?;
    let log: LogPage = client.get("/log", &[("limit", FIRST_EVENTS)]).await?;
    let (mut hung_up, mut ended) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
    let (happened, mut happens) = mpsc::channel(WAITING);
    let mut terminal = Terminal::new()?;
    std::thread::Builder::new().name("keys".to_owned()).spawn({
        let happened = happened.clone();
        move || read_keys(&happened)
    })?;
    let listener = tokio::spawn(listen(client.clone(), happened.clone()));
    let mut screen = Screen::default();
    screen.hear(News::Status(Box::new(first)));
    log.events.into_iter().for_each(|row| screen.hear(News::Log(row.event)));
    let (mut asked, mut due) = (Instant::now(), Instant::now() + REFRESH_EVERY);
    loop {
        terminal.0.draw(|frame| draw(&screen, look, frame))?;
        tokio::select! {
            biased;
            _ = hung_up.recv() => break,
            _ = ended.recv() => break,
            what = happens.recv() => match what {
                Some(Happened::Key(key)) => match screen.press(key) {
                    Some(Ask::Quit) => break,
                    Some(ask) => drop(tokio::spawn(carry_out(client.clone(), ask, happened.clone()))),
                    None => {}
                },
                Some(Happened::News(news)) => screen.hear(news),
                Some(Happened::Changed) => due = due.min(asked + REFRESH_AT_MOST),
                Some(Happened::Resized) => {}
                None => break,
            },
            () = sleep_until(due) => {
                asked = Instant::now();
                due = asked + REFRESH_EVERY;
                drop(tokio::spawn(refresh(client.clone(), happened.clone())));
            }
        }
    }
    listener.abort();
    Ok(Exit::Done)
}

/// Reads the keyboard until nobody wants it any more.
fn read_keys(happened: &mpsc::Sender<Happened>) {
    while !happened.is_closed() {
        let what = match event::poll(KEYS_EVERY) {
            Ok(true) => event::read(),
            Ok(false) => continue,
            Err(error) => Err(error),
        };
        let what = match what {
            Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => key_of(key).map(Happened::Key),
            Ok(event::Event::Resize(..)) => Some(Happened::Resized),
            Ok(_) => None,
            // Without a keyboard nobody can end it: the terminal is gone.
            Err(_) => Some(Happened::Key(Key::Interrupt)),
        };
        if let Some(what) = what
            && happened.blocking_send(what).is_err()
        {
            return;
        }
    }
}

fn key_of(key: event::KeyEvent) -> Option<Key> {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Interrupt),
        KeyCode::Char(_) if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => None,
        KeyCode::Char(c) => Some(Key::Char(c)),
        KeyCode::Up => Some(Key::Up),
        KeyCode::Down => Some(Key::Down),
        KeyCode::Enter => Some(Key::Enter),
        KeyCode::Esc => Some(Key::Escape),
        KeyCode::Backspace => Some(Key::Erase),
        _ => None,
    }
}

/// Live events, and connecting again where they end.
async fn listen(client: Client, happened: mpsc::Sender<Happened>) {
    loop {
        let why = match client.events().await {
            Ok(events) => pass_on(events, &happened).await,
            Err(error) => Some(with_causes(&error)),
        };
        let Some(why) = why else { return };
        if happened.send(Happened::News(News::Lost(why))).await.is_err() {
            return;
        }
        sleep(RECONNECT_EVERY).await;
    }
}

/// Why they ended; none: nobody listens any more.
async fn pass_on(mut events: Events, happened: &mpsc::Sender<Happened>) -> Option<String> {
    loop {
        let event = match events.next().await {
            Ok(Some(event)) => event,
            Ok(None) => return Some("the live events ended".to_owned()),
            Err(error) => return Some(with_causes(&error)),
        };
        if let Some(what) = news_of(&event) {
            happened.send(what).await.ok()?;
        }
    }
}

/// What an event says; one of a later release that is not known says nothing.
fn news_of(event: &Event) -> Option<Happened> {
    match event.name.as_str() {
        live::LOG => serde_json::from_str(&event.data).ok().map(|log| Happened::News(News::Log(log))),
        live::INCIDENT => {
            let incident = serde_json::from_str(&event.data).ok()?;
            Some(Happened::News(News::Incident(Box::new(incident))))
        }
        live::VIEW => Some(Happened::Changed),
        _ => None,
    }
}

async fn refresh(client: Client, happened: mpsc::Sender<Happened>) {
    let news = match client.get::<Status>("/status", &()).await {
        Ok(status) => News::Status(Box::new(status)),
        Err(error) => News::Lost(with_causes(&error)),
    };
    // An error says that the program ends.
    let _ = happened.send(Happened::News(news)).await;
}

async fn carry_out(client: Client, ask: Ask, happened: mpsc::Sender<Happened>) {
    let news = match ask {
        Ask::Quit => return,
        Ask::Plan(pair) => News::Plan(plan(&client, &pair).await.map_err(|error| with_causes(&error))),
        Ask::SwitchOver(pair, order) => {
            let accepted = switch_over(&client, &pair, &order).await;
            News::Ordered(accepted.map_err(|error| with_causes(&error)))
        }
    };
    // An error says that the program ends.
    let _ = happened.send(Happened::News(news)).await;
}

async fn plan(client: &Client, pair: &PairName) -> Result<Box<Plan>, ClientError> {
    Ok(Box::new(client.get(&format!("/pairs/{pair}/plan"), &()).await?))
}

async fn switch_over(
    client: &Client,
    pair: &PairName,
    order: &SwitchOver,
) -> Result<(Option<u64>, String), ClientError> {
    let accepted: Accepted = client.post(&format!("/pairs/{pair}/switchover"), order).await?;
    Ok((accepted.incident, accepted.text))
}
