//! Branching vessels, grown towards random points inside an organ.

use crate::shape::{Bounds, Solid};
use crate::vector::{Point, add, length, mix, sub};
use rand::{Rng, RngExt};

/// Side of the cubes that list the branches near them.
const CELL_MM: f32 = 10.0;
/// Branches within this distance of a cube are listed in it.
const REACH_MM: f32 = 3.0;
/// Radius of the finest branches.
const TIP_RADIUS_MM: f32 = 1.5;
/// Murray (1926): the cube of a parent's radius is the sum of its branches' cubes. Veins of the
/// liver taper faster, and a full law would make the trunk too thick for the number of tips.
const BRANCHING_EXPONENT: f32 = 1.0 / 2.5;

/// A tree of capsules with a search grid.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    branches: Vec<Solid>,
    low: Point,
    cells: [usize; 3],
    near: Vec<Vec<u16>>,
}

struct Node {
    at: Point,
    parent: usize,
    tips: f32,
}

impl Tree {
    /// Grows a tree from `root` to every target: nearest targets first, each from the nearest node
    /// that the tree has by then, through a slightly displaced middle.
    pub(crate) fn grow(root: Point, mut targets: Vec<Point>, rng: &mut impl Rng) -> Self {
        let distance = |a: Point, b: Point| length(sub(a, b));
        targets.sort_by(|a, b| distance(*a, root).total_cmp(&distance(*b, root)));
        let mut nodes = vec![Node {
            at: root,
            parent: 0,
            tips: 0.0,
        }];
        for target in targets {
            let nearest = (0..nodes.len())
                .min_by(|&a, &b| {
                    distance(nodes[a].at, target).total_cmp(&distance(nodes[b].at, target))
                })
                .unwrap_or(0);
            let start = nodes[nearest].at;
            let sway = 0.09 * distance(start, target);
            let mut parent = nearest;
            for part in [0.33, 0.67] {
                let jitter: Point = std::array::from_fn(|_| rng.random_range(-1.0..1.0) * sway);
                nodes.push(Node {
                    at: add(mix(start, target, part), jitter),
                    parent,
                    tips: 0.0,
                });
                parent = nodes.len() - 1;
            }
            nodes.push(Node {
                at: target,
                parent,
                tips: 0.0,
            });
            // Every node on the way back to the root carries one tip more.
            let mut node = nodes.len() - 1;
            while node != 0 {
                nodes[node].tips += 1.0;
                node = nodes[node].parent;
            }
        }
        let radius = |tips: f32| TIP_RADIUS_MM * tips.max(1.0).powf(BRANCHING_EXPONENT);
        let branches = nodes
            .iter()
            .skip(1)
            .map(|node| {
                let r = radius(node.tips);
                Solid::capsule(nodes[node.parent].at, node.at, r, r)
            })
            .collect();
        Self::indexed(branches)
    }

    fn indexed(branches: Vec<Solid>) -> Self {
        let bounds = branches
            .iter()
            .fold(Bounds::EMPTY, |all, b| all.union(b.bounds()))
            .grown(REACH_MM);
        if branches.is_empty() {
            return Self {
                branches,
                low: [0.0; 3],
                cells: [0; 3],
                near: Vec::new(),
            };
        }
        let cells: [usize; 3] =
            std::array::from_fn(|a| ((bounds.high[a] - bounds.low[a]) / CELL_MM) as usize + 1);
        let mut near = vec![Vec::new(); cells.iter().product()];
        for (index, branch) in branches.iter().enumerate() {
            let reach = branch.bounds().grown(REACH_MM);
            let cell = |p: Point| -> [usize; 3] {
                std::array::from_fn(|a| {
                    (((p[a] - bounds.low[a]) / CELL_MM) as usize).min(cells[a] - 1)
                })
            };
            let (first, last) = (cell(reach.low), cell(reach.high));
            for z in first[2]..=last[2] {
                for y in first[1]..=last[1] {
                    for x in first[0]..=last[0] {
                        near[(z * cells[1] + y) * cells[0] + x].push(index as u16);
                    }
                }
            }
        }
        Self {
            branches,
            low: bounds.low,
            cells,
            near,
        }
    }

    /// Signed distance to the tree, exact up to 3 mm outside it; further away at least 3 mm.
    #[inline]
    pub(crate) fn distance(&self, p: Point) -> f32 {
        let mut cell = [0usize; 3];
        for axis in 0..3 {
            let place = (p[axis] - self.low[axis]) / CELL_MM;
            if place < 0.0 || place >= self.cells[axis] as f32 {
                return REACH_MM;
            }
            cell[axis] = place as usize;
        }
        let index = (cell[2] * self.cells[1] + cell[1]) * self.cells[0] + cell[0];
        self.near[index]
            .iter()
            .map(|&branch| self.branches[usize::from(branch)].distance(p))
            .fold(REACH_MM, f32::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use liseg_volume::Seed;

    #[test]
    fn every_target_is_reached_and_the_search_grid_agrees_with_a_full_search() {
        let mut rng = Seed(5).stream("tree", 0, 0);
        let targets: Vec<Point> = (0..12)
            .map(|_| std::array::from_fn(|_| rng.random_range(-60.0..60.0)))
            .collect();
        let tree = Tree::grow([0.0, 0.0, -70.0], targets.clone(), &mut rng);
        for target in targets {
            assert!((tree.distance(target) + TIP_RADIUS_MM).abs() < 2.0);
        }
        for _ in 0..2000 {
            let p = std::array::from_fn(|_| rng.random_range(-90.0..90.0));
            let full = tree
                .branches
                .iter()
                .map(|b| b.distance(p))
                .fold(REACH_MM, f32::min);
            assert!((tree.distance(p) - full).abs() < 1e-5);
        }
        assert!(Tree::grow([0.0; 3], Vec::new(), &mut rng).distance([0.0; 3]) > 0.0);
    }
}
