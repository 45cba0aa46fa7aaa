//! `takeover watch`, as a value: what is shown, what a key does, what news change. Drawing is in `draw`, the terminal and the
//! connection are the command's. It decides nothing: a switchover is asked for with the plan that was looked at, and refused
//! where things have moved on since.

mod draw;

pub use draw::draw;

use crate::api::{Status, SwitchOver};
use domain::{LogEvent, PairName};
use ha_core::{Incident, PairView, Plan};
use std::collections::VecDeque;

/// Log events that are kept, the newest; a screen shows a few of them.
const MOST_EVENTS: usize = 200;
/// Longest reason that is taken, characters.
const MOST_REASON: usize = 200;

/// All that is shown.
#[derive(Debug, Clone, Default)]
pub struct Screen {
    /// The newest status; none: not heard yet.
    status: Option<Status>,
    /// Why what is shown may be old; none: the SCS is heard.
    lost: Option<String>,
    /// The newest log events, the newest last.
    log: VecDeque<LogEvent>,
    /// The pair that is selected, by name: pairs change places.
    selected: Option<PairName>,
    page: Page,
}

/// What most of the screen is about.
#[derive(Debug, Clone, Default)]
enum Page {
    /// Everything.
    #[default]
    Overview,
    /// The selected pair.
    Pair,
    /// A plan is asked for.
    Planning,
    /// A plan, and the reason that is being typed.
    Plan { plan: Box<Plan>, reason: String },
    /// It has to be confirmed.
    Confirm { plan: Box<Plan>, reason: String },
    /// It was ordered; the incident as far as it has come.
    Running { incident: Option<u64>, text: String, so_far: Option<Box<Incident>> },
    /// Something was refused, or failed.
    Refused(String),
}

/// A key, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Return.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Erase,
    /// Ctrl-C.
    Interrupt,
    /// A character.
    Char(char),
}

/// What came in.
#[derive(Debug)]
pub enum News {
    /// The status.
    Status(Box<Status>),
    /// A log event.
    Log(LogEvent),
    /// An incident began, went on or ended.
    Incident(Box<Incident>),
    /// The plan that was asked for; else why there is none.
    Plan(Result<Box<Plan>, String>),
    /// The switchover was accepted, with its incident; else why not.
    Ordered(Result<(Option<u64>, String), String>),
    /// The SCS is not heard, and why.
    Lost(String),
}

/// What is to be done because of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// End.
    Quit,
    /// Ask the SCS what a switchover of this pair would do.
    Plan(PairName),
    /// Order it.
    SwitchOver(PairName, SwitchOver),
}

impl Screen {
    /// What came in is shown from now on.
    pub fn hear(&mut self, news: News) {
        match news {
            News::Status(status) => {
                self.lost = None;
                self.status = Some(*status);
                let names: Vec<_> = self.pairs().into_iter().map(|pair| pair.name.clone()).collect();
                if self.selected.as_ref().is_none_or(|name| !names.contains(name)) {
                    self.selected = names.into_iter().next();
                }
            }
            News::Log(event) => {
                self.log.push_back(event);
                let over = self.log.len().saturating_sub(MOST_EVENTS);
                self.log.drain(..over);
            }
            News::Incident(incident) => {
                if let Page::Running { incident: Some(id), so_far, .. } = &mut self.page
                    && *id == incident.id.0
                {
                    *so_far = Some(incident);
                }
            }
            News::Plan(told) => {
                if matches!(self.page, Page::Planning) {
                    self.page = match told {
                        Ok(plan) => Page::Plan { plan, reason: String::new() },
                        Err(why) => Page::Refused(why),
                    };
                }
            }
            News::Ordered(Ok((incident, text))) => self.page = Page::Running { incident, text, so_far: None },
            News::Ordered(Err(why)) => self.page = Page::Refused(why),
            News::Lost(why) => self.lost = Some(why),
        }
    }

    /// What a key does.
    pub fn press(&mut self, key: Key) -> Option<Ask> {
        if key == Key::Interrupt {
            return Some(Ask::Quit);
        }
        let page = std::mem::take(&mut self.page);
        let (page, ask) = self.pressed(page, key);
        self.page = page;
        ask
    }

    fn pressed(&mut self, page: Page, key: Key) -> (Page, Option<Ask>) {
        match (page, key) {
            (Page::Overview, Key::Char('q')) => (Page::Overview, Some(Ask::Quit)),
            (page @ (Page::Overview | Page::Pair), Key::Up | Key::Char('k')) => (self.moved(page, -1), None),
            (page @ (Page::Overview | Page::Pair), Key::Down | Key::Char('j')) => (self.moved(page, 1), None),
            (Page::Overview, Key::Enter) if self.selected.is_some() => (Page::Pair, None),
            (Page::Pair, Key::Char('s')) => match &self.selected {
                Some(name) => (Page::Planning, Some(Ask::Plan(name.clone()))),
                None => (Page::Overview, None),
            },
            (Page::Pair, Key::Escape | Key::Char('q')) => (Page::Overview, None),
            (Page::Plan { plan, mut reason }, Key::Char(c)) => {
                if !c.is_control() && reason.chars().count() < MOST_REASON {
                    reason.push(c);
                }
                (Page::Plan { plan, reason }, None)
            }
            (Page::Plan { plan, mut reason }, Key::Erase) => {
                reason.pop();
                (Page::Plan { plan, reason }, None)
            }
            (Page::Plan { plan, reason }, Key::Enter) if plan.passes(false) && !reason.trim().is_empty() => {
                (Page::Confirm { plan, reason }, None)
            }
            (Page::Confirm { plan, reason }, Key::Char('y')) => {
                let order = SwitchOver {
                    to: Some(plan.to.clone()),
                    reason: reason.trim().to_owned(),
                    plan: Some(plan.hash),
                    force: false,
                };
                let text = format!("{} is being switched over to {} ...", plan.pair, plan.to);
                let ask = Ask::SwitchOver(plan.pair.clone(), order);
                (Page::Running { incident: None, text, so_far: None }, Some(ask))
            }
            (Page::Confirm { plan, reason }, Key::Escape | Key::Char('n')) => {
                (Page::Plan { plan, reason }, None)
            }
            (Page::Planning | Page::Plan { .. } | Page::Running { .. } | Page::Refused(_), Key::Escape)
            | (Page::Running { .. } | Page::Refused(_), Key::Enter | Key::Char('q')) => (Page::Pair, None),
            (
                page,
                Key::Up | Key::Down | Key::Enter | Key::Escape | Key::Erase | Key::Interrupt | Key::Char(_),
            ) => (page, None),
        }
    }

    /// Selects the pair before or behind.
    fn moved(&mut self, page: Page, by: isize) -> Page {
        let names: Vec<_> = self.pairs().into_iter().map(|pair| pair.name.clone()).collect();
        let at = names.iter().position(|name| self.selected.as_ref() == Some(name)).unwrap_or(0);
        let at = at.saturating_add_signed(by).min(names.len().saturating_sub(1));
        self.selected = names.into_iter().nth(at);
        page
    }

    /// The pairs, those in trouble first.
    fn pairs(&self) -> Vec<&PairView> {
        let mut pairs: Vec<_> = self.status.iter().flat_map(|status| &status.view.pairs).collect();
        pairs.sort_by_key(|pair| pair.trouble.is_empty());
        pairs
    }

    fn selected_pair(&self) -> Option<&PairView> {
        self.pairs().into_iter().find(|pair| self.selected.as_ref() == Some(&pair.name))
    }
}
