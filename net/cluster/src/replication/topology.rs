//! A new topology: roles change, links and sources with them.
//!
//! | was | is | the copy |
//! |---|---|---|
//! | anything | primary of a new term | counts as it is; a reign begins |
//! | primary | follower | goes on from where its log and the winner's history part |
//! | follower | follower of another primary or term | the same |
//! | anything | none | is dropped in steps; kept if the node is no member any more, as a base for its return |
//! | anything | none, in a branch | is kept as it is if it is whole: the branch has another primary, and did without it |

use super::copies::{Copies as HeldCopies, Follow, RangeCopy, Role};
use super::link::Link;
use super::source::Source;
use super::{Address, Reign, RemoteCore, Replication, Store};
use crate::topology::{Copies, Member};
use crate::{NodeId, Range, ShardIndex, Term, Topology};

/// The home of `range` in a node with so many cores: ranges are dealt out to them in turn, as
/// [`HomeTable::even`](crate::HomeTable::even) does.
fn home_at(cores: u16, range: Range) -> ShardIndex {
    ShardIndex(range.index() % cores)
}

fn address(member: &Member, range: Range) -> Address {
    Address {
        core: RemoteCore {
            node: member.id,
            core: home_at(member.cores, range),
        },
        incarnation: member.incarnation,
    }
}

fn role_of(copies: &Copies, node: NodeId) -> Role {
    if copies.primary == node {
        Role::Primary
    } else if copies.replicas.contains(&node) {
        Role::Replica
    } else if copies.learners.contains(&node) {
        Role::Learner
    } else {
        Role::None
    }
}

impl Replication {
    /// Acts on a decided topology, or on a branch. Newer than the last one.
    ///
    /// O(ranges of this core x copies).
    pub fn handle_topology(&mut self, topology: &Topology, store: &mut dyn Store) {
        // In between a follower may have been dropped and named again: what was agreed may be void.
        let has_skipped = topology.epoch() > self.epoch.next();
        self.epoch = topology.epoch();
        self.sealed.clear();
        (self.applying, self.hearing) = (None, None);
        let own = self.own;
        // A start that the topology does not know of holds nothing by it.
        let is_member = topology.is_life_of(own.core.node, own.incarnation);
        let log_head = self.log.head();
        let mut given_up = Vec::new();
        for copy in self.copies.iter_mut() {
            let copies = topology.copies(copy.range);
            let role = if is_member {
                role_of(copies, own.core.node)
            } else {
                Role::None
            };
            copy.term = copies.term;
            copy.branch = topology.branch().map(|_| topology.epoch());
            if copy.branch.is_none() {
                copy.note_decided(copies.primary);
            }
            match role {
                Role::Primary => {
                    let last = copy.history.last().map(|fork| fork.reign);
                    let reign = |number| Reign {
                        term: copies.term,
                        primary: own.core.node,
                        incarnation: own.incarnation,
                        number,
                    };
                    copy.source = None;
                    if copy.role != role || last.is_none_or(|last| last != reign(last.number)) {
                        // What is left of a copy that was given up must not come back.
                        while copy.go_on_emptying(store) {}
                        self.reigns_count += 1;
                        copy.begin_reign(reign(self.reigns_count), log_head);
                    }
                }
                Role::Replica | Role::Learner => {
                    let primary = topology.member(copies.primary);
                    let source = primary.map(|member| address(member, copy.range));
                    if copy.role == Role::None {
                        copy.begin_base();
                    }
                    if !follow(copy, source, copies.term) {
                        given_up.push(copy.range);
                    }
                }
                Role::None => {
                    copy.source = None;
                    copy.stop_following();
                    let was_held = copy.role != Role::None && copy.is_of_decided();
                    if is_member && copy.branch.is_some() && was_held && copy.is_complete {
                        copy.role = Role::Learner;
                        continue;
                    }
                    if is_member && copy.is_holding() {
                        given_up.push(copy.range);
                    }
                }
            }
            copy.role = role;
        }
        for range in given_up {
            self.copies.begin_emptying(range);
        }
        self.rebuild_links(topology);
        if has_skipped {
            for link in &mut self.links {
                link.resume_nothing();
                if link.is_connected {
                    self.last_session += 1;
                    link.begin_session(self.last_session);
                }
            }
        }
        self.rebuild_sources(store);
        for copy in self.copies.iter_mut() {
            copy.is_ack_due |= copy.follow == Follow::Live;
        }
        self.note_dues();
        self.check_turn();
    }

    fn rebuild_links(&mut self, topology: &Topology) {
        let mut wanted: Vec<(Address, Vec<(Range, Term)>)> = Vec::new();
        for copy in self.copies.iter().filter(|copy| copy.role == Role::Primary) {
            for node in topology.copies(copy.range).followers() {
                let Some(member) = topology.member(node) else {
                    continue;
                };
                let to = address(member, copy.range);
                let ranges = match wanted.iter().position(|(core, _)| *core == to) {
                    Some(position) => &mut wanted[position].1,
                    None => {
                        wanted.push((to, Vec::new()));
                        &mut wanted.last_mut().expect("it was pushed").1
                    }
                };
                ranges.push((copy.range, copy.term));
            }
        }
        let is_wanted = |link: &Link| wanted.iter().any(|(to, _)| *to == link.to);
        self.links.retain(is_wanted);
        for (to, ranges) in &wanted {
            let position = self.links.iter().position(|link| link.to == *to);
            let position = position.unwrap_or_else(|| {
                self.links.push(Link::new(*to, &self.log, &self.copies));
                self.links.len() - 1
            });
            self.links[position].set_followed(ranges, &self.copies);
        }
    }

    fn rebuild_sources(&mut self, store: &mut dyn Store) {
        let copies: &HeldCopies = &self.copies;
        let mut wanted: Vec<Address> = copies.iter().filter_map(|copy| copy.source).collect();
        wanted.sort_unstable_by_key(|from| from.core);
        wanted.dedup();
        for source in &mut self.sources {
            let is_kept = wanted.contains(&source.from);
            if !is_kept || source.is_staging_unfollowed(copies) {
                source.abort_stage(store);
            }
            source.forget_refusals();
        }
        self.sources.retain(|source| wanted.contains(&source.from));
        for from in wanted {
            if !self.sources.iter().any(|source| source.from == from) {
                self.sources.push(Source::new(from));
            }
        }
    }
}

/// Follows `source` in `term` from now on; false if with nothing of what it holds.
fn follow(copy: &mut RangeCopy, source: Option<Address>, term: Term) -> bool {
    let is_same = copy.source == source && copy.followed_term == term;
    if is_same && matches!(copy.role, Role::Replica | Role::Learner) {
        return true;
    }
    // The rest of a sync would have come from another primary.
    let is_part = copy.sync.is_some();
    copy.stop_following();
    copy.source = source;
    copy.followed_term = term;
    !is_part
}

#[cfg(test)]
mod tests {
    use super::home_at;
    use crate::{HomeTable, Range};

    #[test]
    fn homes_are_those_of_the_even_table() {
        for cores in [1, 2, 3, 48] {
            let homes = HomeTable::even(cores);
            assert!(Range::all().all(|range| home_at(cores, range) == homes.home(range)));
        }
    }
}
