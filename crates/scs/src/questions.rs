//! Pages of applications that somebody asked for, on their way: who waits for which. Nothing here decides anything; a
//! question that is not answered ends with the patience of whoever asked, or with the agent's connection.

use domain::HostName;
use std::collections::BTreeMap;
use tokio::sync::oneshot::Sender;

/// Most questions on their way. People ask one at a time, and programs every few seconds.
const MOST: usize = 64;

/// The page, or why there is none.
pub(crate) type Page = Result<String, String>;

/// Questions on their way, by number.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    waiting: BTreeMap<u64, (HostName, Sender<Page>)>,
    last: u64,
}

impl Questions {
    /// Takes a question to the agent on `host`: its number. None: too many are on their way, which the asker is told.
    pub(crate) fn ask(&mut self, host: &HostName, asker: Sender<Page>) -> Option<u64> {
        self.waiting.retain(|_, (_, asker)| !asker.is_closed());
        if self.waiting.len() >= MOST {
            let _ = asker.send(Err("too many questions are on their way; try again".to_owned()));
            return None;
        }
        self.last += 1;
        self.waiting.insert(self.last, (host.clone(), asker));
        Some(self.last)
    }

    /// The agent on `host` answered; from another one it is no answer.
    pub(crate) fn answered(&mut self, host: &HostName, number: u64, page: Page) {
        if self.waiting.get(&number).is_some_and(|(asked, _)| asked == host)
            && let Some((_, asker)) = self.waiting.remove(&number)
        {
            // Whoever asked may have gone meanwhile.
            let _ = asker.send(page);
        }
    }

    /// The agent on `host` will answer no more.
    pub(crate) fn lost(&mut self, host: &HostName) {
        let lost = self.waiting.extract_if(.., |_, (asked, _)| asked == host);
        for (_, (_, asker)) in lost {
            let _ = asker.send(Err(format!("the agent on {host} was lost meanwhile")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::channel;

    #[test]
    fn only_who_was_asked_answers_and_nobody_waits_for_ever() {
        let [host1, host2] = ["host1", "host2"].map(|name| HostName::new(name).unwrap());
        let mut questions = Questions::default();
        let (asker, mut answer) = channel();
        let number = questions.ask(&host1, asker).unwrap();
        questions.answered(&host2, number, Ok("forged".to_owned()));
        assert!(answer.try_recv().is_err());
        questions.answered(&host1, number, Ok("page".to_owned()));
        assert_eq!(answer.try_recv().unwrap(), Ok("page".to_owned()));

        let (asker, mut answer) = channel();
        questions.ask(&host1, asker).unwrap();
        questions.lost(&host2);
        assert!(answer.try_recv().is_err());
        questions.lost(&host1);
        assert!(answer.try_recv().unwrap().unwrap_err().contains("host1"));
    }

    #[test]
    fn there_is_a_limit_and_who_went_away_does_not_count() {
        let host = HostName::new("host1").unwrap();
        let mut questions = Questions::default();
        let mut askers = Vec::new();
        for _ in 0..MOST {
            let (asker, answer) = channel();
            assert!(questions.ask(&host, asker).is_some());
            askers.push(answer);
        }
        let (asker, mut answer) = channel();
        assert_eq!(questions.ask(&host, asker), None);
        assert!(answer.try_recv().unwrap().is_err());
        askers.pop();
        assert!(questions.ask(&host, channel().0).is_some());
    }
}
