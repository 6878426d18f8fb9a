//! How each request of an invocation fares: by script where there is one, else by chance.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jobmill_core::task::item::Task;
use jobmill_engine::ports::PortError;
use jobmill_memory::faulty::{
    ANSWER, ASK, ASK_EVENT, COMPLETE, CREATE, CREATE_IN_DOUBT, DELETE, Faults, INVOKE, Lot, PUT, QUERY,
    Transit, UPDATE,
};
use jobmill_memory::{Rng, VirtualClock};

use super::FaultRates;
use super::scenario::PATIENCE;

/// How long it takes where a script decides.
const SOON: Duration = Duration::from_millis(5);
/// How long a script freezes a sandbox: for longer than its lease, and until after the next sweep.
const FROZEN_FOR: Duration = Duration::from_secs(205);
/// How long [`Fault::Paused`] freezes a sandbox: for less than its lease.
const PAUSED_FOR: Duration = Duration::from_secs(8);

/// What a script does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
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
    /// The connection breaks at once; it is carried out as late as can be, when its sender has long gone on.
    Reset,
    /// It is never carried out, and there is no answer.
    Lost,
    /// It is answered 500 at once, and not carried out.
    ServerError,
    /// It is throttled.
    Throttled,
    /// It is refused.
    Refused,
    /// A put is told 409; else as [`Fault::Throttled`].
    Conflict,
    /// A put is carried out and told 412; else as [`Fault::AnswerLost`].
    Own412,
    /// It is answered, and a copy of it is carried out as late as can be; what creates tasks has no copies.
    Twice,
    /// It is carried out, and its sender is frozen until its lease is over and the next sweep has been: then it reads
    /// the answer.
    Frozen,
    /// The same, but then its sender has waited too long for the answer.
    FrozenUnanswered,
    /// It leaves when its frozen sender wakes up. What creates tasks in batches leaves in time.
    FrozenUnsent,
    /// It is carried out, and its sender is frozen for less than its lease.
    Paused,
}

impl Fault {
    /// All there are.
    pub const ALL: [Self; 17] = [
        Self::DiesBefore,
        Self::DiesAfter,
        Self::DiesAfterLate,
        Self::AnswerLost,
        Self::AnswerLostLate,
        Self::Reset,
        Self::Lost,
        Self::ServerError,
        Self::Throttled,
        Self::Refused,
        Self::Conflict,
        Self::Own412,
        Self::Twice,
        Self::Frozen,
        Self::FrozenUnanswered,
        Self::FrozenUnsent,
        Self::Paused,
    ];
    /// The deaths.
    pub const DEATHS: [Self; 2] = [Self::DiesBefore, Self::DiesAfter];
}

/// What happened, for people.
#[derive(Debug, Default)]
pub(super) struct Log {
    on: bool,
    lines: Mutex<Vec<String>>,
}

impl Log {
    pub(super) fn new(on: bool) -> Self {
        Self {
            on,
            lines: Mutex::default(),
        }
    }

    pub(super) fn tell(&self, at: Duration, line: impl FnOnce() -> String) {
        if self.on {
            let line = format!("{:>11.3} {}", at.as_secs_f64(), line());
            locked(&self.lines).push(line);
        }
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *locked(&self.lines))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tasks that were sent in one request.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    pub(super) invocation: u64,
    /// Its place among all that happened.
    pub(super) stamp: u64,
    /// What it sent.
    pub(super) payloads: Vec<String>,
}

/// What all invocations share.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) clock: VirtualClock,
    pub(super) rng: Rng,
    pub(super) rates: FaultRates,
    pub(super) script: BTreeMap<u64, Fault>,
    /// Batches overwrite: then they land or die while their sender waits.
    pub(super) overwrite: bool,
    pub(super) calls: AtomicU64,
    pub(super) log: Log,
    /// Every request that creates tasks.
    pub(super) sendings: Mutex<Vec<Sending>>,
    /// Which invocation was told of a failure, and when.
    pub(super) failures: Mutex<Vec<(u64, Duration)>>,
}

impl Network {
    /// Whether there is still trouble.
    pub(super) fn troubled(&self) -> bool {
        self.clock.now() < self.rates.until
    }

    /// Whether that trouble happens now.
    pub(super) fn strikes(&self, one_in: u64) -> bool {
        one_in > 0 && self.troubled() && self.rng.once_in(one_in)
    }

