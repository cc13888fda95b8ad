//! Planes that are used again frame after frame.
//!
//! A node asks for a plane, fills it and gives it on; the engine brings it back once the last
//! reader is done. The free list never holds more than were out at one time, which the plan of the
//! graph bounds.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::value::{Image, Samples, Value};
use crate::frame::Size;

/// Free planes of one graph.
#[derive(Debug, Default)]
pub struct Pool {
    free: Vec<Samples>,
}

/// A plane that nobody else sees, to be written and then [frozen](Self::freeze).
#[derive(Debug)]
pub struct PlaneBuf(Samples);

impl PlaneBuf {
    /// Makes it shareable.
    pub fn freeze(self) -> Samples {
        self.0
    }
}

impl Deref for PlaneBuf {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for PlaneBuf {
    fn deref_mut(&mut self) -> &mut [f32] {
        // The only reference, so this never copies.
        let plane: &mut Vec<f32> = Arc::make_mut(&mut self.0);
        plane
    }
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// A plane of `length` samples whose values are whatever was left in it.
    pub fn plane(&mut self, length: usize) -> PlaneBuf {
        match self.free.iter().position(|plane| plane.len() == length) {
            Some(index) => PlaneBuf(self.free.swap_remove(index)),
            None => PlaneBuf(Arc::new(vec![0.0; length])),
        }
    }

    /// `plane` for writing: itself when nobody else reads it, else a copy.
    pub fn own(&mut self, mut plane: Samples) -> PlaneBuf {
        if Arc::get_mut(&mut plane).is_some() {
            return PlaneBuf(plane);
        }
        let mut copy = self.plane(plane.len());
        copy.copy_from_slice(&plane);
        copy
    }

    /// Takes back a plane unless somebody still reads it.
    pub fn recycle_plane(&mut self, mut plane: Samples) {
        if Arc::get_mut(&mut plane).is_some() {
            self.free.push(plane);
        }
    }

    /// Takes back the planes of a value that nobody else reads.
    pub fn recycle(&mut self, value: Value) {
        match value {
            Value::Image(image) => {
                for plane in image.into_planes() {
                    self.recycle_plane(plane);
                }
            }
            Value::Mask(mask) => self.recycle_plane(mask.into_plane()),
            _ => {}
        }
    }

    /// A picture made plane by plane from `image`: `work` gets a plane's samples and fills the new
    /// plane of `size`. A grey picture is worked on once.
    pub fn map(
        &mut self,
        image: Image,
        size: Size,
        mut work: impl FnMut(&mut Pool, &[f32], &mut [f32]),
    ) -> Image {
        let length = size.pixels() as usize;
        let mut one = |pool: &mut Pool, plane: Samples| {
            let mut out = pool.plane(length);
            work(pool, &plane, &mut out);
            pool.recycle_plane(plane);
            out.freeze()
        };
        let planes = if image.is_grey() {
            let [red, _, _] = image.into_planes();
            let plane = one(self, red);
            [plane.clone(), plane.clone(), plane]
        } else {
            image.into_planes().map(|plane| one(self, plane))
        };
        Image::new(size, planes).unwrap_or_else(|| unreachable!("planes of the size asked for"))
    }

    /// A picture with every plane changed in place where nobody else reads it.
    pub fn edit(&mut self, image: Image, mut work: impl FnMut(&mut [f32])) -> Image {
        let size = image.size();
        let mut one = |pool: &mut Pool, plane: Samples| {
            let mut plane = pool.own(plane);
            work(&mut plane);
            plane.freeze()
        };
        let planes = if image.is_grey() {
            let [red, green, blue] = image.into_planes();
            drop((green, blue));
            let plane = one(self, red);
            [plane.clone(), plane.clone(), plane]
        } else {
            image.into_planes().map(|plane| one(self, plane))
        };
        Image::new(size, planes).unwrap_or_else(|| unreachable!("planes keep their length"))
    }

    /// The same with `work` told the channel, so that a grey picture may become a coloured one.
    pub fn edit_channels(
        &mut self,
        image: Image,
        mut work: impl FnMut(usize, &mut [f32]),
    ) -> Image {
        let size = image.size();
        let mut channel = 0;
        let planes = image.into_planes().map(|plane| {
            let mut plane = self.own(plane);
            work(channel, &mut plane);
            channel += 1;
            plane.freeze()
        });
        Image::new(size, planes).unwrap_or_else(|| unreachable!("planes keep their length"))
    }

    /// Planes waiting for use.
    pub(super) fn free_planes(&self) -> usize {
        self.free.len()
    }
}
