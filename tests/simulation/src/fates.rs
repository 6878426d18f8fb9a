//! What happens to each request of an invocation: by script where there is one, else by chance.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jobmill_engine::ports::PortError;

use super::Climate;
use super::scenario::PATIENCE;
use jobmill_memory::faulty::{COMPLETE, CREATE, CREATE_IN_DOUBT, DELETE, Fate, Fates, INVOKE, PUT};
use jobmill_memory::{Dice, VirtualClock};

/// What a script does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// The sender dies before it is sent.
    DiesBefore,
    /// The sender dies when it is sent; it is carried out at once.
    DiesAfter,
    /// The sender dies when it is sent; it is carried out as late as can be.
    DiesAfterLate,
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// It is carried out as late as can be, and the answer is lost.
    AnswerLostLate,
    /// It is never carried out, and there is no answer.
    Lost,
    /// It is throttled.
    Throttled,
    /// It is refused.
    Refused,
    /// A put is told 409; else as [`Blow::Throttled`].
    Conflict,
    /// A put is carried out and told 412; else as [`Blow::AnswerLost`].
    Own412,
    /// It is answered, and a copy of it is carried out as late as can be; what creates tasks has no copies.
    Twice,
    /// It is answered, but its sender is frozen meanwhile, for longer than its lease and than the next sweep.
    Frozen,
}

impl Blow {
    /// All there are.
    pub const ALL: [Self; 12] = [
        Self::DiesBefore,
        Self::DiesAfter,
        Self::DiesAfterLate,
        Self::AnswerLost,
        Self::AnswerLostLate,
        Self::Lost,
        Self::Throttled,
        Self::Refused,
        Self::Conflict,
        Self::Own412,
        Self::Twice,
        Self::Frozen,
    ];
    /// The deaths.
    pub const DEATHS: [Self; 2] = [Self::DiesBefore, Self::DiesAfter];
}

/// What all invocations share.
#[derive(Debug)]
pub(super) struct Weather {
    pub(super) clock: VirtualClock,
    pub(super) dice: Dice,
    pub(super) climate: Climate,
    pub(super) script: BTreeMap<u64, Blow>,
    pub(super) calls: AtomicU64,
    pub(super) trace: Trace,
}

/// What happened, for people.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) on: bool,
    lines: Mutex<Vec<String>>,
}

impl Trace {
    pub(super) fn new(on: bool) -> Self {
        Self {
            on,
            lines: Mutex::default(),
        }
    }

    pub(super) fn tell(&self, at: Duration, line: impl FnOnce() -> String) {
        if self.on {
            let line = format!("{:>11.3} {}", at.as_secs_f64(), line());
            self.lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Weather {
    /// Whether there is still trouble.
    pub(super) fn troubled(&self) -> bool {
        self.clock.now() < self.climate.until
    }

    /// Whether that trouble happens now.
    pub(super) fn strikes(&self, one_in: u64) -> bool {
        one_in > 0 && self.troubled() && self.dice.once_in(one_in)
    }

    pub(super) fn up_to(&self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.dice.below(micros.saturating_add(1)))
    }
}

/// The network of one invocation.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) weather: Arc<Weather>,
    pub(super) invocation: u64,
    pub(super) dead: AtomicBool,
    /// The sandbox is to be frozen.
    pub(super) freezes: AtomicBool,
    /// Writes that were sent and not answered.
    pub(super) unanswered: AtomicU64,
}

/// Whether a request of that operation may change something.
fn changes(operation: &str) -> bool {
    [PUT, COMPLETE, DELETE, CREATE, CREATE_IN_DOUBT, INVOKE].contains(&operation)
}

impl Network {
    fn latest(&self, operation: &str) -> Duration {
        match operation {
            CREATE => self.weather.climate.latest_task,
            _ => self.weather.climate.latest_object,
        }
    }

