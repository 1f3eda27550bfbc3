//! What befalls a schedule's hosts and their network, and when.

use std::sync::atomic::Ordering;
use std::time::Duration;

use turmoil::Sim;

use super::random::Random;
use super::stage::{Order, Place, Stage};

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Nothing arrives, and nobody is told.
    Partition(usize),
    /// Nothing arrives in one direction.
    Deaf {
        client: usize,
        gateway: bool,
    },
    /// What is sent arrives later, all at once.
    Hold(usize),
    /// Everything takes so long.
    Latency(usize, Duration),
    CrashGateway,
    StopGateway,
    CrashClient(usize),
    /// Nothing arrives any more, then the process ends: the other side is not told.
    LosePower(Place),
    /// A client's grants are taken back, and it is refused with this status.
    Ban(usize, u16),
    /// A client takes so long for every read.
    Slow(usize, u64),
    Jump(Place, Duration),
}

impl Fault {
    fn draw(random: &mut Random, clients: usize) -> Self {
        let client = random.below(clients);
        let place = if random.one_in(2) { Place::Gateway } else { Place::Client(client) };
        match random.below(13) {
            0 | 1 => Self::Partition(client),
            2 => Self::Deaf { client, gateway: random.one_in(2) },
            3 => Self::Hold(client),
            4 => Self::Latency(client, Duration::from_millis(random.of(100..1_500))),
            5 | 6 => Self::CrashGateway,
            7 => Self::StopGateway,
            8 => Self::CrashClient(client),
            9 => Self::LosePower(place),
            10 => Self::Ban(client, *random.choose(&[401, 403, 503])),
            11 => Self::Slow(client, random.of(5..300)),
            _ => Self::Jump(place, Duration::from_millis(random.of(100..20_000))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Partition(_) => "partitions",
            Self::Deaf { .. } => "one-way partitions",
            Self::Hold(_) => "holds",
            Self::Latency(..) => "slow links",
            Self::CrashGateway => "gateway crashes",
            Self::StopGateway => "gateway stops",
            Self::CrashClient(_) => "client crashes",
            Self::LosePower(_) => "power losses",
            Self::Ban(..) => "revocations",
            Self::Slow(..) => "slow readers",
            Self::Jump(..) => "clock jumps",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Edge {
    Begins,
    Ends,
}

/// What happens when.
pub struct Timeline {
    /// The latest first.
    left: Vec<(Duration, Edge, Fault)>,
}

impl Timeline {
    pub fn draw(stage: &Stage, random: &mut Random) -> Self {
        let storm_ms = u64::try_from(stage.settings.storm.as_millis()).expect("a short time");
        let mut left = Vec::new();
        for _ in 0..random.of(1..8) {
            let fault = Fault::draw(random, stage.settings.clients);
            let begins = random.of(0..storm_ms);
            let ends = begins + random.of(50..4_000);
            left.push((Duration::from_millis(begins), Edge::Begins, fault));
            left.push((Duration::from_millis(ends), Edge::Ends, fault));
        }
        left.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
        Self { left }
    }

    /// Ends what has begun and not ended, and then whatever else may be out of order.
    pub fn finish(&mut self, sim: &mut Sim<'_>, stage: &Stage) {
        while let Some((_, edge, fault)) = self.left.pop() {
            if let Edge::Ends = edge {
                end(fault, sim, stage);
            }
        }
        repair(sim, stage);
    }

    /// Lets happen what is due.
    pub fn advance(&mut self, sim: &mut Sim<'_>, stage: &Stage) {
        while let Some((_, edge, fault)) = self.left.pop_if(|(at, ..)| *at <= sim.elapsed()) {
            tracing::info!(target: "simulation", ?edge, ?fault, "fault");
            match edge {
                Edge::Begins => {
                    stage.count(fault.name());
                    begin(fault, sim, stage);
                }
                Edge::Ends => end(fault, sim, stage),
            }
        }
    }
}

fn begin(fault: Fault, sim: &mut Sim<'_>, stage: &Stage) {
    let host = |client| Place::Client(client).host();
    match fault {
        Fault::Partition(client) => sim.partition(host(client), "gateway"),
        // A link that holds messages cannot be cut in one direction.
        Fault::Deaf { client, gateway } => {
            sim.release(host(client), "gateway");
            if gateway {
                sim.partition_oneway(host(client), "gateway");
            } else {
                sim.partition_oneway("gateway", host(client));
            }
        }
        Fault::Hold(client) => sim.hold(host(client), "gateway"),
        Fault::Latency(client, latency) => sim.set_link_latency(host(client), "gateway", latency),
        Fault::CrashGateway => sim.crash("gateway"),
        Fault::StopGateway => stage.order(Place::Gateway, Order::Stop),
        Fault::CrashClient(client) => sim.crash(host(client)),
        Fault::LosePower(place) => {
            for other in peers(stage, place) {
                sim.partition(place.host(), other.host());
            }
            sim.crash(place.host());
        }
        Fault::Ban(client, status) => {
            stage.banned.lock().expect("a panic ends the process").insert(client, status);
            stage.order(Place::Gateway, Order::Revoke(client));
        }
        Fault::Slow(client, ms) => stage.slow_ms[client].store(ms, Ordering::Relaxed),
        Fault::Jump(place, time) => stage.order(place, Order::Jump(time)),
    }
}

fn end(fault: Fault, sim: &mut Sim<'_>, stage: &Stage) {
    let host = |client| Place::Client(client).host();
    match fault {
        Fault::Partition(client) | Fault::Deaf { client, .. } | Fault::Hold(client) => {
            sim.release(host(client), "gateway");
        }
        Fault::Latency(client, _) => {
            sim.set_link_latency(host(client), "gateway", Duration::from_millis(1));
        }
        Fault::CrashGateway => restart(Place::Gateway, sim, stage),
        // It may be stopping still; then it is killed.
        Fault::StopGateway => sim.bounce("gateway"),
        Fault::CrashClient(client) => restart(Place::Client(client), sim, stage),
        Fault::LosePower(place) => {
            for other in peers(stage, place) {
                sim.release(place.host(), other.host());
            }
            restart(place, sim, stage);
        }
        Fault::Ban(client, _) => {
            stage.banned.lock().expect("a panic ends the process").remove(&client);
        }
        Fault::Slow(client, _) => stage.slow_ms[client].store(0, Ordering::Relaxed),
        Fault::Jump(..) => {}
    }
}

/// The other ends of a place's links.
fn peers(stage: &Stage, place: Place) -> impl Iterator<Item = Place> {
    stage.places().filter(move |other| (*other == Place::Gateway) != (place == Place::Gateway))
}

fn restart(place: Place, sim: &mut Sim<'_>, stage: &Stage) {
    if !sim.is_host_running(place.host()) {
        stage.count("restarts");
        sim.bounce(place.host());
    }
}

/// Ends all faults that go on.
fn repair(sim: &mut Sim<'_>, stage: &Stage) {
    stage.banned.lock().expect("a panic ends the process").clear();
    for client in 0..stage.settings.clients {
        stage.slow_ms[client].store(0, Ordering::Relaxed);
        let host = Place::Client(client).host();
        sim.release(host.as_str(), "gateway");
        sim.set_link_latency(host.as_str(), "gateway", Duration::from_millis(20));
    }
    for place in stage.places() {
        restart(place, sim, stage);
    }
}