    pub(super) fn up_to(&self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.below(micros.saturating_add(1)))
    }

    /// How long a sandbox is frozen by chance.
    pub(super) fn freeze(&self) -> Duration {
        Duration::from_secs(1) + self.up_to(self.rates.frozen_for)
    }

    pub(super) fn sendings(&self) -> Vec<Sending> {
        locked(&self.sendings).clone()
    }

    pub(super) fn failures(&self) -> Vec<(u64, Duration)> {
        locked(&self.failures).clone()
    }

    fn outage(&self) -> bool {
        let now = self.clock.now();
        let strikes = |outage: super::Outage| outage.from <= now && now < outage.until;
        self.troubled() && self.rates.outage.is_some_and(strikes)
    }
}

/// The network of one invocation.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) network: Arc<Network>,
    pub(super) invocation: u64,
    pub(super) dead: AtomicBool,
    /// The sandbox is to be frozen for so long.
    freezes: Mutex<Option<Duration>>,
    /// Writes that were sent and not answered.
    pub(super) unanswered: AtomicU64,
}

/// Whether a request of that operation may change something.
fn changes(operation: &str) -> bool {
    [PUT, COMPLETE, DELETE, CREATE, CREATE_IN_DOUBT, INVOKE].contains(&operation)
}

impl Connection {
    pub(super) fn new(network: Arc<Network>, invocation: u64) -> Self {
        Self {
            network,
            invocation,
            dead: AtomicBool::new(false),
            freezes: Mutex::default(),
            unanswered: AtomicU64::new(0),
        }
    }

    /// For how long the sandbox is to be frozen now.
    pub(super) fn take_freeze(&self) -> Option<Duration> {
        locked(&self.freezes).take()
    }

    fn freezes(&self, scripted: Duration) -> Duration {
        let frozen_for = match self.network.script.is_empty() {
            true => self.network.freeze(),
            false => scripted,
        };
        locked(&self.freezes).get_or_insert(frozen_for);
        frozen_for
    }

    /// How late a request may be carried out.
    fn late(&self, operation: &str) -> Duration {
        let (network, rates) = (&self.network, &self.network.rates);
        let latest = match operation {
            CREATE | UPDATE => rates.latest_task,
            // The platform takes a start soon, or never.
            ASK | ASK_EVENT | ANSWER => PATIENCE,
            _ => rates.latest_object,
        };
        // By chance a late request is late by chance.
        match network.script.is_empty() {
            true => network.up_to(latest),
            false => latest,
        }
    }

    fn transit_of(&self, operation: &'static str, fault: Fault) -> Transit {
        let conditional = matches!(operation, PUT | COMPLETE);
        let answered = Transit::Answered {
            there: SOON,
            back: SOON,
        };
        let fails = |error| Transit::Fails { error, back: SOON };
        match fault {
            Fault::DiesBefore => Transit::SenderDies { there: None },
            Fault::DiesAfter => Transit::SenderDies { there: Some(SOON) },
            Fault::DiesAfterLate => Transit::SenderDies {
                there: Some(self.late(operation)),
            },
            Fault::Own412 if conditional => Transit::Misreported {
                there: SOON,
                error: PortError::PreconditionFailed { operation },
                back: SOON,
            },
            Fault::AnswerLost | Fault::Own412 => Transit::AnswerLost {
                there: SOON,
                patience: PATIENCE,
            },
            Fault::AnswerLostLate => Transit::AnswerLost {
                there: self.late(operation),
                patience: PATIENCE,
            },
            Fault::Reset => Transit::AnswerLost {
                there: match self.network.overwrite && operation == CREATE {
                    true => SOON,
                    false => self.late(operation),
                },
                patience: SOON,
            },
            Fault::Lost => Transit::Lost { patience: PATIENCE },
            Fault::ServerError => fails(PortError::Unknown {
                operation,
                message: "500 by a fault".to_owned(),
            }),
            Fault::Twice if !matches!(operation, CREATE | CREATE_IN_DOUBT | ASK | ASK_EVENT | ANSWER) => {
                Transit::Twice {
                    there: SOON,
                    back: SOON,
                    again: self.late(operation),
                }
            }
            Fault::Twice => answered,
            Fault::Frozen => {
                self.freezes(FROZEN_FOR);
                answered
            }
            Fault::FrozenUnanswered => {
                self.freezes(FROZEN_FOR);
                Transit::AnswerLost {
                    there: SOON,
                    patience: PATIENCE,
                }
            }
            Fault::FrozenUnsent => {
                let frozen_for = self.freezes(FROZEN_FOR);
                Transit::Answered {
                    there: if matches!(operation, CREATE | UPDATE) {
                        SOON
                    } else {
                        frozen_for + SOON
                    },
                    back: SOON,
                }
            }
            Fault::Paused => {
                self.freezes(PAUSED_FOR);
                answered
            }
            Fault::Conflict if conditional => fails(PortError::Conflict { operation }),
            Fault::Throttled | Fault::Conflict => fails(PortError::Throttled {
                operation,
                message: "by a fault".to_owned(),
            }),
            Fault::Refused => fails(PortError::Refused {
                operation,
                code: "AccessDenied".to_owned(),
                message: "by a fault".to_owned(),
            }),
        }
    }

