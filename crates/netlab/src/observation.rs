//! What a prober saw, and what follows from it: how long nobody answered, what was lost, and whether two answered. Pure.
//!
//! ```text
//! old  A A A A . . . . . . . A        . = asked, not answered
//! new                  B B B . B B B
//!            |<-outage->|<-->|
//!    last of old, first of new, dual: an answer of the old after the first of the new
//! ```

use domain::Micros;
use std::collections::BTreeMap;
use std::time::Duration;

/// One OPTIONS request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Its CSeq number; they follow each other.
    pub number: u32,
    /// When it was sent.
    pub sent: Micros,
    /// When its first answer arrived.
    pub answered: Option<Micros>,
}

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// CSeq number of the request.
    pub number: u32,
    /// When it arrived, by the kernel's time stamp.
    pub at: Micros,
    /// Who answered: index into the observation's tags.
    pub(crate) by: u8,
}

/// A time without an answer by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The answer before it, or the beginning of the observation.
    pub from: Micros,
    /// The answer after it, or the end of the observation.
    pub to: Micros,
}

impl Gap {
    /// How long it was.
    #[must_use]
    pub fn length(self) -> Duration {
        self.to.since(self.from)
    }
}

/// One takeover as the client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takeover {
    /// Last answer of the old host before the first of the new one.
    pub last_of_old: Micros,
    /// First answer of the new host.
    pub first_of_new: Micros,
    /// Last answer of the old host after that, where there is one: both answered in between.
    pub dual_until: Option<Micros>,
    /// How many such answers there are.
    pub late_answers: usize,
}

impl Takeover {
    /// How long the client was without an answer.
    #[must_use]
    pub fn outage(&self) -> Duration {
        self.first_of_new.since(self.last_of_old)
    }

    /// How long both hosts answered; zero where they never did.
    #[must_use]
    pub fn dual(&self) -> Duration {
        self.dual_until.map_or(Duration::ZERO, |until| until.since(self.first_of_new))
    }
}

/// What a prober saw in a window of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// Beginning of the window.
    pub from: Micros,
    /// End of the window; a request sent then is not part of it.
    pub to: Micros,
    /// A request sent before this has had its time: it is lost where it is not answered. Later ones may still be.
    pub settled_until: Micros,
    /// Answers other than 2xx since the prober started: somebody is there and gives no service.
    pub refused: u64,
    /// Requests that were not sent, because the machine did not let the prober run in time, since it started.
    pub skipped: u64,
    /// Whether the prober had a real-time priority.
    pub real_time: bool,
    /// Who answered at any time.
    pub(crate) tags: Vec<String>,
    /// By number, and so by time.
    pub(crate) requests: Vec<Request>,
    /// By time.
    pub(crate) answers: Vec<Answer>,
}

impl Observation {
    /// The part of it from `from` to before `to`: requests sent and answers that arrived then.
    #[must_use]
    pub fn between(&self, from: Micros, to: Micros) -> Observation {
        let within = |at: Micros| from <= at && at < to;
        Observation {
            from: from.max(self.from),
            to: to.min(self.to),
            tags: self.tags.clone(),
            requests: self.requests.iter().filter(|r| within(r.sent)).copied().collect(),
            answers: self.answers.iter().filter(|a| within(a.at)).copied().collect(),
            settled_until: self.settled_until,
            refused: self.refused,
            skipped: self.skipped,
            real_time: self.real_time,
        }
    }

    /// The requests sent, in order.
    #[must_use]
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// The answers, in the order of their arrival.
    #[must_use]
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// Who gave an answer: what is in parentheses in its `Server` header.
    #[must_use]
    pub fn who(&self, answer: &Answer) -> &str {
        self.tags.get(usize::from(answer.by)).map_or("", String::as_str)
    }

    /// Requests that nobody answered, at any time; those sent so late that an answer may still come do not count.
    #[must_use]
    pub fn lost(&self) -> usize {
        let settled = self.requests.iter().take_while(|request| request.sent < self.settled_until);
        settled.filter(|r| r.answered.is_none()).count()
    }

    /// How many answers each has given.
    #[must_use]
    pub fn count_by_tag(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for answer in &self.answers {
            *counts.entry(self.who(answer)).or_insert(0) += 1;
        }
        counts
    }

    /// Who gave the last answer.
    #[must_use]
    pub fn last_answered_by(&self) -> Option<&str> {
        self.answers.last().map(|answer| self.who(answer))
    }

    /// The longest time without an answer, counted from the beginning and to the end of the window as well; none in an empty
    /// window.
    #[must_use]
    pub fn longest_gap(&self) -> Option<Gap> {
        let ends = self.answers.iter().map(|answer| answer.at).chain([self.to]);
        let starts = [self.from].into_iter().chain(self.answers.iter().map(|answer| answer.at));
        let gaps = starts.zip(ends).map(|(from, to)| Gap { from, to });
        let longest = gaps.reduce(|longest, gap| if gap.length() > longest.length() { gap } else { longest });
        longest.filter(|gap| gap.length() > Duration::ZERO)
    }

