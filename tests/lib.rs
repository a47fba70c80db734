//! Tests that cross the borders of LiSeg's crates; torch-free. See the files beside this one.