    fn chance(&self, operation: &'static str) -> Option<Fault> {
        let (network, rates) = (&self.network, &self.network.rates);
        let one_of = |faults: &[Fault]| {
            let at = network.rng.below(faults.len() as u64);
            faults.get(at as usize).copied()
        };
        let conditional = matches!(operation, PUT | COMPLETE);
        let troubles: [(u64, &[Fault]); 10] = [
            (
                rates.death,
                &[Fault::DiesBefore, Fault::DiesAfter, Fault::DiesAfterLate],
            ),
            (rates.answer_lost, &[Fault::AnswerLost, Fault::AnswerLostLate]),
            (rates.reset, &[Fault::Reset]),
            (rates.lost, &[Fault::Lost]),
            (rates.server_error, &[Fault::ServerError]),
            (rates.throttled, &[Fault::Throttled]),
            (rates.conflict, if conditional { &[Fault::Conflict] } else { &[] }),
            (
                rates.own_412,
                if conditional {
                    &[Fault::Own412, Fault::Twice]
                } else {
                    &[Fault::Twice]
                },
            ),
            (rates.refused, &[Fault::Refused]),
            (
                rates.frozen_request,
                &[Fault::Frozen, Fault::FrozenUnanswered, Fault::FrozenUnsent],
            ),
        ];
        troubles
            .into_iter()
            .find(|(one_in, _)| network.strikes(*one_in))
            .and_then(|(_, faults)| one_of(faults))
    }
}

impl Faults for Connection {
    fn transit(&self, operation: &'static str) -> Transit {
        let network = &self.network;
        if self.dead.load(Ordering::Relaxed) {
            return Transit::SenderDies { there: None };
        }
        let call = network.calls.fetch_add(1, Ordering::Relaxed);
        let fault = match network.script.get(&call) {
            Some(fault) => Some(*fault),
            None if matches!(operation, CREATE | CREATE_IN_DOUBT | QUERY) && network.outage() => {
                Some(Fault::ServerError)
            }
            None if network.troubled() => self.chance(operation),
            None => None,
        };
        let transit = match fault {
            Some(fault) => self.transit_of(operation, fault),
            None => Transit::Answered {
                there: network.up_to(network.rates.latency),
                back: network.up_to(network.rates.latency),
            },
        };
        network.log.tell(network.clock.now(), || match fault {
            Some(fault) => format!(
                "#{} call {call} {operation}: {fault:?} {transit:?}",
                self.invocation
            ),
            None => format!("#{} call {call} {operation}", self.invocation),
        });
        if matches!(transit, Transit::SenderDies { .. }) {
            self.dead.store(true, Ordering::Relaxed);
        }
        if changes(operation) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        transit
    }

    fn lot(&self) -> Lot {
        let (network, rates) = (&self.network, &self.network.rates);
        if network.strikes(rates.task_throttled) {
            return Lot::Throttled;
        }
        if !network.strikes(rates.task_unknown) {
            return Lot::Answered;
        }
        let there = match network.rng.below(3) {
            0 => None,
            1 => Some(Duration::ZERO),
            _ if network.overwrite => Some(Duration::ZERO),
            _ => Some(self.late(CREATE)),
        };
        Lot::Unknown { there }
    }

    fn sends(&self, tasks: &[Task]) {
        if self.dead.load(Ordering::Relaxed) {
            return;
        }
        locked(&self.network.sendings).push(Sending {
            invocation: self.invocation,
            stamp: self.network.clock.stamp(),
            payloads: tasks.iter().map(|task| task.payload.clone()).collect(),
        });
    }

    fn over(&self, operation: &'static str, failed: bool) {
        if changes(operation) {
            self.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
        if failed {
            locked(&self.network.failures).push((self.invocation, self.network.clock.now()));
        }
    }
}