    /// The takeover from `old` to `new`. The window must hold no other one between the two: an answer of the old host
    /// after a switch *back* looks no different from one that it should not have given. None where either never answered,
    /// or the new one did from the beginning.
    #[must_use]
    pub fn takeover(&self, old: &str, new: &str) -> Option<Takeover> {
        let by = |tag: &str| self.tags.iter().position(|known| known == tag);
        let (old, new) = (by(old)?, by(new)?);
        let first = self.answers.iter().position(|answer| usize::from(answer.by) == new)?;
        let of_old = |answers: &[Answer]| -> Vec<Micros> {
            answers.iter().filter(|answer| usize::from(answer.by) == old).map(|answer| answer.at).collect()
        };
        let late = of_old(&self.answers[first..]);
        Some(Takeover {
            last_of_old: *of_old(&self.answers[..first]).last()?,
            first_of_new: self.answers[first].at,
            dual_until: late.last().copied(),
            late_answers: late.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One character per millisecond, a request in each: who answered it 0.1 ms later; '.' nobody; "AB" in brackets,
    /// `[AB]`, both, in this order.
    fn seen(script: &str) -> Observation {
        let mut o = Observation { tags: vec!["A".to_owned(), "B".to_owned()], ..Observation::default() };
        let (mut at, mut in_brackets, mut extra) = (1_000, false, 0);
        for c in script.chars() {
            match c {
                '[' => (in_brackets, extra) = (true, 0),
                ']' => in_brackets = false,
                _ => {
                    if !in_brackets || extra == 0 {
                        at += 1_000;
                        o.requests.push(Request {
                            number: at / 1_000,
                            sent: Micros(at.into()),
                            answered: None,
                        });
                    }
                    if let Some(by) = "AB".find(c) {
                        extra += 100;
                        let answer = Micros(u64::from(at) + if in_brackets { extra } else { 100 });
                        o.requests.last_mut().unwrap().answered.get_or_insert(answer);
                        o.answers.push(Answer { number: at / 1_000, at: answer, by: by as u8 });
                    } else if in_brackets {
                        panic!("only answers in brackets");
                    }
                }
            }
        }
        o.from = Micros(2_000);
        o.to = Micros(u64::from(at) + 1_000);
        o.settled_until = Micros(u64::from(at));
        o
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_clean_takeover_has_an_outage_and_no_dual() {
        let o = seen("AAA....BBB");
        let takeover = o.takeover("A", "B").unwrap();
        assert_eq!((takeover.outage(), takeover.dual(), takeover.late_answers), (ms(5), ms(0), 0));
        assert_eq!(o.lost(), 4);
        assert_eq!(o.last_answered_by(), Some("B"));
        assert_eq!(o.count_by_tag(), BTreeMap::from([("A", 3), ("B", 3)]));
        let gap = o.longest_gap().unwrap();
        assert_eq!((gap.length(), gap.from), (ms(5), takeover.last_of_old));
    }

    #[test]
    fn an_answer_of_the_old_after_the_first_of_the_new_is_dual() {
        let takeover = seen("AA..BBABAB").takeover("A", "B").unwrap();
        assert_eq!((takeover.outage(), takeover.dual(), takeover.late_answers), (ms(3), ms(4), 2));
        let same_request = seen("AA[BA]BB").takeover("A", "B").unwrap();
        assert_eq!(same_request.dual(), Duration::from_micros(100));
        assert_eq!(seen("AA[AB]BB").takeover("A", "B").unwrap().dual(), ms(0));
    }

    #[test]
    fn a_takeover_needs_both_and_in_this_order() {
        for (script, old, new) in
            [("AAA", "A", "B"), ("BBB", "A", "B"), ("BBAA", "A", "B"), ("AABB", "A", "C")]
        {
            assert_eq!(seen(script).takeover(old, new), None, "{script} from {old} to {new}");
        }
        assert!(seen("BBAA").takeover("B", "A").is_some());
    }

    #[test]
    fn a_switch_back_is_told_apart_by_the_window() {
        let o = seen("AAA.BBB.AAA");
        assert_eq!(o.takeover("A", "B").unwrap().late_answers, 3);
        let first = o.between(Micros(0), Micros(9_000));
        assert_eq!(first.takeover("A", "B").unwrap().dual(), ms(0));
        let second = o.between(Micros(6_000), Micros(99_000));
        assert_eq!(second.takeover("B", "A").unwrap().outage(), ms(2));
        assert_eq!((second.from, second.to), (Micros(6_000), o.to));
    }

    #[test]
    fn what_may_still_be_answered_is_not_lost() {
        assert_eq!(seen("AAAA.").lost(), 0);
        assert_eq!(seen("AAAA..").lost(), 1);
        assert_eq!(seen("A.A.AA").lost(), 2);
    }

    #[test]
    fn gaps_reach_to_the_ends_of_the_window() {
        assert_eq!(seen("AA....").longest_gap().unwrap().to, Micros(8_000));
        assert_eq!(seen("....AA").longest_gap().unwrap().from, Micros(2_000));
        assert_eq!(seen("A..A..A").longest_gap().unwrap().from, Micros(2_100), "the first of equals");
        assert_eq!(Observation::default().longest_gap(), None);
        assert_eq!(seen("...").longest_gap().unwrap().length(), ms(3));
    }
}
