//! Every schedule of a small model of the protocol: a publisher that commits and then publishes, a log that is trimmed and made
//! anew, and readers that join a flight late or are reset. Whatever the order, a reader that has come to rest has every change
//! that was published.

use std::collections::HashSet;

/// The steps of a flight. In this order the state contains everything at or below the position.
const POSITION_FIRST: [FlightStep; 2] = [FlightStep::Position, FlightStep::State];
const STATE_FIRST: [FlightStep; 2] = [FlightStep::State, FlightStep::Position];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FlightStep {
    Position,
    State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Position {
    epoch: u8,
    seq: u8,
}

/// Changes are bits: a state is the set of those that it contains.
type Changes = u8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    committed: Changes,
    published: Changes,
    /// The change of each entry of the log, and how many of them are trimmed.
    log: Vec<Changes>,
    trimmed: u8,
    epoch: u8,
    trims_left: u8,
    inits_left: u8,
    flight: Option<Flight>,
    readers: [Reader; 2],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Flight {
    steps: u8,
    /// The order of things: it began after the resets that were decided at a lower time.
    began: u8,
    position: Option<Position>,
    state: Option<Changes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Reader {
    has: Changes,
    doing: Doing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Doing {
    /// Needs a snapshot whose head is read after this many resets were decided.
    Needs {
        resets: u8,
    },
    Follows(Position),
}

const CHANGES: [Changes; 3] = [1, 2, 4];

impl World {
    fn new() -> Self {
        let reader = Reader { has: 0, doing: Doing::Needs { resets: 0 } };
        Self {
            committed: 0,
            published: 0,
            log: Vec::new(),
            trimmed: 0,
            epoch: 0,
            trims_left: 1,
            inits_left: 1,
            flight: None,
            readers: [reader; 2],
        }
    }

    fn head(&self) -> Position {
        Position { epoch: self.epoch, seq: self.log.len() as u8 }
    }

    /// How many times the log was changed so that resets follow.
    fn resets(&self) -> u8 {
        2 - self.trims_left - self.inits_left
    }

    /// The worlds after each step that is possible.
    fn next(&self, order: [FlightStep; 2]) -> Vec<Self> {
        let mut next = Vec::new();
        let mut push = |change: &dyn Fn(&mut Self)| {
            let mut world = self.clone();
            change(&mut world);
            next.push(world);
        };
        // The publisher: commits a change, then publishes it.
        for change in CHANGES {
            if self.committed == change - 1 {
                push(&|world| world.committed |= change);
            }
            if self.committed & change > 0 && self.published == change - 1 {
                push(&|world| {
                    world.published |= change;
                    world.log.push(change);
                });
            }
        }
        if self.trims_left > 0 && self.log.len() as u8 > self.trimmed {
            push(&|world| {
                world.trimmed = world.log.len() as u8;
                world.trims_left -= 1;
            });
        }
        if self.inits_left > 0 {
            push(&|world| {
                (world.epoch, world.trimmed, world.inits_left) = (world.epoch + 1, 0, world.inits_left - 1);
                world.log.clear();
            });
        }
        match self.flight {
            Some(flight) if usize::from(flight.steps) < order.len() => push(&|world| world.fly(order)),
            _ => {}
        }
        for index in 0..self.readers.len() {
            push(&|world| world.read(index));
        }
        next
    }

    fn fly(&mut self, order: [FlightStep; 2]) {
        let (head, committed) = (self.head(), self.committed);
        let Some(flight) = &mut self.flight else { return };
        match order[usize::from(flight.steps)] {
            FlightStep::Position => flight.position = Some(head),
            FlightStep::State => flight.state = Some(committed),
        }
        flight.steps += 1;
    }

    fn read(&mut self, index: usize) {
        match self.readers[index].doing {
            Doing::Needs { resets } => match self.flight {
                Some(Flight { position: Some(position), state: Some(state), began, .. }) if began >= resets => {
                    // What it had is replaced.
                    self.readers[index] = Reader { has: state, doing: Doing::Follows(position) };
                }
                Some(flight) if flight.began >= resets => {}
                _ => self.flight = Some(Flight { began: self.resets(), ..Flight::default() }),
            },
            Doing::Follows(position) => {
                let is_reset = position.epoch != self.epoch || position.seq < self.trimmed;
                if is_reset {
                    self.readers[index].doing = Doing::Needs { resets: self.resets() };
                } else if let Some(change) = self.log.get(usize::from(position.seq)) {
                    let reader = &mut self.readers[index];
                    reader.has |= change;
                    reader.doing = Doing::Follows(Position { seq: position.seq + 1, ..position });
                }
            }
        }
    }

    /// Whether a reader that is at the head lacks something that was published.
    fn lost(&self) -> bool {
        let is_at_rest = |reader: &&Reader| reader.doing == Doing::Follows(self.head());
        self.readers.iter().filter(is_at_rest).any(|reader| self.published & !reader.has != 0)
    }
}

/// The number of worlds that can be reached, or one in which something is lost.
fn explore(order: [FlightStep; 2]) -> Result<usize, World> {
    let (mut seen, mut left) = (HashSet::new(), vec![World::new()]);
    while let Some(world) = left.pop() {
        if world.lost() {
            return Err(world);
        }
        for next in world.next(order) {
            if seen.insert(next.clone()) {
                left.push(next);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn nothing_is_lost_in_any_schedule() {
    let worlds = explore(POSITION_FIRST).unwrap();
    assert!(worlds > 10_000, "{worlds} worlds: the model has become too small");
}

#[test]
fn with_the_state_before_the_position_something_is_lost() {
    assert!(explore(STATE_FIRST).is_err());
}
