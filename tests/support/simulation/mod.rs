//! One schedule on a simulated network: a gateway, its clients, what they write and what befalls
//! them, all drawn from one seed.
//!
//! turmoil carries the messages and the time. What else differs from run to run is replaced for the
//! whole process: the system's randomness and its clocks, from which tokio's and every map's order
//! follow. tokio numbers its runtimes, so a process runs one schedule.

mod faults;
mod hosts;
mod settled;
mod stage;
mod wire;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use mad_turmoil::time::SimClocksGuard;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use turmoil::Sim;

use super::{grammar, random};
use faults::Timeline;
use settled::{Replicas, Unsettled};
pub use stage::Counts;
use stage::{Phase, Place, Stage};

/// What is counted.
pub const EVENTS: &[&str] = &[
    "client crashes",
    "client starts",
    "clock jumps",
    "connections",
    "gateway crashes",
    "gateway starts",
    "gateway stops",
    "holds",
    "one-shot syncs completed",
    "one-shot syncs without a connection",
    "one-way partitions",
    "partitions",
    "power losses",
    "restarts",
    "revocations",
    "slow links",
    "slow readers",
    "syncs cancelled",
    "syncs dropped",
    "syncs refused",
    "writes",
];

/// Virtual time in which all must be equal after the last fault.
const SETTLED: Duration = Duration::from_secs(60);

/// Virtual time in which all syncs, clients and the gateway must end.
const ENDED: Duration = Duration::from_secs(30);

/// Virtual time between two looks at the replicas.
const LOOK: Duration = Duration::from_millis(500);

/// What came of a schedule.
#[derive(Debug)]
pub struct Outcome {
    /// A hash of every byte sent, with its time.
    pub trace: u64,
    pub counts: Counts,
    /// Virtual milliseconds from the end of the faults until all was equal.
    pub settled_ms: u64,
    /// Virtual milliseconds of the whole.
    pub virtual_ms: u64,
}

/// Runs a schedule; once in a process. A panic anywhere in it ends the process.
pub fn run(seed: u64) -> Outcome {
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    // Only a new thread's maps begin with what was set above.
    let simulating = std::thread::Builder::new().stack_size(16 << 20).spawn(move || {
        let _clocks = SimClocksGuard::init();
        Simulation::new(seed).run()
    });
    simulating.expect("a thread starts").join().expect("a panic ends the process")
}

struct Simulation {
    stage: Arc<Stage>,
    sim: Sim<'static>,
    timeline: Timeline,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let stage = Arc::new(Stage::new(seed));
        tracing::info!(target: "simulation", settings = ?stage.settings, "begins");
        let mut random = stage.random();
        let mut sim = turmoil::Builder::new()
            .rng_seed(random.next())
            .enable_random_order()
            .simulation_duration(Duration::from_secs(3_600))
            .tick_duration(stage.settings.tick)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(stage.settings.latency_max)
            .build();
        let timeline = Timeline::draw(&stage, &mut random);
        let shared = Arc::clone(&stage);
        sim.host("gateway", move || hosts::gateway(Arc::clone(&shared)));
        for number in 0..stage.settings.clients {
            let shared = Arc::clone(&stage);
            let host = Place::Client(number).host();
            sim.host(host, move || hosts::client(Arc::clone(&shared), number));
        }
        Self { stage, sim, timeline }
    }

    fn step(&mut self) {
        self.sim.step().expect("no host fails");
    }

    fn run(mut self) -> Outcome {
        while self.sim.elapsed() < self.stage.settings.storm {
            self.timeline.advance(&mut self.sim, &self.stage);
            self.step();
        }
        self.timeline.finish(&mut self.sim, &self.stage);
        self.stage.phase.send_replace(Phase::Calm);
        let settled = self.settle();
        self.end();
        let ms = |time: Duration| u64::try_from(time.as_millis()).expect("a short time");
        Outcome {
            trace: self.stage.traced(),
            counts: self.stage.counts(),
            settled_ms: ms(settled),
            virtual_ms: ms(self.sim.elapsed()),
        }
    }

    /// Steps until all is equal; answers how long that took.
    fn settle(&mut self) -> Duration {
        let calm = self.sim.elapsed();
        let mut replicas = Replicas::new(Arc::clone(&self.stage));
        let mut look_at = calm;
        loop {
            if self.sim.elapsed() >= look_at {
                let Err(Unsettled(why)) = replicas.look() else { break };
                let took = self.sim.elapsed().saturating_sub(calm);
                assert!(took <= SETTLED, "not settled in {took:?}: {why}");
                look_at = self.sim.elapsed() + LOOK;
            }
            self.step();
        }
        replicas.assert_nothing_lost();
        self.sim.elapsed().saturating_sub(calm)
    }

    /// Ends everything: clients first, then the gateway.
    fn end(&mut self) {
        let over = self.sim.elapsed();
        self.stage.phase.send_replace(Phase::Over);
        let clients: Vec<Place> =
            self.stage.places().filter(|place| *place != Place::Gateway).collect();
        self.until_stopped(&clients, over);
        self.stage.order(Place::Gateway, stage::Order::Stop);
        self.until_stopped(&[Place::Gateway], over);
    }

    fn until_stopped(&mut self, places: &[Place], since: Duration) {
        for place in places {
            while self.sim.is_host_running(place.host()) {
                let took = self.sim.elapsed().saturating_sub(since);
                assert!(took <= ENDED, "{place:?} has not ended in {took:?}");
                self.step();
            }
        }
    }
}