    fn blow(&self, operation: &'static str, blow: Blow) -> Fate {
        const SOON: Duration = Duration::from_millis(5);
        let conditional = matches!(operation, PUT | COMPLETE);
        match blow {
            Blow::DiesBefore => Fate::SenderDies { there: None },
            Blow::DiesAfter => Fate::SenderDies { there: Some(SOON) },
            Blow::DiesAfterLate => Fate::SenderDies {
                there: Some(self.latest(operation)),
            },
            Blow::Own412 if conditional => Fate::Misreported {
                there: SOON,
                error: PortError::PreconditionFailed { operation },
                back: SOON,
            },
            Blow::AnswerLost | Blow::Own412 => Fate::AnswerLost {
                there: SOON,
                patience: PATIENCE,
            },
            Blow::AnswerLostLate => Fate::AnswerLost {
                there: self.latest(operation),
                patience: PATIENCE,
            },
            Blow::Lost => Fate::Lost { patience: PATIENCE },
            Blow::Twice if !matches!(operation, CREATE | CREATE_IN_DOUBT) => Fate::Twice {
                there: SOON,
                back: SOON,
                again: self.latest(operation),
            },
            Blow::Twice => Fate::Answered {
                there: SOON,
                back: SOON,
            },
            Blow::Frozen => {
                self.freezes.store(true, Ordering::Relaxed);
                Fate::Answered {
                    there: SOON,
                    back: SOON,
                }
            }
            Blow::Conflict if conditional => Fate::Fails {
                error: PortError::Conflict { operation },
                back: SOON,
            },
            Blow::Throttled | Blow::Conflict => Fate::Fails {
                error: PortError::Throttled {
                    operation,
                    message: "by a blow".to_owned(),
                },
                back: SOON,
            },
            Blow::Refused => Fate::Fails {
                error: PortError::Refused {
                    operation,
                    code: "AccessDenied".to_owned(),
                    message: "by a blow".to_owned(),
                },
                back: SOON,
            },
        }
    }

    fn chance(&self, operation: &'static str) -> Option<Blow> {
        let (weather, climate) = (&self.weather, &self.weather.climate);
        let late = || weather.dice.once_in(2);
        let blows = [
            (climate.death, {
                match weather.dice.below(3) {
                    0 => Blow::DiesBefore,
                    1 => Blow::DiesAfter,
                    _ => Blow::DiesAfterLate,
                }
            }),
            (
                climate.answer_lost,
                if late() {
                    Blow::AnswerLostLate
                } else {
                    Blow::AnswerLost
                },
            ),
            (climate.lost, Blow::Lost),
            (climate.throttled, Blow::Throttled),
            (climate.conflict, Blow::Conflict),
            (climate.own_412, if late() { Blow::Twice } else { Blow::Own412 }),
            (climate.refused, Blow::Refused),
        ];
        blows
            .into_iter()
            .find(|(one_in, _)| weather.strikes(*one_in))
            .map(|(_, blow)| blow)
            .filter(|blow| {
                !matches!(blow, Blow::Conflict | Blow::Own412) || matches!(operation, PUT | COMPLETE)
            })
    }
}

impl Fates for Network {
    fn fate(&self, operation: &'static str) -> Fate {
        let weather = &self.weather;
        if self.dead.load(Ordering::Relaxed) {
            return Fate::SenderDies { there: None };
        }
        let call = weather.calls.fetch_add(1, Ordering::Relaxed);
        let blow = match weather.script.get(&call) {
            Some(blow) => Some(*blow),
            None if weather.troubled() => self.chance(operation),
            None => None,
        };
        let fate = match blow {
            Some(blow) => {
                let fate = self.blow(operation, blow);
                // By chance a late request is late by chance.
                match fate {
                    Fate::AnswerLost { there, patience } if weather.script.is_empty() => Fate::AnswerLost {
                        there: weather.up_to(there),
                        patience,
                    },
                    Fate::Twice { there, back, again } if weather.script.is_empty() => Fate::Twice {
                        there,
                        back,
                        again: weather.up_to(again),
                    },
                    Fate::SenderDies { there: Some(there) } if weather.script.is_empty() => {
                        Fate::SenderDies {
                            there: Some(weather.up_to(there)),
                        }
                    }
                    fate => fate,
                }
            }
            None => {
                let latency = weather.climate.latency;
                Fate::Answered {
                    there: weather.up_to(latency),
                    back: weather.up_to(latency),
                }
            }
        };
        weather.trace.tell(weather.clock.now(), || match blow {
            Some(blow) => format!("#{} call {call} {operation}: {blow:?} {fate:?}", self.invocation),
            None => format!("#{} call {call} {operation}", self.invocation),
        });
        if matches!(fate, Fate::SenderDies { .. }) {
            self.dead.store(true, Ordering::Relaxed);
        }
        if changes(operation) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        fate
    }

    fn throttles_one(&self) -> bool {
        self.weather.strikes(self.weather.climate.task_throttled)
    }

    fn forgets_one(&self) -> Option<bool> {
        self.weather
            .strikes(self.weather.climate.task_unknown)
            .then(|| self.weather.dice.once_in(2))
    }

    fn over(&self, operation: &'static str) {
        if changes(operation) {
            self.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
