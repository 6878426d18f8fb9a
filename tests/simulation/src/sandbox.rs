//! Invocations: each a sandbox that is polled, frozen, killed, and whose answer is looked at.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jobmill_core::job::event;
use jobmill_engine::EngineError;
use jobmill_engine::ports::Clock as _;
use jobmill_engine::schedule::{Context, Engine, Observation, Outcome};
use jobmill_memory::VirtualHost;
use jobmill_memory::faulty::Faulty;

use super::auditor;
use super::faults::Connection;
use super::machine::{Machine, Turn};
use super::scenario::REQUEST_TIME;
use super::simulation::{Delivery, Ended, Simulation};

/// Lambda repeats an asynchronous event that failed after one minute, then after two.
const RETRIES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];

/// An invocation under way.
pub(super) struct Sandbox {
    pub(super) delivery: Delivery,
    machine: Machine<Result<Outcome, EngineError>>,
}

impl Simulation<'_> {
    pub(super) fn start(&mut self, delivery: Delivery) {
        let Some(deployment) = self.deployments.get(delivery.deployment) else {
            return;
        };
        self.invocations += 1;
        let id = self.invocations;
        self.tell(|| {
            format!(
                "#{id} starts: {:?} of deployment {}, attempt {}: {}",
                delivery.kind, delivery.deployment, delivery.attempt, delivery.event
            )
        });
        let clock = self.network.clock.clone();
        let connection = Arc::new(Connection::new(Arc::clone(&self.network), id));
        let skew = self.scenario.rates.skew.as_millis() as u64;
        let skew_ms = self.rng.below(2 * skew + 1) as i64 - skew as i64;
        let host = VirtualHost::new(clock.clone(), self.rng.bits()).with_skew_ms(skew_ms);
        let (shortest, longest) = match self.network.troubled() {
            true => self.scenario.rates.lifetime,
            false => (Duration::from_secs(300), Duration::from_secs(300)),
        };
        let more = longest.saturating_sub(shortest).as_millis() as u64;
        let lifetime = shortest + Duration::from_millis(self.rng.below(more + 1));
        let context = Context {
            request_id: delivery.request_id.clone(),
            deadline: host.monotonic() + lifetime,
        };
        let store = Faulty::new(
            deployment.store.seen_by(id),
            clock.clone(),
            Arc::clone(&connection),
        );
        let tasks = Faulty::new(self.tasks.clone(), clock.clone(), Arc::clone(&connection));
        let siblings = Faulty::new(
            deployment.siblings.seen_by(id),
            clock.clone(),
            Arc::clone(&connection),
        );
        let (config, machine) = (Arc::clone(&deployment.config), host.clone());
        let event = delivery.event.clone();
        let limits = self.scenario.limits;
        let running = Box::pin(async move {
            let observer = |_: Observation<'_>| {};
            let engine = Engine {
                store: &store,
                tasks: &tasks,
                siblings: &siblings,
                host: &machine,
                config: &config,
                limits,
                request_time: REQUEST_TIME,
                observer: &observer,
            };
            engine.run(event::read(event)?, &context).await
        });
        let machine = Machine::new(running, connection, host, lifetime);
        self.sandboxes.push(Sandbox { delivery, machine });
    }

    /// Lets every sandbox go on that can. `false` if none can.
    pub(super) fn poll(&mut self) -> bool {
        let mut moved = false;
        let mut at = 0;
        while let Some(sandbox) = self.sandboxes.get_mut(at) {
            match sandbox.machine.turn(self.scenario.rates.frozen) {
                Turn::Waits => at += 1,
                Turn::Moved => {
                    moved = true;
                    at += 1;
                }
                Turn::Over(answer) => {
                    moved = true;
                    let sandbox = self.sandboxes.remove(at);
                    self.ended(sandbox, answer);
                }
            }
        }
        moved
    }

    fn ended(&mut self, sandbox: Sandbox, answer: Option<Result<Outcome, EngineError>>) {
        let invocation = sandbox.machine.connection.invocation;
        self.tell(|| match &answer {
            None => format!("#{invocation} is dead"),
            Some(Ok(outcome)) => format!("#{invocation} answers: {outcome:?}"),
            Some(Err(error)) => format!("#{invocation} fails: {error}"),
        });
        let delivery = sandbox.delivery;
        if let Some(Ok(outcome)) = &answer {
            let found = auditor::answered(self, delivery.deployment, invocation, outcome);
            self.violations.extend(found);
        }
        let failed = !matches!(answer, Some(Ok(_)));
        if failed && let Some(after) = RETRIES.get(delivery.attempt) {
            let again = Delivery {
                attempt: delivery.attempt + 1,
                ..delivery.clone()
            };
            self.deliver(*after, again);
        }
        self.ended.push(Ended {
            invocation,
            kind: delivery.kind,
            answer,
            unanswered: sandbox.machine.connection.unanswered.load(Ordering::Relaxed),
        });
    }
}
