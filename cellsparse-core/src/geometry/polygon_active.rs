//! The edges of two outlines during the overlap sweep, and the list of those that cross the current row.

use std::ops::{Index, IndexMut};

use super::polygon_bounds::{Edge, HORIZONTAL, IntegerPolygon, Point};
use super::polygon_crossing::column;
use super::polygon_outputs::PolygonEnd;

/// An edge with its state in the sweep.
#[derive(Debug, Clone)]
pub(super) struct Active {
    pub edge: Edge,
    /// Which of the two outlines it belongs to.
    pub owner: usize,
    /// Where it is now: its column at the last visited row, and that row.
    pub at: Point,
    /// The end of its output polygon at which it adds vertices.
    pub side: PolygonEnd,
    /// Change of its outline's winding number across the edge.
    pub winding: i32,
    /// Winding number beside the edge, of its own outline.
    pub own_count: i32,
    /// Winding number beside the edge, of the other outline.
    pub other_count: i32,
    /// The output polygon it is building.
    pub output: Option<usize>,
    /// Its left neighbour in the list.
    pub left: Option<usize>,
    /// Its right neighbour in the list.
    pub right: Option<usize>,
}

/// All edges, some of them linked to a list from left to right.
#[derive(Debug, Default)]
pub(super) struct ActiveEdges {
    all: Vec<Active>,
    /// Leftmost edge of the list.
    pub first: Option<usize>,
}

impl Index<usize> for ActiveEdges {
    type Output = Active;

    fn index(&self, index: usize) -> &Active {
        &self.all[index]
    }
}

impl IndexMut<usize> for ActiveEdges {
    fn index_mut(&mut self, index: usize) -> &mut Active {
        &mut self.all[index]
    }
}

impl ActiveEdges {
    /// Forgets all edges.
    pub fn clear(&mut self) {
        self.all.clear();
        self.first = None;
    }

    /// Adds the edges of an outline, none of them listed. Returns the number of the first one.
    pub fn add(&mut self, owner: usize, outline: &IntegerPolygon) -> usize {
        let base = self.all.len();
        self.all.extend(outline.edges.iter().map(|edge| Active {
            edge: Edge {
                above: edge.above.map(|index| index + base),
                partner: edge.partner.map(|index| index + base),
                ..*edge
            },
            owner,
            at: edge.bottom,
            side: PolygonEnd::Front,
            winding: 0,
            own_count: 0,
            other_count: 0,
            output: None,
            left: None,
            right: None,
        }));
        base
    }

    /// All edges, listed or not.
    pub fn all(&self) -> impl Iterator<Item = &Active> {
        self.all.iter()
    }

    /// Puts an edge into the list at its place to the right of `after`, or of the list's beginning.
    pub fn insert(&mut self, new: usize, after: Option<usize>) {
        let mut left = after;
        loop {
            let right = match left {
                Some(left) => self.all[left].right,
                None => self.first,
            };
            match right {
                Some(right) if !self.belongs_left_of(new, right) => left = Some(right),
                _ => break self.link(left, new, right),
            }
        }
    }

    fn link(&mut self, left: Option<usize>, new: usize, right: Option<usize>) {
        self.all[new].left = left;
        self.all[new].right = right;
        match left {
            Some(left) => self.all[left].right = Some(new),
            None => self.first = Some(new),
        }
        if let Some(right) = right {
            self.all[right].left = Some(new);
        }
    }

    /// Whether a new edge lies to the left of a listed one at the current row or, if they touch there, above it.
    fn belongs_left_of(&self, new: usize, other: usize) -> bool {
        let (new, other) = (&self.all[new], &self.all[other]);
        if new.at.x != other.at.x {
            return new.at.x < other.at.x;
        }
        if new.edge.top.y > other.edge.top.y {
            new.edge.top.x < column(&other.edge, new.edge.top.y)
        } else {
            other.edge.top.x > column(&new.edge, other.edge.top.y)
        }
    }

    fn is_listed(&self, index: usize) -> bool {
        self.all[index].left.is_some() || self.all[index].right.is_some() || self.first == Some(index)
    }

    /// Takes an edge out of the list, if it is there.
    pub fn unlist(&mut self, index: usize) {
        if !self.is_listed(index) {
            return;
        }
        let (left, right) = (self.all[index].left.take(), self.all[index].right.take());
        match left {
            Some(left) => self.all[left].right = right,
            None => self.first = right,
        }
        if let Some(right) = right {
            self.all[right].left = left;
        }
    }

    /// Exchanges two neighbours, whichever of them is on the left.
    pub fn swap(&mut self, a: usize, b: usize) {
        let (a, b) = if self.all[a].right == Some(b) { (a, b) } else { (b, a) };
        if self.all[a].right != Some(b) {
            return;
        }
        self.unlist(a);
        let right = self.all[b].right;
        self.link(Some(b), a, right);
    }

    /// Replaces an edge by the one above it, which inherits its state. Returns that edge.
    pub fn climb(&mut self, index: usize) -> usize {
        let Some(above) = self.all[index].edge.above else { return index };
        let old = self.all[index].clone();
        let new = &mut self.all[above];
        new.output = old.output;
        new.side = old.side;
        new.winding = old.winding;
        new.own_count = old.own_count;
        new.other_count = old.other_count;
        new.at = new.edge.bottom;
        self.link(old.left, above, old.right);
        self.all[index].left = None;
        self.all[index].right = None;
        above
    }

    /// The edge that ends in the same local maximum, unless it has left the list already.
    pub fn listed_partner(&self, index: usize) -> Option<usize> {
        let partner = self.all[index].edge.partner?;
        let linked = self.all[partner].left != self.all[partner].right;
        (linked || self.all[partner].edge.slope == HORIZONTAL).then_some(partner)
    }
}
