//! All connections of one core, by index.

use crate::connection::Connection;
use crate::ring::ConnectionId;

/// A slab of connections. An id of a closed connection finds nothing, also after its index has
/// been given to another.
#[derive(Default)]
pub(crate) struct Connections {
    places: Vec<Place>,
    free: Vec<u32>,
}

struct Place {
    id: ConnectionId,
    connection: Option<Box<Connection>>,
}

impl Connections {
    /// Keeps what `make` makes for a fresh id.
    pub(crate) fn insert(&mut self, make: impl FnOnce(ConnectionId) -> Connection) -> ConnectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = u32::try_from(self.places.len()).expect("fewer connections than fds");
            self.places.push(Place {
                id: ConnectionId::new(index, 0),
                connection: None,
            });
            index
        });
        let place = &mut self.places[index as usize];
        place.connection = Some(Box::new(make(place.id)));
        place.id
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let place = self.places.get_mut(id.index())?;
        if place.id == id {
            place.connection.as_deref_mut()
        } else {
            None
        }
    }

    /// Takes a connection out; its id finds nothing from now on.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        let place = self.places.get_mut(id.index())?;
        if place.id != id {
            return None;
        }
        let connection = place.connection.take()?;
        place.id = id.next_generation();
        self.free
            .push(u32::try_from(id.index()).expect("it came from a u32"));
        Some(connection)
    }

    pub(crate) fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The ids of the connections in `count` places from `start` on, and where to go on.
    pub(crate) fn some_ids(&self, start: usize, count: usize) -> (Vec<ConnectionId>, usize) {
        let end = (start + count).min(self.places.len());
        let places = self.places.get(start..end).unwrap_or_default();
        let live = places.iter().filter(|place| place.connection.is_some());
        let next = if end < self.places.len() { end } else { 0 };
        (live.map(|place| place.id).collect(), next)
    }

    /// Takes all out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Box<Connection>> + use<> {
        let places = std::mem::take(self).places;
        places.into_iter().filter_map(|place| place.connection)
    }

    /// The ids of all connections.
    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        let live = self
            .places
            .iter()
            .filter(|place| place.connection.is_some());
        live.map(|place| place.id).collect()
    }
}
